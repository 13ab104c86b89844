package cluster

import (
	"math"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func sysView(up map[string]bool) *state.ControlView {
	v := &state.ControlView{Nodes: map[string]*state.NodeInfo{}}
	for id, is := range up {
		v.Nodes[id] = &state.NodeInfo{Node: command.Node{ID: id}, Up: is}
	}
	return v
}

func sysSampleOf(run int64, connected int, in uint64, shards map[uint32]sysShard) *sysSample {
	return &sysSample{Run: run, Connected: connected, Counters: sysCounters{PublishIn: in}, Shards: shards}
}

// TestSumsOverTheClusterNeverGoBack: what a node said last stands while it does
// not answer, and what its earlier processes counted stays.
func TestSumsOverTheClusterNeverGoBack(t *testing.T) {
	b, now := newSysBook(), time.Now()
	both, one := sysView(map[string]bool{"n1": true, "n2": true}), sysView(map[string]bool{"n1": true, "n2": false})
	step := func(v *state.ControlView, samples map[string]*sysSample, connected int, in uint64, subs int) {
		t.Helper()
		now = now.Add(10 * time.Second)
		b.take(samples, v, now)
		got := b.totals()
		if got.Connected != connected || got.Counters.PublishIn != in || got.Subscriptions != subs {
			t.Errorf("connected %d, publishes %d, subscriptions %d; want %d, %d, %d", got.Connected, got.Counters.PublishIn, got.Subscriptions, connected, in, subs)
		}
	}
	shard := func(term uint64, subs int) map[uint32]sysShard {
		return map[uint32]sysShard{1: {Term: term, Subscriptions: subs}}
	}
	step(both, map[string]*sysSample{"n1": sysSampleOf(1, 5, 100, shard(3, 7)), "n2": sysSampleOf(1, 2, 10, nil)}, 7, 110, 7)
	step(both, map[string]*sysSample{"n1": sysSampleOf(1, 6, 150, shard(3, 8))}, 8, 160, 8)                                          // n2 is slow
	step(one, map[string]*sysSample{"n1": sysSampleOf(1, 6, 150, shard(3, 8))}, 6, 160, 8)                                           // n2 is down: nobody is connected to it
	step(both, map[string]*sysSample{"n1": sysSampleOf(1, 6, 150, shard(3, 8)), "n2": sysSampleOf(2, 1, 4, shard(4, 9))}, 7, 164, 9) // a new process leads
	step(both, map[string]*sysSample{"n1": sysSampleOf(1, 6, 150, shard(3, 1)), "n2": sysSampleOf(2, 1, 4, nil)}, 7, 164, 9)         // the old leader's word is late
	if b.totals().Maximum != 8 {
		t.Errorf("most clients at once %d, want 8", b.totals().Maximum)
	}
}

// TestLoadAverages: a constant rate is its own average, an old one fades, and
// what another node counted before it was known is no burst.
func TestLoadAverages(t *testing.T) {
	b, now := newSysBook(), time.Now()
	v := sysView(map[string]bool{"n1": true, "n2": true})
	in := uint64(0)
	for range 6 * 60 {
		in += 100 // 600 a minute
		now = now.Add(10 * time.Second)
		b.take(map[string]*sysSample{"n1": sysSampleOf(1, 0, in, nil)}, v, now)
	}
	for i, want := range []float64{600, 600, 600 * (1 - math.Exp(-4))} {
		if got := b.loads[i].PublishIn; math.Abs(got-want) > 1 {
			t.Errorf("average %d is %.1f, want %.1f", i, got, want)
		}
	}
	now = now.Add(time.Minute)
	b.take(map[string]*sysSample{"n1": sysSampleOf(1, 0, in, nil), "n2": sysSampleOf(1, 0, 1_000_000, nil)}, v, now)
	if got, want := b.loads[0].PublishIn, 600/math.E; math.Abs(got-want) > 1 {
		t.Errorf("after a quiet minute the average is %.1f, want %.1f", got, want)
	}
	if got := b.totals().Counters.PublishIn; got != in+1_000_000 {
		t.Errorf("sum %d", got)
	}
}
