package raftfsm_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestAloneElectedAtOnce: a group of one has no leader whose silence it must wait for.
func TestAloneElectedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{
			Nodes: 1, Heartbeat: time.Second, Group: func(_ int, cfg *raftfsm.GroupConfig) { cfg.Alone = true },
		})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("first leader after %v", took)
		}
		c.Stop(0)
		begin = time.Now()
		c.Start(0)
		c.MustPropose(1, []byte("y"))
		if took := time.Since(begin); took > 500*time.Millisecond {
			t.Errorf("leader after a restart after %v", took)
		}
	})
}

// TestAloneWaitsInACompany: with other voters nobody stands for election before its time.
func TestAloneWaitsInACompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{
			Heartbeat: time.Second, Group: func(_ int, cfg *raftfsm.GroupConfig) { cfg.Alone = true },
		})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		// All that stand at once split the vote of the first term.
		if _, term := c.Leader(1).Group(1).Leader(); term > 2 {
			t.Errorf("term %d: somebody did not wait for its heartbeat timeout", term)
		}
	})
}

// TestDropKeepsTheTerm: a replica that was dropped and comes back under the same identity begins at the term that it
// had seen, and has no vote to give in it.
func TestDropKeepsTheTerm(t *testing.T) {
	net := raftfsmtest.NewNetwork()
	h, err := raftfsm.OpenHost(raftfsm.HostConfig{Dir: t.TempDir(), NodeID: "n1", Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	open := func(members []raftfsm.Member) *raftfsm.Group {
		t.Helper()
		g, err := h.OpenGroup(raftfsm.GroupConfig{
			ID: 1, Machine: raftfsmtest.NewMachine(), Layer: net.Layer("n1", 1), Bootstrap: members, Heartbeat: 50 * time.Millisecond, Alone: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	g := open([]raftfsm.Member{{ID: "n1", Voter: true}})
	done := make(chan error, 1)
	for try := true; try; {
		g.Propose([]byte("x"), func(_ any, _ uint64, err error) { done <- err })
		try = <-done != nil
	}
	term := g.Status().Term
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a crash in the middle repeats it
		if err := h.DropGroup(1); err != nil {
			t.Fatal(err)
		}
	}
	// The list of founders must not be used a second time.
	g = open([]raftfsm.Member{{ID: "n1", Voter: true}})
	if st := g.Status(); st.Term != term || st.LastIndex != 0 || len(st.Members) != 0 {
		t.Errorf("came back with term %d (was %d), last index %d, members %v", st.Term, term, st.LastIndex, st.Members)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := g.TransferLeadership(ctx, "n1"); err == nil {
		t.Error("an empty replica leads")
	}
}
