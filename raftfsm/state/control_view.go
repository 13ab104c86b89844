package state

import (
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// NodeInfo is a node as the control group knows it.
type NodeInfo struct {
	command.Node
	// Incarnation is that of the last process that came up, 0 for none yet.
	Incarnation uint64
	// Up: the process has not been marked down.
	Up bool
	// State is the operators' decision; Status combines it with Up.
	State command.NodeState
}

// Status is the one word for status output: joining, ready, draining, drained,
// removing, removed, or down.
func (n *NodeInfo) Status() string {
	if !n.Up && n.State != command.NodeRemoved && n.State != command.NodeRemoving {
		return "down"
	}
	return n.State.String()
}

// ControlView is the state of the control group at an index. It is immutable:
// do not change its maps and slices.
type ControlView struct {
	// Index is that of the last entry that changed anything.
	Index uint64
	// ClusterID is empty until the cluster is formed.
	ClusterID string
	Nodes     map[string]*NodeInfo
	// Shards is the number of shards, ids 1 to Shards; Replicas how many voters
	// each should have.
	Shards, Replicas uint32
	// Slots maps each slot to a shard. Empty until formed.
	Slots []uint32
	// Placement maps shards to the nodes that should hold a replica.
	Placement map[uint32][]string
	// Founding are the shards whose placement is still the first one: only these
	// replicas may begin the group.
	Founding map[uint32]bool
	Settings map[string]string
	// Tokens are the join tokens by id, used up ones included until they expire.
	Tokens map[string]*command.JoinToken
	// APIKeys are the keys of the admin API by id, expired ones included.
	APIKeys map[string]*command.APIKey
	// Restore is the restore of a backup that is under way, nil if there is none. Until it is over
	// no node serves clients.
	Restore *command.Restoring
	// Operations are what operators asked for, oldest first.
	Operations []command.Operation
	// FeatureLevel is what all nodes of the cluster may use.
	FeatureLevel uint32
	// Clock is the group's clock in unix ms.
	Clock int64
}

// Formed reports whether the cluster exists.
func (v *ControlView) Formed() bool { return v.ClusterID != "" }

// Shard is the shard of a slot, 0 if the cluster is not formed.
func (v *ControlView) Shard(slot uint16) uint32 {
	if int(slot) >= len(v.Slots) {
		return 0
	}
	return v.Slots[slot]
}

// Operation finds an operation by its id.
func (v *ControlView) Operation(id string) (command.Operation, bool) {
	for _, o := range v.Operations {
		if o.ID == id {
			return o, true
		}
	}
	return command.Operation{}, false
}

// Running is the operation that is under way, if there is one.
func (v *ControlView) Running() (command.Operation, bool) {
	for _, o := range v.Operations {
		if o.State == command.OperationRunning {
			return o, true
		}
	}
	return command.Operation{}, false
}
