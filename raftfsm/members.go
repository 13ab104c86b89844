package raftfsm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// confChangeSlice bounds one try to hand a membership change to raft, which waits until the
	// change before is committed.
	confChangeSlice = 250 * time.Millisecond
	// confChangeRetry is when a change without effect is tried again; changes are idempotent.
	confChangeRetry = time.Second
	// catchUpPoll is how often a promotion looks at the follower's progress.
	catchUpPoll = 10 * time.Millisecond
	// transferPoll is how often a failed transfer looks whether raft takes entries again.
	transferPoll = 50 * time.Millisecond
)

// membership knows the committed membership: from the snapshot's marker, then from the entries that
// are applied.
type membership struct {
	mu      sync.Mutex
	index   uint64
	conf    raft.Configuration
	changed chan struct{}
	turn    chan struct{} // capacity 1: one change at a time
}

func newMembership() *membership {
	return &membership{changed: make(chan struct{}), turn: make(chan struct{}, 1)}
}

func (m *membership) committed(index uint64, conf raft.Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index < m.index {
		return
	}
	m.index, m.conf = index, conf.Clone()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *membership) get() (raft.Configuration, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conf.Clone(), m.changed
}

func suffrage(conf raft.Configuration, id raft.ServerID) (raft.ServerSuffrage, bool) {
	for _, s := range conf.Servers {
		if s.ID == id {
			return s.Suffrage, true
		}
	}
	return 0, false
}

func otherVoters(conf raft.Configuration, id raft.ServerID) int {
	n := 0
	for _, s := range conf.Servers {
		if s.ID != id && s.Suffrage == raft.Voter {
			n++
		}
	}
	return n
}

// AddVoter makes id a voter. A node that is no member yet becomes a non-voter first, and it is
// promoted only once its log has caught up: a replica without a log does not vote (guard G6), and
// would leave the group without a majority if it were needed for one.
func (g *Group) AddVoter(ctx context.Context, id string) error {
	conf, _ := g.members.get()
	if s, ok := suffrage(conf, raft.ServerID(id)); !ok {
		if err := g.AddNonvoter(ctx, id); err != nil {
			return err
		}
	} else if s == raft.Voter {
		return nil
	}
	if err := g.waitCaughtUp(ctx, raft.ServerID(id)); err != nil {
		return fmt.Errorf("promote %s: %w", id, err)
	}
	return g.change(ctx, func(c raft.Configuration) bool {
		s, ok := suffrage(c, raft.ServerID(id))
		return ok && s == raft.Voter
	}, func() { g.raft().AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, confChangeSlice) })
}

// AddNonvoter adds id as a replica without a vote. A voter stays one.
func (g *Group) AddNonvoter(ctx context.Context, id string) error {
	return g.change(ctx, func(c raft.Configuration) bool {
		_, ok := suffrage(c, raft.ServerID(id))
		return ok
	}, func() { g.raft().AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, confChangeSlice) })
}

// DemoteVoter takes the vote of id away. ErrNotMember, ErrLastVoter.
func (g *Group) DemoteVoter(ctx context.Context, id string) error {
	conf, _ := g.members.get()
	if _, ok := suffrage(conf, raft.ServerID(id)); !ok {
		return fmt.Errorf("demote %s: %w", id, ErrNotMember)
	}
	if otherVoters(conf, raft.ServerID(id)) == 0 {
		return fmt.Errorf("demote %s: %w", id, ErrLastVoter)
	}
	return g.change(ctx, func(c raft.Configuration) bool {
		s, ok := suffrage(c, raft.ServerID(id))
		return ok && s == raft.Nonvoter
	}, func() { g.raft().DemoteVoter(raft.ServerID(id), 0, confChangeSlice) })
}

// RemoveServer removes id from the group; a node that is no member is no error. ErrLastVoter.
func (g *Group) RemoveServer(ctx context.Context, id string) error {
	conf, _ := g.members.get()
	if otherVoters(conf, raft.ServerID(id)) == 0 {
		return fmt.Errorf("remove %s: %w", id, ErrLastVoter)
	}
	return g.change(ctx, func(c raft.Configuration) bool {
		_, ok := suffrage(c, raft.ServerID(id))
		return !ok
	}, func() { g.raft().RemoveServer(raft.ServerID(id), 0, confChangeSlice) })
}

// change hands a membership change to raft until the committed membership holds it. raft's future is
// not awaited, because it may never be answered; the commit is seen by the state machine's shim.
func (g *Group) change(ctx context.Context, holds func(raft.Configuration) bool, issue func()) error {
	select {
	case g.members.turn <- struct{}{}:
		defer func() { <-g.members.turn }()
	case <-ctx.Done():
		return ctx.Err()
	case <-g.stop:
		return ErrClosed
	}
	for issued := false; ; issued = true {
		conf, confChanged := g.members.get()
		if holds(conf) && holds(g.configuration()) {
			return nil
		}
		term, termChanged := g.proposals.state()
		if term == 0 {
			return g.endOfChange(ctx, holds, confChanged, issued)
		}
		issue()
		t := time.NewTimer(confChangeRetry)
		err := g.await(ctx, confChanged, termChanged, t.C)
		t.Stop()
		if err != nil {
			return err
		}
	}
}

