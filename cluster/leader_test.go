package cluster

import (
	"testing"
	"testing/synctest"

	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestLeaderOfATakenReplica: a replica that was taken from its group while its node was away hears of no leader any more.
// The node must ask others for as long as it has not dropped it: else it could reach no session of that shard, and not
// even learn that the replica can go (found by the probe under faults: five nodes, a balance move, kill -9).
func TestLeaderOfATakenReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
		defer c.Close()
		c.Leader(1)
		c.Net.Isolate("n1", c.IDs(), true)
		group := c.Nodes[0].Group(1)
		raftfsmtest.WaitFor(t, "no leader", func() bool {
			id, _ := group.Leader()
			return id == ""
		})
		n := &Node{id: "n1", control: &control{mach: state.NewControl()}, hints: map[uint32]string{1: "n3"}}
		n.replicas[1].Store(&shardReplica{id: 1, group: group})
		if got := n.leaderOf(1); got != "n3" {
			t.Errorf("leader %q, want n3 as others said", got)
		}
	})
}
