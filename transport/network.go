package transport

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Network is where listeners and connections come from. [TCP] is the real
// one; tests inject transporttest's, which runs in memory.
type Network interface {
	// Listen opens a listener on addr ("host:port"; port 0 takes a free one).
	Listen(addr string) (net.Listener, error)
	// Dial connects to addr. It gives up when ctx ends.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// TCP is the real network. The zero value is ready for use.
type TCP struct {
	// KeepAlive is set on every connection, accepted or dialled. The zero
	// value means 15 s idle, 15 s between probes, 4 probes: a peer that
	// vanished is noticed after about 75 s even if nothing is ever sent.
	KeepAlive net.KeepAliveConfig
}

var _ Network = TCP{}

func (t TCP) keepAlive() net.KeepAliveConfig {
	if t.KeepAlive != (net.KeepAliveConfig{}) {
		return t.KeepAlive
	}
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4}
}

// Listen implements Network.
func (t TCP) Listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: t.keepAlive()}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// Dial implements Network. A name that stands for several addresses is
// resolved at every call, and its addresses are tried in turn.
func (t TCP) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: t.keepAlive()}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return c, nil
}
