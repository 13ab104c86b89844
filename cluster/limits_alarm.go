package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Names of alarms. They are labels of alarm_active.
const (
	alarmMemory = "memory_high"
	alarmDisk   = "disk_low"
)

// alarm is a condition that operators are told of. set is called by one
// goroutine.
type alarm struct {
	name   string
	active atomic.Bool
	level  atomic.Int64 // what was measured last
	detail atomic.Pointer[string]
	since  atomic.Int64 // unix ms
	looked time.Time
	told   time.Time
	meter  memoryMeter
}

// set raises or clears the alarm; between the two it stays as it is. It tells
// whether that changed anything.
func (a *alarm) set(raise, clear bool, now time.Time) bool {
	on := a.active.Load()
	switch {
	case !on && raise:
		a.since.Store(now.UnixMilli())
		a.active.Store(true)
	case on && clear:
		a.active.Store(false)
	default:
		return false
	}
	return true
}

// Alarm is a condition that an operator should mend.
type Alarm struct {
	Name   string    `json:"name"`
	Node   string    `json:"node"`
	Detail string    `json:"detail"`
	Since  time.Time `json:"since"`
}

// alarms are those of this node.
func (l *limits) alarms() []Alarm {
	var out []Alarm
	for _, a := range []*alarm{&l.memory, &l.disk} {
		if detail := a.detail.Load(); a.active.Load() && detail != nil {
			out = append(out, Alarm{a.name, l.n.id, *detail, time.UnixMilli(a.since.Load()).UTC()})
		}
	}
	return out
}

// diskFree is the space that is left for this node's data.
func (l *limits) diskFree() (int64, error) {
	if measure := l.n.cfg.Limits.DiskFree; measure != nil {
		return measure()
	}
	fs := l.n.cfg.FS
	if fs == nil {
		fs = vfs.Default
	}
	u, err := fs.GetDiskUsage(l.n.cfg.DataDir)
	return int64(min(u.AvailBytes, 1<<62)), err
}

// peerAlarms are the nodes whose disk is full. A message that is taken in here
// is stored there.
type peerAlarms struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu
}

func (p *peerAlarms) note(node string, low bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !low {
		delete(p.until, node)
		return
	}
	if p.until == nil {
		p.until = map[string]time.Time{}
	}
	p.until[node] = now.Add(diskTellFor)
}

func (p *peerAlarms) any(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, until := range p.until {
		if now.Before(until) {
			return true
		}
		delete(p.until, node)
	}
	return false
}

// tell lets the other nodes know when the disk here is full, again while it
// lasts, and once when it is over.
func (l *limits) tell(now time.Time) {
	low := l.disk.active.Load()
	if !low && l.disk.told.IsZero() || low && now.Sub(l.disk.told) < diskTellEvery {
		return
	}
	l.disk.told = now
	if !low {
		l.disk.told = time.Time{}
	}
	for _, id := range otherNodesUp(l.n.control.view(), l.n.id) {
		l.n.spawn(func() {
			ctx, cancel := context.WithTimeout(l.n.ctx, sysTimeout)
			defer cancel()
			_, _ = l.n.query(ctx, id, queryDiskLow, putBool(putBytes(nil, l.n.id), low)) // said again, or it runs out
		})
	}
}

// heard takes what another node said of its disk.
func (l *limits) heard(node string, low bool) {
	now := time.Now()
	l.peers.note(node, low, now)
	l.diskLow.Store(l.disk.active.Load() || l.peers.any(now))
}

// limitMetrics show alarms and who waits.
type limitMetrics struct {
	paused prometheus.Gauge     // publishes that wait for memory
	active *prometheus.GaugeVec // alarms
}

func newLimitMetrics(reg prometheus.Registerer) *limitMetrics {
	m := &limitMetrics{
		paused: prometheus.NewGauge(prometheus.GaugeOpts{Name: "flotilla_publishers_paused", Help: "Connections that are not read because memory is short."}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "flotilla_alarm_active", Help: "1 while an alarm is raised on this node."}, []string{"name"}),
	}
	m.alarm(alarmMemory, false)
	m.alarm(alarmDisk, false)
	if reg != nil {
		reg.MustRegister(m.paused, m.active)
	}
	return m
}

func (m *limitMetrics) alarm(name string, on bool) {
	v := 0.0
	if on {
		v = 1
	}
	m.active.WithLabelValues(name).Set(v)
}
