package raftfsmtest

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// errRefused says that nobody listens.
var errRefused = refusal{}

type refusal struct{}

func (refusal) Error() string { return "connection refused" }

// Refused implements what raftfsm asks of a dial's error.
func (refusal) Refused() bool { return true }

// Network connects nodes in memory.
type Network struct {
	mu        sync.Mutex
	listeners map[endpoint]*Layer
	links     map[[2]string]*link
}

type endpoint struct {
	node  string
	group uint32
}

// NewNetwork returns a network without delay and without cuts.
func NewNetwork() *Network {
	return &Network{listeners: map[endpoint]*Layer{}, links: map[[2]string]*link{}}
}

// link is one direction between two nodes.
type link struct {
	mu     sync.Mutex
	cut    bool
	delay  time.Duration
	healed chan struct{} // closed when a cut ends or begins
	bytes  atomic.Int64  // written
}

func (l *link) isCut() (bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut, l.healed
}

func (l *link) getDelay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delay
}

func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != cut {
		l.cut = cut
		close(l.healed)
		l.healed = make(chan struct{})
	}
}

func (n *Network) link(from, to string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.links[[2]string{from, to}]
	if l == nil {
		l = &link{healed: make(chan struct{})}
		n.links[[2]string{from, to}] = l
	}
	return l
}

// Cut stops bytes from a to b; they are held until Heal.
func (n *Network) Cut(a, b string) { n.link(a, b).set(true) }

// Heal lets bytes from a to b pass again.
func (n *Network) Heal(a, b string) { n.link(a, b).set(false) }

// Isolate cuts node from others in both directions, or heals it.
func (n *Network) Isolate(node string, others []string, cut bool) {
	for _, o := range others {
		if o != node {
			n.link(node, o).set(cut)
			n.link(o, node).set(cut)
		}
	}
}

// Reset breaks every connection of node; bytes under way are lost.
func (n *Network) Reset(node string) {
	n.mu.Lock()
	var layers []*Layer
	for at, l := range n.listeners {
		if at.node == node {
			layers = append(layers, l)
		}
	}
	n.mu.Unlock()
	for _, l := range layers {
		for _, c := range l.list() {
			c.in.abort()
			c.out.abort()
			_ = c.Close()
		}
	}
}

// Bytes is how many were written from a to b.
func (n *Network) Bytes(a, b string) int64 { return n.link(a, b).bytes.Load() }

// SetDelay delays bytes from a to b.
func (n *Network) SetDelay(a, b string, d time.Duration) {
	l := n.link(a, b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// Layer is a node's end of one group's streams.
type Layer struct {
	n      *Network
	at     endpoint
	accept chan net.Conn

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed chan struct{}
	once   sync.Once
}

// Layer makes node listen for group. It replaces a listener that was closed.
func (n *Network) Layer(node string, group uint32) *Layer {
	l := &Layer{
		n: n, at: endpoint{node, group}, accept: make(chan net.Conn), conns: map[*conn]struct{}{},
		closed: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[l.at] = l
	return l
}

// Accept implements net.Listener.
func (l *Layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *Layer) Addr() net.Addr { return addr(l.at.node) }

// Close implements net.Listener: it also ends the connections of this end.
func (l *Layer) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.n.mu.Lock()
		if l.n.listeners[l.at] == l {
			delete(l.n.listeners, l.at)
		}
		l.n.mu.Unlock()
		for _, c := range l.list() {
			_ = c.Close()
		}
	})
	return nil
}

func (l *Layer) list() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	return conns
}

// Dial connects to the same group on another node. A cut link answers nothing until the timeout.
func (l *Layer) Dial(nodeID string, timeout time.Duration) (net.Conn, error) {
	t := time.NewTimer(timeout)
	defer t.Stop()
	there, back := l.n.link(l.at.node, nodeID), l.n.link(nodeID, l.at.node)
	for {
		cut1, healed1 := there.isCut()
		cut2, healed2 := back.isCut()
		if !cut1 && !cut2 {
			break
		}
		select {
		case <-healed1:
		case <-healed2:
		case <-l.closed:
			return nil, net.ErrClosed
		case <-t.C:
			return nil, fmt.Errorf("dial %s: timeout", nodeID)
		}
	}
	l.n.mu.Lock()
	peer := l.n.listeners[endpoint{nodeID, l.at.group}]
	l.n.mu.Unlock()
	if peer == nil {
		return nil, fmt.Errorf("dial %s: %w", nodeID, errRefused)
	}
	a, b := newPipe(there), newPipe(back)
	mine := &conn{in: b, out: a, local: addr(l.at.node), remote: addr(nodeID), onClose: l.drop}
	theirs := &conn{in: a, out: b, local: addr(nodeID), remote: addr(l.at.node), onClose: peer.drop}
	l.keep(mine)
	peer.keep(theirs)
	select {
	case peer.accept <- theirs:
		return mine, nil
	case <-peer.closed:
	case <-l.closed:
	case <-t.C:
	}
	_ = mine.Close()
	_ = theirs.Close()
	return nil, fmt.Errorf("dial %s: %w", nodeID, errRefused)
}

func (l *Layer) keep(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
}

func (l *Layer) drop(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}
