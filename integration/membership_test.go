package integration

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// member runs a command of the binary that changes the membership, and fails the test unless it exits with 0.
func member(t testing.TB, at *harness.Node, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), append(args, "-e", "http://"+at.AdminAddr())...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = t.TempDir()
	if err := cmd.Run(); err != nil {
		t.Fatalf("flotilla %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
}

// replicated waits until every group has want voters, all of them members, and a leader.
func replicated(t testing.TB, at *harness.Node, want int, members []string) {
	t.Helper()
	harness.Wait(t, 3*time.Minute, fmt.Sprintf("every group to have %d replicas of %v", want, members), func(ctx context.Context) error {
		groups, err := at.Groups(ctx)
		if err != nil {
			return err
		}
		if len(groups) < 2 {
			return fmt.Errorf("%s knows %d groups", at.ID, len(groups))
		}
		for _, g := range groups {
			if g.Leader == nil {
				return fmt.Errorf("group %d has no leader", g.ID)
			}
			if g.Kind == "shard" && len(g.Replicas) != want {
				return fmt.Errorf("group %d has replicas %v", g.ID, g.Replicas)
			}
			for _, r := range g.Replicas {
				if !slices.Contains(members, r) {
					return fmt.Errorf("group %d has replicas %v", g.ID, g.Replicas)
				}
			}
		}
		return nil
	})
}

// settled waits until the cluster calls all these nodes ready: a node that joins serves clients before it is a full member.
func settled(t testing.TB, at *harness.Node, members []string) {
	t.Helper()
	harness.Wait(t, time.Minute, fmt.Sprintf("the cluster to call %v ready", members), func(ctx context.Context) error {
		s, err := at.Status(ctx)
		if err != nil {
			return err
		}
		ready := map[string]bool{}
		for _, n := range s.Nodes {
			ready[n.ID] = n.State == "ready"
		}
		for _, id := range members {
			if !ready[id] {
				return fmt.Errorf("%s is not, of %+v", id, s.Nodes)
			}
		}
		return nil
	})
}

// growth is a cluster that changes its members under traffic.
type growth struct {
	t  *testing.T
	c  *harness.Cluster
	tr *traffic
}

// step does something to the membership, says how long it took, and marks it in the history.
func (g *growth) step(what string, replicas int, members string, f func()) {
	g.t.Helper()
	start, acked := time.Now(), g.tr.acked()
	g.tr.fault("", what)
	f()
	list := strings.Fields(members)
	settled(g.t, g.c.Node(list[0]), list)
	replicated(g.t, g.c.Node(list[0]), replicas, list)
	took := time.Since(start)
	g.tr.fault("", what+" done")
	g.t.Logf("%s: %v, %d acknowledged meanwhile", what, took.Round(time.Millisecond), g.tr.acked()-acked)
	if g.tr.acked() == acked {
		g.t.Errorf("%s: nothing was acknowledged meanwhile", what)
	}
}

// TestMembership grows a cluster under traffic and takes a node out; the full form begins with one node and also removes one that
// is dead and replaces one: nothing is lost, nothing comes twice with QoS 2, every group has its three replicas again. I28.
func TestMembership(t *testing.T) {
	long(t)
	seed := newSeed(t)
	interval := 20 * time.Millisecond
	if fullScenario() {
		interval = 4 * time.Millisecond // eight publishers: 2,000 messages a second
	}
	nodes := 3
	if fullScenario() {
		nodes = 1
	}
	c := harness.Start(t, harness.Options{Nodes: nodes})
	for len(c.Nodes) < nodes+1 || fullScenario() && len(c.Nodes) < 5 {
		c.Add(t)
	}
	g := &growth{t: t, c: c, tr: newTraffic(t, clusterEndpoints(c), seed, mixedPlan(interval))}
	if fullScenario() {
		g.full()
	} else {
		n1, n2, n4 := c.Nodes[0], c.Nodes[1], c.Nodes[3]
		g.step("grow from three to four", 3, "n1 n2 n3 n4", func() { n4.Start(t) })
		g.step("remove a node that lives", 3, "n1 n3 n4", func() { member(t, n1, "node", "remove", "n2", "-y", "--wait") })
		c.Forget(t, n2)
	}
	g.tr.drain(90 * time.Second)
	events := g.tr.rec.Events()
	gaps := checker.Gaps(events, func(f string) bool { return !strings.HasSuffix(f, " done") })
	t.Logf("gap between acknowledgements of a publisher: %s", checker.Quantiles(gaps))
	c.WaitAgreement(t, 60*time.Second)
}

// full are the steps of the full form: one node, three, five, one taken out alive, one dead, one replaced.
func (g *growth) full() {
	t, c := g.t, g.c
	n1, n2, n3, n4, n5 := c.Nodes[0], c.Nodes[1], c.Nodes[2], c.Nodes[3], c.Nodes[4]
	start := func(nodes ...*harness.Node) func() {
		return func() {
			for _, n := range nodes {
				n.Start(t)
			}
		}
	}
	g.step("grow from one to three", 3, "n1 n2 n3", start(n2, n3))
	g.step("grow from three to five", 3, "n1 n2 n3 n4 n5", start(n4, n5))
	g.step("drain and remove a node that lives", 3, "n1 n3 n4 n5", func() {
		member(t, n1, "node", "drain", "n2", "-y", "--wait")
		member(t, n1, "node", "remove", "n2", "-y", "--wait")
	})
	c.Forget(t, n2)
	g.step("remove a node that is dead", 3, "n1 n4 n5", func() {
		if err := n3.Kill(); err != nil {
			t.Fatal(err)
		}
		member(t, n1, "node", "remove", "n3", "-y", "--wait")
	})
	c.Forget(t, n3)
	n6 := c.Add(t)
	g.step("replace a node", 3, "n1 n4 n6", func() {
		n6.Start(t)
		settled(t, n1, []string{n6.ID})
		member(t, n1, "node", "replace", "n5", "--with", "n6", "-y", "--wait")
	})
	c.Forget(t, n5)
}
