package cluster

import (
	"context"
	"errors"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// How a pump sends one that the machine originated, to the routes of a message or to the shard of a command.

// send sends one, unless it is known to be confirmed. It returns false if it
// cannot be sent now.
func (p *originPump) send(ctx context.Context, o *state.Originated) bool {
	if o.Command == nil && !p.net.mayRoute() {
		return false
	}
	key := command.OriginKey{Shard: p.shard, Seq: o.Seq, Low: p.low(o.Seq)}
	size := len(o.Encoded)
	if o.Command != nil {
		p.scratch = o.Command(p.scratch[:0], key)
		size = len(p.scratch)
	}
	if !p.start(o.Seq, size, o.Gated) {
		return true
	}
	if o.Command == nil {
		p.net.routeOrigin(ctx, o, key, p.inc, func(out session.Outcome) { p.answered(o.Seq, out.Err) })
		return true
	}
	seq, gated := o.Seq, o.Gated
	target := p.net.shardOf(o.Tenant, o.TargetKey)
	err := p.net.sendOrigin(target, p.inc, p.scratch, func(_ command.Result, index uint64, err error) {
		switch {
		case err != nil && !errors.Is(err, errNoResult):
			p.answered(seq, err)
		case gated:
			p.gate(ctx, target, seq, index)
		default:
			p.answered(seq, nil)
		}
	})
	if err != nil {
		p.answered(seq, err)
		return false
	}
	return true
}

// low is the lowest sequence that is not confirmed by all targets. Nothing below
// is sent any more, by this leader or a later one, except to be skipped.
func (p *originPump) low(next uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open < len(p.items) {
		return min(next, p.items[p.open].seq)
	}
	return next
}

// start notes that one is under way; false if that is not to be.
func (p *originPump) start(seq uint64, size int, gated bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, known := p.findLocked(seq)
	switch {
	case !known && seq <= p.high:
		return false // done between the read of the page and now
	case !known:
		p.high = seq
		p.items = append(p.items, originItem{seq: seq, bytes: size, state: originSent})
		if gated {
			p.gated = append(p.gated, seq)
		}
	case p.items[i].state == originFailed:
		p.items[i].state, p.items[i].bytes = originSent, size
	default:
		return false
	}
	p.flying++
	p.bytes += size
	return true
}
