package cluster

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

const (
	// dutyEvery is how often a leader looks for due ticks and broken feeds.
	dutyEvery = 250 * time.Millisecond
	// tickPause is the time between two ticks of which each leaves something due.
	tickPause = 2 * time.Millisecond
	// checkpointEvery is after how many entries replicas compare digests (G8).
	checkpointEvery = 10_000
	// tellTimeEvery is how long a shard's log may be silent about the time: what is lost of it when all replicas start
	// again at a time.
	tellTimeEvery = 10 * time.Second
)

// lead is what a node does for a shard while it leads it: merge batches, feed
// routes, keep time, clean up after lost nodes and send originated messages.
type lead struct {
	n      *Node
	shard  uint32
	term   uint64
	group  *raftfsm.Group
	mach   *state.Shard
	now    func() int64 // the group's clock
	merge  *merger
	feed   *feed
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // capacity 1: duties have work

	origins *originPump
	ticking atomic.Bool // a tick is under way
	// informed: the view of the control group is not older than this leadership. A node that has just
	// started may still replay the control group's log: who is not in its view is not gone.
	informed atomic.Bool

	// Owned by the duties goroutine.
	lastCheckpoint uint64
	lostAt         map[ownerKey]time.Time
	viewed         *state.ControlView
	told           map[string]uint64 // the processes that were up when the time was last told on their behalf
}

// ownerKey is a process of a node.
type ownerKey struct {
	node        string
	incarnation uint64
}

// startLead begins the duties of a new leader. The group has applied all that
// earlier leaders committed.
func (n *Node) startLead(r *shardReplica, term uint64) *lead {
	r.clock.lead(term)
	ctx, cancel := context.WithCancel(n.ctx)
	l := &lead{
		n: n, shard: r.id, term: term, group: r.group, mach: r.mach, now: r.clock.now, cancel: cancel,
		merge: newMerger(n.id, r.group, r.clock.now, n.cfg.Raft.EntryMax),
		wake:  make(chan struct{}, 1), lostAt: map[ownerKey]time.Time{},
	}
	l.origins = newOriginPump(r.id, r.mach, n, l.proposeThen)
	l.feed = newFeed(r.id, term, r.mach.Applied(), n, r.mach.Routes, n.lg)
	l.lastCheckpoint = r.mach.Applied()
	l.wg.Add(4)
	go func() { defer l.wg.Done(); l.keepReplicas(ctx) }()
	go func() { defer l.wg.Done(); l.merge.run(ctx) }()
	go func() { defer l.wg.Done(); l.origins.run(ctx) }()
	go func() { defer l.wg.Done(); l.duties(ctx) }()
	return l
}

// stop ends the duties. Waiting batches are refused and go to the next leader.
func (l *lead) stop() {
	l.cancel()
	l.feed.close()
	l.wg.Wait()
}

func (l *lead) kick() {
	select {
	case l.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// duties runs until leadership ends.
func (l *lead) duties(ctx context.Context) {
	tick := time.NewTicker(dutyEvery)
	defer tick.Stop()
	l.prime(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			if l.n.control.view() != l.viewed {
				l.followView(false)
			}
			l.keepTime()
		case <-tick.C:
			l.keepTime()
			l.origins.kick() // a look, in case that a kick was lost with a change of leader
			l.checkpoint()
			l.feed.retryUnsynced()
			l.followView(false)
		}
	}
}

// prime reads the set of gateways at an index that is not older than the
// election: a gateway that the last leader knew must be waited for (case 5 of
// INVARIANTS section 3).
func (l *lead) prime(ctx context.Context) {
	for {
		err := l.n.control.barrier(ctx)
		if err == nil {
			l.informed.Store(true)
			l.followView(true)
			return
		}
		l.n.lg.Debug("leader waits for the control group", zap.Uint32("group", l.shard), zap.Error(err))
		l.followView(false)
		select {
		case <-ctx.Done():
			return
		case <-time.After(dutyEvery):
		}
	}
}

// followView brings feed and sessions in line with who is up.
func (l *lead) followView(primed bool) {
	view := l.n.control.view()
	l.viewed = view
	l.feed.setGateways(gatewaysUp(view), primed)
	if !l.informed.Load() {
		return
	}
	if up := gatewaysUp(view); !maps.Equal(up, l.told) {
		l.told = up
		l.tick() // a process that has just started knows the time of the last entry, and not how long ago that was
	}
	now := time.Now()
	for _, key := range goneOwners(view, l.mach.Owners()) {
		if now.Sub(l.lostAt[key]) < 2*time.Second {
			continue // under way
		}
		l.lostAt[key] = now
		l.propose(command.AppendNodeLost(nil, &command.NodeLost{Node: key.node, Incarnation: key.incarnation}))
	}
}

// goneOwners are the processes that own sessions and are not up any more.
func goneOwners(view *state.ControlView, owners []state.OwnerCount) []ownerKey {
	var gone []ownerKey
	for _, o := range owners {
		rec, ok := view.Nodes[o.Node]
		if ok && rec.Up && rec.Incarnation == o.Incarnation {
			continue
		}
		if ok && rec.Incarnation < o.Incarnation {
			continue // our view is older than the session's owner
		}
		gone = append(gone, ownerKey{o.Node, o.Incarnation})
	}
	return gone
}

// keepTime proposes a tick when something in the machine is due, and when the log
// has been silent for long.
func (l *lead) keepTime() {
	due, now := l.mach.NextDue(), l.now()
	if due != 0 && due <= now || now-l.mach.Clock() >= tellTimeEvery.Milliseconds() {
		l.tick()
	}
}

// tick puts the time into the log. The machine then does what is due, bounded work
// at a time, so the next one follows while something is left.
func (l *lead) tick() {
	if !l.ticking.CompareAndSwap(false, true) {
		return
	}
	l.proposeThen(command.AppendTick(nil), func(err error) {
		l.ticking.Store(false)
		if due := l.mach.NextDue(); err == nil && due != 0 && due <= l.now() {
			time.AfterFunc(tickPause, l.kick)
		}
	})
}

// checkpoint lets the replicas compare the digest that each of them took at
// the same entry (guard G8). The machine takes one at every Checkpoint; a
// difference ends the replica.
func (l *lead) checkpoint() {
	applied := l.mach.Applied()
	if applied < l.lastCheckpoint+checkpointEvery {
		return
	}
	l.lastCheckpoint = applied
	cp := l.mach.LastCheckpoint()
	l.propose(command.AppendCheckpoint(nil, &cp))
}

// propose puts a command of the leader itself into the log. If it is lost, the
// next round of duties proposes it again: all of them are idempotent.
func (l *lead) propose(cmds []byte) {
	l.proposeThen(cmds, func(error) {})
}

func (l *lead) proposeThen(cmds []byte, done func(error)) {
	batch := command.AppendBatch(nil, &command.BatchHeader{}, cmds)
	l.merge.submit(batch, func(_ command.BatchResult, _ uint64, err error) { done(err) })
}

// gatewaysUp are the nodes that routes must reach, with their incarnations.
func gatewaysUp(v *state.ControlView) map[string]uint64 {
	up := make(map[string]uint64, len(v.Nodes))
	for id, rec := range v.Nodes {
		if rec.Up {
			up[id] = rec.Incarnation
		}
	}
	return up
}

// effective returns when what a client is told of may be relied on: the routes of
// this shard up to index, and what it originated up to gate.
func (l *lead) effective(ctx context.Context, index, gate uint64) error {
	if err := l.feed.waitCtx(ctx, index); err != nil || gate == 0 {
		return err
	}
	return l.origins.wait(ctx, gate)
}
