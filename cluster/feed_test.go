package cluster

import (
	"errors"
	"fmt"
	"testing"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/router"
)

// fakeGateways collects frames and answers them when told.
type fakeGateways struct {
	frames []sentFrame
}

type sentFrame struct {
	node  string
	frame routeFrame
	done  func(error)
}

func (g *fakeGateways) sendRoutes(node string, f routeFrame, done func(error)) {
	g.frames = append(g.frames, sentFrame{node, f, done})
}

// answer replies to every frame for node and returns how many there were.
func (g *fakeGateways) answer(node string, err error) int {
	var rest, mine []sentFrame
	for _, f := range g.frames {
		if f.node == node {
			mine = append(mine, f)
		} else {
			rest = append(rest, f)
		}
	}
	g.frames = rest
	for _, f := range mine {
		f.done(err)
	}
	return len(mine)
}

func change(filter string) []router.RouteChange {
	return []router.RouteChange{{Filter: filter, Durable: true}}
}

func newTestFeed(g *fakeGateways, applied uint64) *feed {
	return newFeed(1, 3, applied, g, func() (uint64, []router.RouteChange) { return applied, change("dump") }, zap.NewNop())
}

func waited(f *feed, index uint64) *error {
	unset := errors.New("still waiting")
	got := &unset
	f.wait(index, func(err error) { *got = err })
	return got
}

// TestFeedWaitsForEveryGateway_I5: a SUBACK waits for each gateway that is up,
// and not for one that went down.
func TestFeedWaitsForEveryGateway_I5(t *testing.T) {
	g := new(fakeGateways)
	f := newTestFeed(g, 10)
	f.setGateways(map[string]uint64{"a": 1, "b": 1}, true)
	g.answer("a", nil)
	g.answer("b", nil)
	f.publish(11, change("x"))
	w := waited(f, 11)
	g.answer("a", nil)
	if *w == nil {
		t.Fatal("answered before gateway b had applied the route")
	}
	f.setGateways(map[string]uint64{"a": 1}, true) // b is marked down
	if *w != nil {
		t.Fatalf("still waits for a gateway that is down: %v", *w)
	}
	if w := waited(f, 11); *w != nil {
		t.Fatal("a filter that is routed everywhere must wait for nobody")
	}
}

// TestFeedNewLeaderWaitsForTheDump_I5: what the leader before had under way is
// waited for, although this leader has sent no change yet (case 5).
func TestFeedNewLeaderWaitsForTheDump_I5(t *testing.T) {
	g := new(fakeGateways)
	f := newTestFeed(g, 10)
	f.setGateways(map[string]uint64{"a": 1}, false)
	w := waited(f, 9)
	g.answer("a", nil)
	if *w == nil {
		t.Fatal("answered before the set of gateways was read linearizably")
	}
	f.setGateways(map[string]uint64{"a": 1, "b": 4}, true)
	if *w == nil {
		t.Fatal("answered before a gateway that the view revealed had the dump")
	}
	g.answer("b", nil)
	if *w != nil {
		t.Fatalf("did not answer after all gateways had the dump: %v", *w)
	}
}

// TestFeedBrokenGatewayGetsADump_I20: after an error nothing counts until a
// whole dump was applied, so that no change is skipped.
func TestFeedBrokenGatewayGetsADump_I20(t *testing.T) {
	g := new(fakeGateways)
	f := newTestFeed(g, 10)
	f.setGateways(map[string]uint64{"a": 1}, true)
	g.answer("a", nil)
	f.publish(11, change("x"))
	f.publish(12, change("y"))
	first, second := g.frames[0], g.frames[1]
	g.frames = nil
	first.done(errors.New("link broke"))
	second.done(nil) // the answer to a later change must not hide the loss
	if w := waited(f, 12); *w == nil {
		t.Fatal("a lost change was taken as applied")
	}
	f.retryUnsynced()
	if len(g.frames) != 1 || !g.frames[0].frame.Reset {
		t.Fatalf("want one dump, got %d frames", len(g.frames))
	}
}

