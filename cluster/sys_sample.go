package cluster

import (
	runtimemetrics "runtime/metrics"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// sysSample is what a node says of itself for the sums over the cluster.
type sysSample struct {
	// Run tells one process of a node from the next, whose counters begin at 0.
	Run       int64 `json:"run"`
	UptimeS   int64 `json:"uptime_s"`
	Connected int   `json:"connected"`
	Inflight  int   `json:"inflight"`
	HeapBytes int64 `json:"heap_bytes"`
	// Counters are of this process.
	Counters sysCounters `json:"counters"`
	// Shards are those that the node leads: the leader's word counts.
	Shards map[uint32]sysShard `json:"shards"`
}

// sysCounters only grow while a process lives.
type sysCounters struct {
	PacketsIn   uint64 `json:"packets_in"`
	PacketsOut  uint64 `json:"packets_out"`
	PublishIn   uint64 `json:"publish_in"`
	PublishOut  uint64 `json:"publish_out"`
	Dropped     uint64 `json:"dropped"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	Connections uint64 `json:"connections"` // with a session
	Sockets     uint64 `json:"sockets"`     // with and without one
}

// sysShard are figures of a shard. Its counters are replicated, and so go on
// with the next leader.
type sysShard struct {
	Term          uint64 `json:"term"`
	Offline       int    `json:"offline"`
	Subscriptions int    `json:"subscriptions"`
	Retained      int    `json:"retained"`
	RetainedBytes uint64 `json:"retained_bytes"`
	Inbox         uint64 `json:"inbox"`
	InboxBytes    uint64 `json:"inbox_bytes"`
	Expired       uint64 `json:"expired"`
	Shares        int    `json:"shares"`
	Inbound       int    `json:"inbound"`
}

func (s *sysTopics) sample() *sysSample {
	st := s.n.server.Stats()
	out := &sysSample{
		Run: s.began.UnixNano(), UptimeS: int64(time.Since(s.began) / time.Second), Connected: st.Connections, Inflight: st.Inflight,
		HeapBytes: heapBytes(), Counters: s.counters(), Shards: map[uint32]sysShard{},
	}
	for _, l := range s.n.ledShards() {
		shard := l.mach.Stats()
		out.Shards[l.shard] = sysShardOf(l.term, &shard)
	}
	return out
}

func sysShardOf(term uint64, st *state.Stats) sysShard {
	return sysShard{
		Term: term, Offline: st.Sessions - st.Connected, Subscriptions: st.Subscriptions,
		Retained: st.RetainedMessages, RetainedBytes: st.RetainedBytes, Inbox: st.InboxMessages, InboxBytes: st.InboxBytes,
		Inbound: st.Inbound, Shares: st.Shares, Expired: st.SessionsExpired,
	}
}

// counters reads the session server's metrics back: one count, two readers.
func (s *sysTopics) counters() sysCounters {
	families, err := s.metrics.Gather()
	if err != nil {
		return sysCounters{} // an inconsistent metric: no sums rather than wrong ones
	}
	sums := make(map[string]uint64, len(families))
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += uint64(m.GetCounter().GetValue())
		}
	}
	opened := sums["flotilla_connections_opened_total"]
	return sysCounters{
		PacketsIn: sums["flotilla_packets_received_total"], PacketsOut: sums["flotilla_packets_sent_total"],
		PublishIn: sums["flotilla_publish_received_total"], PublishOut: sums["flotilla_publish_delivered_total"],
		Dropped: sums["flotilla_messages_dropped_total"],
		BytesIn: sums["flotilla_bytes_received_total"], BytesOut: sums["flotilla_bytes_sent_total"],
		Connections: opened, Sockets: opened + sums["flotilla_connect_rejected_total"],
	}
}

// heapBytes is what the heap holds, garbage included.
func heapBytes() int64 {
	s := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(s)
	if s[0].Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}
	return int64(s[0].Value.Uint64())
}

// tee registers what the session server counts with reg (nil for none), and
// where the samples read it.
func (s *sysTopics) tee(reg prometheus.Registerer) prometheus.Registerer {
	if reg == nil {
		return s.metrics
	}
	return teeRegisterer{reg, s.metrics}
}

// teeRegisterer registers everything twice.
type teeRegisterer struct {
	prometheus.Registerer
	own *prometheus.Registry
}

// MustRegister implements prometheus.Registerer.
func (t teeRegisterer) MustRegister(cs ...prometheus.Collector) {
	t.Registerer.MustRegister(cs...)
	t.own.MustRegister(cs...)
}

// Register implements prometheus.Registerer.
func (t teeRegisterer) Register(c prometheus.Collector) error {
	if err := t.Registerer.Register(c); err != nil {
		return err
	}
	return t.own.Register(c)
}
