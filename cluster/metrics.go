package cluster

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what this room counts. Names are a contract with dashboards.
type metrics struct {
	laneBatchMessages prometheus.Histogram     // commands in one lane batch
	laneResends       *prometheus.CounterVec   // recoveries of a lane, by shard
	leaseHeld         prometheus.Gauge         // 1 while this gateway holds its lease
	leaseLost         prometheus.Counter       // how often it lost it
	forwards          *prometheus.CounterVec   // forward frames, by peer and result
	routesTotal       prometheus.Gauge         // filters in the route table
	ready             prometheus.Gauge         // 1 while /readyz holds
	applyDuration     *prometheus.HistogramVec // of replicated commands, by kind
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		laneBatchMessages: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "flotilla_lane_batch_messages", Help: "Commands in one lane batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)}),
		laneResends:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "flotilla_lane_resends_total", Help: "Times a lane sent its batches again."}, []string{"shard"}),
		leaseHeld:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "flotilla_lease_held", Help: "1 while this gateway holds its lease."}),
		leaseLost:         prometheus.NewCounter(prometheus.CounterOpts{Name: "flotilla_lease_lost_total", Help: "Times this gateway lost its lease."}),
		forwards:          prometheus.NewCounterVec(prometheus.CounterOpts{Name: "flotilla_forward_frames_total", Help: "Forward frames sent to other nodes."}, []string{"peer", "result"}),
		routesTotal:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "flotilla_routes", Help: "Filters in this node's route table."}),
		ready:             prometheus.NewGauge(prometheus.GaugeOpts{Name: "flotilla_ready", Help: "1 while this node is ready to serve clients."}),
		applyDuration:     newApplyDuration(),
	}
	if reg != nil {
		reg.MustRegister(m.laneBatchMessages, m.laneResends, m.leaseHeld, m.leaseLost,
			m.forwards, m.routesTotal, m.ready, m.applyDuration)
	}
	return m
}

func shardLabel(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
