package cluster

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

// atLevel is a node of a cluster whose nodes know no more than a feature level, with one lane.
func atLevel(t *testing.T, level uint32) (*Node, *lane) {
	t.Helper()
	mach := state.NewControl()
	if err := mach.Load(statetest.NewMemStore()); err != nil {
		t.Fatal(err)
	}
	up := command.AppendNodeUp(nil, &command.NodeUp{Node: command.Node{ID: "n1", ClusterAddr: "n1:7400", FeatureLevel: level}})
	if _, err := mach.Apply(1, command.BuildEntry(nil, &command.Header{Time: 1}, command.AppendBatch(nil, &command.BatchHeader{}, up))); err != nil {
		t.Fatal(err)
	}
	n := &Node{control: &control{mach: mach}}
	if got := n.control.view().FeatureLevel; got != level {
		t.Fatalf("the cluster is at level %d, want %d", got, level)
	}
	l := newLane(1, "n1", nil, sealBatch, 0, newMetrics(nil))
	l.reset(7, nil)
	n.incarnation.Store(7)
	n.lanes.Store(&[]*lane{nil, l})
	slots := make([]uint32, 1<<16)
	for i := range slots {
		slots[i] = 1
	}
	n.slots.Store(&slots)
	return n, l
}

// TestRetainedFenceNeedsItsLevel: publishes name the epoch of their publisher from the feature level on at which all nodes know
// it, and not before: a machine of an older program would not know the field, and come to another state.
func TestRetainedFenceNeedsItsLevel(t *testing.T) {
	for level, want := range map[uint32]uint64{featureRetainedFence - 1: 0, featureRetainedFence: 42, knownFeatureLevel: 42} {
		n, l := atLevel(t, level)
		m := command.Message{Topic: []byte("t"), Retain: true, Epoch: 42}
		if err := n.storeRetained(&outgoing{msg: &m, raw: m.Append(nil)}, command.ToRetained, func(command.Result, uint64, error) {}); err != nil {
			t.Fatal(err)
		}
		b, err := command.DecodeBatch(command.AppendBatch(nil, &command.BatchHeader{}, l.open.body))
		if err != nil {
			t.Fatal(err)
		}
		it := b.Commands()
		var c command.Command
		var got command.Publish
		if ok, err := it.Next(&c); !ok || err != nil || got.Decode(c.Payload) != nil {
			t.Fatalf("level %d: the lane holds %x (%v)", level, l.open.body, err)
		}
		if got.Epoch != want {
			t.Errorf("level %d: a publish names epoch %d, want %d", level, got.Epoch, want)
		}
	}
}
