package peer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Dialer connects to a node. The connection it returns is past its preamble.
type Dialer func(ctx context.Context, nodeID string) (net.Conn, error)

// Options tune Links. The zero value of each field means its default.
type Options struct {
	// QueueBytes bounds the frames to one node that are not written yet. Default 8 MiB.
	QueueBytes int
	// DialTimeout bounds one attempt to connect. Default 3 s.
	DialTimeout time.Duration
	// BackoffMin and BackoffMax bound the pause after a failed attempt, or
	// after a connection that lived for less than BackoffMax; it doubles.
	// Defaults 50 ms and 1 s. During the pause frames are refused with ErrLinkDown.
	BackoffMin, BackoffMax time.Duration
	// Heartbeat is how often a link shows that it lives. Default 1 s.
	Heartbeat time.Duration
	// DeadAfter is the silence after which a link is broken (at the earliest
	// after 7/8 of it). Default 5 s.
	DeadAfter time.Duration
	// OnUp and OnDown are called when an outgoing link is established, and when
	// an established one broke, after its calls were failed; not when Close or
	// Disconnect ended it. They are called on the link's goroutine and must not block.
	OnUp, OnDown func(nodeID string)
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = 8 << 20
	}
	def(&o.DialTimeout, 3*time.Second)
	def(&o.BackoffMin, 50*time.Millisecond)
	def(&o.BackoffMax, time.Second)
	def(&o.Heartbeat, time.Second)
	def(&o.DeadAfter, 5*time.Second)
	return o
}

// Links are the links of one node to all others. Its methods are safe for
// concurrent use.
type Links struct {
	self     string
	dial     Dialer
	handlers map[Kind]Handler
	lg       *zap.Logger
	o        Options
	born     time.Time
	boot     uint64        // random: tells this process from the one before
	dials    atomic.Uint64 // numbers the connections of this process
	unknown  atomic.Uint64 // one-way frames of unknown kinds
	metrics  *collector
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	links   map[string]*link
	serving map[string]*server
	latest  map[string]dialled // the newest link of each node that was served
}

// dialled names one connection of one process.
type dialled struct{ boot, dial uint64 }

// latestMax bounds what is remembered of nodes; beyond it all is forgotten.
const latestMax = 4096

// NewNode returns the links of node self. It starts nothing: a link is dialled
// when there is something to send. handlers must not change afterwards. Frames
// that a node sends to itself take the same way, without the network. A nil
// logger discards.
func NewNode(self string, dial Dialer, handlers map[Kind]Handler, lg *zap.Logger, o Options) *Links {
	if lg == nil {
		lg = zap.NewNop()
	}
	var boot [8]byte
	_, _ = rand.Read(boot[:]) // never fails
	l := &Links{
		self: self, dial: dial, handlers: handlers, lg: lg, o: o.withDefaults(),
		born: time.Now(), boot: binary.BigEndian.Uint64(boot[:]),
		links: map[string]*link{}, serving: map[string]*server{}, latest: map[string]dialled{},
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.metrics = register(l)
	return l
}

// enter counts a goroutine that Close must wait for.
func (l *Links) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Add(1)
	return true
}

// link returns the outgoing link to a node, nil after Close.
func (l *Links) link(to string) *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	k := l.links[to]
	if k == nil {
		k = newLink(l, to)
		l.links[to] = k
		l.wg.Go(k.run)
	}
	return k
}

// Send sends a frame without reply, in order with all other frames to that
// node. It copies payload and never blocks. Errors: ErrTooLarge, ErrBusy,
// ErrLinkDown (the node could not be reached a moment ago), ErrClosed. A frame
// that was taken may still be lost if the link breaks.
func (l *Links) Send(to string, k Kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return ErrTooLarge
	}
	n := l.link(to)
	if n == nil {
		return ErrClosed
	}
	return n.send(k, payload)
}

// Call sends a frame, in order with Send, and calls done exactly once, with
// the reply or an error: those of Send, ErrLinkDown (the outcome is unknown),
// ErrUnknownKind, ErrTooLarge, or a RemoteError. It copies payload and never
// blocks. done is never called before Call returns on the same goroutine; it
// must not block, and resp is valid only during the call.
func (l *Links) Call(to string, k Kind, payload []byte, done func(resp []byte, err error)) {
	if _, _, err := l.call(to, k, payload, done); err != nil {
		go done(nil, err)
	}
}

func (l *Links) call(to string, k Kind, payload []byte, done func([]byte, error)) (*link, uint32, error) {
	if len(payload) > MaxPayload {
		return nil, 0, ErrTooLarge
	}
	n := l.link(to)
	if n == nil {
		return nil, 0, errClosedDown
	}
	id, err := n.call(k, payload, done)
	return n, id, err
}

