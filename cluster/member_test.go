package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
)

// memberConfig joins a cluster through its first node.
func memberConfig(t testing.TB, id string, seeds ...*cluster.Node) cluster.Config {
	cfg := testConfig(t, t.TempDir())
	cfg.NodeID = id
	cfg.Membership.StableFor = 200 * time.Millisecond
	cfg.Drain.LBDelay = 0
	for _, n := range seeds {
		cfg.Join = append(cfg.Join, n.Addrs().Cluster)
	}
	return cfg
}

// waitPlaced waits until every shard has a replica on just as many nodes as it should, and a leader.
func waitPlaced(t testing.TB, n *cluster.Node, replicas int, not ...string) {
	t.Helper()
	waitFor(t, 60*time.Second, fmt.Sprint(replicas, " replicas of each shard"), func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		for _, g := range n.Status(ctx).Groups {
			if g.Kind != "shard" {
				continue
			}
			if len(g.Replicas) != replicas || g.Leader == nil {
				return fmt.Sprintf("group %d is on %v", g.ID, g.Replicas)
			}
			for _, id := range g.Replicas {
				for _, bad := range not {
					if id == bad {
						return fmt.Sprintf("group %d is on %v", g.ID, g.Replicas)
					}
				}
			}
		}
		return ""
	})
}

func waitOperation(t testing.TB, n *cluster.Node, id, state string) {
	t.Helper()
	waitFor(t, 60*time.Second, "operation "+id+" to be "+state, func() string {
		for _, o := range n.Operations() {
			if o.ID == id && o.State == state {
				return ""
			} else if o.ID == id {
				return o.State + ": " + o.Progress
			}
		}
		return "it is not known"
	})
}

