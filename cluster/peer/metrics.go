package peer

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// collector reads the counters of the links when they are asked for, so that
// counting costs the links nothing more.
type collector struct {
	l   *Links
	reg prometheus.Registerer

	up, queued, pending, rtt *prometheus.Desc
	frames, bytes, writes    *prometheus.Desc
	breaks, dropped, unknown *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

func register(l *Links) *collector {
	peer := []string{"peer"}
	dir := []string{"peer", "dir"}
	desc := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc("flotilla_peer_"+name, help, labels, nil)
	}
	c := &collector{
		l: l, reg: l.o.Registerer,
		up:      desc("link_up", "1 while the outgoing link to a node is established.", peer),
		queued:  desc("queued_bytes", "Bytes that wait to be written to a node.", peer),
		pending: desc("pending_calls", "Calls that wait for a node's reply.", peer),
		rtt:     desc("rtt_seconds", "Latest round trip of a heartbeat to a node, queues included.", peer),
		frames:  desc("frames_total", "Frames on the outgoing link to a node, by direction.", dir),
		bytes:   desc("bytes_total", "Bytes on the outgoing link to a node, by direction.", dir),
		writes:  desc("writes_total", "Write calls on the outgoing link to a node.", peer),
		breaks:  desc("link_breaks_total", "Established links to a node that broke.", peer),
		dropped: desc("frames_dropped_total", "Frames that were queued for a node when its link broke.", peer),
		unknown: desc("frames_unknown_total", "One-way frames of kinds that this node does not know.", nil),
	}
	if c.reg == nil {
		return c
	}
	if err := c.reg.Register(c); err != nil {
		var are prometheus.AlreadyRegisteredError
		if !errors.As(err, &are) || !c.reg.Unregister(are.ExistingCollector) || c.reg.Register(c) != nil {
			l.lg.Warn("peer metrics are not registered", zap.Error(err))
		}
	}
	return c
}

func (c *collector) unregister() {
	if c.reg != nil {
		c.reg.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.queued, c.pending, c.rtt, c.frames, c.bytes, c.writes, c.breaks, c.dropped, c.unknown} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	counter(c.unknown, c.l.unknown.Load())
	for _, s := range c.l.Stats() {
		up := 0.0
		if s.Up {
			up = 1
		}
		gauge(c.up, up, s.Node)
		gauge(c.queued, float64(s.QueuedBytes), s.Node)
		gauge(c.pending, float64(s.PendingCalls), s.Node)
		gauge(c.rtt, s.RTT.Seconds(), s.Node)
		counter(c.frames, s.FramesSent, s.Node, "out")
		counter(c.frames, s.FramesReceived, s.Node, "in")
		counter(c.bytes, s.BytesSent, s.Node, "out")
		counter(c.bytes, s.BytesReceived, s.Node, "in")
		counter(c.writes, s.Writes, s.Node)
		counter(c.breaks, s.Breaks, s.Node)
		counter(c.dropped, s.Dropped, s.Node)
	}
}
