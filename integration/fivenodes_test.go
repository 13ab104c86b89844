package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestFiveNodes: five nodes hold three replicas of each shard, so clients are served by nodes that hold none of their state;
// faults cost nothing there either.
func TestFiveNodes(t *testing.T) {
	long(t)
	seed := newSeed(t)
	c := harness.Start(t, harness.Options{Nodes: 5, Flags: []string{"--set", "settings.shards=5"}})
	harness.Wait(t, patience, "five shards with three replicas each, spread over five nodes", func(ctx context.Context) error {
		groups, err := c.Nodes[0].Groups(ctx)
		if err != nil {
			return err
		}
		shards, held := 0, map[string]int{}
		for _, g := range groups {
			if g.ID == 0 {
				continue
			}
			shards++
			if len(g.Replicas) != 3 {
				return fmt.Errorf("group %d has replicas %v", g.ID, g.Replicas)
			}
			for _, r := range g.Replicas {
				held[r]++
			}
		}
		if shards != 5 || len(held) != 5 {
			return fmt.Errorf("%d shards on the nodes %v", shards, held)
		}
		return nil
	})
	faults := []faultKind{killShard, pauseAny}
	if envInt(t, "FLOTILLA_FAULTS", 0) != 0 {
		faults = append(faults, killControl, killAny, killShard, killAll, pauseLeader)
	}
	runFaults(t, c, seed, faultPlan(40*time.Millisecond), func(*rand.Rand) []faultKind { return faults })
}
