package integration

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestPartition hurts the links between nodes: silent, cut and one-way, longer and shorter than a lease. The majority goes on,
// healing needs no restart, the history is clean. I1-I4 I6-I8 I10 I17 I20 I26 I27.
func TestPartition(t *testing.T) {
	long(t)
	seed := newSeed(t)
	rounds := 1
	if os.Getenv("FLOTILLA_FAULTS") != "" {
		rounds = 8
	}
	rounds = envInt(t, "FLOTILLA_FAULT_PARTITIONS", rounds)
	c := harness.Start(t, harness.Options{Nodes: 3, Proxied: true})
	runFaults(t, c, seed, faultPlan(20*time.Millisecond), func(rng *rand.Rand) []faultKind {
		var list []faultKind
		for range rounds {
			list = append(list, silenceLeader, silenceShard, cutAny, oneWay)
		}
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	})
}