// TestGrowAndShrink takes a cluster from one node to four and back to two, with a durable session that must lose
// nothing on the way: one node leaves alive, one dead.
func TestGrowAndShrink(t *testing.T) {
	n1 := startNode(t, memberConfig(t, "n1"))
	defer func() { stopNode(t, n1) }()
	waitReady(t, n1)
	var in inbox
	sub := dial(t, n1, "sub", false, in.onMessage)
	subscribe(t, sub, "grow/#", 1)
	pub := dial(t, n1, "pub", true, nil)
	var want []string
	say := func(what string) {
		t.Helper()
		publish(t, pub, "grow/"+what, what, 1)
		want = append(want, "grow/"+what+"="+what)
		in.waitFor(t, want...)
	}
	say("alone")

	nodes := map[string]*cluster.Node{"n1": n1}
	var n4cfg cluster.Config
	for _, id := range []string{"n2", "n3", "n4"} {
		cfg := memberConfig(t, id, n1)
		if id == "n4" {
			n4cfg = cfg
			cfg.Fatal = func(err error) {
				if !errors.Is(err, cluster.ErrIdentity) {
					t.Errorf("n4: %v", err)
				}
			}
		}
		nodes[id] = startNode(t, cfg)
		waitReady(t, nodes[id])
		say("with " + id)
	}
	waitPlaced(t, n1, 3)
	say("grown")
	// What was there before the others came is on them now.
	other := dial(t, nodes["n3"], "reader", true, nil)
	publish(t, other, "grow/from-n3", "x", 1)
	want = append(want, "grow/from-n3=x")
	in.waitFor(t, want...)

	// A removal that is alive: it goes by itself, and its process ends.
	op, err := n1.RemoveNode(t.Context(), "n4", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n1.RemoveNode(t.Context(), "n4", "", false); err != nil || again.ID != op.ID {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	var g *cluster.GuardError
	if _, err := n1.RemoveNode(t.Context(), "n3", "", false); !errors.As(err, &g) || g.Code != cluster.GuardBusy {
		t.Errorf("a second operation: %v", err)
	}
	waitOperation(t, n1, op.ID, "done")
	waitPlaced(t, n1, 3, "n4")
	stopNode(t, nodes["n4"])
	say("without n4")
	// Neither its data directory nor its id comes back.
	fatal := make(chan error, 1)
	again := n4cfg
	again.Fatal = func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}
	old := startNode(t, again)
	if err := waitErr(t, fatal); !errors.Is(err, cluster.ErrIdentity) {
		t.Errorf("n4 with its old directory: %v", err)
	}
	old.Kill()
	again.DataDir = t.TempDir()
	empty := startNode(t, again)
	if err := waitErr(t, fatal); !errors.Is(err, cluster.ErrIdentity) {
		t.Errorf("n4 with an empty directory: %v", err)
	}
	empty.Kill()

	// One that is dead for good.
	nodes["n3"].Kill()
	waitFor(t, 20*time.Second, "n3 to be down", func() string {
		for _, s := range n1.Status(t.Context()).Nodes {
			if s.ID == "n3" && s.State != "down" {
				return s.State
			}
		}
		return ""
	})
	if op, err = n1.RemoveNode(t.Context(), "n3", "", false); err != nil {
		t.Fatal(err)
	}
	if len(op.Warnings) == 0 {
		t.Error("no warning that two nodes are left for three replicas")
	}
	waitOperation(t, n1, op.ID, "done")
	waitPlaced(t, n1, 2, "n3", "n4")
	say("two left")
	if _, err := n1.RemoveNode(t.Context(), "n9", "", false); !errors.As(err, &g) || g.Code != cluster.GuardNotFound {
		t.Errorf("an unknown node: %v", err)
	}
	stopNode(t, nodes["n2"])
}

func waitErr(t testing.TB, ch <-chan error) error {
	t.Helper()
	select {
	case err := <-ch:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the node was not refused")
		return nil
	}
}

// TestDrainAndUndrain sends the clients of a node away and takes them back.
func TestDrainAndUndrain(t *testing.T) {
	n1 := startNode(t, memberConfig(t, "n1"))
	defer func() { stopNode(t, n1) }()
	waitReady(t, n1)
	var g *cluster.GuardError
	if _, err := n1.DrainNode(t.Context(), "n1", false); !errors.As(err, &g) || g.Code != cluster.GuardQuorum {
		t.Fatalf("the only node was drained: %v", err)
	}
	if _, err := n1.RemoveNode(t.Context(), "n1", "", false); !errors.As(err, &g) || g.Code != cluster.GuardQuorum {
		t.Fatalf("the only node was removed: %v", err)
	}
	n2, n3 := startNode(t, memberConfig(t, "n2", n1)), startNode(t, memberConfig(t, "n3", n1))
	defer func() { stopNode(t, n2); stopNode(t, n3) }()
	waitReady(t, n2, n3)
	waitPlaced(t, n1, 3)
	c := dial(t, n1, "c", false, nil)
	if st, err := n2.DrainNode(t.Context(), "n1", true); err != nil || st.ID != "" {
		t.Fatalf("dry run: %+v, %v", st, err)
	}
	op, err := n2.DrainNode(t.Context(), "n1", false)
	if err != nil {
		t.Fatal(err)
	}
	waitOperation(t, n2, op.ID, "done")
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Error("the client is still connected")
	}
	for _, check := range n1.ReadyChecks() {
		if check.Name == "not_draining" && check.OK {
			t.Error("a drained node is ready")
		}
	}
	for _, gr := range n2.Status(t.Context()).Groups {
		if gr.Leader == nil || *gr.Leader == "n1" {
			t.Errorf("group %d is led by the drained node", gr.ID)
		}
		if len(gr.Replicas) != 3 {
			t.Errorf("group %d lost a replica: %v", gr.ID, gr.Replicas)
		}
	}
	if st, err := n2.DrainNode(t.Context(), "n1", false); err != nil || st.ID != op.ID {
		t.Errorf("draining what is drained: %+v, %v", st, err)
	}
	if err := n3.UndrainNode(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	waitReady(t, n1)
	dial(t, n1, "c", false, nil)
}

// TestJoinIsGuarded: ids are given once, tokens are counted, and whoever was removed stays out (I25).
func TestJoinIsGuarded(t *testing.T) {
	n1 := startNode(t, memberConfig(t, "n1"))
	defer func() { stopNode(t, n1) }()
	waitReady(t, n1)
	refused := func(cfg cluster.Config) error {
		t.Helper()
		failed := make(chan error, 1)
		cfg.Fatal = func(err error) { failed <- err }
		n := startNode(t, cfg)
		defer n.Kill()
		select {
		case err := <-failed:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("the node was not refused")
			return nil
		}
	}
	if err := refused(memberConfig(t, "n1", n1)); !errors.Is(err, cluster.ErrIdentity) {
		t.Errorf("a second n1: %v", err)
	}
	// A token is listed until it expires.
	if _, err := n1.CreateToken(t.Context(), 1, time.Second); err != nil {
		t.Fatal(err)
	}
	if ts := n1.Tokens(); len(ts) != 1 {
		t.Errorf("tokens %+v, want the new one", ts)
	}
	waitFor(t, 10*time.Second, "the token to expire", func() string {
		if ts := n1.Tokens(); len(ts) != 0 {
			return fmt.Sprintf("tokens %+v", ts)
		}
		return ""
	})
	token, err := n1.CreateToken(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bad := memberConfig(t, "n2", n1)
	bad.JoinToken = token.Secret + "x"
	if err := refused(bad); !errors.Is(err, cluster.ErrIdentity) {
		t.Errorf("a wrong token: %v", err)
	}
	good := memberConfig(t, "n2", n1)
	good.JoinToken = token.Secret
	n2 := startNode(t, good)
	waitReady(t, n2)
	if ts := n1.Tokens(); len(ts) != 1 || ts[0].Uses != 0 || ts[0].Secret != "" {
		t.Errorf("tokens %+v", ts)
	}
	late := memberConfig(t, "n3", n1)
	late.JoinToken = token.Secret
	if err := refused(late); !errors.Is(err, cluster.ErrIdentity) {
		t.Errorf("a used token: %v", err)
	}
	if err := n2.RevokeToken(t.Context(), token.ID); err != nil {
		t.Error(err)
	}
	// n2's disk is lost: its id does not come back.
	stopNode(t, n2)
	if err := refused(memberConfig(t, "n2", n1)); !errors.Is(err, cluster.ErrIdentity) {
		t.Errorf("n2 with an empty disk: %v", err)
	}
}
