package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

const (
	// maxControlVoters: more voters make each commit slower and no safer.
	maxControlVoters = 5
	// leaseMargin is added to a lease at the control leader: it counts from the
	// receipt of a renewal, the gateway from its sending, so the gateway is
	// always done first; the margin covers clocks that run at different rates.
	leaseMargin = 500 * time.Millisecond
	// leaseWatchEvery is how often the control leader looks for lost leases.
	leaseWatchEvery = 100 * time.Millisecond
)

// control is this node's replica of the control group, and the duties of its
// leader: forming the cluster, registering nodes, and the leases.
type control struct {
	n       *Node
	mach    *state.Control
	changed chan struct{} // capacity 1: the view changed
	book    *leaseBook
	group   atomic.Pointer[raftfsm.Group]
	lead    atomic.Pointer[controlLead]
	agreed  *agreement
	lost    lostBook
}

// controlLead exists while this node leads the control group.
type controlLead struct {
	merge  *merger
	cancel context.CancelFunc
	done   chan struct{}
}

func newControl(n *Node) *control {
	return &control{n: n, mach: state.NewControl(), changed: make(chan struct{}, 1), book: newLeaseBook(), lost: lostBook{after: n.cfg.Membership.ReplaceAfter}}
}

// view is what this replica knows, never nil. It may be older than the group's.
func (c *control) view() *state.ControlView { return c.mach.View() }

func (c *control) open(a *agreement) error {
	c.agreed = a
	var members []raftfsm.Member // who joined waits to be added
	for i, m := range a.Members {
		if !c.n.ident.Joined {
			members = append(members, raftfsm.Member{ID: m.ID, Voter: i < maxControlVoters})
		}
	}
	g, err := c.n.host.OpenGroup(raftfsm.GroupConfig{
		ID: 0, Control: true, Machine: &controlMachine{c, newApplyMeter(c.n.met.applyDuration)}, Layer: c.n.port.GroupLayer(0), Bootstrap: members,
		Heartbeat: c.n.cfg.Raft.Heartbeat, Alone: c.n.alone(), SnapshotBytes: 4 << 20, OnLeader: c.onLeader,
	})
	if err != nil {
		return fmt.Errorf("open the control group: %w", err)
	}
	c.group.Store(g)
	return nil
}

// barrier returns once this replica has applied everything that was committed
// in the control group before the call.
func (c *control) barrier(ctx context.Context) error {
	g := c.group.Load()
	if g == nil {
		return ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.n.cfg.Raft.Heartbeat)
	defer cancel()
	index, err := c.n.readIndex(ctx, 0)
	if err != nil {
		return err
	}
	return g.WaitApplied(ctx, index)
}

func (c *control) onLeader(leading bool, term uint64) {
	if old := c.lead.Swap(nil); old != nil {
		old.cancel()
		<-old.done
		c.n.lg.Info("leads the group no more", zap.String("event", "raft.leadership_lost"), zap.Uint32("group", 0))
	}
	if !leading || c.n.ctx.Err() != nil {
		return
	}
	g := c.group.Load()
	for g == nil { // elected before open returned
		select {
		case <-c.n.ctx.Done():
			return
		case <-time.After(time.Millisecond):
			g = c.group.Load()
		}
	}
	c.n.lg.Debug("leads the control group", zap.Uint32("group", 0), zap.Uint64("term", term))
	ctx, cancel := context.WithCancel(c.n.ctx)
	l := &controlLead{merge: newMerger(c.n.id, g, c.n.now, c.n.cfg.Raft.EntryMax), cancel: cancel, done: make(chan struct{})}
	c.book.restart(upNodes(c.view()), time.Now())
	c.lead.Store(l)
	go func() {
		defer close(l.done)
		watch := make(chan struct{})
		go func() { defer close(watch); c.watchLeases(ctx, l) }()
		keep := make(chan struct{})
		go func() { defer close(keep); c.reconcile(ctx, l) }()
		l.merge.run(ctx)
		<-watch
		<-keep
	}()
	if c.view().ClusterID == "" {
		c.form(l)
	}
}

