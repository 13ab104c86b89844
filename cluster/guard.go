package cluster

import (
	"fmt"
	"sort"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Guards: what would leave a group without a healthy majority is refused, with the reason, and nothing overrides that.
// They look at who is up; that replicas have caught up is seen to before each single step is taken.

// The codes of a GuardError.
const (
	GuardQuorum    = "quorum-at-risk"
	GuardBusy      = "operation-in-progress"
	GuardConflict  = "conflict"
	GuardNotFound  = "not-found"
	GuardForbidden = "forbidden"
	GuardInvalid   = "invalid"
)

// GuardError is a refusal: the cluster is asked for something that would harm it, or that makes no sense.
type GuardError struct {
	// Code is one of the Guard constants.
	Code string `json:"code"`
	// Detail says why, and what to do instead.
	Detail string `json:"detail"`
}

// Error implements error.
func (e *GuardError) Error() string { return e.Detail }

func refuse(code, format string, args ...any) error {
	return &GuardError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// up says that a node's process holds its lease.
func up(v *state.ControlView, id string) bool {
	rec := v.Nodes[id]
	return rec != nil && rec.Up
}

// readyGateways counts the nodes beside one that accept clients.
func readyGateways(v *state.ControlView, without string) int {
	n := 0
	for id, rec := range v.Nodes {
		if id != without && rec.Up && rec.State == command.NodeReady && hasRole(rec.Roles, RoleGateway) {
			n++
		}
	}
	return n
}

// guardLeaders refuses to empty a node of leaderships when nobody else can lead.
func (c *control) guardLeaders(v *state.ControlView, id string) error {
	var stuck []string
	for shard, nodes := range v.Placement {
		others := 0
		for _, other := range nodes {
			if other != id && up(v, other) {
				others++
			}
		}
		if contains(nodes, id) && others+1 < len(nodes)/2+1 || contains(nodes, id) && others == 0 {
			stuck = append(stuck, fmt.Sprint(shard))
		}
	}
	if len(stuck) == 0 {
		return nil
	}
	sort.Strings(stuck)
	return refuse(GuardQuorum, "no other replica could lead group %s: bring the other nodes up, or add one, before you drain %s", strings.Join(stuck, ", "), id)
}

// guardRemoval refuses what would cost a majority, and warns of what only makes the cluster weaker.
func (c *control) guardRemoval(v *state.ControlView, id string) (warnings []string, err error) {
	p := &placer{v: v}
	left := 0
	for other := range v.Nodes {
		if other != id && p.hosts(other) {
			left++
		}
	}
	if hasRole(v.Nodes[id].Roles, RoleStore) && left == 0 {
		return nil, refuse(GuardQuorum, "node %s is the last one with the role store that is up and ready: add a node (flotilla start --join) before you remove it", id)
	}
	var risky []string
	for shard, nodes := range v.Placement {
		if !contains(nodes, id) {
			continue
		}
		// The change itself needs a majority of what is there now, and the group that is left one of its own.
		healthy, others := 0, 0
		for _, other := range nodes {
			if up(v, other) {
				healthy++
			}
			if other != id && up(v, other) {
				others++
			}
		}
		if healthy < len(nodes)/2+1 || others < (len(nodes)-1)/2+1 && !spare(p, nodes) {
			risky = append(risky, fmt.Sprintf("%d (%d of %d replicas are up)", shard, healthy, len(nodes)))
		}
	}
	if len(risky) > 0 {
		sort.Strings(risky)
		return nil, refuse(GuardQuorum, "without node %s there is no healthy majority in group %s: bring the other nodes back, or add one, and try again", id, strings.Join(risky, ", "))
	}
	if err := c.guardControl(v, id); err != nil {
		return nil, err
	}
	if hasRole(v.Nodes[id].Roles, RoleStore) && left < int(v.Replicas) {
		warnings = append(warnings, fmt.Sprintf("%d nodes are left for %d replicas of each shard: until a node joins, the shards have %d", left, v.Replicas, left))
	}
	return warnings, nil
}

// spare says that a node that holds none of the replicas could take one.
func spare(p *placer, nodes []string) bool {
	for id := range p.v.Nodes {
		if p.hosts(id) && !contains(nodes, id) {
			return true
		}
	}
	return false
}

// guardControl looks at the voters of the control group in the same way.
func (c *control) guardControl(v *state.ControlView, id string) error {
	g := c.group.Load()
	if g == nil {
		return ErrNoLeader
	}
	voters, healthy := 0, 0
	for _, m := range g.Members() {
		if !m.Voter {
			continue
		}
		voters++
		if up(v, m.ID) {
			healthy++
		}
	}
	if healthy < voters/2+1 {
		return refuse(GuardQuorum, "%d of %d voters of the control group are up: bring nodes back before you remove %s", healthy, voters, id)
	}
	return nil
}

// planBalance shows what the placement is on its way to.
func (c *control) planBalance(v *state.ControlView) memberReply {
	moves := (&placer{v: v, lost: c.lost.now(v)}).plan()
	st := OperationStatus{Kind: opRebalance, State: command.OperationDone.String(), Total: uint32(len(moves))}
	if len(moves) == 0 {
		st.Progress = "replicas are where they should be"
		return memberReply{Operation: &st}
	}
	st.State, st.Progress = "", fmt.Sprintf("%d steps to go, one at a time", len(moves))
	for _, m := range moves {
		if m.add != "" {
			st.Warnings = append(st.Warnings, fmt.Sprintf("shard %d: add a replica on %s: it %s", m.shard, m.add, m.why))
		} else {
			st.Warnings = append(st.Warnings, fmt.Sprintf("shard %d: take the replica on %s away: it %s", m.shard, m.drop, m.why))
		}
	}
	return memberReply{Operation: &st}
}
