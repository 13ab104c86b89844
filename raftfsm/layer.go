package raftfsm

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// chunkBytes is how much one write of a raft stream moves before its deadline is armed again.
const chunkBytes = 64 << 10

// gatedLayer adapts a Layer to raft's StreamLayer. It tracks the connections, because raft's
// transport closes neither pooled nor accepted ones, and it is the gate that a dead node's bytes do
// not pass.
type gatedLayer struct {
	inner   Layer
	self    nodeAddr
	maxDial time.Duration
	dead    atomic.Bool

	mu     sync.Mutex
	conns  map[*gatedConn]struct{}
	closed bool
}

var _ raft.StreamLayer = (*gatedLayer)(nil)

// nodeAddr is a node id as an address: raft's server addresses are node ids, resolved at dial.
type nodeAddr string

func (a nodeAddr) Network() string { return "flotilla" }
func (a nodeAddr) String() string  { return string(a) }

func newGatedLayer(inner Layer, self string, maxDial time.Duration) *gatedLayer {
	return &gatedLayer{inner: inner, self: nodeAddr(self), maxDial: maxDial, conns: map[*gatedConn]struct{}{}}
}

func (l *gatedLayer) Accept() (net.Conn, error) {
	c, err := l.inner.Accept()
	if err != nil {
		return nil, err
	}
	return l.track(c)
}

// Dial implements raft.StreamLayer. The dial is kept short of raft's RPC timeout: a replication
// goroutine that dials a dead node must notice the end of its leadership.
func (l *gatedLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if l.maxDial > 0 && timeout > l.maxDial {
		timeout = l.maxDial
	}
	if l.isShut() {
		return nil, net.ErrClosed
	}
	c, err := l.inner.Dial(string(address), timeout)
	if err != nil {
		return nil, err
	}
	return l.track(c)
}

func (l *gatedLayer) Addr() net.Addr { return l.self }

// Close closes the listener and every connection.
func (l *gatedLayer) Close() error {
	l.mu.Lock()
	l.closed = true
	conns := l.takeLocked()
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Conn.Close()
	}
	return l.inner.Close()
}

// cut stops every byte from here on; the listener stays for Close.
func (l *gatedLayer) cut() {
	l.dead.Store(true)
	l.mu.Lock()
	conns := l.takeLocked()
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Conn.Close()
	}
}

func (l *gatedLayer) takeLocked() []*gatedConn {
	conns := make([]*gatedConn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	clear(l.conns)
	return conns
}

func (l *gatedLayer) isShut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.dead.Load()
}

func (l *gatedLayer) track(c net.Conn) (net.Conn, error) {
	g := &gatedConn{Conn: c, l: l}
	l.mu.Lock()
	shut := l.closed || l.dead.Load()
	if !shut {
		l.conns[g] = struct{}{}
	}
	l.mu.Unlock()
	if shut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return g, nil
}

// gatedConn turns raft's deadline for a whole RPC into one for progress: the deadline is armed again
// with each chunk written, so that entries of many megabytes pass a slow link.
type gatedConn struct {
	net.Conn
	l    *gatedLayer
	idle atomic.Int64
}

func (c *gatedConn) SetDeadline(t time.Time) error {
	var idle time.Duration
	if !t.IsZero() {
		idle = time.Until(t)
	}
	c.idle.Store(int64(idle))
	return c.Conn.SetDeadline(t)
}

func (c *gatedConn) Write(b []byte) (int, error) {
	written := 0
	for {
		if c.l.dead.Load() {
			return written, net.ErrClosed
		}
		if written > 0 {
			if idle := c.idle.Load(); idle > 0 {
				if err := c.Conn.SetDeadline(time.Now().Add(time.Duration(idle))); err != nil {
					return written, err
				}
			}
		}
		n, err := c.Conn.Write(b[written:min(len(b), written+chunkBytes)])
		written += n
		if err != nil || written >= len(b) {
			return written, err
		}
	}
}

func (c *gatedConn) Read(b []byte) (int, error) {
	if c.l.dead.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Read(b)
}

func (c *gatedConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