// form writes what the founding nodes agreed on into the log.
func (c *control) form(l *controlLead) {
	nodes := make([]command.Node, len(c.agreed.Members))
	stores := make([]command.NodeID, 0, len(nodes))
	for i, m := range c.agreed.Members {
		nodes[i] = command.Node{ID: m.ID, ClusterAddr: m.Addr, Roles: m.Roles, Zone: m.Zone}
		if hasRole(m.Roles, RoleStore) {
			stores = append(stores, m.ID)
		}
	}
	s := c.n.cfg.Settings
	body := command.AppendForm(nil, &command.Form{
		ClusterID: c.agreed.ClusterID, Nodes: nodes, Shards: uint32(s.Shards), Replicas: uint32(s.Replicas), Settings: c.n.cfg.settings(),
	})
	for shard := 1; shard <= s.Shards; shard++ {
		body = command.AppendPlace(body, &command.Place{Shard: uint32(shard), Replicas: placeShard(stores, shard, s.Replicas), Founding: true})
	}
	body = c.n.cfg.appendSecret(body)
	l.propose(body, func(err error) {
		if err != nil {
			c.n.lg.Warn("forming the cluster failed, the next leader tries again", zap.Error(err))
		}
	})
}

// placeShard spreads shards over store nodes, round robin.
func placeShard(stores []command.NodeID, shard, replicas int) []command.NodeID {
	k := min(replicas, len(stores))
	out := make([]command.NodeID, 0, k)
	for i := range k {
		out = append(out, stores[(shard-1+i)%len(stores)])
	}
	return out
}

// propose puts commands of the leader itself into the control group's log.
func (l *controlLead) propose(cmds []byte, done func(error)) {
	l.merge.submit(command.AppendBatch(nil, &command.BatchHeader{}, cmds), func(_ command.BatchResult, _ uint64, err error) { done(err) })
}

// watchLeases marks nodes down whose lease has ended (DESIGN.md section 4).
func (c *control) watchLeases(ctx context.Context, l *controlLead) {
	for sleep(ctx, leaseWatchEvery) == nil {
		v := c.view()
		for _, id := range c.book.lost(upNodes(v), c.n.leaseLength()+leaseMargin, time.Now()) {
			inc := v.Nodes[id].Incarnation
			c.n.lg.Warn("node is down: its lease has ended", zap.String("event", "node.down"), zap.String("peer", id), zap.Uint64("incarnation", inc))
			c.book.renew(id, time.Now()) // propose once per lease length, not per tick
			l.propose(command.AppendNodeDown(nil, &command.NodeDown{Node: id, Incarnation: inc}), func(error) {})
		}
	}
}

func upNodes(v *state.ControlView) []string {
	var up []string
	for id, rec := range v.Nodes {
		if rec.Up {
			up = append(up, id)
		}
	}
	return up
}

func hasRole(roles []string, role string) bool {
	for _, r := range roles {
		if r == role {
			return true
		}
	}
	return false
}

// errRetired stands for a renewal that is not wanted any more.
var errRetired = errors.New("this node has given its lease back for good")

// errNotControlLeader is what another node answers; it is asked no more.
var errNotControlLeader = errors.New("not the leader of the control group")

// renew is the control leader's side of a renewal. incarnation 0 registers a
// process; done is told the incarnation that the node has from now on.
func (c *control) renew(rec command.Node, incarnation uint64, done func(uint64, error)) {
	l := c.lead.Load()
	if l == nil {
		done(0, errNotControlLeader)
		return
	}
	known, ok := c.view().Nodes[rec.ID]
	if incarnation != 0 {
		if ok && known.Up && known.Incarnation == incarnation {
			c.book.renew(rec.ID, time.Now())
		}
		// Another incarnation tells the caller that its own is lost.
		current := uint64(0)
		if ok && known.Up {
			current = known.Incarnation
		}
		done(current, nil)
		return
	}
	if c.view().ClusterID == "" {
		done(0, errNotControlLeader) // not formed yet
		return
	}
	batch := command.AppendBatch(nil, &command.BatchHeader{}, command.AppendNodeUp(nil, &command.NodeUp{Node: rec}))
	l.merge.submit(batch, func(res command.BatchResult, _ uint64, err error) {
		if err != nil {
			done(0, err)
			return
		}
		rs, err := command.DecodeResults(res.Results, 1)
		switch {
		case err != nil || len(rs) != 1:
			done(0, errFrame)
		case rs[0].Code != command.OK:
			done(0, fmt.Errorf("%w: node %s was removed from this cluster", ErrIdentity, rec.ID))
		default:
			c.book.renew(rec.ID, time.Now())
			done(rs[0].Incarnation, nil)
		}
	})
}

