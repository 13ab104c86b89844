package state

import "github.com/flotilla-mqtt/flotilla/raftfsm/command"

// DeliveryState says how far the delivery of an inbox entry has come.
type DeliveryState byte

// The states of an inbox entry.
const (
	Queued   DeliveryState = 1 // PUBLISH is to be sent
	Received DeliveryState = 2 // PUBREC is committed, PUBREL is to be sent; Msg is empty
)

// Delivery is one inbox entry.
type Delivery struct {
	// Seq counts the entries of a session from 1.
	Seq uint64
	Msg command.Message
	// QoS is the effective QoS. Entries with QoS 0 are acknowledged by who sends them.
	QoS byte
	// Retain is the flag to send (Retain As Published).
	Retain bool
	// SubIDs are the identifiers of all matching subscriptions, sorted.
	SubIDs []uint32
	State  DeliveryState
	// Dup says that the entry may have been sent on an earlier connection.
	Dup bool
	// ExpiresAt is in unix ms of the group's clock, 0 for never.
	ExpiresAt int64
}

// Page is a run of inbox entries.
type Page struct {
	Deliveries []Delivery
	// Next is the cursor to go on with.
	Next uint64
	// More says that there are entries at or after Next.
	More bool
	// Clamped says that the entry at Next may be sent only after the shard has learnt how far the ones before it were
	// sent (Ack.SentTo): what a replica takes for surely not sent must never have been sent.
	Clamped bool
	// Floor: everything below is acknowledged.
	Floor uint64
	// Now is the group's clock at the read, in unix ms.
	Now int64
}

// SessionInfo describes a session.
type SessionInfo struct {
	Key         command.SessionKey
	Epoch       uint64
	Connected   bool
	Owner       command.Owner // zero unless connected
	Token       uint64
	Version     byte
	Username    string
	ConnectedAt int64 // unix ms, the gateway's clock
	ExpiryS     uint32
	// ExpiresAt is in unix ms of the group's clock, 0 while connected or for never.
	ExpiresAt     int64
	ReceiveMax    uint16
	Durable       bool
	Subscriptions int
	InboxMessages uint64
	InboxBytes    uint64
	// InboxReceived is how many of them wait for PUBCOMP.
	InboxReceived uint64
	// Inbound is how many inbound QoS 2 messages wait for PUBREL.
	Inbound int
	HasWill bool
	Full    bool
	SentTo  uint64
	// Of Session alone. Will is nil if there is none; AwaitingRelease are packet ids;
	// OldestAt is when the oldest message of the inbox was published, in unix ms, 0 if
	// there is none.
	Will            *command.Will
	AwaitingRelease []uint16
	OldestAt        int64
}

// RetainedInfo is one retained message.
type RetainedInfo struct {
	Msg command.Message
	// StoredAt and ExpiresAt are in unix ms of the group's clock; 0: never expires.
	StoredAt, ExpiresAt int64
}

// Originated is something that the shard originated and that is not yet
// confirmed by all of its targets: a message that is to be routed, or a command for
// the one shard that TargetKey names.
type Originated struct {
	// Seq counts what the shard originated from 1.
	Seq    uint64
	Tenant string

	// Of a message. Key and Username are those of the session, for the access check.
	Key      command.SessionKey
	Username string
	// Encoded is the message, Message its decoded form. If it expires, its interval
	// is what remained at the call; below a second is still one.
	Encoded []byte
	Message command.Message
	Flags   command.PublishFlags
	// ExpiresAt is in unix ms of the group's clock, 0 for never.
	ExpiresAt int64
	Will      bool

	// Command appends the command with its origin key; nil for a message. Commands
	// of a shard for the same target must be applied there in the order of Seq.
	Command func(dst []byte, key command.OriginKey) []byte
	// TargetKey is the client id or the whole filter of a share whose slot is the target.
	TargetKey string
	// Gated: confirm it only after what it changed in the target's routes is in
	// force on every gateway.
	Gated bool
}

// OwnerCount is how many connected sessions a process of a node owns.
type OwnerCount struct {
	Node        string
	Incarnation uint64
	Sessions    int
}

// Stats are figures of a shard. The Dropped counters are part of the replicated
// state; the others are taken at the time of the call.
type Stats struct {
	Sessions, Connected, Durable int
	Shares                       int
	Subscriptions, Routes        int
	RetainedMessages             int
	RetainedBytes                uint64
	InboxMessages, InboxBytes    uint64
	FullSessions                 int
	Originated                   int
	Inbound                      int // inbound QoS 2 messages
	Dropped                      Dropped
	// SessionsExpired counts sessions that ended by their expiry interval. Replicated.
	SessionsExpired uint64
	// Of this replica alone:
	HotBytes, HotMessages, DirtyBytes int64
}

// Dropped counts messages that an inbox or the retained store lost or refused, by reason.
type Dropped struct {
	// Expired: the message expiry interval passed before the delivery began.
	Expired uint64
	// InboxFull: the policy drop_oldest made room.
	InboxFull uint64
	// SessionEnded: undelivered messages of sessions that expired, were cleaned or ended.
	SessionEnded uint64
	// RetainedFull: a new retained topic beyond the limit was not stored.
	RetainedFull uint64
	// RetainedExpired: retained messages that expired.
	RetainedExpired uint64
	// OriginExpired: originated messages that expired before they were routed.
	OriginExpired uint64
}
