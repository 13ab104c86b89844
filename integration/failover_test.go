package integration

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestFailover runs continuous QoS 1 and QoS 2 traffic from durable clients of three libraries over three nodes, kills nodes
// (leaders among them) and all nodes at once with SIGKILL, pauses nodes for up to 6 s, heals, drains, and checks the history.
// I1 I2 I3 I4 I6 I7 I8 I10 I17 I20 I27.
//
// Without knobs it is the short form of CI. `make faults` sets FLOTILLA_FAULTS=1: 50 kills, 10 kills of all nodes, 10 pauses.
// FLOTILLA_FAULT_KILLS, _ALLKILLS, _PAUSES, _INTERVAL_MS (between publishes of one publisher) and FLOTILLA_SEED override.
func TestFailover(t *testing.T) {
	long(t)
	kills, alls, pauses, interval := 3, 1, 2, 20
	if os.Getenv("FLOTILLA_FAULTS") != "" {
		kills, alls, pauses, interval = 50, 10, 10, 20
	}
	kills, alls = envInt(t, "FLOTILLA_FAULT_KILLS", kills), envInt(t, "FLOTILLA_FAULT_ALLKILLS", alls)
	pauses, interval = envInt(t, "FLOTILLA_FAULT_PAUSES", pauses), envInt(t, "FLOTILLA_FAULT_INTERVAL_MS", interval)
	seed := newSeed(t)
	c := harness.Start(t, harness.Options{Nodes: envInt(t, "FLOTILLA_FAULT_NODES", 3)})
	runFaults(t, c, seed, faultPlan(time.Duration(interval)*time.Millisecond), func(rng *rand.Rand) []faultKind {
		return schedule(rng, kills, alls, pauses)
	})
}

// runFaults applies a schedule under traffic, drains, checks the history and compares the replicas.
func runFaults(t *testing.T, c *harness.Cluster, seed uint64, p plan, faults func(*rand.Rand) []faultKind) *checker.Report {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	tr := newTraffic(t, clusterEndpoints(c), seed, p)
	r := &rig{t: t, c: c, tr: tr, rng: rng}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.wander(ctx, seed) })
	defer wg.Wait()
	defer cancel()
	for _, kind := range faults(rng) {
		r.hurt(kind)
		pause(t.Context(), time.Duration(rng.Int64N(int64(time.Second)))) // let traffic build up between faults
	}
	cancel()
	wg.Wait()
	report := tr.drain(90 * time.Second)
	r.figures()
	c.WaitAgreement(t, patience)
	if report.Acked[1] == 0 || report.Acked[2] == 0 {
		t.Errorf("no traffic: %s", report)
	}
	t.Log(stalls(report))
	return report
}
