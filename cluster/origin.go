package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

const (
	// originWindow and originWindowBytes bound what is sent and not answered, per shard.
	originWindow      = 16 << 10
	originWindowBytes = 8 << 20
	// originSpan bounds what is known to targets above the lowest that is not
	// confirmed: one target that is gone for long must not fill the others.
	originSpan = 256 << 10
	// originPage is how many are read from the machine at once.
	originPage = 512
	// originDoneEvery and originDoneMax say when the machine is told what is
	// confirmed. Nobody waits for it, and a command for each costs an entry.
	originDoneEvery = 50 * time.Millisecond
	originDoneMax   = 4096
)

// originPump sends what a shard's machine originated: released QoS 2 messages,
// wills, and commands for other shards. It runs on the shard's leader, sends in
// order, and reports to the machine what every target has confirmed. A new leader
// sends everything again that is not done; targets skip what they have applied.
//
// For each target the order of first application is the order of sequence: a
// lane keeps what it was given, in order, until it is reset. When that happens
// nothing more is sent before everything under way has been answered, and then
// all that is not confirmed is sent again in order.
type originPump struct {
	shard uint32
	mach  originSource
	net   originNet
	tell  func(cmds []byte, done func(error)) // puts a command into the shard's own log
	wake  chan struct{}                       // capacity 1

	// Owned by the pump's goroutine.
	cursor  uint64 // highest sequence that was sent
	inc     uint64 // incarnation of the lanes that are sent to, 0 = find out
	scratch []byte

	mu      sync.Mutex
	items   []originItem // by sequence: what was read and is not forgotten
	high    uint64       // of items, now or before: what is below and not there is done
	open    int          // the first of items that is not confirmed
	closed  int          // how many of items the machine has forgotten
	flying  int          // how many are under way, and their bytes
	bytes   int
	failed  bool // a lane was reset: send again
	retryAt time.Time
	read    uint64 // everything up to here was read from the machine at least once
	gated   []uint64
	gates   map[uint32]*originGate
	waiters []originWaiter
	ended   bool
	hold    originHold // of a backup

	confirmed      int // confirmed, the machine is not told
	confirmedSince time.Time
	reporting      bool // an OriginDone is under way
}

// originSource is what the pump needs of the shard's machine.
type originSource interface {
	Origins(after uint64, limit int) []state.Originated
	OriginLow() uint64
}

// originNet is what the pump needs of its node.
type originNet interface {
	// originLanes is the incarnation of the lanes, 0 if there are none.
	originLanes() uint64
	mayRoute() bool
	routeOrigin(ctx context.Context, o *state.Originated, key command.OriginKey, inc uint64, done func(session.Outcome))
	shardOf(tenant, key string) uint32
	sendOrigin(shard uint32, inc uint64, cmd []byte, done doneFn) error
	effective(ctx context.Context, shard uint32, index, gate uint64) error
	spawn(fn func())
}

type originItem struct {
	seq   uint64
	bytes int
	state originState
}

type originState byte

const (
	originSent originState = iota + 1
	originFailed
	originConfirmed
	originReported // OriginDone is proposed
	originClosed   // the machine has forgotten it
)

// originWaiter waits until all gated commands up to seq are confirmed.
type originWaiter struct {
	seq  uint64
	done chan error
}

// originGate gathers the commands that wait for the routes of one target shard.
type originGate struct {
	index uint64 // highest index at which one of them was applied
	seqs  []uint64
}

func newOriginPump(shard uint32, mach originSource, net originNet, tell func([]byte, func(error))) *originPump {
	return &originPump{shard: shard, mach: mach, net: net, tell: tell, wake: make(chan struct{}, 1), gates: map[uint32]*originGate{}}
}

func (p *originPump) kick() {
	select {
	case p.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// run sends and reports until leadership ends.
func (p *originPump) run(ctx context.Context) {
	defer p.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		retry := p.pump(ctx)
		if report := p.report(); report > 0 && (retry == 0 || report < retry) {
			retry = report
		}
		if retry > 0 {
			timer.Reset(retry)
		}
	}
}

// pump sends what is new. It returns when to try again if something that nobody
// tells of is missing, 0 otherwise.
func (p *originPump) pump(ctx context.Context) time.Duration {
	if !p.begin() {
		return laneRetry
	}
	for ctx.Err() == nil {
		room, asked := p.room()
		if room <= 0 {
			return 0
		}
		page := min(room, originPage)
		items := p.mach.Origins(p.cursor, page)
		for i := range items {
			if !p.send(ctx, &items[i]) {
				return laneRetry
			}
			p.cursor = items[i].Seq
		}
		if len(items) == page {
			asked = 0 // there may be more up to there
		}
		p.noteRead(max(p.cursor, asked))
		if len(items) == 0 {
			return 0
		}
	}
	return 0
}

// begin prepares for sending. After a failure it waits for all answers and moves
// the cursor back.
func (p *originPump) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold.see() {
		return false
	}
	if p.failed {
		if p.flying > 0 || time.Now().Before(p.retryAt) {
			return false
		}
		p.failed, p.inc = false, 0
		if p.open < len(p.items) {
			p.cursor = p.items[p.open].seq - 1
		}
	}
	if p.inc == 0 {
		p.inc = p.net.originLanes()
	}
	return p.inc != 0
}

// room is how many more may be sent. asked is the highest sequence that somebody
// waits for: the machine has it already, or had it.
func (p *originPump) room() (room int, asked uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed || p.hold.held() || p.bytes >= originWindowBytes || len(p.items)-p.open >= originSpan {
		return 0, 0
	}
	for _, w := range p.waiters {
		asked = max(asked, w.seq)
	}
	return originWindow - p.flying, asked
}

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

func (p *originPump) findLocked(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(p.items, seq, func(it originItem, s uint64) int {
		switch {
		case it.seq < s:
			return -1
		case it.seq > s:
			return 1
		}
		return 0
	})
}

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

// wait returns when every gated command up to seq is confirmed: this is what a
// SUBACK waits for beside the gate of its own shard.
func (p *originPump) wait(ctx context.Context, seq uint64) error {
	if p.mach.OriginLow() > seq {
		return nil
	}
	w := originWaiter{seq: seq, done: make(chan error, 1)}
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
		if w.seq <= p.read && (len(p.gated) == 0 || p.gated[0] > w.seq) {
			ready = append(ready, w)
		} else {
			rest = append(rest, w)
		}
	}
	p.waiters = rest
	return ready
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
