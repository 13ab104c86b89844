package raftfsm_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestRestartLearnsCommit: a replica that starts anew in an idle group knows soon what of its log is committed: heartbeats say so.
// raft's own timer is far longer.
func TestRestartLearnsCommit(t *testing.T) {
	const rounds = 30
	lag := func(t *testing.T, carry bool) (mean, most time.Duration) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Heartbeat: time.Second})
		defer c.Close()
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range rounds {
			index := c.MustPropose(1, []byte(fmt.Sprintf("entry %d", i)))
			c.WaitEqual(1)
			leader := c.Leader(1)
			raftfsm.SetNudge(leader.Group(1), carry)
			follower := (leader.Index + 1) % 3
			c.Kill(follower, 0, rng)
			c.Start(follower)
			start := time.Now()
			if err := c.Nodes[follower].Group(1).WaitApplied(testCtx(t), index); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			mean, most = mean+took/rounds, max(most, took)
		}
		return mean, most
	}
	var with, without, most time.Duration
	synctest.Test(t, func(t *testing.T) { with, most = lag(t, true) })
	synctest.Test(t, func(t *testing.T) { without, _ = lag(t, false) })
	t.Logf("told of the commit index after %v, at most %v; without heartbeats that carry it after %v", with, most, without)
	if most > time.Second || without < 2*with {
		t.Error("heartbeats make no difference")
	}
}

// TestRefusedHeartbeat: a follower that lacks the entry that a heartbeat names gets the heartbeat without it, and the refusal is
// nobody's to see: raft would take it for the end of its leadership.
func TestRefusedHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := raftfsmtest.NewNetwork()
		leader := raftfsm.NewCarryingTransport(raftfsm.NewGatedLayer(net.Layer("a", 1), "a"), 7, 3)
		follower := raftfsm.NewSerialTransport(raftfsm.NewGatedLayer(net.Layer("b", 1), "b"))
		var seen []uint64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 2 {
				rpc := <-follower.Consumer()
				req := rpc.Command.(*raft.AppendEntriesRequest)
				seen = append(seen, req.PrevLogEntry)
				rpc.Respond(&raft.AppendEntriesResponse{Term: req.Term, Success: req.PrevLogEntry == 0}, nil)
			}
		}()
		req := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a")}, Term: 5}
		var resp raft.AppendEntriesResponse
		if err := leader.AppendEntries("b", "b", req, &resp); err != nil || !resp.Success {
			t.Errorf("%+v, %v", resp, err)
		}
		<-done
		if !slices.Equal(seen, []uint64{7, 0}) {
			t.Errorf("the follower saw heartbeats that name the entries %v", seen)
		}
		for _, tr := range []raft.Transport{leader, follower} {
			if err := tr.(raft.WithClose).Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
