package transporttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ErrDead is what a process gets from its network after Kill or PowerOff.
var ErrDead = errors.New("transporttest: this process is dead")

var errReset = fmt.Errorf("transporttest: %w", syscall.ECONNRESET)

// backlog is the length of accept queues, as listen(2) has it. An attempt to
// connect waits while it is full.
const backlog = 1024

// Node is the network as one process sees it. Addresses are "name:port";
// port 0 takes a free one. Any host in an address to listen on means the node
// itself, and so do the loopback names in an address to dial. It implements
// transport.Network; this package does not import transport, so that transport's
// own tests can use it.
type Node struct {
	hub  *Hub
	host *host
	gen  int
}

// Listen opens a listener on this node.
func (n *Node) Listen(address string) (net.Listener, error) {
	_, port, err := split(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	h := n.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if n.deadLocked() {
		return nil, fmt.Errorf("listen on %s: %w", address, ErrDead)
	}
	if port == 0 {
		port = n.host.portLocked()
	}
	if n.host.listeners[port] != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, syscall.EADDRINUSE)
	}
	l := &listener{node: n, addr: addr{n.host.name, port}, queue: make(chan *conn, backlog), closed: make(chan struct{})}
	n.host.listeners[port] = l
	return l, nil
}

func (n *Node) deadLocked() bool { return n.gen != n.host.gen || n.host.off }

func (hs *host) portLocked() int {
	for {
		hs.nextPort++
		if hs.nextPort > 65535 {
			hs.nextPort = 40001
		}
		if hs.listeners[hs.nextPort] == nil {
			return hs.nextPort
		}
	}
}

func split(address string) (string, int, error) {
	name, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("bad port %q", p)
	}
	return name, port, nil
}

// Dial connects to addr. It takes a round trip, waits while a link
// is cut or the other node has no power, and is refused at once where nobody
// listens.
func (n *Node) Dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := n.dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", address, n.host.name, err)
	}
	return c, nil
}

func (n *Node) dial(ctx context.Context, address string) (*conn, error) {
	name, port, err := split(address)
	if err != nil {
		return nil, err
	}
	switch name {
	case "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::":
		name = n.host.name
	}
	there, here := n.hub.link(n.host.name, name), n.hub.link(name, n.host.name)
	if err := cross(ctx, there); err != nil {
		return nil, err
	}
	if err := n.powered(ctx, name); err != nil {
		return nil, err
	}
	if err := cross(ctx, here); err != nil {
		return nil, err
	}
	return n.connect(ctx, name, port, there, here)
}

// cross waits until the link carries, and then for its delay.
func cross(ctx context.Context, k *link) error {
	for {
		up, changed := k.up()
		if up {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if d, _ := k.latency(); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// powered waits until the host has power.
func (n *Node) powered(ctx context.Context, name string) error {
	for {
		n.hub.mu.Lock()
		back := n.hub.hostLocked(name).back
		n.hub.mu.Unlock()
		if back == nil {
			return nil
		}
		select {
		case <-back:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *Node) connect(ctx context.Context, name string, port int, there, here *link) (*conn, error) {
	h := n.hub
	h.mu.Lock()
	if n.deadLocked() {
		h.mu.Unlock()
		return nil, ErrDead
	}
	l := h.hostLocked(name).listeners[port]
	if l == nil {
		h.mu.Unlock()
		return nil, syscall.ECONNREFUSED
	}
	local, remote := addr{n.host.name, n.host.portLocked()}, l.addr
	c := newConn(h, n.host, local, remote)
	s := newConn(h, l.node.host, remote, local)
	c.peer, s.peer = s, c
	c.out = newStream(there)
	c.in = newStream(here)
	s.out, s.in = c.in, c.out
	n.host.conns[c] = struct{}{}
	l.node.host.conns[s] = struct{}{}
	h.mu.Unlock()

	select {
	case <-l.closed: // select picks at random when both are ready
		c.abort()
		return nil, syscall.ECONNREFUSED
	default:
	}
	select {
	case l.queue <- s:
		select {
		case <-l.closed: // it may have been drained before this one came in
			l.drain()
		default:
		}
		return c, nil
	case <-l.closed:
		c.abort()
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		c.abort()
		return nil, ctx.Err()
	}
}

type listener struct {
	node      *Node
	addr      addr
	queue     chan *conn
	closed    chan struct{}
	closeOnce sync.Once
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		l.drain()
		return nil, l.err()
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		l.drain()
		return nil, l.err()
	}
}

func (l *listener) err() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

// drain resets what nobody will accept any more.
func (l *listener) drain() {
	for {
		select {
		case c := <-l.queue:
			c.peer.fail(errReset)
			c.fail(net.ErrClosed)
		default:
			return
		}
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	h := l.node.hub
	h.mu.Lock()
	if l.node.host.listeners[l.addr.port] == l {
		delete(l.node.host.listeners, l.addr.port)
	}
	h.mu.Unlock()
	l.drain()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
