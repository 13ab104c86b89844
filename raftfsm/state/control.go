package state

import "github.com/flotilla-mqtt/flotilla/raftfsm/command"

// Control is the machine of the control group.
type Control struct{}

// NewControl returns an empty machine. It has no side effects. Load it before Apply.
func NewControl() *Control { panic("not yet") }

// Load discards everything in memory and rebuilds it from the store.
func (c *Control) Load(st Store) error { panic("not yet") }

// Apply applies an entry, like Shard.Apply.
func (c *Control) Apply(index uint64, entry []byte) ([]command.BatchResult, error) { panic("not yet") }

// Applied is the index of the last applied entry.
func (c *Control) Applied() uint64 { panic("not yet") }

// WriteBack commits all changes and the applied index in one batch.
func (c *Control) WriteBack() error { panic("not yet") }

// DirtyBytes is about how much a WriteBack would write.
func (c *Control) DirtyBytes() int { panic("not yet") }

// Digest is a hash of the logical state at an index.
func (c *Control) Digest() (index uint64, digest [16]byte) { panic("not yet") }

// View is the state after the last apply. It is immutable; the pointer changes
// when anything in it changes. Never nil.
func (c *Control) View() *ControlView { panic("not yet") }
