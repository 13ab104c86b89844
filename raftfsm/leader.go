package raftfsm

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// watchLeadership reads raft's leadership notices. raft blocks until each is read. "Leader" is
// signalled before the no-op of the term is committed, so a barrier goes first: proposals, reads and
// OnLeader(true) follow when it is applied.
//
// A barrier may be dropped: raft takes nothing while a leadership transfer is under way, and one of an earlier leadership of this
// replica is under way until its message has an answer or a timeout. So a barrier that is not in the log after a heartbeat goes again.
func (g *Group) watchLeadership() {
	again := time.NewTicker(g.cfg.Heartbeat)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			g.proposals.regain()
		case leads := <-g.notify:
			if leads {
				g.proposals.gain()
			} else {
				g.proposals.lose()
			}
		case <-g.stop:
			return
		}
	}
}

// led notes the begin (term) or the end (0) of a ready leadership. It is called under the lock of the
// proposals, so begin and end come in order.
func (g *Group) led(term uint64) {
	last := g.leadTerm.Swap(term)
	if term != 0 {
		g.metrics.leaderChanges.Inc()
		g.peers.begin(term)
		g.events.push(leaderEvent{leads: true, term: term})
		return
	}
	g.events.push(leaderEvent{term: last})
}

// leaderEvent is one call of OnLeader to come.
type leaderEvent struct {
	leads bool
	term  uint64
}

// leaderEvents queues the calls of OnLeader. A leadership that ended before its begin was told is
// not told at all, so at most two wait.
type leaderEvents struct {
	mu    sync.Mutex
	queue []leaderEvent
	wake  chan struct{} // capacity 1
}

func (e *leaderEvents) push(ev leaderEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.queue); n > 0 && e.queue[n-1].leads && !ev.leads {
		e.queue = e.queue[:n-1]
		return
	}
	e.queue = append(e.queue, ev)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *leaderEvents) pop() (leaderEvent, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return leaderEvent{}, false
	}
	ev := e.queue[0]
	e.queue = e.queue[1:]
	return ev, true
}

// tellLeadership calls OnLeader, until stopTelling, and then for what is queued unless the replica
// was killed.
func (g *Group) tellLeadership() {
	for {
		select {
		case <-g.events.wake:
		case <-g.stopTelling:
			if !g.isDead() {
				g.tellQueued()
			}
			return
		}
		g.tellQueued()
	}
}

func (g *Group) tellQueued() {
	for !g.isDead() {
		ev, ok := g.events.pop()
		if !ok {
			return
		}
		name := "raft.leader_elected"
		if !ev.leads {
			name = "raft.leadership_lost"
		}
		g.lg.Info("leadership changed", event(name), term(ev.term), zap.Bool("leads", ev.leads))
		if g.cfg.OnLeader != nil {
			g.cfg.OnLeader(ev.leads, ev.term)
		}
	}
}
