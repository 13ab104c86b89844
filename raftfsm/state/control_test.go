package state_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
	"github.com/flotilla-mqtt/flotilla/router"
)

// controlRig drives a control machine.
type controlRig struct {
	t     tester
	c     *state.Control
	st    *statetest.MemStore
	index uint64
	log   [][]byte
}

func newControlRig(t tester) *controlRig {
	r := &controlRig{t: t, c: state.NewControl(), st: statetest.NewMemStore()}
	if err := r.c.Load(r.st); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *controlRig) do(cmds ...[]byte) []command.Result {
	r.t.Helper()
	var all []byte
	for _, c := range cmds {
		all = append(all, c...)
	}
	r.index++
	e := command.BuildEntry(nil, &command.Header{Time: int64(r.index)}, command.AppendBatch(nil, &command.BatchHeader{}, all))
	r.log = append(r.log, e)
	res, err := r.c.Apply(r.index, e)
	if err != nil {
		r.t.Fatalf("apply %d: %v", r.index, err)
	}
	out, err := command.DecodeResults(res[0].Results, len(cmds))
	if err != nil || len(out) != len(cmds) {
		r.t.Fatalf("results: %v", err)
	}
	return out
}

func (r *controlRig) one(want command.ResultCode, cmd []byte) command.Result {
	r.t.Helper()
	res := r.do(cmd)[0]
	if res.Code != want {
		r.t.Fatalf("result %v, want %v", res.Code, want)
	}
	return res
}

func (r *controlRig) restart() {
	r.t.Helper()
	r.c = state.NewControl()
	if err := r.c.Load(r.st); err != nil {
		r.t.Fatal(err)
	}
	for i := r.c.Applied(); i < r.index; i++ {
		if _, err := r.c.Apply(i+1, r.log[i]); err != nil {
			r.t.Fatal(err)
		}
	}
}

func up(id string, level uint32) []byte {
	return command.AppendNodeUp(nil, &command.NodeUp{Node: command.Node{ID: id, ClusterAddr: id + ":7400", Roles: []string{"store"}, FeatureLevel: level}})
}

func form(shards uint32, nodes ...string) []byte {
	f := &command.Form{ClusterID: "c1", Shards: shards, Replicas: 3, Settings: []command.Setting{{Key: "inbox.overflow", Value: "refuse"}}}
	for _, id := range nodes {
		f.Nodes = append(f.Nodes, command.Node{ID: id, ClusterAddr: id + ":7400"})
	}
	return command.AppendForm(nil, f)
}

func place(shard uint32, nodes ...string) []byte {
	return command.AppendPlace(nil, &command.Place{Shard: shard, Replicas: nodes})
}

func nodeState(id string, s command.NodeState) []byte {
	return command.AppendSetNodeState(nil, &command.SetNodeState{Node: id, State: s})
}

func set(k, v string) []byte {
	return command.AppendSet(nil, &command.Set{Setting: command.Setting{Key: k, Value: v}})
}

func TestControlLife(t *testing.T) {
	r := newControlRig(t)
	if v := r.c.View(); v.Formed() || v.Shard(0) != 0 {
		t.Fatal("formed without Form")
	}
	r.one(command.Invalid, place(1, "n1"))
	r.one(command.Invalid, form(0, "n1"))
	res := r.do(form(3, "n1", "n2", "n3"), place(1, "n1", "n2"), place(4, "n1"), place(2, "n9"), place(3, "n1", "n1"))
	for i, want := range []command.ResultCode{command.OK, command.OK, command.Invalid, command.Invalid, command.Invalid} {
		if res[i].Code != want {
			t.Fatalf("result %d: %v", i, res[i].Code)
		}
	}
	r.one(command.Duplicate, form(5, "n1"))
	v := r.c.View()
	if v.Shards != 3 || v.Nodes["n2"].Status() != "down" || v.Nodes["n2"].State != command.NodeReady || v.Settings["inbox.overflow"] != "refuse" {
		t.Fatalf("view %+v", v)
	}
	counts := map[uint32]int{}
	for slot := range router.Slots {
		counts[v.Shard(uint16(slot))]++
	}
	if d := cmp.Diff(map[uint32]int{1: 1366, 2: 1365, 3: 1365}, counts); d != "" {
		t.Fatal(d)
	}

	first := r.one(command.OK, up("n1", 2)).Incarnation
	second := r.one(command.OK, up("n1", 2)).Incarnation
	if first != r.index-1 || second != r.index {
		t.Fatalf("incarnations %d and %d at index %d", first, second, r.index)
	}
	both := r.do(up("n1", 2), up("n1", 2)) // twice in one entry still differs
	if both[0].Incarnation >= both[1].Incarnation {
		t.Fatalf("incarnations %+v", both)
	}
	down := func(inc uint64) []byte {
		return command.AppendNodeDown(nil, &command.NodeDown{Node: "n1", Incarnation: inc})
	}
	r.one(command.StaleEpoch, down(second))
	if r.c.View().Nodes["n1"].Status() != "ready" {
		t.Fatal("the loss of an old process marked the new one down")
	}
	r.one(command.OK, down(both[1].Incarnation))
	if r.c.View().Nodes["n1"].Status() != "down" {
		t.Fatal("not down")
	}
	r.one(command.Invalid, up("n4", 1)) // nobody admitted it
	r.one(command.OK, admit("n4", nil))
	r.one(command.OK, up("n4", 1))
	if r.c.View().Nodes["n4"].Status() != "joining" {
		t.Fatal("a new node does not begin as joining")
	}
	r.one(command.OK, nodeState("n4", command.NodeReady))
	r.one(command.UnknownNode, nodeState("n5", command.NodeReady))
	r.one(command.Invalid, nodeState("n4", 99))
	r.one(command.OK, nodeState("n4", command.NodeRemoved))
	r.one(command.Invalid, up("n4", 1)) // I25: an id never comes back
	r.one(command.Invalid, nodeState("n4", command.NodeReady))
	r.one(command.OK, set("k", "v"))
	r.one(command.OK, set("inbox.overflow", ""))
	r.one(command.Invalid, set("", "v"))

	want := r.c.View()
	_, digest := r.c.Digest()
	for range 2 {
		if err := r.c.WriteBack(); err != nil {
			t.Fatal(err)
		}
		r.restart()
		got := *r.c.View()
		got.Clock = want.Clock
		if d := cmp.Diff(*want, got); d != "" {
			t.Fatalf("after a restart (-want +got):\n%s", d)
		}
		if _, d := r.c.Digest(); d != digest {
			t.Fatal("digest differs after a restart")
		}
	}
}

