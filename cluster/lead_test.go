package cluster

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

func TestGoneOwners_I6(t *testing.T) {
	node := func(inc uint64, up bool) *state.NodeInfo {
		return &state.NodeInfo{Incarnation: inc, Up: up}
	}
	view := &state.ControlView{Nodes: map[string]*state.NodeInfo{"up": node(5, true), "down": node(6, false), "again": node(9, true)}}
	got := goneOwners(view, []state.OwnerCount{
		{Node: "up", Incarnation: 5},
		{Node: "up", Incarnation: 7}, // the view is older
		{Node: "down", Incarnation: 6},
		{Node: "again", Incarnation: 8},
		{Node: "removed", Incarnation: 3},
	})
	if want := []ownerKey{{"down", 6}, {"again", 8}, {"removed", 3}}; !slices.Equal(got, want) {
		t.Errorf("gone: %v, want %v", got, want)
	}
}

// leaderAlways is a proposer whose merger never runs.
type leaderAlways struct{}

func (leaderAlways) Propose([]byte, func(any, uint64, error)) {}
func (leaderAlways) IsLeader() bool                           { return true }

// TestUninformedLeader_I6 checks that a leader which has not heard from the control group since its
// election declares nobody lost: its view may be that of a log which is still replayed.
func TestUninformedLeader_I6(t *testing.T) {
	mach := state.NewShard(1, state.Options{})
	if err := mach.Load(statetest.NewMemStore()); err != nil {
		t.Fatal(err)
	}
	connect := command.AppendConnect(nil, &command.Connect{Key: command.SessionKey{ClientID: "c"}, Node: "n1", Incarnation: 5})
	entry := command.BuildEntry(nil, &command.Header{Time: 1}, command.AppendBatch(nil, &command.BatchHeader{}, connect))
	if _, _, err := mach.Apply(1, entry); err != nil {
		t.Fatal(err)
	}
	n := &Node{control: &control{mach: state.NewControl()}}
	l := &lead{
		n: n, mach: mach, feed: newFeed(1, 1, 0, n, nil, zap.NewNop()), lostAt: map[ownerKey]time.Time{},
		merge: newMerger("n1", leaderAlways{}, n.now, 1<<20),
	}
	l.followView(false)
	if len(l.merge.queue) != 0 {
		t.Fatal("a node that is not in an old view is declared lost")
	}
	l.informed.Store(true)
	l.followView(false)
	if len(l.merge.queue) != 1 {
		t.Fatal("the loss of a node is not proposed")
	}
}

// TestLaneStale checks that a lane tells when a shard takes its incarnation for gone, and only then.
func TestLaneStale(t *testing.T) {
	var heard []uint64
	l := newLane(1, "n1", nil, sealBatch, 0, newMetrics(nil))
	l.stale = func(inc uint64) { heard = append(heard, inc) }
	l.reset(7, nil)
	old := l.gen
	b := &laneBatch{}
	l.returned(b, old, command.BatchResult{Code: command.Gap}, 1, nil)
	l.returned(b, l.gen, command.BatchResult{Code: command.StaleIncarnation}, 2, ErrNoLeader)
	if heard != nil {
		t.Fatalf("heard %v of a gap and of an error", heard)
	}
	l.returned(b, old, command.BatchResult{Code: command.StaleIncarnation}, 3, nil)
	if heard != nil {
		t.Fatalf("heard %v of a batch that was sent before", heard)
	}
	l.returned(b, l.gen, command.BatchResult{Code: command.StaleIncarnation}, 4, nil)
	if !slices.Equal(heard, []uint64{7}) {
		t.Errorf("heard %v", heard)
	}
}
