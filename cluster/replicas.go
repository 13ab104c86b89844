package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

// A shard's leader makes its Raft group what the placement says: it adds before it takes away, one replica at a time.
// A node drops a replica that the placement has taken from it only after the shard's leader has said that the group
// is without it.

const (
	// promoteTimeout bounds the wait for a new replica to catch up; then the leader looks again whether it is wanted.
	promoteTimeout = time.Minute
	// groupInfoTimeout bounds one question about a group.
	groupInfoTimeout = time.Second
)

// groupInfo is what a shard's leader says of its group.
type groupInfo struct {
	Leader  string        `json:"leader"`
	Term    uint64        `json:"term"`
	Members []groupMember `json:"members"`
}

type groupMember struct {
	ID    string `json:"id"`
	Voter bool   `json:"voter"`
	Lag   uint64 `json:"lag"` // entries
}

// groupInfo asks the leader of a group.
func (n *Node) groupInfo(ctx context.Context, group uint32) (groupInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, groupInfoTimeout)
	defer cancel()
	info, err := askLeaderOf[groupInfo](ctx, n, group, queryGroup)
	if err != nil {
		return groupInfo{}, fmt.Errorf("%w: group %d: %w", ErrNoLeader, group, err)
	}
	return *info, nil
}

func (n *Node) localGroupInfo(shard uint32) (groupInfo, error) {
	g := n.groupOf(shard)
	if g == nil || !g.IsLeader() {
		return groupInfo{}, ErrNoLeader
	}
	st := g.Status()
	info := groupInfo{Leader: n.id, Term: st.Term}
	lags := map[string]uint64{n.id: 0}
	for _, p := range st.Peers {
		lags[p.ID] = p.LagEntries
		if p.Match == 0 {
			lags[p.ID] = st.LastIndex
		}
	}
	for _, m := range st.Members {
		info.Members = append(info.Members, groupMember{ID: m.ID, Voter: m.Voter, Lag: lags[m.ID]})
	}
	return info, nil
}

// transfer asks a shard's leader to hand over.
func (n *Node) transfer(ctx context.Context, shard uint32, to string) error {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	leader := n.leaderOf(shard)
	switch leader {
	case "":
		return ErrNoLeader
	case n.id:
		return n.localTransfer(ctx, shard, to)
	}
	_, err := n.query(ctx, leader, queryTransfer, putBytes(putUint(nil, uint64(shard)), to))
	return err
}

func (n *Node) localTransfer(ctx context.Context, shard uint32, to string) error {
	g := n.groupOf(shard)
	if g == nil || !g.IsLeader() {
		return ErrNoLeader
	}
	return g.TransferLeadership(ctx, to)
}

// answerGroup serves groupInfo and transfer.
func (n *Node) answerGroup(ctx context.Context, q byte, d *dec) ([]byte, error) {
	shard := uint32(d.uint())
	if q == queryTransfer {
		to := d.string()
		if err := d.err(); err != nil {
			return nil, err
		}
		return nil, n.localTransfer(ctx, shard, to)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	info, err := n.localGroupInfo(shard)
	if err != nil {
		return nil, err
	}
	return json.Marshal(info)
}

// keepReplicas runs on a shard's leader.
func (l *lead) keepReplicas(ctx context.Context) {
	for sleep(ctx, dutyEvery) == nil {
		if err := l.replicaStep(ctx); err != nil && ctx.Err() == nil {
			l.n.lg.Debug("replicas do not follow the placement yet", zap.Uint32("group", l.shard), zap.Error(err))
		}
	}
}

// replicaStep brings the group one step nearer to its placement.
func (l *lead) replicaStep(ctx context.Context) error {
	want := l.n.control.view().Placement[l.shard]
	if len(want) == 0 || !l.informed.Load() || !l.group.IsLeader() {
		return nil
	}
	members := l.group.Members()
	voting := map[string]bool{}
	for _, m := range members {
		voting[m.ID] = m.Voter
	}
	for _, id := range want {
		if voting[id] {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
		defer cancel()
		if err := l.group.AddVoter(ctx, id); err != nil {
			return fmt.Errorf("add %s: %w", id, err)
		}
		l.tick() // it may lead next, and its log may have been silent
		l.n.lg.Info("replica is in", zap.String("event", "raft.replica_promoted"), zap.Uint32("group", l.shard), zap.String("peer", id))
		return nil
	}
	for _, m := range members {
		if slices.Contains(want, m.ID) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		if m.ID == l.n.id {
			return l.handOver(ctx, want)
		}
		if healthy := l.healthy(want); healthy < len(want)/2+1 {
			return fmt.Errorf("take %s away: %d of the %d others are up", m.ID, healthy, len(want))
		}
		if err := l.group.RemoveServer(ctx, m.ID); err != nil {
			return fmt.Errorf("take %s away: %w", m.ID, err)
		}
		l.n.lg.Info("replica is out", zap.String("event", "raft.replica_removed"), zap.Uint32("group", l.shard), zap.String("peer", m.ID))
		return nil
	}
	return nil
}

// handOver gives the leadership to a replica that stays: a leader does not take itself away.
func (l *lead) handOver(ctx context.Context, want []string) error {
	for _, id := range want {
		if id != l.n.id && up(l.n.control.view(), id) {
			return l.group.TransferLeadership(ctx, id)
		}
	}
	return raftfsm.ErrTransferFailed
}

func (l *lead) healthy(nodes []string) int {
	n := 0
	for _, id := range nodes {
		if up(l.n.control.view(), id) {
			n++
		}
	}
	return n
}

// dropReplicas closes and deletes the replicas that are not this node's any more.
func (n *Node) dropReplicas(ctx context.Context) {
	for _, r := range n.allReplicas() {
		want := n.control.view().Placement[r.id]
		if len(want) == 0 || slices.Contains(want, n.id) || r.group.IsLeader() {
			continue
		}
		info, err := n.groupInfo(ctx, r.id)
		if err != nil || slices.ContainsFunc(info.Members, func(m groupMember) bool { return m.ID == n.id }) {
			continue // not yet
		}
		if slices.Contains(n.control.view().Placement[r.id], n.id) {
			continue // it is wanted again
		}
		n.replicas[r.id].Store(nil)
		if err := r.group.Close(); err != nil {
			n.lg.Warn("closing a replica failed", zap.Uint32("group", r.id), zap.Error(err))
		}
		if err := n.host.DropGroup(r.id); err != nil {
			if n.ctx.Err() == nil {
				n.fatal(err)
			}
			return
		}
		n.hint(r.id, info.Leader)
		n.lg.Info("replica is dropped", zap.String("event", "raft.replica_removed"), zap.Uint32("group", r.id), zap.String("peer", n.id))
	}
}

// watchReplicas looks for replicas to drop, apart from the goroutine that follows the control group: it asks others.
func (n *Node) watchReplicas() {
	for sleep(n.ctx, time.Second) == nil {
		n.dropReplicas(n.ctx)
	}
}
