package raftfsm_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestNudge measures how late followers apply a lone command: with the nudge it takes a round trip,
// without it raft's commit timer.
func TestNudge(t *testing.T) {
	const trip = 2 * time.Millisecond
	lag := func(t *testing.T, nudge bool) time.Duration {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Heartbeat: time.Second})
		defer c.Close()
		for _, a := range c.IDs() {
			for _, b := range c.IDs() {
				c.Net.SetDelay(a, b, trip/2)
			}
		}
		leader := c.Leader(1)
		raftfsm.SetNudge(leader.Group(1), nudge)
		var lags []time.Duration
		for i := range 30 {
			<-time.After(300 * time.Millisecond) // idle
			index := c.MustPropose(1, []byte(fmt.Sprintf("lone %d", i)))
			start := time.Now()
			for _, n := range c.Nodes {
				if err := n.Group(1).WaitApplied(testCtx(t), index); err != nil {
					t.Fatal(err)
				}
			}
			lags = append(lags, time.Since(start))
		}
		sort.Slice(lags, func(i, j int) bool { return lags[i] < lags[j] })
		return lags[len(lags)*9/10]
	}
	var with, without time.Duration
	synctest.Test(t, func(t *testing.T) { with = lag(t, true) })
	synctest.Test(t, func(t *testing.T) { without = lag(t, false) })
	t.Logf("p90 of the followers' lag: %v with the nudge, %v without", with, without)
	if with > 2*trip || without < 10*trip {
		t.Errorf("lag %v with and %v without the nudge", with, without)
	}
}

// TestReadIndexSeesCommits reads on the leader and at a follower after each commit.
func TestReadIndexSeesCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
		defer c.Close()
		for i := range 50 {
			index := c.MustPropose(1, []byte(fmt.Sprintf("entry %d", i)))
			leader := c.Leader(1)
			got, err := leader.Group(1).ReadIndex(testCtx(t))
			if err != nil || got < index {
				t.Fatalf("read index %d after %d: %v", got, index, err)
			}
			follower := c.Nodes[(leader.Index+1)%3]
			if err := follower.Group(1).WaitApplied(testCtx(t), got); err != nil {
				t.Fatal(err)
			}
			if _, err := follower.Group(1).ReadIndex(testCtx(t)); !errors.Is(err, raftfsm.ErrNotLeader) {
				t.Fatalf("read index of a follower: %v", err)
			}
		}
	})
}

// TestReadIndexNeedsAnswersToTheCall has replies under way that were sent before the call, and
// followers that can no longer be reached. raft's VerifyLeader takes such a reply for a confirmation;
// ReadIndex must not, because a new leader may have committed meanwhile.
func TestReadIndexNeedsAnswersToTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Heartbeat: time.Second})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		leader := c.Leader(1)
		for _, id := range c.IDs() {
			if id != leader.ID {
				c.Net.SetDelay(id, leader.ID, 400*time.Millisecond)
			}
		}
		<-time.After(900 * time.Millisecond) // heartbeats are out, their replies under way
		for _, id := range c.IDs() {
			if id != leader.ID {
				c.Net.Cut(leader.ID, id)
			}
		}
		verified := make(chan error, 1)
		go func() { verified <- raftfsm.VerifyLeader(leader.Group(1)) }()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if index, err := leader.Group(1).ReadIndex(ctx); err == nil {
			t.Errorf("read index %d on the word of old replies", index)
		}
		t.Logf("raft's VerifyLeader in the same place: %v", <-verified)
	})
}

// TestReadIndexOfIsolatedLeader never returns while another leader commits.
func TestReadIndexOfIsolatedLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
		defer c.Close()
		for i := range 10 {
			c.MustPropose(1, []byte(fmt.Sprintf("entry %d", i)))
			old := c.Leader(1)
			c.Net.Isolate(old.ID, c.IDs(), true)
			if _, err := old.Group(1).ReadIndex(testCtx(t)); err == nil {
				t.Fatal("an isolated leader confirmed a read")
			}
			c.MustPropose(1, []byte("meanwhile"))
			c.Net.Isolate(old.ID, c.IDs(), false)
			c.WaitEqual(1)
		}
	})
}

