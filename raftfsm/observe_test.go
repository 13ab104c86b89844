package raftfsm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestNoLinePerEntry applies many entries and counts the lines that the logger saw.
func TestNoLinePerEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Logger: zap.New(core), NoOracle: true})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		<-time.After(time.Second)
		logs.TakeAll()
		g := c.Leader(1).Group(1)
		answers := make(chan error, 10_000)
		for i := range cap(answers) {
			g.Propose([]byte(fmt.Sprintf("entry %d", i)), func(_ any, _ uint64, err error) { answers <- err })
		}
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Fatal(err)
			}
		}
		c.WaitEqual(1)
		if lines := logs.TakeAll(); len(lines) > 10 { // a connection may be opened
			t.Errorf("%d lines over %d entries, the first: %v", len(lines), cap(answers), lines[0])
		}
	})
}

// TestUnreachablePeerDoesNotFlood cuts a follower off for long: raft complains at each heartbeat, the
// log does not.
func TestUnreachablePeerDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Logger: zap.New(core)})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		away := c.Nodes[(c.Leader(1).Index+1)%3]
		c.Stop(away.Index)
		logs.TakeAll()
		const seconds = 60
		<-time.After(seconds * time.Second)
		perMessage := map[string]int{}
		for _, l := range logs.TakeAll() {
			perMessage[l.Message]++
		}
		for msg, n := range perMessage {
			if n > 20*seconds {
				t.Errorf("%q %d times in %d s", msg, n, seconds)
			}
		}
	})
}

// TestHCLog maps raft's lines.
func TestHCLog(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	lg := raftfsm.NewHCLogger(zap.New(core))
	lg.Named("sub").With("k", "v").Error("gone wrong", "err", errors.New("why"), "odd")
	lg.Warn("careful", "f", hclog.Fmt("%d-%d", 1, 2))
	lg.Info("routine")
	lg.Trace("nothing")
	all := logs.All()
	if len(all) != 3 || all[0].Level != zapcore.WarnLevel || all[1].Level != zapcore.InfoLevel || all[2].Level != zapcore.DebugLevel {
		t.Fatalf("lines %v", all)
	}
	if m := all[0].ContextMap(); m["k"] != "v" || m["err"] != "why" || m["extra"] != "odd" {
		t.Errorf("fields %v", m)
	}
	if m := all[1].ContextMap(); m["f"] != "1-2" {
		t.Errorf("fields %v", m)
	}
	if lg.StandardLogger(nil) == nil || lg.StandardWriter(nil) == nil || lg.IsTrace() || !lg.IsError() {
		t.Error("adapter is incomplete")
	}
}

// TestMetrics scrapes a host and holds the names of the contract.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Host: func(node int, cfg *raftfsm.HostConfig) {
			if node == 0 {
				cfg.Registerer = reg
			}
		}})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		if l := c.Leader(1); l.Index != 0 {
			if err := l.Group(1).TransferLeadership(testCtx(t), "n1"); err != nil {
				t.Fatal(err)
			}
		}
		c.MustPropose(1, []byte("y"))
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				v := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				values[f.GetName()] += v
			}
		}
		for _, name := range strings.Fields(`raft_has_leader raft_is_leader raft_leader_changes_total raft_term
			raft_last_index raft_commit_index raft_applied_index raft_replicas raft_failure_tolerance raft_log_bytes
			raft_commit_duration_seconds disk_fsync_duration_seconds raft_append_duration_seconds`) {
			if values["flotilla_"+name] <= 0 {
				t.Errorf("flotilla_%s is %v", name, values["flotilla_"+name])
			}
		}
		for _, name := range []string{"raft_snapshot_bytes", "state_flush_lag_entries", "raft_peer_lag_entries"} {
			if _, ok := values["flotilla_"+name]; !ok {
				t.Errorf("flotilla_%s is missing", name)
			}
		}
		if n := values["flotilla_raft_replicas"]; n != 3 {
			t.Errorf("%v replicas", n)
		}
	})
}

// TestStopDuringInstall closes a host while it receives a snapshot, and one while it sends it.
func TestStopDuringInstall(t *testing.T) {
	for _, which := range []string{"sender", "receiver"} {
		t.Run(which, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small})
				defer c.Close()
				fill(t, c, 1, "a", 20)
				c.WaitEqual(1)
				leader := c.Leader(1)
				away := c.Nodes[(leader.Index+1)%3]
				c.Stop(away.Index)
				fill(t, c, 1, "b", 300)
				leader = c.Leader(1)
				if err := leader.Group(1).Snapshot(testCtx(t)); err != nil {
					t.Fatal(err)
				}
				c.Net.SetDelay(leader.ID, away.ID, 2*time.Second) // the stream is under way for long
				c.Start(away.Index)
				<-time.After(2500 * time.Millisecond)
				start := time.Now()
				if which == "sender" {
					c.Stop(leader.Index)
				} else {
					c.Stop(away.Index)
				}
				if d := time.Since(start); d > time.Second {
					t.Errorf("stopping took %v", d)
				}
			})
		})
	}
}
