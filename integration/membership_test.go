package integration

import (
	"bytes"
	"cmp"
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
	harness.Wait(t, patience, fmt.Sprintf("the cluster to call %v ready", members), func(ctx context.Context) error {
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
	t     *testing.T
	c     *harness.Cluster
	tr    *traffic
	steps []memberStep
}

// memberStep is one thing that an operator did, or that happened to a node.
type memberStep struct {
	what     string
	from, to int64 // of the recorder's clock
	commands int
}

// command is member, and counts: an operator types at most one command a step.
func (g *growth) command(at *harness.Node, args ...string) {
	g.t.Helper()
	step := &g.steps[len(g.steps)-1]
	if step.commands++; step.commands > 1 {
		g.t.Errorf("%s: more than one command", step.what)
	}
	member(g.t, at, append(args, "-y", "--wait")...)
}

// step does something to the membership, says how long it took, and marks it in the history. Afterwards the members are ready and
// every group has its replicas on them; one with a ~ may keep replicas without being ready.
func (g *growth) step(what string, replicas int, members string, f func()) {
	g.t.Helper()
	start, acked := time.Now(), g.tr.acked()
	g.tr.fault("", what)
	g.steps = append(g.steps, memberStep{what: what, from: g.tr.rec.Now()})
	f()
	var ready, holders []string
	for _, id := range strings.Fields(members) {
		id, away := strings.CutSuffix(id, "~")
		if holders = append(holders, id); !away {
			ready = append(ready, id)
		}
	}
	settled(g.t, g.c.Node(ready[0]), ready)
	replicated(g.t, g.c.Node(ready[0]), replicas, holders)
	took, done := time.Since(start), g.tr.acked()-acked
	g.steps[len(g.steps)-1].to = g.tr.rec.Now()
	g.tr.fault("", what+" done")
	g.t.Logf("%s: %v, %d acknowledged meanwhile (%.0f/s)", what, took.Round(time.Millisecond), done, float64(done)/took.Seconds())
	if done == 0 {
		g.t.Errorf("%s: nothing was acknowledged meanwhile", what)
	}
}

// pauses are the longest times between two acknowledgements of each publisher in each step, whatever its length.
func (g *growth) pauses() map[string][]checker.Gap {
	acks := map[string][]int64{}
	for _, e := range g.tr.rec.Events() {
		if e.Kind == checker.Publish && e.QoS > 0 && e.End != 0 && e.Err == "" && e.Code < 0x80 {
			acks[e.Client] = append(acks[e.Client], e.End)
		}
	}
	out := map[string][]checker.Gap{}
	for publisher, list := range acks {
		slices.Sort(list)
		for _, s := range g.steps {
			longest := int64(0)
			for i := 1; i < len(list); i++ {
				if list[i] > s.from && list[i-1] < s.to {
					longest = max(longest, list[i]-list[i-1])
				}
			}
			out[s.what] = append(out[s.what], checker.Gap{Fault: s.what, Publisher: publisher, For: time.Duration(longest)})
		}
	}
	return out
}

// figures prints the pauses of each step, and holds those that an operator makes against their mark. The death of a node is no
// step of an operator: what it costs is printed beside.
func (g *growth) figures(load float64, took time.Duration) {
	t, all := g.t, []checker.Gap(nil)
	pauses := g.pauses()
	for _, s := range g.steps {
		t.Logf("%s: longest time between two acknowledgements of a publisher: %s", s.what, checker.Quantiles(pauses[s.what]))
		if s.commands > 0 || strings.HasPrefix(s.what, "grow") {
			all = append(all, pauses[s.what]...)
		}
	}
	slices.SortFunc(all, func(a, b checker.Gap) int { return cmp.Compare(a.For, b.For) })
	t.Logf("all steps of the operator: %s", checker.Quantiles(all))
	mark(t, "acknowledgement gap p99 of the operator's steps", all[int(.99*float64(len(all)))].For, markGap, load)
	rate := float64(g.tr.acked()) / took.Seconds()
	t.Logf("%.0f acknowledged a second over %v (load before %.1f)", rate, took.Round(time.Second), load)
	if fullScenario() && load < busyMachine && rate < .9*offered {
		t.Errorf("only %.0f of %d messages a second were acknowledged", rate, offered)
	}
}

const (
	// markGap is what a step of an operator may keep a publisher waiting.
	markGap = 2 * time.Second
	// offered is what the publishers of the full form send each second.
	offered = 2000
)

// membershipPlan: the full form has clients that cost little, so that the machine is left to the brokers.
func membershipPlan() plan {
	if !fullScenario() {
		return mixedPlan(20 * time.Millisecond)
	}
	p := mixedPlan(0)
	p.publishers = []library{raw, raw, raw3, raw3, raw, raw, raw, raw} // in turn QoS 1 and QoS 2
	p.subscribers = []library{raw, raw}                                // QoS 2 and QoS 1
	p.interval = time.Duration(len(p.publishers)) * time.Second / offered
	return p
}

// TestMembership grows a cluster under traffic and takes a node out; the full form begins with one node and also removes one that
// is dead and replaces one: nothing is lost, nothing comes twice with QoS 2, every group has its three replicas again. I28.
func TestMembership(t *testing.T) {
	long(t)
	seed := newSeed(t)
	nodes := 3
	if fullScenario() {
		nodes = 1
	}
	c := harness.Start(t, harness.Options{Nodes: nodes})
	for len(c.Nodes) < nodes+1 || fullScenario() && len(c.Nodes) < 5 {
		c.Add(t)
	}
	load := harness.Load()
	g := &growth{t: t, c: c, tr: newTraffic(t, clusterEndpoints(c), seed, membershipPlan())}
	start := time.Now()
	if fullScenario() {
		g.full()
	} else {
		n1, n2, n4 := c.Nodes[0], c.Nodes[1], c.Nodes[3]
		g.step("grow from three to four", 3, "n1 n2 n3 n4", func() { n4.Start(t) })
		g.step("remove a node that lives", 3, "n1 n3 n4", func() { g.command(n1, "node", "remove", "n2") })
		c.Forget(t, n2)
	}
	took := time.Since(start)
	g.tr.drain(90 * time.Second)
	g.figures(load, took)
	c.WaitAgreement(t, patience)
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
	g.step("drain a node that lives", 3, "n1 n2~ n3 n4 n5", func() { g.command(n1, "node", "drain", "n2") })
	g.step("remove the drained node", 3, "n1 n3 n4 n5", func() { g.command(n1, "node", "remove", "n2") })
	c.Forget(t, n2)
	g.step("a node dies for good", 3, "n1 n3~ n4 n5", func() {
		if err := n3.Kill(); err != nil {
			t.Fatal(err)
		}
	})
	g.step("remove the dead node", 3, "n1 n4 n5", func() { g.command(n1, "node", "remove", "n3") })
	c.Forget(t, n3)
	n6 := c.Add(t)
	g.step("a node joins", 3, "n1 n4 n5 n6", func() { n6.Start(t) })
	g.step("replace a node", 3, "n1 n4 n6", func() { g.command(n1, "node", "replace", "n5", "--with", "n6") })
	c.Forget(t, n5)
}
