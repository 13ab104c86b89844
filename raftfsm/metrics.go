package raftfsm

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durationBuckets go from 100 µs to 10 s.
func durationBuckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// hostMetrics are a host's figures. Counters and histograms are fed as things happen; the figures of
// the groups are read from their status at each scrape.
type hostMetrics struct {
	h *Host

	fsync         *prometheus.HistogramVec
	appended      *prometheus.HistogramVec
	commit        *prometheus.HistogramVec
	apply         *prometheus.HistogramVec
	snapshot      *prometheus.HistogramVec
	restore       *prometheus.HistogramVec
	leaderChanges *prometheus.CounterVec

	hasLeader, isLeader, termNow, last, commitIndex, applied, replicas, tolerance *prometheus.Desc
	logBytes, snapBytes, flushLag, peerLag                                        *prometheus.Desc
}

var _ prometheus.Collector = (*hostMetrics)(nil)

// groupMetrics are one group's part of hostMetrics.
type groupMetrics struct {
	appended, commit, apply, snapshot, restore prometheus.Observer
	leaderChanges                              prometheus.Counter
}

func newHostMetrics(h *Host) *hostMetrics {
	hist := func(name, help string, label string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "flotilla", Name: name, Help: help, Buckets: durationBuckets(),
		}, []string{label})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("flotilla_"+name, help, append([]string{"group"}, labels...), nil)
	}
	return &hostMetrics{
		h:        h,
		fsync:    hist("disk_fsync_duration_seconds", "Time of one fsync (of a write, for the votes).", "store"),
		appended: hist("raft_append_duration_seconds", "Time to append entries durably, shared fsync included.", "group"),
		commit:   hist("raft_commit_duration_seconds", "Time from a proposal to its result, on the leader.", "group"),
		apply:    hist("raft_apply_batch_duration_seconds", "Time to apply a batch of committed entries.", "group"),
		snapshot: hist("raft_snapshot_duration_seconds", "Time to take a snapshot.", "group"),
		restore:  hist("raft_restore_duration_seconds", "Time to restore a snapshot of the leader's.", "group"),
		leaderChanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "flotilla", Name: "raft_leader_changes_total", Help: "Leaderships that this replica has begun.",
		}, []string{"group"}),
		hasLeader:   desc("raft_has_leader", "1 if this replica knows a leader of the group."),
		isLeader:    desc("raft_is_leader", "1 if this replica leads the group and admits proposals."),
		termNow:     desc("raft_term", "Current term."),
		last:        desc("raft_last_index", "Index of the last entry in the log or snapshot."),
		commitIndex: desc("raft_commit_index", "Commit index that this replica knows."),
		applied:     desc("raft_applied_index", "Index up to which this replica has applied."),
		replicas:    desc("raft_replicas", "Voters of the group."),
		tolerance:   desc("raft_failure_tolerance", "Voters that may fail without loss of the majority; the leader counts only those that answer and have caught up."),
		logBytes:    desc("raft_log_bytes", "Size of the log."),
		snapBytes:   desc("raft_snapshot_bytes", "Size of the last snapshot that was sent or received."),
		flushLag:    desc("state_flush_lag_entries", "Applied entries behind the last snapshot: what a restart may replay."),
		peerLag:     desc("raft_peer_lag_entries", "Entries that a follower is behind; from the leader only.", "peer"),
	}
}

func (m *hostMetrics) group(id uint32) groupMetrics {
	g := strconv.FormatUint(uint64(id), 10)
	return groupMetrics{
		appended: m.appended.WithLabelValues(g), commit: m.commit.WithLabelValues(g), apply: m.apply.WithLabelValues(g),
		snapshot: m.snapshot.WithLabelValues(g), restore: m.restore.WithLabelValues(g),
		leaderChanges: m.leaderChanges.WithLabelValues(g),
	}
}

func (m *hostMetrics) vecs() []prometheus.Collector {
	return []prometheus.Collector{m.fsync, m.appended, m.commit, m.apply, m.snapshot, m.restore, m.leaderChanges}
}

// Describe implements prometheus.Collector.
func (m *hostMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vecs() {
		v.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{
		m.hasLeader, m.isLeader, m.termNow, m.last, m.commitIndex, m.applied, m.replicas, m.tolerance,
		m.logBytes, m.snapBytes, m.flushLag, m.peerLag,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *hostMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.vecs() {
		v.Collect(ch)
	}
	for _, g := range m.h.openGroups() {
		m.collectGroup(ch, g)
	}
}

func (m *hostMetrics) collectGroup(ch chan<- prometheus.Metric, g *Group) {
	st := g.Status()
	id := strconv.FormatUint(uint64(st.Group), 10)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{id}, labels...)...)
	}
	voters := 0
	for _, mb := range st.Members {
		if mb.Voter {
			voters++
		}
	}
	gauge(m.hasLeader, truth(st.Leader != ""))
	gauge(m.isLeader, truth(g.IsLeader()))
	gauge(m.termNow, float64(st.Term))
	gauge(m.last, float64(st.LastIndex))
	gauge(m.commitIndex, float64(st.Commit))
	gauge(m.applied, float64(st.Applied))
	gauge(m.replicas, float64(voters))
	gauge(m.tolerance, float64(tolerance(&st, g.IsLeader(), 2*g.cfg.Heartbeat)))
	gauge(m.logBytes, float64(st.LogBytes))
	gauge(m.snapBytes, float64(st.SnapshotBytes))
	gauge(m.flushLag, float64(st.Applied-min(st.SnapshotIndex, st.Applied)))
	for _, p := range st.Peers {
		gauge(m.peerLag, float64(p.LagEntries), p.ID)
	}
}

// staleEntries is how far a voter may be behind and still stand in for another.
const staleEntries = 10_000

// tolerance is how many voters may fail. A follower knows only how many there are; the leader knows who answers, so the
// lowest figure of all replicas is the true one.
func tolerance(st *Status, leads bool, silence time.Duration) int {
	voters, sound := 0, 0
	answers := map[string]bool{}
	for _, p := range st.Peers {
		answers[p.ID] = time.Since(p.LastContact) < silence && p.LagEntries < staleEntries
	}
	for _, mb := range st.Members {
		if !mb.Voter {
			continue
		}
		voters++
		if alive, peer := answers[mb.ID]; alive || !peer || !leads {
			sound++
		}
	}
	return max(sound-(voters/2+1), 0)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
