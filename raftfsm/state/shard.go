package state

import (
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// Shard is the machine of one shard.
type Shard struct{}

// NewShard returns an empty machine. It has no side effects. Load it before Apply.
func NewShard(id uint32, o Options) *Shard { panic("not yet") }

// Load discards everything in memory and rebuilds it from the store.
func (s *Shard) Load(st Store) error { panic("not yet") }

// Apply applies an entry. An index at or below Applied is skipped (nil results).
// An error means that the process must end. The machine keeps parts of entry:
// it must never change.
func (s *Shard) Apply(index uint64, entry []byte) ([]command.BatchResult, Effects, error) {
	panic("not yet")
}

// Applied is the index of the last applied entry.
func (s *Shard) Applied() uint64 { panic("not yet") }

// Clock is the group's clock in unix ms, 0 before the first entry.
func (s *Shard) Clock() int64 { panic("not yet") }

// NextDue is the unix ms of the earliest thing that a Tick would do, 0 for none.
func (s *Shard) NextDue() int64 { panic("not yet") }

// WriteBack commits all changes, the applied index and the clock in one batch.
func (s *Shard) WriteBack() error { panic("not yet") }

// DirtyBytes is about how much memory a WriteBack would free or write.
func (s *Shard) DirtyBytes() int { panic("not yet") }

// Digest is a hash of the logical state at an index.
func (s *Shard) Digest() (index uint64, digest [16]byte) { panic("not yet") }

// Fetch reads inbox entries from cursor on (0: from the floor), at most maxMsgs
// and about maxBytes of messages, at least one. ErrStaleEpoch, ErrNotYet.
func (s *Shard) Fetch(ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (Page, error) {
	panic("not yet")
}

// Session describes one session.
func (s *Shard) Session(key command.SessionKey) (SessionInfo, bool) { panic("not yet") }

// Sessions lists sessions by tenant and client id, after the given key.
func (s *Shard) Sessions(after command.SessionKey, limit int) (items []SessionInfo, more bool) {
	panic("not yet")
}

// Subscriptions lists the subscriptions of a session, sorted by filter.
func (s *Shard) Subscriptions(key command.SessionKey) ([]command.Subscription, bool) {
	panic("not yet")
}

// Routes is the full record of every filter, sorted, at an index.
func (s *Shard) Routes() (index uint64, routes []router.RouteChange) { panic("not yet") }

// Retained lists retained messages that match the filter, in order of topics, after a topic.
func (s *Shard) Retained(tenant, filter, after string, limit int) (items []RetainedInfo, more bool, err error) {
	panic("not yet")
}

// Origins lists originated messages with a sequence above after.
func (s *Shard) Origins(after uint64, limit int) []Originated { panic("not yet") }

// OriginLow is the lowest sequence that is not yet confirmed by all targets.
func (s *Shard) OriginLow() uint64 { panic("not yet") }

// Owners counts the connected sessions of each process, sorted.
func (s *Shard) Owners() []OwnerCount { panic("not yet") }

// FullSessions lists the sessions whose inbox is full, sorted.
func (s *Shard) FullSessions() []command.SessionKey { panic("not yet") }

// IsFull reports whether the inbox of a session is full.
func (s *Shard) IsFull(key command.SessionKey) bool { panic("not yet") }

// Refuses reports whether the policy refuse turns a publish away: a matching
// inbox is full. The key names one of them. It is cheap while no inbox is full.
func (s *Shard) Refuses(tenant string, topic []byte, publisher string) (command.SessionKey, bool) {
	panic("not yet")
}

// Settings are the settings in force.
func (s *Shard) Settings() command.ShardSettings { panic("not yet") }

// Stats are figures for status and metrics.
func (s *Shard) Stats() Stats { panic("not yet") }
