package cluster

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// shardReplica is this node's replica of one shard.
type shardReplica struct {
	id    uint32
	group *raftfsm.Group
	mach  *state.Shard
	clock *groupClock
}

// reopenShards opens the replicas that an earlier start of this node had, in
// the time that the control group needs to elect a leader.
func (n *Node) reopenShards() error {
	if n.ident.Shards == 0 {
		return nil
	}
	v := &state.ControlView{Shards: n.ident.Shards, Settings: n.ident.Settings}
	var ids []uint32
	for _, id := range n.host.Groups() {
		if id != 0 && id <= n.ident.Shards {
			ids = append(ids, id)
		}
	}
	return n.openAll(ids, v)
}

// openAll opens replicas side by side: each reads its log and loads its machine, which keeps a core busy.
func (n *Node) openAll(ids []uint32, v *state.ControlView) error {
	errs := make([]error, len(ids))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			errs[i] = n.openShard(id, v)
			<-slots
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// rememberShards writes down what reopenShards needs.
func (n *Node) rememberShards(v *state.ControlView) error {
	if n.ident.Shards == v.Shards {
		return nil
	}
	n.ident.Shards, n.ident.Settings = v.Shards, v.Settings
	return n.ident.save(n.cfg.DataDir)
}

// openShards opens the replicas that the control group has placed here.
func (n *Node) openShards(v *state.ControlView) {
	if err := n.rememberShards(v); err != nil {
		n.fatal(err)
		return
	}
	var ids []uint32
	for id := uint32(1); id <= v.Shards; id++ {
		if slices.Contains(v.Placement[id], n.id) && n.replica(id) == nil {
			ids = append(ids, id)
		}
	}
	if err := n.openAll(ids, v); err != nil && n.ctx.Err() == nil {
		n.fatal(err)
	}
}

func (n *Node) openShard(id uint32, v *state.ControlView) error {
	var members []raftfsm.Member // a later replica waits until the leader adds it
	for _, node := range v.Placement[id] {
		if v.Founding[id] {
			members = append(members, raftfsm.Member{ID: node, Voter: true})
		}
	}
	mach := state.NewShard(id, state.Options{Settings: formedSettings(v), Meter: newApplyMeter(n.met.applyDuration)})
	r := &shardReplica{id: id, mach: mach, clock: new(groupClock)}
	opened := make(chan struct{})
	g, err := n.host.OpenGroup(raftfsm.GroupConfig{
		ID: id, Machine: &shardMachine{Shard: mach, n: n, id: id, clock: r.clock}, Layer: n.port.GroupLayer(id), Bootstrap: members,
		Heartbeat: n.cfg.Raft.Heartbeat, Alone: n.alone(), SnapshotBytes: n.cfg.Raft.SnapshotAfter,
		OnLeader: func(leading bool, term uint64) {
			<-opened
			n.onShardLeader(r, leading, term)
		},
	})
	r.group = g
	close(opened)
	if err != nil {
		return err
	}
	n.replicas[id].Store(r)
	return nil
}

// alone says that this node formed its cluster by itself: as long as nobody has joined, it need not wait for anybody's
// vote.
func (n *Node) alone() bool { return len(n.ident.Agreed.Members) == 1 }

// replica is nil if this node does not hold one of the shard.
func (n *Node) replica(shard uint32) *shardReplica {
	if shard > maxShards {
		return nil
	}
	return n.replicas[shard].Load()
}

func (n *Node) allReplicas() []*shardReplica {
	var out []*shardReplica
	for i := range n.replicas {
		if r := n.replicas[i].Load(); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// leading is nil unless this node leads the shard.
func (n *Node) leading(shard uint32) *lead {
	if shard > maxShards {
		return nil
	}
	return n.leads[shard].Load()
}

func (n *Node) ledShards() []*lead {
	var out []*lead
	for i := range n.leads {
		if l := n.leads[i].Load(); l != nil {
			out = append(out, l)
		}
	}
	return out
}

// onShardLeader starts and ends a leader's duties. Calls alternate.
func (n *Node) onShardLeader(r *shardReplica, leading bool, term uint64) {
	if old := n.leads[r.id].Swap(nil); old != nil {
		old.stop()
		n.lg.Debug("leads the shard no more", zap.Uint32("group", r.id), zap.Uint64("term", old.term))
	}
	if !leading || n.ctx.Err() != nil || r.group == nil {
		return
	}
	n.lg.Debug("leads a shard", zap.Uint32("group", r.id), zap.Uint64("term", term))
	l := n.startLead(r, term)
	n.leads[r.id].Store(l)
	l.origins.kick() // what was applied between the two told nobody
	for _, l := range n.allLanes() {
		if l.shard == r.id {
			l.leaderChanged()
		}
	}
}

// leaderOf is the node that leads a group as far as this node knows, or "".
func (n *Node) leaderOf(group uint32) string {
	if group == 0 {
		if g := n.control.group.Load(); g != nil {
			id, _ := g.Leader()
			return id
		}
		return ""
	}
	if r := n.replica(group); r != nil {
		// A replica that its group was taken from while this node was away hears of no leader any more.
		if id, _ := r.group.Leader(); id != "" || slices.Contains(n.control.view().Placement[group], n.id) {
			return id
		}
	}
	n.mu.Lock()
	hint := n.hints[group]
	n.mu.Unlock()
	if hint != "" {
		return hint
	}
	// Without a replica and a hint any replica will do: it knows the leader.
	v := n.control.view()
	nodes := v.Placement[group]
	start := int(n.asked.Add(1)) // another one each time
	for i := range nodes {
		id := nodes[(start+i)%len(nodes)]
		if rec, ok := v.Nodes[id]; ok && rec.Up {
			return id
		}
	}
	return ""
}

// hint notes what another node said about a shard's leader.
func (n *Node) hint(group uint32, leader string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hints[group] = leader
}

// slotShard, sessionShard and topicShard say where things live.
func (n *Node) slotShard(slot uint16) uint32 { return (*n.slots.Load())[slot] }

func (n *Node) sessionShard(k command.SessionKey) uint32 {
	return n.slotShard(router.Slot(k.Tenant, k.ClientID))
}

func (n *Node) topicShard(tenant string, topic []byte) uint32 {
	return n.slotShard(router.SlotBytes(tenant, topic))
}

// readIndex returns an index at which a read of the group is linearizable.
func (n *Node) readIndex(ctx context.Context, group uint32) (uint64, error) {
	leader := n.leaderOf(group)
	if leader == "" {
		return 0, ErrNoLeader
	}
	if leader != n.id {
		resp, err := n.query(ctx, leader, queryReadIndex, putUint(nil, uint64(group)))
		if err != nil {
			n.hint(group, "")
			return 0, err
		}
		d := dec{b: resp}
		index := d.uint()
		return index, d.err()
	}
	return n.localReadIndex(ctx, group)
}

func (n *Node) localReadIndex(ctx context.Context, group uint32) (uint64, error) {
	g := n.control.group.Load()
	if group != 0 {
		r := n.replica(group)
		if r == nil {
			return 0, ErrNoLeader
		}
		g = r.group
	}
	if g == nil {
		return 0, ErrNoLeader
	}
	return g.ReadIndex(ctx)
}
