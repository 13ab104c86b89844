package cluster

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

const (
	// laneBatchBytes closes a batch by size.
	laneBatchBytes = 64 << 10
	// laneWindow is how many batches are under way at most. It must stay below
	// the number of results that a shard keeps per lane (64).
	laneWindow = 16
	// laneEager is how many batches may be under way for a small batch to leave
	// at once. Above it, commands gather until a batch is full or returns: that
	// is what makes batches grow with the load and costs nothing when idle.
	laneEager = 2
	// laneMaxBytes bounds what a lane holds. A full lane blocks its publishers,
	// and so their sockets.
	laneMaxBytes = 8 << 20
	// laneAckDelay is how long acknowledgements wait for company, unless a
	// command leaves before. Nobody waits for them: the subscriber's window is
	// already free, and one that is lost with its node costs a redelivery. Each
	// batch of them is an entry with three fsyncs: at 500 messages/s with a delay of
	// 5 ms they kept the disk busier than the messages did.
	laneAckDelay = 100 * time.Millisecond
	// laneShareAckDelay is the same for sessions in a share: a member gets no more
	// messages than it has room for until the share hears of these.
	laneShareAckDelay = 10 * time.Millisecond
	// laneAckMax is how many acknowledgements end the wait.
	laneAckMax = 1024
	// laneRetry is the wait before a batch is sent again when no leader is known.
	laneRetry = 20 * time.Millisecond
	// laneStall is how long a QoS 0 message waits for room in a lane that is full. A publisher that outruns the
	// lane is slowed down by it: dropping at once cost more than sending, since the publisher only went faster
	// (of 5.0 million messages 4.1 were read, matched, encoded and dropped).
	laneStall = 250 * time.Millisecond
	// laneSweep is how often commands past their deadline are looked for.
	laneSweep = 250 * time.Millisecond
)

// doneFn is told the outcome of one command: its result and the log index
// where it was applied, or why the outcome is not known.
type doneFn func(res command.Result, index uint64, err error)

// batchSender carries one sealed batch to the shard's leader. done is called
// exactly once. An error means that the batch may or may not be applied.
type batchSender interface {
	sendBatch(shard uint32, batch []byte, done func(command.BatchResult, uint64, error))
}

// sealFn gives a batch its final bytes: the header and what is in it.
type sealFn func(h command.BatchHeader, b *laneBatch) []byte

// laneBatch is a run of commands that travels and is applied as one.
type laneBatch struct {
	seq     uint64
	body    []byte // encoded commands
	sealed  []byte // header + body, set when first sent
	size    int    // of the commands, for the lane's bound
	dones   []doneFn
	born    time.Time
	sentAt  time.Time // when it was last sent
	applied bool
	expired bool // the callers were told that the outcome is unknown
	// kept are the positions of commands whose callers wait for ever.
	kept []int
	acks map[command.SessionRef]*pendingAck
	// ackOrder are the acks as they were encoded, set by seal.
	ackOrder []*pendingAck
	// lates are told of an outcome that comes after the caller gave up, by the
	// position of the command. Only commands that must be undone have one.
	lates map[int]doneFn
}

// lane is the ordered, pipelined stream of commands from this node to one
// shard. A batch keeps its sequence number when it is sent again, so the state
// machine applies it once (INVARIANTS I2, I4).
type lane struct {
	shard  uint32
	node   string
	sender batchSender
	seal   sealFn
	met    *metrics
	// whole: the far end answers for a batch as a whole, not per command.
	whole bool
	// giveUpAfter is how long a caller waits for an outcome (I26).
	giveUpAfter time.Duration
	wake        chan struct{} // capacity 1: the sender goroutine has work
	changed     chan struct{} // capacity 1: a leader may be known now

	mu         sync.Mutex
	inc        uint64        // incarnation, 0 = the lane is closed to new commands
	nextSeq    uint64        // sequence of the next batch to seal
	ackedSeq   uint64        // every batch up to here has returned
	open       *laneBatch    // gathers commands
	full       []*laneBatch  // closed by size, not sealed
	sent       []*laneBatch  // sealed, not returned, in order
	unsent     int           // how many at the end of sent must be sent (again)
	gen        uint64        // counts recoveries: failures of an older one are stale
	recovering bool          // wait before sending again
	bytes      int           // held in open, full and sent
	space      chan struct{} // closed when bytes went down
	stuck      bool          // somebody waited for room and got none: nobody waits again before there is some
	ackDue     time.Time     // when the waiting acknowledgements leave, zero for none
	ackCount   int           // how many wait
	urgentAck  bool          // somebody waits for an acknowledgement to commit
}

