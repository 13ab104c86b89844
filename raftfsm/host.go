package raftfsm

// Host owns a node's data directory: the shared log, the state database and the groups on them.
type Host struct{}

// OpenHost locks and opens the data directory.
func OpenHost(cfg HostConfig) (*Host, error) { panic("todo") }

// OpenGroup opens a group: it loads the machine, verifies log and marks, and joins the group.
func (h *Host) OpenGroup(cfg GroupConfig) (*Group, error) { panic("todo") }

// Groups lists the groups that have state in the data directory.
func (h *Host) Groups() []uint32 { panic("todo") }

// Group returns an open group.
func (h *Host) Group(id uint32) (*Group, bool) { panic("todo") }

// DropGroup deletes everything that the closed group id has on this node, votes included: the
// caller knows that this identity will never be a member of that group again.
func (h *Host) DropGroup(id uint32) error { panic("todo") }

// Close closes every group, flushes the state and unlocks the directory.
func (h *Host) Close() error { panic("todo") }

// Kill ends the host as a crash would: it is cut off first, nothing is flushed.
func (h *Host) Kill() { panic("todo") }
