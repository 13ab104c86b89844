package cluster

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// TestTurnsOfNodes: in one round a node has as many turns as members, and a share
// without connected members has none.
func TestTurnsOfNodes(t *testing.T) {
	nodes := []router.ShareNode{{Node: "n1", Members: 3}, {Node: "n2", Members: 1}, {Node: "n3", Members: 2}}
	got := map[string]int{}
	for turn := range uint32(12) {
		got[pickNode(nodes, turn).Node]++
	}
	if fmt.Sprint(got) != "map[n1:6 n2:2 n3:4]" {
		t.Errorf("two rounds give %v", got)
	}
	if pickNode(nil, 7) != nil || pickNode([]router.ShareNode{{Node: "n1"}}, 7) != nil {
		t.Error("a share without members has a turn")
	}
	turns := newShareTurns()
	g := &router.ShareRoute{Name: "g", Filter: "a/#"}
	if a, b := turns.next("t", g), turns.next("t", g); b != a+1 {
		t.Errorf("turns %d, %d", a, b)
	}
}

// TestForwardNamesPicks: a forward says which shares picked the node, and whether
// the plain subscribers get it, too.
func TestForwardNamesPicks(t *testing.T) {
	var got []string
	s := newForwardSink(func() uint64 { return 9 }, func(f *forwarded, m *command.Message) {
		got = append(got, fmt.Sprint(f.tenant, " ", string(m.Topic), " ", f.plain, " ", f.picks))
	})
	b := &laneBatch{}
	plain, picked, both := outgoingOf("a", command.OriginKey{}), outgoingOf("b", command.OriginKey{}), outgoingOf("c", command.OriginKey{Shard: 1, Seq: 5, Low: 2})
	groups := []*router.ShareRoute{{Name: "g", Filter: "b/#"}, {Name: "h", Filter: "+"}}
	b.body = appendForward(b.body, &plain, true, nil)
	b.body = appendForward(b.body, &picked, false, groups)
	b.body = appendForward(b.body, &both, true, groups[1:])
	frame := sealForward(9)(command.BatchHeader{Incarnation: 4, Seq: 1}, b)
	if err := s.handle("n1", frame); err != nil {
		t.Fatal(err)
	}
	if want := "[t a true [] t b false [{g b/#} {h +}] t c true [{h +}]]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	for i := 8; i < len(frame); i++ {
		s := newForwardSink(func() uint64 { return 9 }, func(*forwarded, *command.Message) {})
		_ = s.handle("n1", frame[:i]) // whatever it is, it does not panic
	}
}

// TestNextShard: each shard is named once, for all that it is to do.
func TestNextShard(t *testing.T) {
	durable, shares := []uint32{1, 3, 4}, []uint32{2, 3, 9}
	var got []string
	for len(durable)+len(shares) > 0 {
		var shard uint32
		var flags command.PublishFlags
		shard, flags, durable, shares = nextShard(durable, shares)
		got = append(got, fmt.Sprint(shard, ":", uint32(flags)))
	}
	if fmt.Sprint(got) != "[1:1 2:2 3:3 4:1 9:2]" {
		t.Errorf("got %v", got)
	}
}
