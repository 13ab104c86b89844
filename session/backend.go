package session

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Backend is what a node's broker core needs of the cluster. All four are
// required, and may be one value.
type Backend struct {
	Sessions  Sessions
	Publisher Publisher
	Inbox     Inbox
	Retained  Retained
}

// Sessions changes what client ids own. Errors: ErrUnavailable, ErrStale and
// *RefusedError; others count as ErrUnavailable. An error leaves the outcome
// unknown.
type Sessions interface {
	// Connect returns when the session's new epoch is committed and what it
	// holds is routable here. If it fails and the epoch is committed later
	// nevertheless, the implementation ends that epoch itself.
	Connect(ctx context.Context, req ConnectRequest) (Attached, error)
	// Disconnect ends an epoch. It does not block and is not lost: the cluster
	// repeats it until it is applied or superseded.
	Disconnect(ref command.SessionRef, info DisconnectInfo)
	// Subscribe returns when the subscriptions are effective on every gateway,
	// with one Granted for each of subs.
	Subscribe(ctx context.Context, ref command.SessionRef, subs []command.Subscription) ([]Granted, error)
	// Unsubscribe returns one reason code for each filter when the change is
	// committed.
	Unsubscribe(ctx context.Context, ref command.SessionRef, filters []string) ([]byte, error)
}

// Publisher carries messages into the cluster.
//
// The message and its slices belong to the caller again when the call returns.
// A call blocks while a lane is full, until ctx ends. done is called exactly
// once, on any goroutine, possibly before the call returns; it does not block.
// Calls by one goroutine take effect in order.
type Publisher interface {
	// Publish routes a message. done may be nil for QoS 0.
	Publish(ctx context.Context, tenant string, m *command.Message, done func(Outcome))
	// Receive stores an inbound QoS 2 message of a durable session under its
	// packet id, unless something is stored there already, which is a success.
	Receive(ctx context.Context, ref command.SessionRef, pid uint16, m *command.Message, done func(Outcome))
	// Release publishes what Receive has stored. Outcome.Code is
	// PacketIdentifierNotFound if there is nothing.
	Release(ctx context.Context, ref command.SessionRef, pid uint16, done func(Outcome))
}

