package cluster

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// SafeToStop says why a node should not be stopped now: each group must keep a caught-up majority without it, and
// somebody must be left who accepts clients. No reason means that it is safe. Errors: *GuardError, ErrNoLeader.
func (n *Node) SafeToStop(ctx context.Context, id string) (reasons []string, err error) {
	v := n.control.view()
	rec := v.Nodes[id]
	if rec == nil || rec.State == command.NodeRemoved {
		return nil, refuse(GuardNotFound, "there is no node %s in this cluster", id)
	}
	if hasRole(rec.Roles, RoleGateway) && readyGateways(v, id) == 0 {
		reasons = append(reasons, "no other node that is up accepts clients")
	}
	for shard := uint32(0); shard <= v.Shards; shard++ {
		if why := n.unsafeWithout(ctx, v, shard, id); why != "" {
			reasons = append(reasons, why)
		}
	}
	return reasons, nil
}

// unsafeWithout says why a group needs a node, "" if it does not.
func (n *Node) unsafeWithout(ctx context.Context, v *state.ControlView, group uint32, id string) string {
	info, err := n.groupInfo(ctx, group)
	if err != nil {
		return fmt.Sprintf("group %d has no leader that answers", group)
	}
	voters, healthy, member := 0, 0, false
	for _, m := range info.Members {
		if !m.Voter {
			continue
		}
		voters++
		member = member || m.ID == id
		if m.ID != id && up(v, m.ID) && m.Lag <= caughtUpLag {
			healthy++
		}
	}
	if member && healthy < voters/2+1 {
		return fmt.Sprintf("group %d would have %d caught-up replicas of %d", group, healthy, voters)
	}
	return ""
}

// TransferLeader hands a group's leadership to a node, "" for the most advanced replica. Errors: *GuardError,
// ErrNoLeader.
func (n *Node) TransferLeader(ctx context.Context, group uint32, to string) error {
	v := n.control.view()
	if group > v.Shards {
		return refuse(GuardNotFound, "there is no group %d", group)
	}
	info, err := n.groupInfo(ctx, group)
	if err != nil {
		return err
	}
	if to != "" {
		voter := false
		for _, m := range info.Members {
			voter = voter || m.ID == to && m.Voter
		}
		if !voter || !up(v, to) {
			return refuse(GuardConflict, "node %s cannot lead group %d: it has no vote in it, or is down", to, group)
		}
	}
	if err := n.transfer(ctx, group, to); err != nil {
		n.lg.Debug("leadership was not transferred", zap.Uint32("group", group), zap.Error(err))
		return refuse(GuardConflict, "leadership of group %d stayed where it was: %v; try again when the replica has caught up", group, err)
	}
	return nil
}

// groupOf is this node's replica of any group, nil if it has none.
func (n *Node) groupOf(id uint32) *raftfsm.Group {
	if id == 0 {
		return n.control.group.Load()
	}
	if r := n.replica(id); r != nil {
		return r.group
	}
	return nil
}
