package cluster

import (
	"math"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// sysBook adds the samples of all nodes up. What a node said last stands until
// it says something else, so that sums of counters never go back.
type sysBook struct {
	nodes   map[string]*sysNode
	shards  map[uint32]sysShard
	maximum int // most clients at once
	loads   sysLoads
	taken   time.Time
}

type sysNode struct {
	last sysSample
	base sysCounters // of the processes before the last one
	up   bool
}

// sysTotals are the sums over the cluster.
type sysTotals struct {
	Connected, Disconnected, Maximum int
	Subscriptions, Retained, Shares  int
	Inflight                         int
	StoredMessages, StoredBytes      uint64
	Expired                          uint64
	Counters                         sysCounters
}

func newSysBook() *sysBook {
	return &sysBook{nodes: map[string]*sysNode{}, shards: map[uint32]sysShard{}}
}

// take notes the samples of one round.
func (b *sysBook) take(samples map[string]*sysSample, v *state.ControlView, now time.Time) {
	var delta sysCounters
	for id, s := range samples {
		n := b.nodes[id]
		switch {
		case n == nil:
			// What it counted before we knew it did not happen just now.
			n = new(sysNode)
			b.nodes[id] = n
		case n.last.Run != s.Run:
			n.base = n.base.plus(n.last.Counters)
			delta = delta.plus(s.Counters)
		default:
			delta = delta.plus(s.Counters.minus(n.last.Counters))
		}
		n.last = *s
		for shard, figures := range s.Shards {
			if old, ok := b.shards[shard]; !ok || figures.Term >= old.Term {
				b.shards[shard] = figures
			}
		}
	}
	for id, n := range b.nodes {
		rec := v.Nodes[id]
		_, answered := samples[id]
		n.up = answered || rec != nil && rec.Up
	}
	if !b.taken.IsZero() {
		b.loads.add(delta, now.Sub(b.taken))
	}
	b.taken = now
	b.maximum = max(b.maximum, b.totals().Connected)
}

func (b *sysBook) totals() sysTotals {
	t := sysTotals{Maximum: b.maximum}
	for _, n := range b.nodes {
		t.Counters = t.Counters.plus(n.base).plus(n.last.Counters)
		if n.up {
			t.Connected += n.last.Connected
			t.Inflight += n.last.Inflight
		}
	}
	for _, s := range b.shards {
		t.Disconnected += s.Offline
		t.Subscriptions += s.Subscriptions
		t.Retained += s.Retained
		t.Shares += s.Shares
		t.Inflight += s.Inbound
		t.StoredMessages += uint64(s.Retained) + s.Inbox
		t.StoredBytes += s.RetainedBytes + s.InboxBytes
		t.Expired += s.Expired
	}
	return t
}

// each calls fn with every pair of counters.
func (c *sysCounters) each(o *sysCounters, fn func(c, o *uint64)) {
	fn(&c.PacketsIn, &o.PacketsIn)
	fn(&c.PacketsOut, &o.PacketsOut)
	fn(&c.PublishIn, &o.PublishIn)
	fn(&c.PublishOut, &o.PublishOut)
	fn(&c.Dropped, &o.Dropped)
	fn(&c.BytesIn, &o.BytesIn)
	fn(&c.BytesOut, &o.BytesOut)
	fn(&c.Connections, &o.Connections)
	fn(&c.Sockets, &o.Sockets)
}

func (c sysCounters) plus(o sysCounters) sysCounters {
	c.each(&o, func(c, o *uint64) { *c += *o })
	return c
}

func (c sysCounters) minus(o sysCounters) sysCounters {
	c.each(&o, func(c, o *uint64) { *c -= min(*c, *o) })
	return c
}

// sysLoads are moving averages of counts a minute, as of a load average: each
// round counts with the weight that its length has in 1, 5 and 15 minutes.
type sysLoads [3]sysLoad

type sysLoad struct {
	PacketsIn, PacketsOut, PublishIn, PublishOut, Dropped float64
	BytesIn, BytesOut, Connections, Sockets               float64
}

// sysLoadSpans name the averages and give their times.
func sysLoadSpans() [3]sysLoadSpan {
	return [3]sysLoadSpan{{"1min", time.Minute}, {"5min", 5 * time.Minute}, {"15min", 15 * time.Minute}}
}

type sysLoadSpan struct {
	name string
	time time.Duration
}

func (l *sysLoads) add(delta sysCounters, took time.Duration) {
	if took <= 0 {
		return
	}
	for i, span := range sysLoadSpans() {
		old := math.Exp(-took.Seconds() / span.time.Seconds())
		avg := func(to *float64, count uint64) {
			perMinute := float64(count) / took.Minutes()
			*to = perMinute + old*(*to-perMinute)
		}
		a := &l[i]
		avg(&a.PacketsIn, delta.PacketsIn)
		avg(&a.PacketsOut, delta.PacketsOut)
		avg(&a.PublishIn, delta.PublishIn)
		avg(&a.PublishOut, delta.PublishOut)
		avg(&a.Dropped, delta.Dropped)
		avg(&a.BytesIn, delta.BytesIn)
		avg(&a.BytesOut, delta.BytesOut)
		avg(&a.Connections, delta.Connections)
		avg(&a.Sockets, delta.Sockets)
	}
}
