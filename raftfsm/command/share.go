package command

// A share is the queue of a shared subscription. It lives in the shard of its
// name and filter, its members live in the shards of their client ids. The two
// talk by the commands of this file, which are originated by one shard's machine
// and applied once by the other's (Origin).

// ShareEvent says what happened to a member of a share.
type ShareEvent uint32

// The events of ShareMember.
const (
	ShareJoin    ShareEvent = 1 // subscribed, or replaced its subscription
	ShareLeave   ShareEvent = 2 // unsubscribed, or its session ended
	ShareOnline  ShareEvent = 3 // has a new connection
	ShareOffline ShareEvent = 4 // has no connection
)

// String names the event.
func (e ShareEvent) String() string {
	switch e {
	case ShareJoin:
		return "join"
	case ShareLeave:
		return "leave"
	case ShareOnline:
		return "online"
	case ShareOffline:
		return "offline"
	}
	return "invalid"
}

// ShareMember tells a share what happened to one of its members.
// Results: OK and Duplicate, both with Index; Invalid.
type ShareMember struct {
	// Filter is the whole filter, $share and name included, of Member's tenant.
	Filter string
	Member SessionKey
	Event  ShareEvent
	// Epoch is that of the member's connection.
	Epoch uint64
	// Node and Incarnation hold the connection of a member that joins or comes
	// online. An empty Node means that it has none.
	Node        NodeID
	Incarnation uint64
	// Room bounds the messages that the member may have unsettled.
	Room uint16
	// Sub are the options of a subscription that joins. Its Filter is empty.
	Sub Subscription
	// Held are the numbers of messages of the share Share that the member still has.
	// Everything else that it was given, it will not take any more.
	Share  uint64
	Held   []Range
	Origin OriginKey
}

// ShareDeliver gives a message of a share to a member, in the member's shard.
// Results: OK (queued, or too late: the share knows), Duplicate, Invalid.
type ShareDeliver struct {
	Key    SessionKey // the member
	Filter string     // the whole filter
	// Share numbers the share, which may have ended and begun anew, and Seq the
	// message in its queue.
	Share, Seq uint64
	// Message is an encoded Message.
	Message []byte
	// ExpiryMS is what remains of the message's expiry interval, 0 if it never expires.
	ExpiryMS uint64
	// Fence is the Origin.Seq of the member's event that let the share give it
	// messages. One with an older fence comes too late.
	Fence  uint64
	Origin OriginKey
}

// ShareSettle tells a share which messages a member is done with.
// Results: OK, Duplicate.
type ShareSettle struct {
	Filter string // the whole filter
	Member SessionKey
	Share  uint64
	Done   []Range // numbers in the queue; sorted
	Origin OriginKey
}

// Replay puts copies of retained messages into an inbox, a page of those that a
// new subscription of a durable session asked for. Results: OK; Duplicate (the
// replay does not stand at After, or there is none); StaleEpoch, UnknownSession.
type Replay struct {
	Ref    SessionRef
	Filter string
	// After and Next are the topics after which this page and the next one begin.
	After, Next string
	// Last ends the replay.
	Last bool
	// Messages are encoded; their expiry interval is what remains of it.
	Messages [][]byte
}

// PendingReplay is how far the replay of a subscription has come.
type PendingReplay struct {
	Filter string
	After  string // the last topic that the inbox has, "" at the start
}

// ShareStrategy says which member gets a message of a share.
type ShareStrategy uint32

// The strategies. Zero means round robin.
const (
	ShareRoundRobin ShareStrategy = 1 // the connected member with room that was served longest ago
	ShareSticky     ShareStrategy = 2 // one member as long as it has room
	ShareHashTopic  ShareStrategy = 3 // the topic chooses among the connected members
)

// String is the name of the strategy in configuration.
func (s ShareStrategy) String() string {
	switch s {
	case ShareRoundRobin:
		return "round_robin"
	case ShareSticky:
		return "sticky"
	case ShareHashTopic:
		return "hash_topic"
	}
	return "invalid"
}
