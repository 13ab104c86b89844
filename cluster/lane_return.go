package cluster

import (
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// What comes back to a lane: an outcome, which retires a batch and answers its callers; a failure, after which all that
// has not returned is sent again in order; or nothing for so long that callers are told that the outcome is unknown.

// returned handles the outcome of one send.
func (l *lane) returned(b *laneBatch, gen uint64, res command.BatchResult, index uint64, err error) {
	if err == nil && res.Code == command.StaleIncarnation {
		l.isStale(gen)
	}
	if err != nil || res.Code == command.Gap || res.Code == command.StaleIncarnation {
		l.recover(gen)
		return
	}
	l.mu.Lock()
	if b.applied {
		l.mu.Unlock()
		return // two attempts were applied once, and both answered
	}
	b.applied = true
	l.retireLocked()
	dones, acks := b.dones, b.ackOrder
	if b.expired { // most callers have gone; some want to undo what came of it
		for i, late := range b.lates {
			dones[i] = late
		}
	}
	b.dones, b.acks, b.ackOrder, b.lates, b.kept = nil, nil, nil, nil, nil
	l.mu.Unlock()
	l.kick()
	if l.whole {
		for _, done := range dones {
			if done != nil {
				done(command.Result{Code: command.OK}, index, nil)
			}
		}
		return
	}
	finishBatch(acks, dones, res, index)
}

// isStale tells what a shard thinks of this incarnation, unless the lane has begun anew since it asked.
func (l *lane) isStale(gen uint64) {
	l.mu.Lock()
	inc := l.inc
	if gen != l.gen {
		inc = 0
	}
	l.mu.Unlock()
	if inc != 0 && l.stale != nil {
		l.stale(inc)
	}
}

// retireLocked drops returned batches from the front of sent.
func (l *lane) retireLocked() {
	n := 0
	for n < len(l.sent) && l.sent[n].applied {
		l.bytes -= l.sent[n].size
		l.ackedSeq = l.sent[n].seq
		n++
	}
	if n == 0 {
		return
	}
	l.sent = append(l.sent[:0:0], l.sent[n:]...)
	l.unsent = min(l.unsent, len(l.sent))
	l.freeSpaceLocked()
}

// recover prepares to send again everything that has not returned. The first
// failure of a generation starts it; the others belong to it.
func (l *lane) recover(gen uint64) {
	l.mu.Lock()
	if gen != l.gen || l.inc == 0 {
		l.mu.Unlock()
		return
	}
	l.gen++
	l.unsent = len(l.sent)
	l.recovering = true
	l.mu.Unlock()
	l.met.laneResends.WithLabelValues(shardLabel(l.shard)).Inc()
	time.AfterFunc(laneRetry, l.leaderChanged)
}

func (l *lane) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recovering = false
}

// expire tells callers that waited too long that the outcome is unknown. Their
// commands stay in the lane: if some of a publisher's were dropped and later ones
// were not, what it sends again would come behind those (I4).
func (l *lane) expire(now time.Time) {
	l.mu.Lock()
	if len(l.open.dones) > 0 && now.Sub(l.open.born) > l.giveUpAfter {
		l.closeOpenLocked() // later commands get a time of their own
	}
	var late []doneFn
	for _, list := range [][]*laneBatch{l.sent, l.full} {
		for _, b := range list {
			if !b.applied && !b.expired && now.Sub(b.born) > l.giveUpAfter {
				b.expired = true
				late = append(late, b.takeDones(false)...)
			}
		}
	}
	l.mu.Unlock()
	for _, done := range late {
		done(command.Result{}, 0, ErrNoLeader)
	}
}

// resendLost sends again when the answer to the oldest batch is overdue. A link that breaks fails what is under way,
// but an answer can also be lost without that, and commands that are kept would wait for it for ever.
func (l *lane) resendLost(now time.Time) {
	l.mu.Lock()
	gen := l.gen
	lost := !l.recovering && len(l.sent) > l.unsent && !l.sent[0].applied && now.Sub(l.sent[0].sentAt) > l.giveUpAfter/2
	l.mu.Unlock()
	if lost {
		l.recover(gen)
	}
}
