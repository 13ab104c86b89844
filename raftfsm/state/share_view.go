package state

import "github.com/flotilla-mqtt/flotilla/raftfsm/command"

// ShareView describes a share.
type ShareView struct {
	Tenant string
	// Filter is the whole filter, $share and name included.
	Filter string
	// Queue is how many messages it holds, Assigned how many of them are with members.
	Queue, QueueBytes, Assigned uint64
	// Members are sorted by client id.
	Members []ShareMemberView
}

// Cursor is what Shares goes on after.
func (v *ShareView) Cursor() string { return v.Tenant + "\x00" + v.Filter }

// ShareMemberView describes a member of a share.
type ShareMemberView struct {
	Key    command.SessionKey
	Online bool
	Node   string // of the connection
	// Room bounds Assigned, the messages that it has not settled.
	Room, Assigned int
	QoS            byte
	// Left: it unsubscribed or its session ended, and it finishes what it has.
	Left bool
}
