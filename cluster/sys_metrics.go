package cluster

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// sysMetrics are figures that are taken now and then.
type sysMetrics struct {
	matching prometheus.Observer // some of the matches

	mu    sync.Mutex
	waits map[*lead]feedWait // guarded by mu
}

// feedWait is a change of routes that some gateway was seen to lack.
type feedWait struct {
	index uint64
	since time.Time
}

func newSysMetrics(reg prometheus.Registerer) *sysMetrics {
	matching := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "flotilla_topic_match_duration_seconds", Help: "Matching one topic, for some of the publishes.",
		Buckets: prometheus.ExponentialBuckets(1e-7, 4, 12),
	})
	m := &sysMetrics{matching: matching, waits: map[*lead]feedWait{}}
	if reg != nil {
		reg.MustRegister(matching)
	}
	return m
}

// matchSample: messages of one millisecond in so many are timed. The message's
// own time chooses, so that nothing is shared on the hot path.
const matchSample = 32

// match looks a topic up.
func (m *sysMetrics) match(t *router.Table, tenant string, msg *command.Message) *router.Match {
	if msg.PublishedAt%matchSample != 0 {
		return t.Match(tenant, msg.Topic)
	}
	began := time.Now()
	found := t.Match(tenant, msg.Topic)
	m.matching.Observe(time.Since(began).Seconds())
	return found
}

// behind returns for how long a change of routes of a shard has been on its way
// to some gateway, as far as it was looked at.
func (m *sysMetrics) behind(l *lead) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.waits {
		if l.n.leading(other.shard) != other {
			delete(m.waits, other) // it leads no more
		}
	}
	lowest, last := l.feed.reached()
	w, ok := m.waits[l]
	if ok && lowest >= w.index {
		delete(m.waits, l)
		ok = false
	}
	if lowest >= last {
		return 0
	}
	if !ok {
		w = feedWait{last, time.Now()}
		m.waits[l] = w
	}
	return time.Since(w.since)
}

// reached is the index that every gateway has applied, and the last there is.
func (f *feed) reached() (lowest, last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lowest = f.last
	for _, s := range f.subs {
		if !s.synced {
			lowest = 0
		} else {
			lowest = min(lowest, s.acked)
		}
	}
	return lowest, f.last
}
