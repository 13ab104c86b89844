package cluster

import (
	"context"
	"slices"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// originWindow is how many originated messages are under way per shard.
const originWindow = 512

// originPump sends the messages that a shard's machine originated: released
// QoS 2 messages and wills. It runs on the shard's leader, sends in order, and
// reports to the machine what every target has confirmed. A new leader sends
// everything again that is not done; targets skip what they have applied.
type originPump struct {
	l      *lead
	cursor uint64 // highest sequence that was sent; owned by the duties goroutine

	mu      sync.Mutex
	pending map[uint64]originState
	restart bool // something failed: send again from the lowest that is not confirmed
}

type originState byte

const (
	originSent originState = iota + 1
	originConfirmed
	originClosing // OriginDone is proposed
)

func newOriginPump(l *lead) *originPump {
	return &originPump{l: l, pending: map[uint64]originState{}}
}

// run sends what is new and reports what is done. Called by the duties goroutine.
func (p *originPump) run(ctx context.Context) {
	p.report()
	for p.l.n.mayRoute() && ctx.Err() == nil {
		room := p.room()
		if room <= 0 {
			return
		}
		items := p.l.mach.Origins(p.cursor, room)
		if len(items) == 0 {
			return
		}
		for i := range items {
			p.cursor = items[i].Seq
			p.send(ctx, &items[i])
		}
	}
}

// room is how many more may be sent. After a failure it also moves the cursor
// back: the sends that follow repeat, in order, what is not confirmed.
func (p *originPump) room() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.restart {
		p.restart = false
		for seq, st := range p.pending {
			if st == originSent {
				p.cursor = min(p.cursor, seq-1)
			}
		}
	}
	return originWindow - len(p.pending)
}

func (p *originPump) send(ctx context.Context, o *state.Originated) {
	p.mu.Lock()
	if st := p.pending[o.Seq]; st == originConfirmed || st == originClosing {
		p.mu.Unlock()
		return
	}
	p.pending[o.Seq] = originSent
	p.mu.Unlock()
	key := command.OriginKey{Shard: p.l.shard, Seq: o.Seq, Low: p.l.mach.OriginLow()}
	seq := o.Seq
	p.l.n.routeOrigin(ctx, o, key, func(out session.Outcome) { p.confirmed(seq, out) })
}

func (p *originPump) confirmed(seq uint64, out session.Outcome) {
	p.mu.Lock()
	if out.Err != nil {
		p.restart = true // the next tick of the duties sends again
		p.mu.Unlock()
		return
	}
	if p.pending[seq] == originSent {
		p.pending[seq] = originConfirmed
	}
	p.mu.Unlock()
	p.l.kick()
}

// report proposes OriginDone for everything that is confirmed.
func (p *originPump) report() {
	p.mu.Lock()
	var done []uint64
	for seq, st := range p.pending {
		if st == originConfirmed {
			done = append(done, seq)
			p.pending[seq] = originClosing
		}
	}
	p.mu.Unlock()
	if len(done) == 0 {
		return
	}
	slices.Sort(done)
	p.l.proposeThen(command.AppendOriginDone(nil, &command.OriginDone{Seqs: toRanges(done)}), func(err error) {
		p.mu.Lock()
		for _, seq := range done {
			if err == nil {
				delete(p.pending, seq)
			} else {
				p.pending[seq] = originConfirmed
			}
		}
		p.mu.Unlock()
		if err == nil {
			p.l.kick()
		}
	})
}
