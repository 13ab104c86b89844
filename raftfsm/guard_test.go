package raftfsm_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// nopFSM applies nothing.
type nopFSM struct{}

func (nopFSM) Apply(*raft.Log) any                 { return nil }
func (nopFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("none") }
func (nopFSM) Restore(io.ReadCloser) error         { return errors.New("none") }

// TestG1HeartbeatsPassTheMainLoop shows raft #695 on the stock transport and its absence on ours: a
// heartbeat of term 3 reaches an idle leader of term 2, and then a command. Stock raft raises the term
// beside the main loop, which goes on to write the command as an entry of term 3, a term that another
// node leads.
func TestG1HeartbeatsPassTheMainLoop(t *testing.T) {
	for _, tc := range []struct {
		name  string
		trans func(*raftfsmtest.Network, string) raft.Transport
		racy  bool
	}{
		{"stock", func(net *raftfsmtest.Network, node string) raft.Transport {
			return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: raftfsm.NewGatedLayer(net.Layer(node, 1), node), MaxPool: 1, Timeout: time.Second, Logger: hclog.NewNullLogger(),
			})
		}, true},
		{"guarded", func(net *raftfsmtest.Network, node string) raft.Transport {
			return raftfsm.NewSerialTransport(raftfsm.NewGatedLayer(net.Layer(node, 1), node))
		}, false},
		{"guarded, by the trunk", func(net *raftfsmtest.Network, node string) raft.Transport {
			return newTrunk(t, net, node).Transport(1, net.Layer(node, 1))
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := strayEntries(t, tc.trans)
			// The stock main loop notices the new term in time if it wakes between the two, as it does now and then.
			for tries := 1; tc.racy && got == 0 && tries < 10; tries++ {
				got = strayEntries(t, tc.trans)
			}
			if (got > 0) != tc.racy {
				t.Fatalf("leader of term 2 stored %d entries of term 3, want any: %v", got, tc.racy)
			}
		})
	}
}

// strayEntries runs the scenario of G1 and counts the entries of term 3.
func strayEntries(t *testing.T, mk func(*raftfsmtest.Network, string) raft.Transport) int {
	t.Helper()
	net := raftfsmtest.NewNetwork()
	trans, other := mk(net, "a"), mk(net, "b")
	store := raft.NewInmemStore()
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "a", hclog.NewNullLogger()
	one := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}
	if err := raft.BootstrapCluster(conf, store, store, raft.NewDiscardSnapshotStore(), trans, one); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(conf, nopFSM{}, store, store, raft.NewDiscardSnapshotStore(), trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(r.Shutdown().Error(), other.(raft.WithClose).Close()); err != nil {
			t.Error(err)
		}
	}()
	raftfsmtest.WaitFor(t, "a leader of term 2", func() bool { return r.State() == raft.Leader && r.CommitIndex() >= 2 })
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("b"), Addr: []byte("b")}, Term: 3,
	}
	var resp raft.AppendEntriesResponse
	if err := other.AppendEntries("a", "a", req, &resp); err != nil || !resp.Success {
		t.Fatalf("heartbeat: %+v, %v", resp, err)
	}
	_ = r.Apply([]byte("command"), time.Second).Error()
	last, _ := store.LastIndex()
	stray := 0
	for i := uint64(1); i <= last; i++ {
		var l raft.Log
		if err := store.GetLog(i, &l); err == nil && l.Term == 3 {
			stray++
		}
	}
	return stray
}

// TestPins holds what the guards rely on: the pipeline off (G4), pre-vote on, time format, thresholds
// by bytes, and the versions of raft and its metrics.
func TestPins(t *testing.T) {
	trans, conf := raftfsm.Configs(time.Second)
	if trans.MaxRPCsInFlight != 1 || trans.MsgpackUseNewTimeFormat {
		t.Errorf("transport: %+v", trans)
	}
	if err := raft.ValidateConfig(conf); err != nil {
		t.Error(err)
	}
	if conf.PreVoteDisabled || !conf.BatchApplyCh || !conf.NoLegacyTelemetry || !conf.NoSnapshotRestoreOnStart ||
		conf.HeartbeatTimeout != time.Second || conf.ElectionTimeout != time.Second ||
		conf.LeaderLeaseTimeout < 500*time.Millisecond || conf.LeaderLeaseTimeout > time.Second ||
		conf.SnapshotThreshold < 1<<60 || conf.SnapshotInterval < time.Hour {
		t.Errorf("raft: %+v", conf)
	}
	mod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []string{
		"github.com/hashicorp/raft v1.7.3", "github.com/hashicorp/raft-boltdb/v2 v2.3.1",
		"github.com/hashicorp/go-metrics v0.6.1",
	} {
		if !strings.Contains(string(mod), pin) {
			t.Errorf("go.mod does not pin %s", pin)
		}
	}
}

// TestG3PauseIsNoHang: a process that was stopped in the middle of a write finds the write old when it wakes. It
// hangs only if the watchdog sees it as often as it does in a process that runs.
func TestG3PauseIsNoHang(t *testing.T) {
	for factor, want := range map[int]int{1: 4, 10: 40} {
		if got := raftfsm.LooksBeforeHang(factor); got != want {
			t.Errorf("a call with factor %d hangs at look %d, want %d", factor, got, want)
		}
	}
}

// TestG3WatchdogEndsHungNode hangs a write of votes: Fatal is called within the limit.
func TestG3WatchdogEndsHungNode(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{
		Nodes: 1,
		Host:  func(_ int, cfg *raftfsm.HostConfig) { cfg.WatchdogTimeout = 50 * time.Millisecond },
	})
	defer c.Close()
	c.MustPropose(1, []byte("first"))
	n := c.Nodes[0]
	release := make(chan struct{})
	n.Disk.SetHook(func(op string, _ uint32) error {
		if op == "set" {
			<-release
		}
		return nil
	})
	var once sync.Once
	defer once.Do(func() { close(release) })
	done := make(chan error, 1)
	go func() { done <- raftfsm.RaiseMark(n.Group(1), 1000) }()
	select {
	case <-n.FatalCh():
	case <-time.After(10 * time.Second):
		t.Fatal("watchdog did not end the node")
	}
	if err := n.Fatal(); !errors.Is(err, raftfsm.ErrFailStop) || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("cause: %v", err)
	}
	once.Do(func() { close(release) })
	<-done
	if _, err := raftfsmtest.Propose(n.Group(1), []byte("late")); err == nil {
		t.Error("a failed node acknowledged a proposal")
	}
}
