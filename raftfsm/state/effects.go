package state

import (
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// Effects is what the world should do because an entry was applied. They are
// idempotent hints: whoever loses them can read the state instead. They
// are immutable and not reused.
type Effects struct {
	// Index is that of the entry.
	Index uint64
	// Wakes are connected sessions that have something new to pull.
	Wakes []Wake
	// Routes are the full records of filters whose record changed.
	Routes []router.RouteChange
	// Kicks are connections that no longer own their session.
	Kicks []Kick
	// Origins: originated messages were added and wait to be routed.
	Origins bool
	// Full are inboxes that became full or stopped being so.
	Full []FullChange
	// Ended are sessions that no longer exist.
	Ended []command.SessionKey
	// Lapsed are the durable ones among them, with the reason, for operators.
	Lapsed []Lapsed
}

// Lapsed is a durable session that no longer exists: its expiry interval was over, or it
// was ended before.
type Lapsed struct {
	Key     command.SessionKey
	Expired bool
}

// Empty reports that nothing has to be done.
func (e *Effects) Empty() bool {
	return len(e.Wakes) == 0 && len(e.Routes) == 0 && len(e.Kicks) == 0 && !e.Origins && len(e.Full) == 0 && len(e.Ended) == 0
}

// Wake names a connected session that has something new in its inbox.
type Wake struct {
	Key   command.SessionKey
	Node  string
	Epoch uint64
}

// KickReason says why a connection lost its session.
type KickReason byte

// The reasons of a Kick.
const (
	KickTakeover KickReason = 1 // another connection took the session (v5: 0x8E)
	KickEnded    KickReason = 2 // an operator ended the session (v5: 0x98)
	KickOverflow KickReason = 3 // the overflow policy ended the session (v5: 0x97)
)

// Kick names a connection that no longer owns its session.
type Kick struct {
	Key         command.SessionKey
	Epoch       uint64
	Node        string
	Incarnation uint64
	Reason      KickReason
}

// FullChange says that an inbox became full or has room again.
type FullChange struct {
	Key  command.SessionKey
	Full bool
}
