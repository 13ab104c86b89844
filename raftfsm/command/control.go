package command

// Node is what a node says of itself.
type Node struct {
	ID           NodeID
	ClusterAddr  string
	MQTTAddr     string
	MQTTSAddr    string
	AdminAddr    string
	Roles        []string
	Zone         string
	Version      string
	FeatureLevel uint32 // the highest that it supports
}

// NodeState is what operators decided about a node. Whether it is up is kept apart.
type NodeState uint32

// The states of a node.
const (
	NodeJoining  NodeState = 1
	NodeReady    NodeState = 2
	NodeDraining NodeState = 3
	NodeDrained  NodeState = 4
	NodeRemoving NodeState = 5
	NodeRemoved  NodeState = 6 // a tombstone: the id never comes back (I25)
)

// String is the name of the state in status output.
func (s NodeState) String() string {
	switch s {
	case NodeJoining:
		return "joining"
	case NodeReady:
		return "ready"
	case NodeDraining:
		return "draining"
	case NodeDrained:
		return "drained"
	case NodeRemoving:
		return "removing"
	case NodeRemoved:
		return "removed"
	}
	return "invalid"
}

// Setting is one cluster setting.
type Setting struct{ Key, Value string }

// Form founds the cluster: the first command of a control group.
// Results: OK, Duplicate (it was formed before; nothing changed), Invalid.
type Form struct {
	ClusterID string
	// Nodes are the founders. They are ready, and down until NodeUp.
	Nodes []Node
	// Shards is how many there are, ids 1 to Shards. Replicas is how many
	// voters each should have.
	Shards   uint32
	Replicas uint32
	Settings []Setting
}

// NodeUp tells that a process of a node started. Result OK: Incarnation, which
// every process of a node gets anew. Invalid: the node was removed.
type NodeUp struct {
	Node Node
}

// NodeDown marks a process of a node as gone. Results: OK, StaleEpoch (another
// incarnation is up), UnknownNode.
type NodeDown struct {
	Node        NodeID
	Incarnation uint64
}

// SetNodeState records a decision about a node. Results: OK, UnknownNode, Invalid.
type SetNodeState struct {
	Node  NodeID
	State NodeState
}

// Place records the replicas that a shard should have. Results: OK, Invalid.
type Place struct {
	Shard    uint32
	Replicas []NodeID
	// Founding says that these replicas are the first ones: they may begin the
	// group together. Later ones wait until its leader adds them.
	Founding bool
}

// Set changes a cluster setting; an empty value removes it. Result OK.
type Set struct {
	Setting Setting
}
