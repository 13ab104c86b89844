package peer

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Kind is what a frame means to package cluster. Numbers are on the wire: append-only, never reused. 240 and above are the link's own.
type Kind byte

// The kinds.
const (
	KindLaneBatch    Kind = 1
	KindForward      Kind = 2
	KindRouteSync    Kind = 3
	KindRouteChanges Kind = 4
	KindLeaseRenew   Kind = 5
	KindKick         Kind = 6
	KindWake         Kind = 7
	KindFetch        Kind = 8
	KindQuery        Kind = 9
	KindHello        Kind = 10
	KindAgree        Kind = 11
	KindAdmin        Kind = 12
	KindOrigin       Kind = 13
)

// MaxPayload is the largest payload of a frame: 4 MiB. A longer declared length breaks the link before anything is allocated.
const MaxPayload = 4 << 20

// Dialer connects to a node. The connection it returns is past its preamble.
type Dialer func(ctx context.Context, nodeID string) (net.Conn, error)

// Handler takes a frame from another node. The frames of one link come in order, one after the other, on the link's reader
// goroutine: a handler must not block. payload is valid only during the call. reply is nil for a frame that wants no reply;
// else it must be called once, now or later, from any goroutine. It copies its payload and never blocks.
type Handler func(from string, payload []byte, reply func(payload []byte, err error))

// Options tune Links. The zero value of each field means its default.
type Options struct {
	// QueueBytes bounds the frames to one node that are not written yet. Default 8 MiB.
	QueueBytes int
	// DialTimeout bounds one attempt to connect. Default 3 s.
	DialTimeout time.Duration
	// BackoffMin and BackoffMax bound the pause after a failed attempt; it doubles. Defaults 50 ms and 1 s.
	// During the pause Send returns ErrLinkDown and calls fail with it at once.
	BackoffMin, BackoffMax time.Duration
	// Heartbeat is how often a link shows that it lives. Default 1 s.
	Heartbeat time.Duration
	// DeadAfter is the silence after which a link is broken. Default 5 s.
	DeadAfter time.Duration
	// OnUp and OnDown are called when an outgoing link is established, and when an established one broke, after all its
	// calls were failed. They are called on the link's goroutine and must not block.
	OnUp, OnDown func(nodeID string)
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// Links are the links of one node to all others.
type Links struct{}

// NewNode returns the links of node self. It starts nothing: links are dialled on demand. A nil logger discards.
func NewNode(self string, dial Dialer, handlers map[Kind]Handler, lg *zap.Logger, o Options) *Links {
	panic("not yet")
}

// Send sends a frame without reply, in order with all other frames to that node. It copies payload and never blocks.
func (l *Links) Send(to string, k Kind, payload []byte) error { panic("not yet") }

// Call sends a frame, in order with Send, and calls done exactly once with the reply or an error.
func (l *Links) Call(to string, k Kind, payload []byte, done func(resp []byte, err error)) {
	panic("not yet")
}

// CallWait is Call for those who may block. The reply is the caller's.
func (l *Links) CallWait(ctx context.Context, to string, k Kind, payload []byte) ([]byte, error) {
	panic("not yet")
}

// Serve serves frames on a connection that another node dialled. It returns when the connection ends.
func (l *Links) Serve(conn net.Conn, from string) error { panic("not yet") }

// Up tells whether the outgoing link to a node is established.
func (l *Links) Up(to string) bool { panic("not yet") }

// Disconnect breaks the links with a node (it was removed or marked down) and forgets the outgoing one.
func (l *Links) Disconnect(node string) { panic("not yet") }

// LinkStats describe one outgoing link.
type LinkStats struct {
	Node                          string
	Up                            bool
	QueuedBytes                   int
	PendingCalls                  int
	FramesSent, BytesSent, Writes uint64
	FramesReceived, BytesReceived uint64
	Dials, Breaks, Dropped        uint64
	RTT                           time.Duration
}

// Stats describes all outgoing links, sorted by node.
func (l *Links) Stats() []LinkStats { panic("not yet") }

// Close breaks all links, fails all calls, and returns when every goroutine has ended.
func (l *Links) Close() error { panic("not yet") }
