package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
)

// TestSafeToStopAskedOfAGateway: a node without replicas does not know who leads a shard, or knows who did. Its answer
// is that of a node that has them.
func TestSafeToStopAskedOfAGateway(t *testing.T) {
	n1 := startNode(t, memberConfig(t, "n1"))
	defer func() { stopNode(t, n1) }()
	waitReady(t, n1)
	n2 := startNode(t, memberConfig(t, "n2", n1))
	defer func() { stopNode(t, n2) }()
	cfg := memberConfig(t, "n3", n1)
	cfg.Roles = []string{cluster.RoleGateway}
	n3 := startNode(t, cfg)
	defer func() { stopNode(t, n3) }()
	waitReady(t, n2, n3)
	waitPlaced(t, n1, 2)
	terms := func() (out string) {
		for _, g := range n1.Status(t.Context()).Groups {
			out += fmt.Sprintf("%d:%d ", g.ID, g.Term)
		}
		return out
	}
	agree := func(when string) {
		t.Helper()
		for _, id := range []string{"n1", "n2", "n3"} {
			waitFor(t, 20*time.Second, when+": a moment in which no leader changes", func() string {
				before := terms()
				want, err := n1.SafeToStop(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				got, err := n3.SafeToStop(t.Context(), id)
				if after := terms(); after != before || strings.Contains(fmt.Sprint(want), "no leader") {
					return before + "and then " + after
				}
				if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: is it safe to stop %s? n3 says %q, %v; n1 says %q", when, id, got, err, want)
				}
				return ""
			})
		}
	}
	settled := func(leader string) func() string {
		return func() string {
			for _, g := range n1.Status(t.Context()).Groups {
				if g.Kind == "shard" && (g.Leader == nil || leader != "" && *g.Leader != leader) {
					return fmt.Sprintf("group %d", g.ID)
				}
			}
			return ""
		}
	}
	waitFor(t, 20*time.Second, "leaders", settled(""))
	agree("at first")
	for _, to := range []string{"n2", "n1"} {
		waitFor(t, 30*time.Second, "every shard to be led by "+to, func() string {
			for _, g := range n1.Status(t.Context()).Groups {
				if g.Kind == "shard" && (g.Leader == nil || *g.Leader != to) {
					_ = n1.TransferLeader(t.Context(), g.ID, to)
				}
			}
			return settled(to)()
		})
		agree("led by " + to)
	}
}
