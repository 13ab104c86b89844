package command

// NeverExpires is the session expiry interval that means no expiry.
const NeverExpires = 0xFFFFFFFF

// Publish adds a message to what this shard holds of it: the inboxes of its
// durable sessions, its shares, its retained messages.
// Results: OK (stored somewhere), NoMatch, Duplicate (the origin key was applied
// before), Full (a new retained topic past the limit; inboxes have it nevertheless),
// StaleEpoch (see Epoch; inboxes have it nevertheless).
type Publish struct {
	Tenant string
	// Message is an encoded Message (Message.Append). The same bytes go to all
	// shards, and are what the machine stores.
	Message []byte
	Flags   PublishFlags
	// Origin is set (Shard > 0) for a message that a shard originated.
	Origin OriginKey
	// Epoch, if it is not 0, is that of the connection that sent a message to be retained. If
	// the shard has retained messages of a later one of the same client, this one
	// changes nothing retained: a lane sends again until it is heard, perhaps long after its
	// client has sent the message over another gateway, and newer ones behind it. 0,
	// as in older logs: whatever comes last stays.
	Epoch uint64
}

// PublishFlags say which kinds of targets a shard has for a message.
type PublishFlags uint32

// The flags of Publish.
const (
	ToInboxes  PublishFlags = 1
	ToShares   PublishFlags = 2
	ToRetained PublishFlags = 4
)

// Will is what a session publishes when its connection ends badly.
type Will struct {
	// Message is an encoded Message.
	Message []byte
	// DelayS is the will delay in seconds.
	DelayS uint32
}

// Connect makes a connection the owner of a session.
// Result OK: Epoch, Present, ExpiryS (as granted), Prev, Subs, AwaitingRelease,
// Replays (all that are not at their end), Index. WrongUser (see SameUser): nothing
// changed.
type Connect struct {
	Key         SessionKey
	Node        NodeID
	Incarnation uint64
	// Token is a random number of the connection, kept for diagnosis.
	Token      uint64
	CleanStart bool
	// ExpiryS is the session expiry interval in seconds; 0 ends the session with
	// its connection, NeverExpires keeps it. The machine caps it.
	ExpiryS    uint32
	ReceiveMax uint16
	// Version is the protocol version byte (3, 4, 5).
	Version  byte
	Username string
	// Will is armed if HasWill.
	HasWill bool
	Will    Will
	// ConnectedAt is the gateway's clock in unix ms, for operators only.
	ConnectedAt int64
	// SameUser: if the session exists, it must have the same user name.
	SameUser bool
	// ShareRoom bounds how many messages a share gives the session at a time, beside
	// its Receive Maximum. 0, as in older logs: 128.
	ShareRoom uint16
}

// DisconnectReason says how a connection ended.
type DisconnectReason uint32

// The reasons of Disconnect.
const (
	DisconnectNormal   DisconnectReason = 1 // the will is discarded
	DisconnectWithWill DisconnectReason = 2 // v5: DISCONNECT 0x04
	DisconnectLost     DisconnectReason = 3 // closed without DISCONNECT
	DisconnectTakeover DisconnectReason = 4 // superseded; the old epoch changes nothing
	DisconnectKicked   DisconnectReason = 5 // closed by the broker; the will is sent
)

// Disconnect ends the connection of a session. Results: OK, StaleEpoch, UnknownSession.
type Disconnect struct {
	Ref    SessionRef
	Reason DisconnectReason
	// HasExpiry: v5 DISCONNECT carried a new session expiry interval.
	HasExpiry bool
	ExpiryS   uint32
	// SentTo is the highest inbox sequence that was sent to the client, 0 for none.
	SentTo uint64
}

// Subscription is one filter of a session.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	// ID is the v5 subscription identifier, 0 for none.
	ID uint32
}

// Subscribe adds or replaces subscriptions. Result OK: Codes (the granted QoS,
// or 0x97 past the subscription limit) and Existed per filter; Gate, if a filter is
// shared; Replays that begin, if Replay is set and the session is durable. Invalid: a filter is
// malformed, and nothing was applied. Else StaleEpoch, UnknownSession.
type Subscribe struct {
	Ref  SessionRef
	Subs []Subscription
	// Replay: the gateway hands retained messages to the inbox of a durable session
	// (command Replay). Without it, as in older logs, it sends them by itself.
	Replay bool
	// ShareRoom is that of Connect.
	ShareRoom uint16
}

