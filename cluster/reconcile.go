package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// The control leader brings the cluster to what was decided: who is a member of the control group, which node is
// ready, where replicas are, who leads them. Each round looks at what is, takes at most one step of each kind, and
// remembers nothing that the next leader would need. DESIGN.md section 8.

const (
	// reconcileEvery is the pace of rounds.
	reconcileEvery = 250 * time.Millisecond
	// stepTimeout bounds one change of the control group's own membership.
	stepTimeout = 5 * time.Second
	// leadersEvery is how often leaderships are spread.
	leadersEvery = 3 * time.Second
	// caughtUpLag is how many entries a replica may lag behind and still count as caught up under load.
	caughtUpLag = 256
)

// lostBook knows since when nodes are down, as this leader saw it.
type lostBook struct {
	after time.Duration // 0: never
	mu    sync.Mutex
	since map[string]time.Time
}

// now is who has been down for too long.
func (b *lostBook) now(v *state.ControlView) map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since == nil {
		b.since = map[string]time.Time{}
	}
	out := map[string]bool{}
	for id, rec := range v.Nodes {
		switch at, ok := b.since[id]; {
		case rec.Up:
			delete(b.since, id)
		case !ok:
			b.since[id] = time.Now()
		case b.after > 0 && time.Since(at) > b.after:
			out[id] = true
		}
	}
	return out
}

// reconciler is one leader's view of its duties.
type reconciler struct {
	c       *control
	l       *controlLead
	steady  map[string]time.Time // since when a node has caught up in the control group
	leaders time.Time            // when leaderships were last looked at
}

// reconcile runs until leadership ends.
func (c *control) reconcile(ctx context.Context, l *controlLead) {
	r := &reconciler{c: c, l: l, steady: map[string]time.Time{}, leaders: time.Now()}
	for sleep(ctx, reconcileEvery) == nil {
		if v := c.view(); v.Formed() {
			r.round(ctx, v)
		}
	}
}

func (r *reconciler) round(ctx context.Context, v *state.ControlView) {
	g := r.c.group.Load()
	if g == nil {
		return
	}
	r.controlMembers(ctx, g, v)
	r.joining(ctx, v)
	lost := r.c.lost.now(v)
	p := &placer{v: v, lost: lost, paused: balancePaused(v)}
	if run, ok := v.Running(); ok {
		p.prefer = run.Other
	}
	// A single node has nothing to place, and asks nobody.
	if len(v.Nodes) == 1 {
		return
	}
	m, moving := p.next()
	if moving {
		r.place(ctx, v, m)
	}
	r.finish(ctx, g, v, moving)
	r.rebalancing(ctx, v, p, moving)
	if !moving && time.Since(r.leaders) > leadersEvery {
		r.leaders = time.Now()
		r.spreadLeaders(ctx, v)
	}
}

// controlMembers keeps every node a member of the control group, and the right ones its voters.
func (r *reconciler) controlMembers(ctx context.Context, g *raftfsm.Group, v *state.ControlView) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	member, voting := map[string]bool{}, map[string]bool{}
	for _, m := range g.Members() {
		member[m.ID] = true
		if m.Voter {
			voting[m.ID] = true
		}
	}
	r.noteSteady(g, v)
	for _, id := range sortedKeys(v.Nodes) {
		if v.Nodes[id].State != command.NodeRemoved && !member[id] {
			r.step("add to the control group", id, g.AddNonvoter(ctx, id))
			return
		}
	}
	want := controlVoters(v, voting)
	for _, id := range sortedKeys(want) {
		if !voting[id] && r.isSteady(id) {
			r.step("give a vote in the control group", id, g.AddVoter(ctx, id))
			return
		}
	}
	for id := range want {
		if !voting[id] && up(v, id) {
			return // somebody is about to get a vote: others keep theirs until then
		}
	}
	for _, id := range sortedKeys(voting) {
		if want[id] {
			continue
		}
		if id == r.c.n.id {
			r.step("hand over the control group", id, g.TransferLeadership(ctx, r.c.n.successor(g.Members())))
			return
		}
		r.step("take the vote in the control group", id, g.DemoteVoter(ctx, id))
		return
	}
}