// TestTransfer hands leadership around under load: nothing is lost, no outcome is unknown.
func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
		defer c.Close()
		answers := make(chan error, 1000)
		sent := 0
		for i := range 12 {
			leader := c.Leader(1)
			for k := range 50 {
				leader.Group(1).Propose([]byte(fmt.Sprintf("%d %d", i, k)), func(_ any, index uint64, err error) {
					if err == nil {
						c.Oracle.Acked(1, index)
					}
					answers <- err
				})
				sent++
			}
			to := c.Nodes[(leader.Index+1+i%2)%3].ID
			start := time.Now()
			if err := leader.Group(1).TransferLeadership(testCtx(t), to); err != nil {
				t.Fatal(err)
			}
			if got := c.Leader(1); got.ID != to {
				t.Fatalf("leader is %s, want %s", got.ID, to)
			}
			if d := time.Since(start); d > 500*time.Millisecond {
				t.Errorf("hand-over took %v", d)
			}
		}
		for range sent {
			if err := <-answers; err != nil {
				t.Errorf("answer %v", err)
			}
		}
		c.WaitEqual(1)
	})
}

// TestTransferErrors names who cannot lead.
func TestTransferErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 4, Voters: 3})
		defer c.Close()
		leader := c.Leader(1)
		g := leader.Group(1)
		if err := g.AddNonvoter(testCtx(t), "n4"); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			g    *raftfsm.Group
			to   string
			want error
		}{
			{g, leader.ID, nil},
			{g, "n4", raftfsm.ErrNotMember},
			{g, "n9", raftfsm.ErrNotMember},
			{c.Nodes[(leader.Index+1)%3].Group(1), leader.ID, raftfsm.ErrNotLeader},
		} {
			if err := tc.g.TransferLeadership(testCtx(t), tc.to); !errors.Is(err, tc.want) {
				t.Errorf("transfer to %s: %v, want %v", tc.to, err, tc.want)
			}
		}
	})
}

// TestTransferFails asks a node that does not answer: leadership stays, and proposals are admitted
// again although raft drops them for as long as its own try lasts.
func TestTransferFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		leader := c.Leader(1)
		to := c.Nodes[(leader.Index+1)%3]
		c.Net.Isolate(to.ID, c.IDs(), true)
		if err := leader.Group(1).TransferLeadership(testCtx(t), to.ID); !errors.Is(err, raftfsm.ErrTransferFailed) {
			t.Fatalf("transfer: %v", err)
		}
		c.MustPropose(1, []byte("y"))
		c.Net.Isolate(to.ID, c.IDs(), false)
		c.MustPropose(1, []byte("z"))
		c.WaitEqual(1)
	})
}

// TestMembership adds, promotes, demotes and removes nodes.
func TestMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 5, Voters: 1})
		defer c.Close()
		ctx := testCtx(t)
		g := c.Leader(1).Group(1)
		if err := g.RemoveServer(ctx, "n1"); !errors.Is(err, raftfsm.ErrLastVoter) {
			t.Fatalf("remove the last voter: %v", err)
		}
		for i := range 20 {
			c.MustPropose(1, []byte(fmt.Sprintf("entry %d", i)))
		}
		for _, id := range []string{"n2", "n3"} {
			if err := g.AddVoter(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"n4", "n5"} {
			if err := g.AddNonvoter(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		wantMembers(t, g, "n1+ n2+ n3+ n4- n5-")
		c.MustPropose(1, []byte("more"))
		c.WaitEqual(1)
		if err := g.AddVoter(ctx, "n4"); err != nil {
			t.Fatal(err)
		}
		if err := g.DemoteVoter(ctx, "n2"); err != nil {
			t.Fatal(err)
		}
		if err := g.RemoveServer(ctx, "n5"); err != nil {
			t.Fatal(err)
		}
		if err := g.RemoveServer(ctx, "n5"); err != nil {
			t.Errorf("remove again: %v", err)
		}
		if err := g.DemoteVoter(ctx, "n9"); !errors.Is(err, raftfsm.ErrNotMember) {
			t.Errorf("demote a stranger: %v", err)
		}
		wantMembers(t, g, "n1+ n2- n3+ n4+")
		c.Stop(4)
		if err := g.RemoveServer(ctx, "n1"); err != nil { // the leader itself
			t.Fatal(err)
		}
		c.Stop(0)
		g = c.Leader(1).Group(1)
		wantMembers(t, g, "n2- n3+ n4+")
		c.MustPropose(1, []byte("without n1"))
		c.WaitEqual(1)
		c.Kill(2, 0, rand.New(rand.NewPCG(1, 1)))
		c.Start(2)
		c.WaitEqual(1)
		if err := c.Nodes[1].Group(1).AddNonvoter(ctx, "n5"); !errors.Is(err, raftfsm.ErrNotLeader) {
			t.Errorf("change by a follower: %v", err)
		}
	})
}

func wantMembers(t *testing.T, g *raftfsm.Group, want string) {
	t.Helper()
	got := ""
	for i, m := range g.Members() {
		if i > 0 {
			got += " "
		}
		got += m.ID
		if m.Voter {
			got += "+"
		} else {
			got += "-"
		}
	}
	if got != want {
		t.Errorf("members %q, want %q", got, want)
	}
}
