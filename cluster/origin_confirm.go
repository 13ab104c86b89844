package cluster

import (
	"context"
	"slices"
	"time"
)

// What a pump learns of what it sent: the answer of a target, and for gated commands that the routes of the target have
// reached every gateway.

// answered takes the outcome of one. An error means that its lane was reset.
func (p *originPump) answered(seq uint64, err error) {
	p.mu.Lock()
	full := p.fullLocked()
	p.answeredLocked(seq, err)
	ready := p.readyLocked()
	// The pump has nothing to do with most answers: it wakes by itself to report.
	wake := full && !p.fullLocked() || p.confirmed == 1 || p.confirmed == originDoneMax || p.failed && p.flying == 0
	p.mu.Unlock()
	release(ready, nil)
	if wake {
		p.kick()
	}
}

func (p *originPump) fullLocked() bool {
	return p.flying >= originWindow || p.bytes >= originWindowBytes || len(p.items)-p.open >= originSpan
}

func (p *originPump) answeredLocked(seq uint64, err error) {
	i, ok := p.findLocked(seq)
	if !ok || p.items[i].state != originSent {
		return
	}
	it := &p.items[i]
	p.flying--
	p.bytes -= it.bytes
	if err != nil {
		if it.state = originFailed; !p.failed {
			p.failed, p.retryAt = true, time.Now().Add(laneRetry)
		}
		return
	}
	p.confirmLocked(i)
}

func (p *originPump) confirmLocked(i int) {
	seq := p.items[i].seq
	p.items[i].state = originConfirmed
	if p.confirmed++; p.confirmed == 1 {
		p.confirmedSince = time.Now()
	}
	for p.open < len(p.items) && p.items[p.open].state >= originConfirmed {
		p.open++
	}
	if len(p.gated) > 0 {
		if i, ok := slices.BinarySearch(p.gated, seq); ok {
			p.gated = slices.Delete(p.gated, i, i+1)
		}
	}
}

// gate confirms a command when the routes of its target have reached every
// gateway. One goroutine for each target asks for all that wait.
func (p *originPump) gate(ctx context.Context, target uint32, seq, index uint64) {
	p.mu.Lock()
	g := p.gates[target]
	if g != nil {
		g.index, g.seqs = max(g.index, index), append(g.seqs, seq)
		p.mu.Unlock()
		return
	}
	p.gates[target] = &originGate{index: index, seqs: []uint64{seq}}
	p.mu.Unlock()
	p.net.spawn(func() {
		for p.passGate(ctx, target) {
		}
	})
}

// passGate waits for the routes that what waits needs, and confirms it. It
// returns false when nothing waits any more.
func (p *originPump) passGate(ctx context.Context, target uint32) bool {
	p.mu.Lock()
	g := p.gates[target]
	if len(g.seqs) == 0 {
		delete(p.gates, target)
		p.mu.Unlock()
		return false
	}
	index, seqs := g.index, g.seqs
	g.seqs = nil
	p.mu.Unlock()
	for p.net.effective(ctx, target, index, 0) != nil {
		if sleep(ctx, laneRetry) != nil {
			return false // the next leader sends them again
		}
	}
	for _, seq := range seqs {
		p.answered(seq, nil)
	}
	return true
}

// noteRead takes down that all of the machine's list up to a sequence is known.
// What failed and was not in the list again is done: it expired, or the leader
// before this one had told the machine of it.
func (p *originPump) noteRead(seq uint64) {
	p.mu.Lock()
	for i := p.open; !p.failed && i < len(p.items) && p.items[i].seq <= seq; i++ {
		if p.items[i].state == originFailed {
			p.confirmLocked(i)
		}
	}
	p.read = max(p.read, seq)
	ready := p.readyLocked()
	p.mu.Unlock()
	release(ready, nil)
}