// noteSteady notes since when each follower of the control group has caught up.
func (r *reconciler) noteSteady(g *raftfsm.Group, v *state.ControlView) {
	now := time.Now()
	caughtUp := map[string]bool{}
	for _, p := range g.Status().Peers {
		caughtUp[p.ID] = p.Match > 0 && p.LagEntries <= caughtUpLag && now.Sub(p.LastContact) < 2*r.c.n.cfg.Raft.Heartbeat
	}
	for id := range v.Nodes {
		if !caughtUp[id] {
			delete(r.steady, id)
		} else if r.steady[id].IsZero() {
			r.steady[id] = now
		}
	}
}

func (r *reconciler) isSteady(id string) bool {
	at, ok := r.steady[id]
	return ok && time.Since(at) >= r.c.n.cfg.Membership.StableFor
}

// joining makes nodes ready that have been up and caught up for long enough.
func (r *reconciler) joining(ctx context.Context, v *state.ControlView) {
	for _, id := range sortedKeys(v.Nodes) {
		rec := v.Nodes[id]
		if rec.State != command.NodeJoining || !rec.Up || !r.isSteady(id) {
			continue
		}
		_, err := r.l.commit(ctx, command.AppendSetNodeState(nil, &command.SetNodeState{Node: id, State: command.NodeReady}))
		if r.step("make ready", id, err) {
			r.c.n.lg.Info("node is a member", zap.String("event", "node.promoted"), zap.String("peer", id))
		}
	}
}

func (r *reconciler) step(what, id string, err error) bool {
	if err != nil && !errors.Is(err, context.Canceled) {
		r.c.n.lg.Debug("membership: "+what+" failed, it is tried again", zap.String("peer", id), zap.Error(err))
	}
	return err == nil
}

// place commits one step of the placement, once the step before it has been carried out.
func (r *reconciler) place(ctx context.Context, v *state.ControlView, m move) {
	for shard := range v.Placement {
		if !r.settled(ctx, v, shard) {
			return
		}
	}
	if m.drop != "" && !r.mayDrop(ctx, v, m) {
		return
	}
	code, err := r.l.commit(ctx, command.AppendPlace(nil, &command.Place{Shard: m.shard, Replicas: m.replicas}))
	if err == nil && code == command.OK {
		r.c.n.lg.Info("placement changes", zap.String("event", "raft.replica_added"), zap.Uint32("group", m.shard),
			zap.String("add", m.add), zap.String("drop", m.drop), zap.String("why", m.why))
	}
}

// settled says that a shard's group is what its placement says, and that all of it that is up has caught up.
func (r *reconciler) settled(ctx context.Context, v *state.ControlView, shard uint32) bool {
	info, err := r.c.n.groupInfo(ctx, shard)
	if err != nil {
		return false
	}
	want := v.Placement[shard]
	if len(info.Members) != len(want) {
		return false
	}
	for _, m := range info.Members {
		if !m.Voter || !contains(want, m.ID) || up(v, m.ID) && m.Lag > caughtUpLag {
			return false
		}
	}
	return true
}

// mayDrop says that a shard has a healthy, caught-up majority without a replica. settled has seen the lags.
func (r *reconciler) mayDrop(_ context.Context, v *state.ControlView, m move) bool {
	healthy := 0
	for _, id := range m.replicas {
		if up(v, id) {
			healthy++
		}
	}
	return healthy >= len(m.replicas)/2+1
}

// finish carries an operation on: progress, and the last steps of a removal.
func (r *reconciler) finish(ctx context.Context, g *raftfsm.Group, v *state.ControlView, moving bool) {
	for _, id := range sortedKeys(v.Nodes) {
		switch rec := v.Nodes[id]; rec.State {
		case command.NodeRemoving:
			r.removing(ctx, v, rec, moving)
		case command.NodeRemoved:
			r.removed(ctx, g, id)
		}
	}
}

