package cluster

import (
	"errors"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
)

// errNoResult means that a batch was applied, but its results are gone.
var errNoResult = errors.New("the command was applied, its result is not kept")

// pendingAck gathers the acknowledgements of one session until the next batch
// leaves: one command carries them all, however many packets they came in.
type pendingAck struct {
	sentTo   uint64
	done     []uint64
	received []uint64
	dones    []func(error)
}

// ack adds acknowledgements of one session. It never blocks: what a subscriber
// can have unacknowledged is bounded by its Receive Maximum. done may be nil;
// if it is not, the batch does not wait for company, else it does for delay at most.
func (l *lane) ack(ref command.SessionRef, sentTo uint64, done, received []uint64, delay time.Duration, cb func(error)) {
	l.mu.Lock()
	if l.inc == 0 {
		l.mu.Unlock()
		if cb != nil {
			cb(ErrLeaseLost)
		}
		return
	}
	b := l.open
	if b.acks == nil {
		b.acks = make(map[command.SessionRef]*pendingAck)
	}
	a := b.acks[ref]
	if a == nil {
		a = new(pendingAck)
		b.acks[ref] = a
	}
	a.sentTo = max(a.sentTo, sentTo)
	a.done = append(a.done, done...)
	a.received = append(a.received, received...)
	l.ackCount += len(done) + len(received)
	notify := l.ackCount >= laneAckMax
	if cb != nil {
		a.dones = append(a.dones, cb)
		notify = notify || !l.urgentAck
		l.urgentAck = true
	}
	if due := time.Now().Add(delay); l.ackDue.IsZero() || due.Before(l.ackDue) {
		notify = notify || l.ackDue.IsZero() || l.ackDue.Sub(due) > time.Millisecond
		l.ackDue = due
	}
	l.mu.Unlock()
	if notify {
		l.kick()
	}
}

// sealBatch is the seal of a lane to a shard. The acknowledgements stand before
// the commands: a session acknowledges what it has before it disconnects.
func sealBatch(h command.BatchHeader, b *laneBatch) []byte {
	body := b.body
	if len(b.acks) > 0 {
		body = make([]byte, 0, len(b.body)+32*len(b.acks))
		for ref, a := range b.acks {
			cmd := command.Ack{Ref: ref, SentTo: a.sentTo, Done: toRanges(a.done), Received: toRanges(a.received)}
			body = command.AppendAck(body, &cmd)
			b.ackOrder = append(b.ackOrder, a)
		}
		body = append(body, b.body...)
	}
	return command.AppendBatch(make([]byte, 0, len(body)+64), &h, body)
}

// finishBatch tells every caller the result of its command.
func finishBatch(acks []*pendingAck, dones []doneFn, res command.BatchResult, index uint64) {
	r := command.NewResultReader(res.Results)
	next := func() (result command.Result, err error) {
		ok, err := r.Next(&result)
		if err == nil && !ok {
			err = errNoResult
		}
		return result, err
	}
	for _, a := range acks {
		result, err := next()
		if err == nil && result.Code != command.OK && !planted("stale-ack-counts") {
			// Nothing was recorded: a PUBREL now would end a handshake that the
			// session's new owner begins again (I2).
			err = session.ErrStale
		}
		for _, done := range a.dones {
			done(err)
		}
	}
	for _, done := range dones {
		result, err := next()
		if done != nil {
			done(result, index, err)
		}
	}
}

// toRanges sorts sequence numbers and joins neighbours.
func toRanges(seqs []uint64) []command.Range {
	slices.Sort(seqs)
	var out []command.Range
	for _, s := range slices.Compact(seqs) {
		out = command.AppendSeq(out, s)
	}
	return out
}