// leave is the control leader's side of a clean stop: the lease is given back.
func (c *control) leave(node string, incarnation uint64) error {
	l := c.lead.Load()
	if l == nil {
		return errNotControlLeader
	}
	ch := make(chan error, 1)
	l.propose(command.AppendNodeDown(nil, &command.NodeDown{Node: node, Incarnation: incarnation}), func(err error) { ch <- err })
	return <-ch
}

// keepLease registers this process and renews its lease until the node stops.
func (n *Node) keepLease() {
	tick := time.NewTicker(n.cfg.Lease.Renew)
	defer tick.Stop()
	for {
		err := errRetired
		if !n.retired.Load() {
			err = n.renewOnce()
		}
		wait := tick.C
		if err != nil {
			n.lg.Debug("lease renewal failed", zap.Error(err))
		}
		retry := time.NewTimer(n.retryAfter(err))
		select {
		case <-n.ctx.Done():
			retry.Stop()
			return
		case <-wait:
		case <-retry.C:
		}
		retry.Stop()
		switch inc := n.incarnation.Load(); {
		case inc == 0:
		case !n.lease.held():
			n.loseLease("it was not renewed in time")
		case n.fenced.Load() == inc:
			// That shard takes nothing more of this incarnation: only a new one serves its clients.
			n.loseLease("a shard has taken this process for gone")
		}
	}
}

// retryAfter: a failed renewal is tried again soon, because a new control
// leader must be found well before the lease ends.
func (n *Node) retryAfter(err error) time.Duration {
	if err != nil {
		return n.cfg.Lease.Renew / 5
	}
	return time.Hour
}

func (n *Node) renewOnce() error {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Lease.Renew)
	defer cancel()
	inc := n.incarnation.Load()
	sent := time.Now()
	got, err := n.askRenew(ctx, inc)
	if err != nil {
		return err
	}
	switch {
	case inc == 0 && got != 0:
		n.beginIncarnation(got)
	case inc != got:
		n.loseLease("the cluster has marked this node down")
		return nil
	}
	n.lease.extend(sent, n.leaseLength())
	n.met.leaseHeld.Set(1)
	return nil
}

func (n *Node) askRenew(ctx context.Context, inc uint64) (uint64, error) {
	leader := n.leaderOf(0)
	rec := command.Node{
		ID: n.id, ClusterAddr: n.self.Addr, AdminAddr: n.adminAddr(), Roles: n.cfg.Roles, Zone: n.cfg.Zone, Version: n.cfg.Version,
		FeatureLevel: knownFeatureLevel,
	}
	a := n.Addrs()
	rec.MQTTAddr, rec.MQTTSAddr = a.MQTT, a.MQTTS
	if leader == n.id {
		type answer struct {
			inc uint64
			err error
		}
		ch := make(chan answer, 1)
		n.control.renew(rec, inc, func(inc uint64, err error) { ch <- answer{inc, err} })
		select {
		case a := <-ch:
			return a.inc, a.err
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	if leader == "" {
		return 0, ErrNoLeader
	}
	resp, err := n.links.CallWait(ctx, leader, peer.KindLeaseRenew, rec.Append(putUint(nil, inc)))
	if err != nil {
		return 0, err
	}
	d := dec{b: resp}
	got := d.uint()
	return got, d.err()
}

// beginIncarnation starts everything anew under a fresh incarnation.
func (n *Node) beginIncarnation(inc uint64) {
	n.lg.Info("lease acquired", zap.String("event", "lease.acquired"), zap.Uint64("incarnation", inc))
	n.sink.reset()
	n.routes.begin(inc)
	n.incarnation.Store(inc)
	for _, l := range n.allLanes() {
		l.reset(inc, ErrLaneReset)
	}
}

// loseLease stops routing and acknowledging, closes the clients' connections,
// and makes the next renewal register anew.
func (n *Node) loseLease(why string) {
	n.lease.drop()
	n.lg.Warn("lease lost: "+why, zap.String("event", "lease.lost"), zap.Uint64("incarnation", n.incarnation.Load()))
	n.met.leaseLost.Inc()
	n.met.leaseHeld.Set(0)
	n.incarnation.Store(0)
	n.routes.begin(0)
	for _, l := range n.allLanes() {
		l.reset(0, ErrLeaseLost)
	}
	n.dropForwards()
	closed := n.server.CloseAll(mqttServerUnavailable)
	n.lg.Info("clients disconnected after the loss of the lease", zap.Int("clients", closed))
}
