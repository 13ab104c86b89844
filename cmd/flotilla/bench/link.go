package bench

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	dialTimeout = 10 * time.Second
	backoff     = 100 * time.Millisecond // between attempts to connect again
)

// link is one client that is connected again when it is lost. It belongs to
// one goroutine, but for client.
type link struct {
	plan     *plan
	index    int
	opt      mqttc.Options
	prepare  func(ctx context.Context, c *mqttc.Client) error // after each connect
	client   atomic.Pointer[mqttc.Client]
	attempts int
	lost     atomic.Uint64 // connections that ended too early
}

// open connects, once.
func (l *link) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	opt := l.opt
	if l.attempts > 0 {
		opt.Clean = opt.Clean && !l.plan.Durable
	}
	l.attempts++
	c, err := mqttc.Dial(ctx, opt)
	if err != nil {
		return err
	}
	if err := l.prepare(ctx, c); err != nil {
		_ = c.Close() // err says why
		return err
	}
	l.client.Store(c)
	return nil
}

// again connects until it succeeds or ctx ends, going round the brokers.
func (l *link) again(ctx context.Context) error {
	if c := l.client.Load(); c != nil {
		_ = c.Close()
		if ctx.Err() == nil {
			l.lost.Add(1)
			l.plan.log("%s: %v", l.opt.ClientID, c.Err())
		}
	}
	for ctx.Err() == nil {
		err := l.open(ctx)
		if err == nil {
			return nil
		}
		l.plan.log("%s: %v", l.opt.ClientID, err)
		l.index++
		l.opt.URL = l.plan.url(l.index)
		wait(ctx, backoff)
	}
	return context.Cause(ctx)
}

// close says goodbye; a durable session is ended.
func (l *link) close(ctx context.Context) {
	c := l.client.Load()
	if c == nil {
		return
	}
	_ = c.Disconnect(ctx, mqtt.Success) // the run is over either way
	if !l.plan.Durable {
		return
	}
	opt := l.opt
	opt.Clean, opt.SessionExpiry, opt.Session, opt.OnMessage, opt.OnAck = true, 0, nil, nil, nil
	if c, err := mqttc.Dial(ctx, opt); err == nil {
		_ = c.Disconnect(ctx, mqtt.Success)
	}
}

// wait sleeps unless ctx ends first.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
