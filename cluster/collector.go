package cluster

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// stateCollector reports replicated state at each scrape. Only a shard's leader
// counts it, so that sums over nodes are right.
type stateCollector struct {
	n     *Node
	descs map[string]*prometheus.Desc
}

func newStateCollector(n *Node) *stateCollector {
	c := &stateCollector{n: n, descs: map[string]*prometheus.Desc{}}
	for name, d := range map[string]struct {
		help   string
		labels []string
	}{
		"sessions":                  {"Sessions in shards that this node leads.", []string{"state"}},
		"subscriptions":             {"Subscriptions in shards that this node leads.", nil},
		"retained_messages":         {"Retained messages in shards that this node leads.", nil},
		"retained_bytes":            {"Bytes of retained messages in shards that this node leads.", nil},
		"inbox_messages":            {"Messages that wait in inboxes of shards that this node leads.", nil},
		"inbox_bytes":               {"Bytes that wait in inboxes of shards that this node leads.", nil},
		"lane_queued_bytes":         {"Bytes that wait in the lane to a shard.", []string{"shard"}},
		"route_feed_behind":         {"Gateways that have not applied the latest routes of a shard led here.", []string{"shard"}},
		"originated_messages":       {"Wills and released QoS 2 messages that wait for their targets.", nil},
		"state_hot_bytes":           {"Inbox bytes that this node's replicas keep in memory.", nil},
		"state_dirty_bytes":         {"State that this node's replicas have not written back.", nil},
		"inbox_full_sessions":       {"Sessions whose inbox is full, in shards that this node leads.", nil},
		"route_feed_lag_seconds":    {"How long gateways have been without the latest routes of a shard led here.", []string{"shard"}},
		"shares":                    {"Shared subscriptions in shards that this node leads.", nil},
		"node_state":                {"1 for the state of this node.", []string{"state"}},
		"disk_free_bytes":           {"Space that is left for this node's data.", nil},
		"build_info":                {"1; the labels say what runs.", []string{"version", "commit", "go"}},
		"awaiting_release_messages": {"Inbound QoS 2 messages that wait for PUBREL, in shards that this node leads.", nil},
	} {
		c.descs[name] = prometheus.NewDesc("flotilla_"+name, d.help, d.labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, name := range sortedKeys(c.descs) {
		ch <- c.descs[name]
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v, labels...)
	}
	var led, local state.Stats
	for _, r := range c.n.allReplicas() {
		st := r.mach.Stats()
		local.HotBytes += st.HotBytes
		local.DirtyBytes += st.DirtyBytes
		l := c.n.leading(r.id)
		if l == nil {
			continue
		}
		addStats(&led, &st)
		gauge("route_feed_behind", float64(l.feed.lag()), shardLabel(r.id))
		gauge("route_feed_lag_seconds", c.n.sys.met.behind(l).Seconds(), shardLabel(r.id))
	}
	c.peers()
	for _, l := range c.n.allLanes() {
		gauge("lane_queued_bytes", float64(l.queued()), shardLabel(l.shard))
	}
	gauge("sessions", float64(led.Connected), "connected")
	gauge("sessions", float64(led.Sessions-led.Connected), "offline")
	gauge("subscriptions", float64(led.Subscriptions))
	gauge("retained_messages", float64(led.RetainedMessages))
	gauge("retained_bytes", float64(led.RetainedBytes))
	gauge("shares", float64(led.Shares))
	gauge("inbox_messages", float64(led.InboxMessages))
	gauge("inbox_bytes", float64(led.InboxBytes))
	gauge("originated_messages", float64(led.Originated))
	gauge("inbox_full_sessions", float64(led.FullSessions))
	gauge("awaiting_release_messages", float64(led.Inbound))
	gauge("state_hot_bytes", float64(local.HotBytes))
	gauge("state_dirty_bytes", float64(local.DirtyBytes))
	c.n.countStateDrops()
	c.node(gauge)
}

// peers makes the series of forwards to each member, so that whoever asks for an increase sees the first one. Series whose
// labels are known before are made with what counts them: a scrape collects side by side, and the first one might miss them here.
func (c *stateCollector) peers() {
	n := c.n
	for id := range n.control.view().Nodes {
		if id != n.id {
			n.met.forwards.WithLabelValues(id, "ok")
			n.met.forwards.WithLabelValues(id, "error")
		}
	}
}

func addStats(sum, st *state.Stats) {
	sum.Sessions += st.Sessions
	sum.Connected += st.Connected
	sum.Subscriptions += st.Subscriptions
	sum.Shares += st.Shares
	sum.RetainedMessages += st.RetainedMessages
	sum.RetainedBytes += st.RetainedBytes
	sum.InboxMessages += st.InboxMessages
	sum.InboxBytes += st.InboxBytes
	sum.FullSessions += st.FullSessions
	sum.Originated += st.Originated
	sum.Inbound += st.Inbound
}