// Inbox is the queue of a durable session, and of any session with a shared
// subscription.
type Inbox interface {
	// Fetch returns entries from cursor on, in order; 0 asks from the floor.
	// An empty page is no error. maxMsgs and maxBytes are at least 1; one
	// entry is returned however large it is.
	Fetch(ctx context.Context, ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (Page, error)
	// Ack records what the client has acknowledged. It does not block and
	// keeps the order of its calls. done (nil = not wanted) is called exactly
	// once, with nil when the change is committed.
	Ack(ref command.SessionRef, a Ack, done func(error))
	// Replay adds a page of retained messages to the inbox and moves the
	// pending replay of its filter, if that stands at page.After; else it does
	// nothing and succeeds. So a page whose outcome is unknown is sent again.
	// The slices of page belong to the caller again when the call returns.
	// Errors: as for Sessions.
	Replay(ctx context.Context, ref command.SessionRef, page ReplayPage) error
}

// Retained reads retained messages.
type Retained interface {
	// Retained reads a page. The read is linearizable: it sees every publish that
	// was acknowledged before the call, but for those behind the query's horizon.
	// HasExpiry and Expiry hold what remains at the time of the read; expired
	// messages are left out.
	Retained(ctx context.Context, q RetainedQuery) (RetainedPage, error)
	// Horizon marks this moment in the history of all topics that match one of
	// the filters. What was acknowledged before the call lies in front of it,
	// what is published after its return behind it.
	Horizon(ctx context.Context, tenant string, filters []string) (Horizon, error)
}

// RetainedQuery asks for retained messages that match a filter.
type RetainedQuery struct {
	Tenant, Filter string
	After          string // the topic behind which to begin, "" at the start
	Limit          int    // most messages of the page
	Horizon        Horizon
}

// RetainedPage is the answer, in topic order.
type RetainedPage struct {
	Msgs    []command.Message
	Next    string  // where to go on, "" at the end
	Horizon Horizon // of the query; if it had none, of the time of the read
}

// Horizon is a moment in the history of retained messages: by shard, the first
// message id that was not given yet. Shards that it does not name have none.
type Horizon map[uint32]uint64

// ConnectRequest asks for a session.
type ConnectRequest struct {
	Key command.SessionKey
	// Token is random and differs per connection.
	Token      uint64
	CleanStart bool
	// ExpiryS is the session expiry interval in seconds: 0 for a session that
	// ends with its connection, 0xFFFFFFFF for one that never expires.
	ExpiryS uint32
	// ReceiveMax is the client's Receive Maximum.
	ReceiveMax uint16
	Version    mqtt.Version
	// Will is nil if there is none.
	Will *command.Will
	// Username is the authenticated principal, empty for an anonymous client.
	Username string
	// SameUser refuses (0x85) a session that exists under another user name.
	SameUser bool
	// ConnectedAt is the node's clock in unix ms, for display.
	ConnectedAt int64
}

// Attached is what a connection holds after Connect.
type Attached struct {
	Ref command.SessionRef
	// Present says that committed, unexpired state was found and kept.
	Present bool
	// ExpiryS is the session expiry interval as granted. 0 for a session that
	// asked for more means: as asked.
	ExpiryS uint32
	// Subs are the subscriptions of a session that is present.
	Subs []command.Subscription
	// AwaitingRelease are the packet ids of inbound QoS 2 messages that are
	// stored and wait for PUBREL.
	AwaitingRelease []uint16
	// Replays are the replays of retained messages that an earlier connection
	// has not finished.
	Replays []Replay
}

// Replay is a replay of retained messages that the session's shard remembers:
// that of a subscription with a granted QoS above 0 of a durable session.
type Replay struct {
	Sub command.Subscription
	// After is the last topic that is in the inbox, empty before the first.
	After string
}

// ReplayPage is a run of retained messages for one subscription.
type ReplayPage struct {
	// Filter names the subscription. After is where its replay stands, Next
	// where it stands with this page, and Last says that it is finished then.
	Filter, After, Next string
	Last                bool
	// Msgs are those whose effective QoS is above 0, in topic order; Expiry is
	// what remains. The shard sets the rest as it does for live messages, and
	// RETAIN.
	Msgs []command.Message
}

// DisconnectInfo describes the end of an epoch.
type DisconnectInfo struct {
	Reason command.DisconnectReason
	// HasExpiry says that ExpiryS replaces the session expiry interval.
	HasExpiry bool
	ExpiryS   uint32
	// SentTo is the highest inbox sequence that was sent, so that what is sent
	// again carries DUP.
	SentTo uint64
}

// Granted is the answer to one subscription.
type Granted struct {
	// Code is the granted QoS, or a failure of 0x80 and above.
	Code byte
	// Existed says that the session had the filter before.
	Existed bool
	// Replay says that the session's shard waits for the retained messages, by
	// Inbox.Replay. Without it they are sent on this connection alone, if the
	// subscription asks for them.
	Replay bool
}

// Outcome is how a publish ended.
type Outcome struct {
	// Code is the answer that the client is owed, if Err is nil: Success,
	// NoMatchingSubscribers, or a refusal of 0x80 and above, which is certain
	// to have had no effect.
	Code mqtt.ReasonCode
	// Reason labels a refusal in publish_refused_total; empty for what follows
	// from the code. It is one of a few constants.
	Reason string
	// Err means that the outcome is unknown: no answer, the connection closes.
	Err error
}

// DeliveryState says how far a delivery has come.
type DeliveryState byte

// The states of an inbox entry.
const (
	Queued   DeliveryState = 1 // PUBLISH is to be sent
	Received DeliveryState = 2 // PUBREC is committed, PUBREL is to be sent
)

// Delivery is one inbox entry.
type Delivery struct {
	Seq uint64
	Msg command.Message
	// QoS is the effective QoS. 0 comes from a shared subscription that was
	// granted QoS 0: it is finished when it was sent.
	QoS byte
	// Retain is the flag to send (Retain As Published).
	Retain bool
	SubIDs []uint32
	State  DeliveryState
	// Dup says that the entry may have been sent before.
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
	// Clamped says that the entry at Next may be sent only once it is committed that all before it were (Ack.SentTo).
	// The session asks for that at once; a Wake follows.
	Clamped bool
	// Floor is the lowest sequence that the inbox still holds: all below are
	// acknowledged and committed. 0 means unknown.
	Floor uint64
	// Now is the group's clock at the read in unix ms, to which ExpiresAt is
	// compared. 0 means unknown: the node's clock is used.
	Now int64
}

// Ack is what a client has acknowledged of its inbox.
type Ack struct {
	// SentTo is the highest sequence that was sent.
	SentTo uint64
	// Done are the sequences that are finished (PUBACK, PUBCOMP), Received
	// those whose PUBREC has come. Both are valid during the call only.
	Done, Received []uint64
}