// endOfChange says how a change ended whose leader leads no more. One who removes itself steps down
// when that is committed, which its state machine sees a moment later.
func (g *Group) endOfChange(ctx context.Context, holds func(raft.Configuration) bool, changed <-chan struct{}, issued bool) error {
	if g.isClosed() {
		return ErrClosed
	}
	if !issued {
		return ErrNotLeader
	}
	t := time.NewTimer(g.cfg.Heartbeat)
	defer t.Stop()
	if err := g.await(ctx, changed, nil, t.C); err != nil {
		return err
	}
	if conf, _ := g.members.get(); holds(conf) {
		return nil
	}
	return ErrUnknownOutcome
}

// await returns nil when one of the channels says that it is worth looking again.
func (g *Group) await(ctx context.Context, a, b <-chan struct{}, t <-chan time.Time) error {
	select {
	case <-a:
	case <-b:
	case <-t:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.stop:
		return ErrClosed
	}
	return nil
}

func (g *Group) waitCaughtUp(ctx context.Context, id raft.ServerID) error {
	target := g.raft().LastIndex()
	t := time.NewTicker(catchUpPoll)
	defer t.Stop()
	for g.peers.matchOf(id) < target {
		if term, _ := g.proposals.state(); term == 0 {
			return ErrNotLeader
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-g.stop:
			return ErrClosed
		}
	}
	return nil
}

// Members returns the latest membership, which may not be committed yet.
func (g *Group) Members() []Member {
	servers := g.configuration().Servers
	out := make([]Member, len(servers))
	for i, s := range servers {
		out[i] = Member{ID: string(s.ID), Voter: s.Suffrage == raft.Voter}
	}
	return out
}

// TransferLeadership hands leadership to a voter ("" = the most advanced one) and returns when it is
// gone. Proposals are refused from the call on (ErrNotLeader), and those under way are answered
// before leadership moves. ErrTransferFailed: it stayed here, and proposals are admitted again as
// soon as raft takes them.
func (g *Group) TransferLeadership(ctx context.Context, to string) error {
	conf := g.configuration()
	target := raft.ServerID(to)
	if to == "" {
		var ok bool
		if target, ok = g.peers.mostAdvanced(conf.Servers, g.self()); !ok {
			return fmt.Errorf("%w: no follower to hand over to", ErrTransferFailed)
		}
	}
	if s, ok := suffrage(conf, target); !ok || s != raft.Voter {
		return fmt.Errorf("transfer leadership to %s: %w", target, ErrNotMember)
	}
	if target == g.self() {
		if g.proposals.leads() {
			return nil
		}
		return ErrNotLeader
	}
	if !g.proposals.hold() {
		return ErrNotLeader
	}
	term, _ := g.proposals.state()
	if err := g.drain(ctx, term); err != nil {
		g.proposals.release()
		return err
	}
	if now, _ := g.proposals.state(); now != term {
		return nil // it is gone already, and a newer one is not held
	}
	g.raft().LeadershipTransferToServer(target, raft.ServerAddress(target))
	err := g.awaitLoss(ctx, term)
	if err != nil {
		g.spawn(func() { g.reopen(term) })
	}
	return err
}

// drain waits until every admitted proposal is answered.
func (g *Group) drain(ctx context.Context, term uint64) error {
	t := time.NewTimer(g.cfg.Heartbeat)
	defer t.Stop()
	for {
		pending, unstored, changed := g.proposals.inFlight()
		if pending == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-t.C:
			if unstored == 0 {
				return nil // the rest is in the log, its outcome will be unknown
			}
			return fmt.Errorf("%w: proposals are stuck", ErrTransferFailed)
		case <-ctx.Done():
			return ctx.Err()
		case <-g.stop:
			return ErrClosed
		}
		if now, _ := g.proposals.state(); now != term {
			return nil
		}
	}
}

// awaitLoss returns nil when the leadership of term is over.
func (g *Group) awaitLoss(ctx context.Context, term uint64) error {
	t := time.NewTimer(2 * g.cfg.Heartbeat)
	defer t.Stop()
	for {
		now, changed := g.proposals.state()
		if now != term {
			return nil
		}
		select {
		case <-changed:
		case <-t.C:
			return ErrTransferFailed
		case <-ctx.Done():
			return ctx.Err()
		case <-g.stop:
			return ErrClosed
		}
	}
}

// reopen admits proposals again after a failed transfer. raft silently drops entries until it has
// given the transfer up, which may take as long as an RPC; a barrier that gets through shows that it
// has, and that everything dropped before can be answered.
func (g *Group) reopen(term uint64) {
	t := time.NewTicker(transferPoll)
	defer t.Stop()
	through := make(chan uint64, 1)
	for {
		if now, _ := g.proposals.state(); now != term {
			return
		}
		g.proposals.addBarrier(func(seq uint64, err error) {
			if err != nil {
				return
			}
			select {
			case through <- seq:
			default:
			}
		})
		select {
		case seq := <-through:
			g.proposals.rejected(seq)
			g.proposals.release()
			return
		case <-t.C:
		case <-g.stop:
			return
		}
	}
}
