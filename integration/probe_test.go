package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// markSuback is what a SUBACK may take in the middle, when the cluster has nothing else to do.
const markSuback = 5 * time.Millisecond

// TestProbe: a publish that follows a SUBACK, on another node, arrives: exact and wildcard filters, shares, durable and transient
// sessions, filters that others subscribe to and give up at the same time; on three nodes and on five, where most gateways hold
// nothing of a shard. I5. `make probe` asks 10,000 times each.
func TestProbe(t *testing.T) {
	long(t)
	count, sizes := 500, []int{3}
	if fullScenario() {
		count, sizes = 10_000, []int{3, 5}
	}
	count = envInt(t, "FLOTILLA_PROBES", count)
	for _, nodes := range sizes {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			seed, load := newSeed(t), harness.Load()
			c := harness.Start(t, harness.Options{Nodes: nodes})
			settledLeaders(t, c)
			one := newProber(t, c, count/20, false)
			one.run1(t, seed)
			idle := one.suback.take()
			t.Logf("one after the other: SUBACK %s; PUBLISH to arrival %s", idle, one.arrival.take())
			mark(t, "SUBACK p50 while nothing else happens", idle.at(.5), markSuback, load)
			p := newProber(t, c, count, false)
			p.runMany(t, seed)
			t.Logf("%d at a time: SUBACK %s; PUBLISH to arrival %s; %s", probeWorkers, p.suback.take(), p.arrival.take(), p)
			if p.ends[probeMissed].Load() > 0 || p.promised() < p.count {
				t.Errorf("without faults every probe must arrive: %s", p)
			}
			healthy(t, c)
		})
	}
}

// TestProbeUnderFaults: the same while nodes are killed, paused for longer than a lease, and started again. What got both
// acknowledgements must arrive: in a durable session also after its connection broke, in a transient one while it lives.
func TestProbeUnderFaults(t *testing.T) {
	long(t)
	count, sizes, faults := 300, []int{3}, 2
	if fullScenario() {
		count, sizes, faults = 10_000, []int{3, 5}, 24
	}
	count, faults = envInt(t, "FLOTILLA_PROBES", count), envInt(t, "FLOTILLA_PROBE_FAULTS", faults)
	for _, nodes := range sizes {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			seed := newSeed(t)
			c := harness.Start(t, harness.Options{Nodes: nodes})
			p := newProber(t, c, count, true)
			var done atomic.Bool
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			for i := range probeWorkers {
				wg.Go(func() {
					p.work(ctx, i, seed, func() bool { return done.Load() && p.promised() >= p.count })
				})
			}
			tour := p.hurtAll(ctx, rand.New(rand.NewPCG(seed, 99)), faults)
			done.Store(true)
			wg.Wait()
			t.Logf("%s; %s; SUBACK %s; PUBLISH to arrival %s", tour, p, p.suback.take(), p.arrival.take())
			if n := p.ends[probeMissed].Load(); n > 0 {
				t.Errorf("I5: %d of %d acknowledged publishes were missed", n, p.promised())
			}
			if p.promised() < p.count {
				t.Errorf("only %d probes were promised, want %d", p.promised(), p.count)
			}
			c.WaitAgreement(t, patience)
		})
	}
}

// probeWorkers is how many probes are under way at a time.
const probeWorkers = 16

// run1 probes one after the other.
func (p *prober) run1(t *testing.T, seed uint64) {
	p.work(t.Context(), 0, seed, func() bool { return t.Failed() || p.promised() >= p.count })
}

// runMany probes with all workers.
func (p *prober) runMany(t *testing.T, seed uint64) {
	var wg sync.WaitGroup
	for i := range probeWorkers {
		wg.Go(func() { p.work(t.Context(), i+1, seed, func() bool { return t.Failed() || p.promised() >= p.count }) })
	}
	wg.Wait()
}

// settledLeaders waits until every group has a leader everywhere: what an election costs is no figure of a SUBACK.
func settledLeaders(t testing.TB, c *harness.Cluster) {
	t.Helper()
	harness.Wait(t, patience, "every group to have a leader", func(ctx context.Context) error {
		for _, n := range c.Nodes {
			groups, err := n.Groups(ctx)
			if err != nil {
				return err
			}
			for _, g := range groups {
				if g.Leader == nil {
					return fmt.Errorf("group %d has none on %s", g.ID, n.ID)
				}
			}
		}
		return nil
	})
}

// hurtAll kills and pauses nodes one after the other; each time it waits until the cluster is whole again.
func (p *prober) hurtAll(ctx context.Context, rng *rand.Rand, faults int) string {
	t := p.t
	t.Helper()
	kills, pauses := 0, 0
	for i := range faults {
		before := p.promised()
		if err := harness.Until(ctx, patience, "probes between two faults", func(context.Context) error {
			if p.promised() < before+20 {
				return fmt.Errorf("%d", p.promised()-before)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		n := p.c.Nodes[rng.IntN(len(p.c.Nodes))]
		if i%3 == 0 {
			if l := p.c.Leader(ctx, 0); l != nil {
				n = l
			}
		}
		down := time.Duration(rng.Int64N(int64(2 * time.Second)))
		if rng.IntN(3) == 0 && fullScenario() {
			down += lossTime
		}
		what := "killed"
		if i%2 == 0 {
			kills++
			p.must(n.Kill())
			pause(ctx, down)
			p.must(n.Launch())
		} else {
			what, pauses = "paused", pauses+1
			p.must(n.Pause())
			pause(ctx, down)
			p.must(n.Resume())
		}
		if err := n.Ready(ctx, healTimeout); err != nil {
			t.Fatal(err)
		}
		if fullScenario() {
			t.Logf("%s %s for %v: %d promised so far", n.ID, what, down.Round(time.Millisecond), p.promised())
		}
	}
	return fmt.Sprintf("%d kills, %d pauses", kills, pauses)
}

func (p *prober) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}
