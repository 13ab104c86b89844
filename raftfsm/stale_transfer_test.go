package raftfsm_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestLeaderAfterStaleTransfer elects a replica again while a transfer of its earlier leadership still waits for an answer: raft
// drops what it is handed meanwhile, and so the barrier of the new leadership. It must serve all the same.
func TestLeaderAfterStaleTransfer(t *testing.T) { synctest.Test(t, testLeaderAfterStaleTransfer) }

func testLeaderAfterStaleTransfer(t *testing.T) {
	const heartbeat = 100 * time.Millisecond
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Heartbeat: heartbeat})
	defer c.Close()
	first := c.Leader(1)
	c.MustPropose(1, []byte("x"))
	deaf, other := c.Nodes[(first.Index+1)%3], c.Nodes[(first.Index+2)%3]
	c.Net.Cut(first.ID, deaf.ID)
	failed := make(chan error, 1)
	go func() { failed <- first.Group(1).TransferLeadership(testCtx(t), deaf.ID) }()
	synctest.Wait() // the transfer is under way, and hears nothing
	c.Net.Isolate(first.ID, c.IDs(), true)
	raftfsmtest.WaitFor(t, "another leader", func() bool { return deaf.Group(1).IsLeader() || other.Group(1).IsLeader() })
	if deaf.Group(1).IsLeader() {
		if err := deaf.Group(1).TransferLeadership(testCtx(t), other.ID); err != nil {
			t.Fatal(err)
		}
		raftfsmtest.WaitFor(t, "the other one to lead", other.Group(1).IsLeader)
	}
	c.Net.Isolate(first.ID, c.IDs(), false)
	c.Net.Cut(first.ID, deaf.ID)
	raftfsmtest.WaitFor(t, "the first leader to know its successor", func() bool {
		id, _ := first.Group(1).Leader()
		return id == other.ID
	})
	if err := other.Group(1).TransferLeadership(testCtx(t), first.ID); err != nil {
		t.Fatalf("the leadership did not come back: %v", err)
	}
	raftfsmtest.WaitFor(t, "the first leader to serve", first.Group(1).IsLeader)
	<-failed
}
