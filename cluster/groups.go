package cluster

import (
	"context"
	"slices"
	"time"

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
}

// openShards opens the replicas that the control group has placed here.
func (n *Node) openShards(v *state.ControlView) {
	for id := uint32(1); id <= v.Shards; id++ {
		if !slices.Contains(v.Placement[id], n.id) || n.replica(id) != nil {
			continue
		}
		if err := n.openShard(id, v); err != nil {
			if n.ctx.Err() == nil {
				n.fatal(err)
			}
			return
		}
	}
}

func (n *Node) openShard(id uint32, v *state.ControlView) error {
	members := make([]raftfsm.Member, 0, len(v.Placement[id]))
	for _, node := range v.Placement[id] {
		members = append(members, raftfsm.Member{ID: node, Voter: true})
	}
	mach := state.NewShard(id, state.Options{Settings: shardSettings(v)})
	r := &shardReplica{id: id, mach: mach}
	opened := make(chan struct{})
	g, err := n.host.OpenGroup(raftfsm.GroupConfig{
		ID: id, Machine: &shardMachine{Shard: mach, n: n, id: id}, Layer: n.port.GroupLayer(id), Bootstrap: members,
		Heartbeat: n.cfg.Raft.Heartbeat, SnapshotBytes: n.cfg.Raft.SnapshotAfter,
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
	n.mu.Lock()
	n.replicas[id] = r
	n.mu.Unlock()
	return nil
}

func (n *Node) replica(shard uint32) *shardReplica {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.replicas[shard]
}

func (n *Node) allReplicas() []*shardReplica {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*shardReplica, 0, len(n.replicas))
	for _, id := range sortedIDs(n.replicas) {
		out = append(out, n.replicas[id])
	}
	return out
}

func (n *Node) leading(shard uint32) *lead {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leads[shard]
}

func (n *Node) ledShards() []*lead {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*lead, 0, len(n.leads))
	for _, id := range sortedIDs(n.leads) {
		out = append(out, n.leads[id])
	}
	return out
}

func sortedIDs[V any](m map[uint32]V) []uint32 {
	ids := make([]uint32, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// onShardLeader starts and ends a leader's duties. Calls alternate.
func (n *Node) onShardLeader(r *shardReplica, leading bool, term uint64) {
	n.mu.Lock()
	old := n.leads[r.id]
	delete(n.leads, r.id)
	n.mu.Unlock()
	if old != nil {
		old.stop()
		n.lg.Info("leads the shard no more", zap.String("event", "raft.leadership_lost"), zap.Uint32("group", r.id), zap.Uint64("term", old.term))
	}
	if !leading || n.ctx.Err() != nil || r.group == nil {
		return
	}
	n.lg.Info("leads a shard", zap.String("event", "raft.leader_elected"), zap.Uint32("group", r.id), zap.Uint64("term", term))
	l := n.startLead(r, term)
	n.mu.Lock()
	n.leads[r.id] = l
	n.mu.Unlock()
	n.lane(r.id).leaderChanged()
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
		id, _ := r.group.Leader()
		return id
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
	for i := range nodes {
		id := nodes[(i+int(time.Now().UnixNano()>>24))%len(nodes)]
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
