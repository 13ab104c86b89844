package cluster

import (
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// How a pump tells its machine what every target has confirmed, and forgets it itself.

// report tells the machine what is confirmed, when it is enough or old enough.
// It returns how long the rest may wait.
func (p *originPump) report() time.Duration {
	p.mu.Lock()
	if p.reporting || p.confirmed == 0 || p.hold.held() {
		p.mu.Unlock()
		return 0
	}
	if age := time.Since(p.confirmedSince); age < originDoneEvery && p.confirmed < originDoneMax {
		p.mu.Unlock()
		return originDoneEvery - age
	}
	var done []command.Range
	for i := range p.items {
		if p.items[i].state == originConfirmed {
			p.items[i].state = originReported
			done = command.AppendSeq(done, p.items[i].seq)
		}
	}
	p.reporting, p.confirmed = true, 0
	p.mu.Unlock()
	p.tell(command.AppendOriginDone(nil, &command.OriginDone{Seqs: done}), p.reported)
	return 0
}

// reported takes the outcome of a report. A report that failed is made again.
func (p *originPump) reported(err error) {
	p.mu.Lock()
	p.reporting = false
	for i := range p.items {
		switch {
		case p.items[i].state != originReported:
		case err == nil:
			p.items[i].state = originClosed
			p.closed++
		default:
			p.items[i].state = originConfirmed
			if p.confirmed++; p.confirmed == 1 {
				p.confirmedSince = time.Now()
			}
		}
	}
	p.compactLocked()
	p.mu.Unlock()
	p.kick()
}

// compactLocked drops what is closed from the front, and all of it when that is
// worth it.
func (p *originPump) compactLocked() {
	n := 0
	for n < len(p.items) && p.items[n].state == originClosed {
		n++
	}
	p.items, p.open, p.closed = p.items[n:], p.open-n, p.closed-n
	if p.closed < 1024 || p.closed < len(p.items)/2 {
		return
	}
	p.items = slices.DeleteFunc(p.items, func(it originItem) bool { return it.state == originClosed })
	p.closed, p.open = 0, 0
	for p.open < len(p.items) && p.items[p.open].state >= originConfirmed {
		p.open++
	}
}