// Unsubscribe removes subscriptions. Result OK: Codes per filter (0x00 or 0x11).
type Unsubscribe struct {
	Ref     SessionRef
	Filters []string
}

// Ack is what a gateway learnt from the receiving client of a session.
// Results: OK, StaleEpoch, UnknownSession. Unknown sequences are ignored.
type Ack struct {
	Ref SessionRef
	// SentTo is the highest inbox sequence that was sent so far, 0 unknown.
	SentTo uint64
	// Done are acknowledged for good (PUBACK, PUBCOMP): they are removed.
	// Received got a PUBREC. Both are sorted and do not overlap within a list.
	Done     []Range
	Received []Range
}

// Receive stores an inbound QoS 2 message of a durable session under its packet
// id. Results: OK, Duplicate (the id is in use: the same message), StaleEpoch, UnknownSession.
type Receive struct {
	Ref      SessionRef
	PacketID uint16
	// Message is an encoded Message.
	Message []byte
}

// Release turns the message stored under a packet id into an originated message
// of the shard. Results: OK, UnknownPacket, StaleEpoch, UnknownSession.
type Release struct {
	Ref      SessionRef
	PacketID uint16
}

// OriginDone forgets originated messages that all targets have confirmed. Result OK.
type OriginDone struct {
	Seqs []Range
}

// NodeLost disconnects (reason lost) every session owned by the node with an
// incarnation up to the given one, and refuses its lanes from then on. Result OK.
type NodeLost struct {
	Node        NodeID
	Incarnation uint64
}

// Tick lets time act: sessions and messages expire, delayed wills fire. Result OK.
type Tick struct {
	// Rules is what the proposer wants of it, so that older logs keep their meaning:
	// below TickRules, a Tick handles all that is due, and messages that were perhaps sent
	// expire, too.
	Rules uint32
}

// TickRules are the present ones.
const TickRules = 2

// EndSession ends a session by an operator's will. Epoch 0 means any.
// Results: OK, StaleEpoch, UnknownSession.
type EndSession struct {
	Key   SessionKey
	Epoch uint64
}

// Checkpoint carries the digest that the leader had at an index. A replica whose
// own digest at that index differs has diverged and must end (guard G8).
type Checkpoint struct {
	Index  uint64
	Digest [16]byte
}

// Overflow is what happens to a publish for a full inbox.
type Overflow uint32

// The overflow policies.
const (
	OverflowRefuse     Overflow = 1 // gateways refuse before proposing; what is under way is still stored
	OverflowDropOldest Overflow = 2
	OverflowEndSession Overflow = 3
)

// String is the name of the policy in configuration.
func (o Overflow) String() string {
	switch o {
	case OverflowRefuse:
		return "refuse"
	case OverflowDropOldest:
		return "drop_oldest"
	case OverflowEndSession:
		return "end_session"
	}
	return "invalid"
}

// ShardSettings is what the replicas of a shard must agree on. Zero means
// unlimited, for Overflow it means refuse.
type ShardSettings struct {
	// InboxMaxMessages and InboxMaxBytes limit the inbox of one session, and the
	// queue of one share. A share that would end its session drops the oldest instead.
	InboxMaxMessages uint64
	InboxMaxBytes    uint64
	InboxOverflow    Overflow
	// RetainedMaxMessages limits the retained topics of a tenant in this shard.
	RetainedMaxMessages uint64
	// MaxSessionExpiryS caps the session expiry interval, in seconds.
	MaxSessionExpiryS uint32
	// MaxSubscriptions limits the subscriptions of one session.
	MaxSubscriptions uint32
	// ShareStrategy says which member gets a message of a share.
	ShareStrategy ShareStrategy
	// RetainedMaxPayload limits the payload of a retained message, in bytes, and
	// RetainedExpiryS is the longest that one is kept, in seconds.
	RetainedMaxPayload uint32
	RetainedExpiryS    uint32
	// InboxQoS0Offline queues QoS 0 messages for durable sessions without a connection.
	InboxQoS0Offline bool
}

// Configure replaces the settings of a shard. Result OK.
type Configure struct {
	Settings ShardSettings
}
