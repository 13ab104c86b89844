package cluster

import (
	"context"
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

// originWaiter waits until all gated commands up to seq are confirmed, or the one with that sequence.
type originWaiter struct {
	seq  uint64
	one  bool
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