func newLane(shard uint32, node string, s batchSender, seal sealFn, giveUp time.Duration, m *metrics) *lane {
	return &lane{
		shard: shard, node: node, sender: s, seal: seal, met: m, giveUpAfter: giveUp,
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		space: make(chan struct{}), open: new(laneBatch),
	}
}

// reset starts the lane anew under an incarnation. What was under way is
// answered with why: a new incarnation starts at sequence 1.
func (l *lane) reset(incarnation uint64, why error) {
	l.mu.Lock()
	var lost []doneFn
	for _, b := range l.batchesLocked() {
		lost = append(lost, b.takeDones(true)...)
	}
	l.inc, l.nextSeq, l.ackedSeq = incarnation, 1, 0
	l.open, l.full, l.sent, l.unsent = new(laneBatch), nil, nil, 0
	l.gen++
	l.recovering, l.bytes, l.ackDue, l.ackCount, l.urgentAck = false, 0, time.Time{}, 0, false
	l.freeSpaceLocked()
	l.mu.Unlock()
	for _, done := range lost {
		done(command.Result{}, 0, why)
	}
}

func (l *lane) batchesLocked() []*laneBatch {
	all := append([]*laneBatch(nil), l.sent...)
	all = append(all, l.full...)
	return append(all, l.open)
}

// takeDones returns the callbacks that were not called, and forgets them; those
// of kept commands only if all is set.
func (b *laneBatch) takeDones(all bool) []doneFn {
	var out []doneFn
	kept := b.kept
	for i, d := range b.dones {
		if len(kept) > 0 && kept[0] == i {
			kept = kept[1:]
			if !all {
				continue
			}
		}
		if d != nil {
			out = append(out, d)
			b.dones[i] = nil
		}
	}
	for _, a := range b.acks {
		for _, d := range a.dones {
			out = append(out, func(_ command.Result, _ uint64, err error) { d(err) })
		}
		a.dones = nil
	}
	return out
}

// add puts one command into the lane. encode appends its bytes; it runs under
// the lane's lock and must not block. add blocks while the lane is full, until
// ctx ends; then nothing was added.
func (l *lane) add(ctx context.Context, encode func(dst []byte) []byte, done doneFn) error {
	return l.addLate(ctx, encode, done, nil)
}

