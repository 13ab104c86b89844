package cluster

import "github.com/prometheus/client_golang/prometheus"

// eventMetrics count who listens to events, and what they missed.
type eventMetrics struct {
	streams prometheus.Gauge   // streams that are open on this node
	missed  prometheus.Counter // events that a stream was told that it missed
}

func newEventMetrics(reg prometheus.Registerer) *eventMetrics {
	m := &eventMetrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "flotilla_event_streams", Help: "Event streams that this node serves."}),
		missed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "flotilla_events_missed_total", Help: "Events that readers were too slow for, as far as they can be counted."}),
	}
	if reg != nil {
		reg.MustRegister(m.streams, m.missed)
	}
	return m
}
