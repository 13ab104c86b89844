package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// applySample: of publishes and acknowledgements, which are most of what a shard does, one in so many is measured.
const applySample = 16

func newApplyDuration() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "flotilla_fsm_apply_duration_seconds",
		Help: "Time to apply one replicated command; of publishes and acknowledgements one in 16 is measured.",
		// A command takes microseconds; what takes longer than a heartbeat delays an election.
		Buckets: []float64{1e-6, 5e-6, 25e-6, 1e-4, 5e-4, .0025, .01, .05, .25, 1, 10},
	}, []string{"command"})
}

// applyMeter measures the commands of one machine. It belongs to the apply goroutine of its group.
type applyMeter struct {
	vec   *prometheus.HistogramVec
	base  time.Time
	seen  map[command.Kind]prometheus.Observer
	count uint32
}

var _ state.Meter = (*applyMeter)(nil)

func newApplyMeter(vec *prometheus.HistogramVec) *applyMeter {
	return &applyMeter{vec: vec, base: time.Now(), seen: map[command.Kind]prometheus.Observer{}}
}

// Begin implements state.Meter.
func (m *applyMeter) Begin(k command.Kind) int64 {
	if k == command.KindPublish || k == command.KindAck {
		if m.count++; m.count%applySample != 1 {
			return 0
		}
	}
	return int64(time.Since(m.base)) + 1
}

// End implements state.Meter.
func (m *applyMeter) End(k command.Kind, began int64) {
	if began == 0 {
		return
	}
	took := int64(time.Since(m.base)) + 1 - began
	o := m.seen[k]
	if o == nil {
		o = m.vec.WithLabelValues(k.String())
		m.seen[k] = o
	}
	o.Observe(time.Duration(took).Seconds())
}

// beginEntry is Begin for an entry of the control group, whose commands are of one kind nearly always: the first gives the name.
func (m *applyMeter) beginEntry(raw []byte) (k command.Kind, began int64) {
	k, ok := firstKind(raw)
	if !ok {
		return 0, 0
	}
	return k, m.Begin(k)
}

func firstKind(raw []byte) (command.Kind, bool) {
	e, err := command.DecodeEntry(raw)
	if err != nil {
		return 0, false
	}
	var b command.Batch
	if ok, err := e.Next(&b); err != nil || !ok {
		return 0, false
	}
	it := b.Commands()
	var c command.Command
	ok, err := it.Next(&c)
	return c.Kind, ok && err == nil
}
