package transport

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// layerBacklog is how many connections may wait for Accept of one layer. More
// are refused with StatusBusy, so that a group that hangs costs the others nothing.
const layerBacklog = 32

// GroupLayer is the stream layer of one Raft group: a listener that yields
// the connections of other replicas, and a dialler that takes node ids. All
// connections are past their preamble.
type GroupLayer struct {
	port   *ClusterPort
	group  uint32
	queue  *handoff
	conns  *connSet
	ctx    context.Context // ends when the layer is closed; bounds its dials
	cancel context.CancelFunc
}

var _ net.Listener = (*GroupLayer)(nil)

// Accept implements net.Listener. After Close it returns ErrClosed.
func (l *GroupLayer) Accept() (net.Conn, error) {
	c, err := l.queue.accept()
	if err != nil {
		return nil, fmt.Errorf("accept for group %d: %w", l.group, err)
	}
	return c.t, nil
}

// Close stops the layer: it accepts and dials no more, and all its connections,
// accepted and dialled, are closed (raft's transport leaves idle ones open).
func (l *GroupLayer) Close() error {
	l.port.forget(l)
	l.cancel()
	l.queue.close()
	l.conns.close()
	return nil
}

// Addr implements net.Listener.
func (l *GroupLayer) Addr() net.Addr { return l.port.Addr() }

// Dial connects to the replica on a node, within timeout. Errors: ErrUnknownNode,
// ErrClosed, a RefusedError, or what the network says.
func (l *GroupLayer) Dial(nodeID string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	t, _, err := l.port.dialNode(ctx, nodeID, KindRaft, l.group)
	if err != nil {
		if l.ctx.Err() != nil {
			err = ErrClosed
		}
		return nil, fmt.Errorf("dial node %s for group %d: %w", nodeID, l.group, err)
	}
	if !l.conns.add(t) {
		t.kill()
		return nil, fmt.Errorf("dial node %s for group %d: %w", nodeID, l.group, ErrClosed)
	}
	return t, nil
}

// arrival is a connection that waits to be accepted.
type arrival struct {
	t    *tracked
	info PeerInfo
}

// handoff passes connections to whoever accepts them. A place is reserved
// before the caller is told that it is welcome, so put never blocks.
type handoff struct {
	ch     chan arrival // capacity: all places
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	taken int
	shut  bool
}

func newHandoff(places int) *handoff {
	return &handoff{ch: make(chan arrival, places), closed: make(chan struct{})}
}

// reserve takes a place, if there is one.
func (h *handoff) reserve() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shut || h.taken == cap(h.ch) {
		return false
	}
	h.taken++
	return true
}

// unreserve gives a reserved place back that was not used.
func (h *handoff) unreserve() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken--
}

// put uses a reserved place.
func (h *handoff) put(a arrival) {
	h.ch <- a // never blocks: the place is reserved
	select {
	case <-h.closed:
		h.drain()
	default:
	}
}

func (h *handoff) accept() (arrival, error) {
	for {
		select {
		case <-h.closed:
			return arrival{}, ErrClosed
		default:
		}
		select {
		case a := <-h.ch:
			h.unreserve()
			if a.t.handOver() {
				a.t.release() // its handshake is over
				return a, nil
			}
		case <-h.closed:
			return arrival{}, ErrClosed
		}
	}
}

func (h *handoff) close() {
	h.once.Do(func() {
		h.mu.Lock()
		h.shut = true
		h.mu.Unlock()
		close(h.closed)
		h.drain()
	})
}

func (h *handoff) drain() {
	for {
		select {
		case a := <-h.ch:
			h.unreserve()
			a.t.kill()
		default:
			return
		}
	}
}
