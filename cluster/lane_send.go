package cluster

import (
	"context"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// What leaves a lane, and when: the goroutine of the lane picks the next batch, gives it its sequence number and its
// bytes, and hands it to the sender.

// runUntil is run with the answer for those who wait when ctx ends.
func (l *lane) runUntil(ctx context.Context, why error) {
	sweep := time.NewTicker(laneSweep)
	defer sweep.Stop()
	ackTimer := time.NewTimer(time.Hour)
	defer ackTimer.Stop()
	for {
		wait := l.sendReady()
		if wait > 0 {
			ackTimer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			l.fail(why)
			return
		case <-l.wake:
		case <-l.changed:
			l.resume()
		case <-ackTimer.C:
		case <-sweep.C:
			l.expire(time.Now())
			l.resendLost(time.Now())
		}
	}
}

// sendReady sends what may leave now, and returns how long the waiting
// acknowledgements may wait for company (0: nothing waits).
func (l *lane) sendReady() time.Duration {
	for {
		l.mu.Lock()
		b, gen, wait := l.nextLocked(time.Now())
		l.mu.Unlock()
		if b == nil {
			return wait
		}
		l.sender.sendBatch(l.shard, b.sealed, func(res command.BatchResult, index uint64, err error) {
			l.returned(b, gen, res, index, err)
		})
	}
}

// nextLocked picks the batch to send now: first what must be sent again, in
// order, then closed batches, then the open one if the lane is eager.
func (l *lane) nextLocked(now time.Time) (*laneBatch, uint64, time.Duration) {
	if l.recovering || l.inc == 0 {
		return nil, 0, 0
	}
	if l.unsent > 0 {
		b := l.sent[len(l.sent)-l.unsent]
		if planted("resend-unordered") {
			b = l.sent[l.unsent-1]
		}
		l.unsent--
		b.sentAt = now
		return b, l.gen, 0
	}
	if len(l.sent) >= laneWindow {
		return nil, 0, 0
	}
	var b *laneBatch
	switch {
	case len(l.full) > 0:
		b = l.full[0]
		l.full = l.full[1:]
	case len(l.sent) >= laneEager:
		return nil, 0, 0
	case len(l.open.dones) > 0 || l.urgentAck:
		b = l.takeOpenLocked()
	case len(l.open.acks) > 0:
		if wait := l.ackDue.Sub(now); wait > 0 && l.ackCount < laneAckMax {
			return nil, 0, wait
		}
		b = l.takeOpenLocked()
	default:
		return nil, 0, 0
	}
	l.sealLocked(b)
	b.sentAt = now
	return b, l.gen, 0
}

func (l *lane) takeOpenLocked() *laneBatch {
	b := l.open
	l.open = &laneBatch{body: make([]byte, 0, max(256, len(b.body)))}
	l.ackDue, l.ackCount, l.urgentAck = time.Time{}, 0, false
	return b
}

// sealLocked gives the batch its sequence number and its final bytes.
func (l *lane) sealLocked(b *laneBatch) {
	b.seq = l.nextSeq
	l.nextSeq++
	if b.born.IsZero() {
		b.born = time.Now()
	}
	h := command.BatchHeader{Node: l.node, Incarnation: l.inc, Seq: b.seq, AckedSeq: l.ackedSeq}
	b.sealed = l.seal(h, b)
	b.body = nil
	l.sent = append(l.sent, b)
	l.met.laneBatchMessages.Observe(float64(len(b.dones)))
}