// A view never changes, and its pointer only when something did.
func TestControlViewIsImmutable(t *testing.T) {
	r := newControlRig(t)
	r.do(form(2, "n1", "n2"))
	v := r.c.View()
	before := fmt.Sprintf("%+v %+v %+v", *v, *v.Nodes["n1"], v.Settings)
	r.one(command.OK, set("inbox.overflow", "refuse"))
	r.one(command.OK, nodeState("n1", command.NodeReady))
	if r.c.View() != v {
		t.Fatal("a new view of the same state")
	}
	r.do(up("n1", 1), set("a", "b"), place(1, "n1"), nodeState("n2", command.NodeDraining))
	if after := fmt.Sprintf("%+v %+v %+v", *v, *v.Nodes["n1"], v.Settings); after != before || r.c.View() == v {
		t.Fatalf("the old view changed: %s", after)
	}
}

// I20: random commands with random write-backs and restarts: same digest, same view.
func TestControlRestarts_I20(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain, other := newControlRig(t), newControlRig(t)
		node := rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"})
		for range rapid.IntRange(1, 40).Draw(t, "entries") {
			var cmd []byte
			switch rapid.IntRange(0, 5).Draw(t, "command") {
			case 0:
				cmd = form(uint32(rapid.IntRange(1, 9).Draw(t, "shards")), "n1", "n2", "n3")
			case 1:
				cmd = up(node.Draw(t, "node"), uint32(rapid.IntRange(0, 3).Draw(t, "level")))
			case 2:
				cmd = command.AppendNodeDown(nil, &command.NodeDown{Node: node.Draw(t, "node"), Incarnation: rapid.Uint64Range(1, 40).Draw(t, "incarnation")})
			case 3:
				cmd = nodeState(node.Draw(t, "node"), command.NodeState(rapid.IntRange(1, 6).Draw(t, "state")))
			case 4:
				cmd = place(uint32(rapid.IntRange(1, 5).Draw(t, "shard")), node.Draw(t, "a"), node.Draw(t, "b"))
			default:
				cmd = set(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "value"))
			}
			a, b := plain.do(cmd), other.do(cmd)
			if d := cmp.Diff(a, b); d != "" {
				t.Fatalf("results differ:\n%s", d)
			}
			if rapid.IntRange(0, 2).Draw(t, "write back") == 0 {
				if err := other.c.WriteBack(); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.IntRange(0, 2).Draw(t, "restart") == 0 {
				other.restart()
			}
			_, one := plain.c.Digest()
			_, two := other.c.Digest()
			if one != two {
				t.Fatal("digests differ")
			}
			v, w := *plain.c.View(), *other.c.View()
			if !slices.Equal(v.Slots, w.Slots) {
				t.Fatal("slots differ")
			}
			v.Clock, w.Clock, v.Slots, w.Slots = 0, 0, nil, nil
			if d := cmp.Diff(v, w); d != "" {
				t.Fatalf("views differ:\n%s", d)
			}
		}
	})
}
