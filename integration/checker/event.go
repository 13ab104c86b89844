package checker

// Kind says what an event is.
type Kind string

// Kinds of events. What has an invoke and a return time carries both; End 0 means that it never returned.
const (
	Connect     Kind = "connect"     // CONNECT sent, CONNACK received
	Closed      Kind = "closed"      // the connection ended; Err says how, empty: by DISCONNECT of the client
	Subscribe   Kind = "subscribe"   // one filter: SUBSCRIBE sent, SUBACK received
	Unsubscribe Kind = "unsubscribe" // one filter
	Publish     Kind = "publish"     // PUBLISH first sent, PUBACK or PUBREC received (QoS 0: handed to the socket)
	Resent      Kind = "resent"      // the same PUBLISH sent again; Err says that the client must not have done so
	Deliver     Kind = "deliver"     // PUBLISH received
	Acked       Kind = "acked"       // PUBACK or PUBCOMP sent for a delivery
	Drained     Kind = "drained"     // the client was connected and reading until nothing came any more
	Fault       Kind = "fault"       // something was done to a node; Err says what
	// RetainedRead is one read of a retained message: SUBSCRIBE sent, and what came with RETAIN. Seq 0: nothing came.
	RetainedRead Kind = "read"
)

// Never is the Expiry of a session that does not expire.
const Never uint32 = 0xFFFFFFFF

// Event is one line of a history. Times are nanoseconds since the start of the run on one monotonic clock.
type Event struct {
	Kind   Kind   `json:"k"`
	T      int64  `json:"t"`
	End    int64  `json:"e,omitempty"`
	Client string `json:"c,omitempty"` // session that does or sees it
	Conn   int32  `json:"n,omitempty"` // counts the connections of a client from 1
	Node   string `json:"node,omitempty"`

	Topic     string `json:"topic,omitempty"` // or filter
	Publisher string `json:"pub,omitempty"`   // of a delivery, an ack
	Seq       uint64 `json:"s,omitempty"`     // of a message: counts per publisher and topic
	PacketID  uint16 `json:"id,omitempty"`

	QoS    byte `json:"q,omitempty"`    // of a publish or delivery; requested by a subscribe
	Code   byte `json:"code,omitempty"` // of the answer; for a subscribe the granted QoS or the refusal
	Dup    bool `json:"dup,omitempty"`
	Retain bool `json:"r,omitempty"`

	Clean   bool   `json:"clean,omitempty"`
	Present bool   `json:"present,omitempty"`
	NoLocal bool   `json:"nl,omitempty"`
	Expiry  uint32 `json:"exp,omitempty"` // seconds; 0: the session ends with the connection

	// WillTopic, WillSeq, WillQoS and WillDelay (seconds) are the will of a connect; WillTopic "": it has none.
	WillTopic string `json:"wt,omitempty"`
	WillSeq   uint64 `json:"ws,omitempty"`
	WillQoS   byte   `json:"wq,omitempty"`
	WillDelay uint32 `json:"wd,omitempty"`
	// Bye: before this end the client sent DISCONNECT 0x00.
	Bye bool `json:"bye,omitempty"`

	// Props is a digest of the properties; empty: not recorded.
	Props string `json:"props,omitempty"`
	// Err is why an operation failed, why a payload could not be traced, how a connection ended, what a fault is.
	Err string `json:"err,omitempty"`
}

// refused is the first reason code that refuses.
const refused = 0x80

// acked tells whether a publish was promised.
func (e *Event) acked() bool { return e.End != 0 && e.Err == "" && e.Code < refused }
