package sessiontest

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/session"
)

var (
	_ session.Sessions  = (*Node)(nil)
	_ session.Publisher = (*Node)(nil)
	_ session.Inbox     = (*Node)(nil)
	_ session.Retained  = (*Node)(nil)
)

// ready waits or fails as the faults say.
func (n *Node) ready(ctx context.Context) error {
	n.cl.mu.Lock()
	f := n.cl.faults
	n.cl.mu.Unlock()
	if f.Hang {
		<-ctx.Done()
		return session.ErrUnavailable
	}
	if f.Unavailable {
		return session.ErrUnavailable
	}
	return ctx.Err()
}

// gate waits while the lanes are full and tells how a publish ends without
// effect.
func (n *Node) gate(ctx context.Context, qos byte) (out session.Outcome, stop bool) {
	n.cl.mu.Lock()
	full, f := n.cl.full, n.cl.faults
	n.cl.mu.Unlock()
	if full != nil {
		select {
		case <-full:
		case <-ctx.Done():
			return session.Outcome{Err: ctx.Err()}, true
		}
	}
	switch {
	case f.Unavailable:
		return session.Outcome{Err: session.ErrUnavailable}, true
	case f.Refuse != 0 && qos > 0:
		return session.Outcome{Code: f.Refuse}, true
	}
	return session.Outcome{}, false
}

// answer finishes a publish. A failure is never held back: behind it others
// could take effect, which no lane allows.
func (cl *Cluster) answer(what string, pid uint16, out session.Outcome, done func(session.Outcome)) {
	if out.Err != nil {
		done(out)
		return
	}
	cl.finish(what, pid, func() { done(out) })
}