// TestFeedChangeNeverOvertakesADump: changes that are applied while a dump is
// on its way follow it.
func TestFeedChangeNeverOvertakesADump(t *testing.T) {
	g := new(fakeGateways)
	var f *feed
	f = newFeed(1, 3, 10, g, func() (uint64, []router.RouteChange) {
		f.publish(11, change("x")) // applied by the log while the dump is taken
		return 10, change("dump")
	}, zap.NewNop())
	f.setGateways(map[string]uint64{"a": 1}, true)
	var order []string
	for _, s := range g.frames {
		order = append(order, fmt.Sprint(s.frame.Index, s.frame.Reset))
	}
	if got, want := fmt.Sprint(order), "[10 true 11 false]"; got != want {
		t.Fatalf("frames went out as %s, want %s", got, want)
	}
}

// TestRoutesRefuseOlderLeaders: frames of a deposed leader, of another
// incarnation, and changes without a dump are refused.
func TestRoutesRefuseOlderLeaders(t *testing.T) {
	r := newRoutes()
	r.expect(2)
	r.begin(5)
	steps := []struct {
		name string
		f    routeFrame
		ok   bool
	}{
		{"change before the dump", routeFrame{Shard: 1, Term: 2, Incarnation: 5, Index: 8, Changes: change("a"), Last: true}, false},
		{"dump for another incarnation", routeFrame{Shard: 1, Term: 2, Incarnation: 4, Index: 8, Reset: true, Last: true}, false},
		{"first part of a dump", routeFrame{Shard: 1, Term: 2, Incarnation: 5, Index: 8, Reset: true, Changes: change("a")}, true},
		{"last part of a dump", routeFrame{Shard: 1, Term: 2, Incarnation: 5, Index: 8, Last: true, Changes: change("b")}, true},
		{"change", routeFrame{Shard: 1, Term: 2, Incarnation: 5, Index: 9, Last: true, Changes: change("c")}, true},
		{"change of an older leader", routeFrame{Shard: 1, Term: 1, Incarnation: 5, Index: 10, Last: true, Changes: change("d")}, false},
		{"change of a newer leader without its dump", routeFrame{Shard: 1, Term: 3, Incarnation: 5, Index: 10, Last: true, Changes: change("e")}, false},
	}
	for _, s := range steps {
		if err := r.handle(&s.f); (err == nil) != s.ok {
			t.Fatalf("%s: got %v", s.name, err)
		}
	}
	for topic, want := range map[string]bool{"a": true, "b": true, "c": true, "d": false, "e": false} {
		if got := len(r.table.Match("", []byte(topic)).Durable) > 0; got != want {
			t.Errorf("topic %s is routed: %v, want %v", topic, got, want)
		}
	}
	if r.missing() != 1 || r.whole.Load() {
		t.Errorf("missing %d of 2 shards, want 1; whole %v", r.missing(), r.whole.Load())
	}
	if err := r.handle(&routeFrame{Shard: 2, Term: 1, Incarnation: 5, Index: 1, Reset: true, Last: true}); err != nil || !r.whole.Load() {
		t.Errorf("the view is not whole after the last dump: %v", err)
	}
	r.begin(6) // a new incarnation must be synchronised before it routes
	if r.whole.Load() {
		t.Error("the view of the last incarnation counts for the next")
	}
}

func TestRouteFrameRoundTrip(t *testing.T) {
	in := routeFrame{Shard: 3, Term: 9, Incarnation: 77, Index: 1 << 40, Reset: true, Changes: []router.RouteChange{
		{Tenant: "t", Filter: "a/+", Durable: true, Nodes: []router.NodeRoute{{Node: "n1", Incarnation: 5, Any: true}, {Node: "n2", Incarnation: 6, Transient: true}}},
		{Filter: "#", Groups: []router.ShareGroup{{Name: "g", Nodes: []router.ShareNode{{Node: "n1", Incarnation: 5, Members: 3}}}, {Name: "h"}}},
	}}
	raw := appendRouteFrame(nil, &in)
	out, err := decodeRouteFrame(raw)
	if err != nil || fmt.Sprint(out) != fmt.Sprint(in) {
		t.Fatalf("got %v, %v\nwant %v", out, err, in)
	}
	for i := range raw {
		if _, err := decodeRouteFrame(raw[:i]); err == nil {
			t.Fatalf("a frame cut at byte %d was accepted", i)
		}
	}
}