// removing ends a removal once nothing depends on the node any more.
func (r *reconciler) removing(ctx context.Context, v *state.ControlView, rec *state.NodeInfo, moving bool) {
	left := 0
	for _, nodes := range v.Placement {
		if contains(nodes, rec.ID) {
			left++
		}
	}
	run, ok := v.Running()
	ok = ok && run.Node == rec.ID
	why := ""
	switch {
	case left > 0:
		why = fmt.Sprintf("%d replicas are still to be moved", left)
	case !r.gone(ctx, v, rec.ID):
		why = "replicas are moved, the groups take the node out"
	case rec.Up:
		why = "replicas are moved, the node's clients go elsewhere"
	}
	if why != "" {
		if ok && run.Progress != why {
			run.Progress, run.UpdatedAt = why, r.c.n.now()
			run.Done = run.Total - min(run.Total, uint32(left)+2)
			_, _ = r.l.commit(ctx, command.AppendPutOperation(nil, &command.PutOperation{Operation: run}))
		}
		return
	}
	cmd := command.AppendSetNodeState(nil, &command.SetNodeState{Node: rec.ID, State: command.NodeRemoved})
	if ok {
		cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: r.c.ended(run, command.OperationDone, "the node is out of the cluster")})
	}
	if _, err := r.l.commit(ctx, cmd); r.step("remove", rec.ID, err) {
		r.c.n.lg.Info("node is removed", zap.String("event", "node.removed"), zap.String("peer", rec.ID))
	}
}

// gone says that no group counts on a node any more: asked of the groups, not of the plan.
func (r *reconciler) gone(ctx context.Context, v *state.ControlView, id string) bool {
	for shard := range v.Placement {
		info, err := r.c.n.groupInfo(ctx, shard)
		if err != nil || slices.ContainsFunc(info.Members, func(m groupMember) bool { return m.ID == id }) {
			return false
		}
	}
	return true
}

// removed takes a node that was removed out of the control group, after it had the time to learn of it.
func (r *reconciler) removed(ctx context.Context, g *raftfsm.Group, id string) {
	if !slices.ContainsFunc(g.Members(), func(m raftfsm.Member) bool { return m.ID == id }) {
		return
	}
	for _, p := range g.Status().Peers {
		if p.ID == id && p.LagEntries > 0 && time.Since(p.LastContact) < 2*r.c.n.cfg.Raft.Heartbeat {
			return // it is there and about to hear of it
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	r.step("take out of the control group", id, g.RemoveServer(ctx, id))
}

// spreadLeaders moves one leadership: away from a node that drains or leaves, or from one that leads two more than
// another that could.
func (r *reconciler) spreadLeaders(ctx context.Context, v *state.ControlView) {
	leads := map[string][]uint32{}
	for shard := range v.Placement {
		info, err := r.c.n.groupInfo(ctx, shard)
		if err != nil {
			return // not a time to move anything
		}
		leads[info.Leader] = append(leads[info.Leader], shard)
	}
	able := func(id string) bool {
		rec := v.Nodes[id]
		return rec != nil && rec.Up && rec.State == command.NodeReady
	}
	from := ""
	for id, shards := range leads {
		if !able(id) && (from == "" || able(from)) || able(id) == able(from) && len(shards) > len(leads[from]) {
			from = id
		}
	}
	shards := leads[from]
	slices.Sort(shards)
	for _, shard := range shards {
		to := ""
		for _, id := range v.Placement[shard] {
			if id != from && able(id) && (to == "" || cmp.Or(cmp.Compare(len(leads[id]), len(leads[to])), cmp.Compare(id, to)) < 0) {
				to = id
			}
		}
		if to == "" || able(from) && len(leads[from])-len(leads[to]) < 2 {
			continue
		}
		if err := r.c.n.transfer(ctx, shard, to); err != nil {
			r.step("transfer a leadership to", to, err)
		}
		return
	}
}
