package cluster

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestCancelledRebalanceLeavesReplicasAlone: what is missing is still repaired, and a later
// rebalance goes on.
func TestCancelledRebalanceLeavesReplicasAlone(t *testing.T) {
	v := &state.ControlView{ClusterID: "c", Shards: 4, Replicas: 1, Nodes: map[string]*state.NodeInfo{}, Placement: map[uint32][]string{1: {"n1"}, 2: {"n1"}, 3: {"n1"}, 4: {"n1"}}}
	for i := range 2 {
		id := fmt.Sprint("n", i+1)
		v.Nodes[id] = &state.NodeInfo{Node: command.Node{ID: id, Roles: []string{RoleStore}}, State: command.NodeReady, Up: true}
	}
	next := func() (move, bool) { return (&placer{v: v, paused: balancePaused(v)}).next() }
	if m, ok := next(); !ok || m.add != "n2" {
		t.Fatalf("nothing is spread: %+v", m)
	}
	v.Operations = []command.Operation{{ID: "op-1", Kind: "rebalance", State: command.OperationCancelled}, {ID: "op-2", Kind: "drain", State: command.OperationDone}}
	if m, ok := next(); ok {
		t.Errorf("moves after a cancel: %+v", m)
	}
	v.Placement[2] = []string{}
	if m, ok := next(); !ok || m.shard != 2 || m.add == "" {
		t.Errorf("a missing replica is not repaired: %+v", m)
	}
	v.Placement[2] = []string{"n1"}
	v.Operations = append(v.Operations, command.Operation{ID: "op-3", Kind: "rebalance", State: command.OperationRunning})
	if _, ok := next(); !ok {
		t.Error("a new rebalance does not go on")
	}
}