// addLate is add with a callback for an outcome that comes after done was told
// that it is unknown.
func (l *lane) addLate(ctx context.Context, encode func(dst []byte) []byte, done, late doneFn) error {
	l.mu.Lock()
	if l.bytes >= laneMaxBytes && l.inc != 0 {
		if err := l.awaitSpaceLocked(ctx, l.giveUpAfter); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if l.inc == 0 {
		l.mu.Unlock()
		return ErrLeaseLost
	}
	if late != nil {
		if l.open.lates == nil {
			l.open.lates = map[int]doneFn{}
		}
		l.open.lates[len(l.open.dones)] = late
	}
	notify := l.appendLocked(encode, done)
	l.mu.Unlock()
	if notify {
		l.kick()
	}
	return nil
}

// awaitSpaceLocked waits until the lane has room, for most at most. The lane's lock is free meanwhile.
func (l *lane) awaitSpaceLocked(ctx context.Context, most time.Duration) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for l.bytes >= laneMaxBytes && l.inc != 0 {
		space := l.space
		l.mu.Unlock()
		var err error
		select {
		case <-space:
		case <-limit.C:
			err = ErrNoLeader
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		l.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// addKept adds a command of a shard's leader. It never blocks, and its caller is
// not given up on: done comes when the command was applied, or with an error when
// the lane is reset. So no command of the caller's overtakes an earlier one. It
// refuses if the lane has another incarnation than the caller believes.
func (l *lane) addKept(inc uint64, encode func(dst []byte) []byte, done doneFn) error {
	l.mu.Lock()
	if l.inc != inc || inc == 0 {
		l.mu.Unlock()
		return ErrLaneReset
	}
	l.open.kept = append(l.open.kept, len(l.open.dones))
	notify := l.appendLocked(encode, done)
	l.mu.Unlock()
	if notify {
		l.kick()
	}
	return nil
}

// tryAdd is add for what may be lost: it reports false when the lane is full.
func (l *lane) tryAdd(encode func(dst []byte) []byte) bool {
	return l.addNow(encode, laneMaxBytes)
}

// offer is tryAdd that waits a moment for room, unless others have waited in vain.
func (l *lane) offer(ctx context.Context, encode func(dst []byte) []byte) bool {
	l.mu.Lock()
	if l.bytes >= laneMaxBytes && l.inc != 0 {
		if l.stuck || l.awaitSpaceLocked(ctx, laneStall) != nil {
			l.stuck = true
			l.mu.Unlock()
			return false
		}
	}
	if l.inc == 0 {
		l.mu.Unlock()
		return false
	}
	notify := l.appendLocked(encode, nil)
	l.mu.Unlock()
	if notify {
		l.kick()
	}
	return true
}

// push is add for commands that must not wait behind publishers and are few.
func (l *lane) push(encode func(dst []byte) []byte) {
	l.addNow(encode, math.MaxInt)
}

func (l *lane) addNow(encode func(dst []byte) []byte, limit int) bool {
	l.mu.Lock()
	if l.inc == 0 || l.bytes >= limit {
		l.mu.Unlock()
		return false
	}
	notify := l.appendLocked(encode, nil)
	l.mu.Unlock()
	if notify {
		l.kick()
	}
	return true
}

// appendLocked adds one command to the open batch, and closes it when it is
// full. It reports whether the sender must be woken.
func (l *lane) appendLocked(encode func(dst []byte) []byte, done doneFn) (notify bool) {
	b := l.open
	if len(b.dones) == 0 {
		b.born = time.Now()
	}
	before := len(b.body)
	b.body = encode(b.body)
	b.dones = append(b.dones, done)
	b.size += len(b.body) - before
	l.bytes += len(b.body) - before
	if len(b.body) < laneBatchBytes {
		return len(b.dones) == 1
	}
	l.closeOpenLocked()
	return true
}

// closeOpenLocked puts the open batch behind those that wait to be sealed.
func (l *lane) closeOpenLocked() {
	l.full = append(l.full, l.open)
	l.open = &laneBatch{body: make([]byte, 0, laneBatchBytes+laneBatchBytes/8)}
	l.ackDue, l.ackCount, l.urgentAck = time.Time{}, 0, false
}

func (l *lane) kick() {
	select {
	case l.wake <- struct{}{}:
	default: // a wake-up is already pending; it will see this work
	}
}

// leaderChanged ends the wait of a lane that recovers.
func (l *lane) leaderChanged() {
	select {
	case l.changed <- struct{}{}:
	default: // a wake-up is already pending
	}
}

func (l *lane) freeSpaceLocked() {
	l.stuck = false
	close(l.space)
	l.space = make(chan struct{})
}

// run sends batches until ctx ends. Then every caller is answered.
func (l *lane) run(ctx context.Context) { l.runUntil(ctx, ErrStopped) }

// fail answers everything that is under way with why and closes the lane.
func (l *lane) fail(why error) { l.reset(0, why) }

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

// returned handles the outcome of one send.
func (l *lane) returned(b *laneBatch, gen uint64, res command.BatchResult, index uint64, err error) {
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

// queued is how many bytes wait in the lane.
func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}
