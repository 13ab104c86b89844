package cluster

import (
	"context"
	"slices"
)

// Who waits for a pump: a SUBACK, until the gated commands that its session caused are confirmed; a CONNACK, until the will of an
// earlier connection is.

// wait returns when every gated command up to seq is confirmed: this is what a
// SUBACK waits for beside the gate of its own shard.
func (p *originPump) wait(ctx context.Context, seq uint64) error {
	return p.await(ctx, originWaiter{seq: seq, done: make(chan error, 1)})
}

// waitOne returns when the one with this sequence is confirmed, or dropped.
func (p *originPump) waitOne(ctx context.Context, seq uint64) error {
	return p.await(ctx, originWaiter{seq: seq, one: true, done: make(chan error, 1)})
}

func (p *originPump) await(ctx context.Context, w originWaiter) error {
	if p.mach.OriginLow() > w.seq {
		return nil
	}
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return ErrNoLeader
	}
	p.waiters = append(p.waiters, w)
	ready := p.readyLocked()
	p.mu.Unlock()
	release(ready, nil)
	p.kick()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		p.forget(w)
		return context.Cause(ctx)
	}
}

func (p *originPump) forget(w originWaiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = slices.DeleteFunc(p.waiters, func(o originWaiter) bool { return o.done == w.done })
}

// readyLocked takes out the waiters that need not wait any more.
func (p *originPump) readyLocked() (ready []originWaiter) {
	if len(p.waiters) == 0 {
		return nil
	}
	rest := p.waiters[:0]
	for _, w := range p.waiters {
		if p.doneLocked(w) {
			ready = append(ready, w)
		} else {
			rest = append(rest, w)
		}
	}
	p.waiters = rest
	return ready
}

func (p *originPump) doneLocked(w originWaiter) bool {
	switch {
	case w.seq > p.read:
		return false
	case w.one:
		i, ok := p.findLocked(w.seq)
		return !ok || p.items[i].state >= originConfirmed
	}
	return len(p.gated) == 0 || p.gated[0] > w.seq
}

func release(ready []originWaiter, err error) {
	for _, w := range ready {
		w.done <- err
	}
}

// end lets the waiters ask the next leader.
func (p *originPump) end() {
	p.mu.Lock()
	p.ended = true
	waiters := p.waiters
	p.waiters = nil
	p.mu.Unlock()
	release(waiters, ErrNoLeader)
}