// CallWait is Call for those who may block. The reply belongs to the caller.
// When ctx ends first, its cause is returned, and the outcome is unknown.
func (l *Links) CallWait(ctx context.Context, to string, k Kind, payload []byte) ([]byte, error) {
	type result struct {
		resp []byte
		err  error
	}
	ch := make(chan result, 1) // done is called once, also after ctx has ended
	n, id, err := l.call(to, k, payload, func(resp []byte, err error) {
		ch <- result{resp: slices.Clone(resp), err: err}
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-ch:
		return r.resp, r.err
	case <-ctx.Done():
		n.forget(id)
		return nil, context.Cause(ctx)
	}
}

// Up tells whether the outgoing link to a node is established.
func (l *Links) Up(to string) bool {
	l.mu.Lock()
	k := l.links[to]
	l.mu.Unlock()
	return k != nil && k.up()
}

// Disconnect breaks the links with a node, in both directions, and forgets
// them: the node was removed, or is known to be down. A later Send dials anew.
func (l *Links) Disconnect(node string) {
	l.mu.Lock()
	k, s := l.links[node], l.serving[node]
	delete(l.links, node)
	l.mu.Unlock()
	if k != nil {
		k.cancel()
	}
	if s != nil {
		_ = s.w.conn.Close()
	}
}

// takeOver makes s the connection that serves its node. It waits until the one
// before it handles no more frames.
func (l *Links) takeOver(s *server) error {
	for {
		l.mu.Lock()
		if last, ok := l.latest[s.from]; ok && last.boot == s.boot && last.dial >= s.dial {
			l.mu.Unlock()
			return ErrSuperseded // an older dial that took longer, or a recording of one
		}
		old := l.serving[s.from]
		if old == nil {
			if len(l.latest) >= latestMax {
				clear(l.latest)
			}
			l.serving[s.from], l.latest[s.from] = s, dialled{s.boot, s.dial}
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		old.ended.Store(true)
		_ = old.w.conn.Close()
		<-old.done
		l.leave(old)
	}
}

func (l *Links) leave(s *server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.serving[s.from] == s {
		delete(l.serving, s.from)
	}
}

// dialSelf returns a connection to this node itself.
func (l *Links) dialSelf() net.Conn {
	near, far := net.Pipe()
	go func() { _ = l.Serve(far, l.self) }() // joined by Close through enter
	return near
}

// LinkStats describe one outgoing link. Counters grow for the life of Links.
type LinkStats struct {
	Node string
	// Up: a connection is established.
	Up bool
	// QueuedBytes wait to be written, PendingCalls for a reply.
	QueuedBytes, PendingCalls int
	// Frames and bytes, and the writes that carried them.
	FramesSent, BytesSent, Writes uint64
	FramesReceived, BytesReceived uint64
	// Dials are attempts, Breaks ends of established connections, Dropped
	// frames that were queued when one ended.
	Dials, Breaks, Dropped uint64
	// RTT is the latest round trip of a heartbeat, queues included; 0 if unknown.
	RTT time.Duration
}

// Stats describes all outgoing links, sorted by node.
func (l *Links) Stats() []LinkStats {
	l.mu.Lock()
	links := make([]*link, 0, len(l.links))
	for _, k := range l.links {
		links = append(links, k)
	}
	l.mu.Unlock()
	out := make([]LinkStats, 0, len(links))
	for _, k := range links {
		out = append(out, k.stats())
	}
	slices.SortFunc(out, func(a, b LinkStats) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func (k *link) stats() LinkStats {
	k.mu.Lock()
	calls := len(k.calls)
	k.mu.Unlock()
	c := &k.count
	return LinkStats{
		Node: k.node, Up: k.up(), QueuedBytes: k.out.size(), PendingCalls: calls,
		FramesSent: c.framesSent.Load(), BytesSent: c.bytesSent.Load(), Writes: c.writes.Load(),
		FramesReceived: c.framesReceived.Load(), BytesReceived: c.bytesReceived.Load(),
		Dials: c.dials.Load(), Breaks: c.breaks.Load(), Dropped: c.dropped.Load(),
		RTT: time.Duration(c.rtt.Load()),
	}
}

// Close breaks all links, fails all calls with ErrLinkDown, and returns when
// every goroutine has ended, those in Serve included. It must not be called
// from a handler or a callback.
func (l *Links) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.wg.Wait()
	l.metrics.unregister()
	return nil
}
