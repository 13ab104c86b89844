package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// faultKind is one way to hurt a cluster.
type faultKind string

const (
	killControl faultKind = "kill leader of the control group"
	killShard   faultKind = "kill leader of a shard"
	killAny     faultKind = "kill a node"
	killAll     faultKind = "kill all nodes"
	pauseAny    faultKind = "pause a node"
	pauseLeader faultKind = "pause leader of the control group"
	// These need Options.Proxied. A silent link holds the bytes until it heals, a cut one is reset.
	silenceLeader faultKind = "silence all links of the leader of the control group"
	silenceShard  faultKind = "silence all links of the leader of a shard"
	cutAny        faultKind = "cut all links of a node"
	oneWay        faultKind = "silence what a node sends to the leader of the control group"
)

func faultKinds() []faultKind {
	return []faultKind{killControl, killShard, killAny, killAll, pauseAny, pauseLeader, silenceLeader, silenceShard, cutAny, oneWay}
}

// schedule lists faults in random order: kills are split over leaders and others, pauses too.
func schedule(rng *rand.Rand, kills, alls, pauses int) []faultKind {
	var list []faultKind
	for i := range kills {
		list = append(list, []faultKind{killShard, killControl, killAny}[i%3])
	}
	for range alls {
		list = append(list, killAll)
	}
	for i := range pauses {
		list = append(list, []faultKind{pauseAny, pauseLeader}[i%2])
	}
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// rig hurts a cluster under traffic.
type rig struct {
	t       testing.TB
	c       *harness.Cluster
	tr      *traffic
	rng     *rand.Rand
	healing []time.Duration // from the end of each fault until every node was ready and every group had a leader
}

const (
	// maxPause is longer than a lease (5 s), so that some pauses cost one.
	maxPause     = 6 * time.Second
	maxPartition = 10 * time.Second
	// lossTime is above lease and margin: a node that is away for longer is marked down, and its sessions with it.
	lossTime = 6 * time.Second
	// healTimeout bounds I27: a leader within 10 s, caught up within 60 s, and the start of the processes.
	healTimeout = 75 * time.Second
)

// hurt applies one fault and waits until the cluster is whole again.
func (r *rig) hurt(kind faultKind) {
	r.t.Helper()
	for _, n := range r.c.Nodes {
		if !n.Running() {
			r.t.Fatalf("node %s ended by itself:\n%s", n.ID, strings.Join(n.Tail(), "\n"))
		}
	}
	victims := []*harness.Node{r.victim(kind)}
	if kind == killAll {
		victims = r.c.Nodes
	}
	down := time.Duration(r.rng.Int64N(int64(2 * time.Second)))
	if r.rng.IntN(4) == 0 {
		down = lossTime + down // long enough that the cluster gives the node up
	}
	r.tr.fault(ids(victims), string(kind))
	switch kind {
	case pauseAny, pauseLeader:
		down = time.Duration(r.rng.Int64N(int64(maxPause)))
		r.must(victims[0].Pause())
		pause(r.t.Context(), down)
		r.must(victims[0].Resume())
	case silenceLeader, silenceShard, cutAny, oneWay:
		down = time.Duration(r.rng.Int64N(int64(maxPartition)))
		r.partition(kind, victims[0])
		pause(r.t.Context(), down)
		for _, p := range r.c.Proxies {
			p.Heal()
		}
	default:
		r.must(harness.KillAll(victims...))
		pause(r.t.Context(), down)
		for _, v := range victims {
			r.must(v.Launch())
		}
	}
	took := r.heal()
	r.tr.fault(ids(victims), "healed")
	r.t.Logf("%s: %s, down %v, whole again after %v, %d acknowledged so far", kind, ids(victims), down.Round(time.Millisecond), took.Round(time.Millisecond), r.tr.acked())
}

// partition hurts the links of one node: those that it dialled pass the proxies of the others, those that it accepted its own.
func (r *rig) partition(kind faultKind, victim *harness.Node) {
	rule := harness.Rule{StallIn: true, StallOut: true}
	if kind == cutAny {
		rule = harness.Rule{Cut: true}
	}
	leader := r.c.Leader(r.t.Context(), 0)
	for i, n := range r.c.Nodes {
		switch {
		case kind == oneWay && n == leader && n != victim:
			r.c.Proxies[i].Set(victim.ID, harness.Rule{StallIn: true})
		case kind == oneWay && n == victim && leader != nil && n != leader:
			r.c.Proxies[i].Set(leader.ID, harness.Rule{StallOut: true})
		case kind == oneWay:
		case n == victim:
			r.c.Proxies[i].Set(harness.Everybody, rule)
		default:
			r.c.Proxies[i].Set(victim.ID, rule)
		}
	}
}

// heal waits until the cluster is whole and every publisher got a new acknowledgement.
func (r *rig) heal() time.Duration {
	r.t.Helper()
	start := time.Now()
	for _, n := range r.c.Nodes {
		if err := n.Ready(r.t.Context(), healTimeout); err != nil {
			r.t.Fatal("I27: ", err)
		}
	}
	if err := harness.Until(r.t.Context(), healTimeout, "every group to have a leader", r.led); err != nil {
		r.t.Fatal("I27: ", err)
	}
	took := time.Since(start)
	r.healing = append(r.healing, took)
	before := map[*person]uint64{}
	for _, p := range r.tr.publishers {
		before[p] = p.Acked()
	}
	if err := harness.Until(r.t.Context(), healTimeout, "every publisher to get a new acknowledgement", func(context.Context) error {
		for _, p := range r.tr.publishers {
			if p.Acked() == before[p] {
				return fmt.Errorf("%s got none (connected %v, unanswered %d)", p.ID(), p.Connected(), p.Unanswered())
			}
		}
		return nil
	}); err != nil {
		r.t.Fatal("I27: ", err)
	}
	return took
}

func (r *rig) led(ctx context.Context) error {
	for _, n := range r.c.Nodes {
		groups, err := n.Groups(ctx)
		if err != nil {
			return err
		}
		if len(groups) < 2 {
			return fmt.Errorf("%s knows %d groups", n.ID, len(groups))
		}
		for _, g := range groups {
			if g.Leader == nil {
				return fmt.Errorf("%s knows no leader of group %d", n.ID, g.ID)
			}
		}
	}
	return nil
}

// victim chooses a node; where the leader cannot be told it is any node.
func (r *rig) victim(kind faultKind) *harness.Node {
	leaders := r.c.Leaders(r.t.Context())
	var chosen *harness.Node
	switch kind {
	case killControl, pauseLeader, silenceLeader:
		chosen = leaders[0]
	case killShard, silenceShard:
		var shards []uint32
		for id := range leaders {
			if id != 0 {
				shards = append(shards, id)
			}
		}
		slices.Sort(shards)
		if len(shards) > 0 {
			chosen = leaders[shards[r.rng.IntN(len(shards))]]
		}
	}
	if chosen == nil {
		chosen = r.c.Nodes[r.rng.IntN(len(r.c.Nodes))]
	}
	return chosen
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// wander lets subscribers go offline and come back elsewhere until ctx ends.
func (r *rig) wander(ctx context.Context, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	for ctx.Err() == nil {
		all := append(slices.Clone(r.tr.subscribers), r.tr.passers...)
		s := all[rng.IntN(len(all))]
		s.leave()
		pause(ctx, time.Duration(rng.Int64N(int64(3*time.Second))))
		s.back()
		pause(ctx, time.Duration(rng.Int64N(int64(2*time.Second))))
	}
}

// figures prints what a reader of the run wants to know.
func (r *rig) figures() {
	events := r.tr.rec.Events()
	for _, kind := range faultKinds() {
		gaps := checker.Gaps(events, func(f string) bool { return f == string(kind) })
		if len(gaps) == 0 {
			continue
		}
		var stayed, moved []checker.Gap
		for _, g := range gaps {
			if g.Moved {
				moved = append(moved, g)
			} else {
				stayed = append(stayed, g)
			}
		}
		r.t.Logf("gap between acknowledgements, %s: clients that stayed connected: %s; clients that lost their node: %s",
			kind, checker.Quantiles(stayed), checker.Quantiles(moved))
	}
	slices.Sort(r.healing)
	if n := len(r.healing); n > 0 {
		r.t.Logf("whole again after a fault: p50 %v, max %v of %d", r.healing[n/2].Round(time.Millisecond), r.healing[n-1].Round(time.Millisecond), n)
	}
}

func ids(nodes []*harness.Node) string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.ID)
	}
	return strings.Join(list, " ")
}
