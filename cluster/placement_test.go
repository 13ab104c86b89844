package cluster

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// placementView is a cluster of ready store nodes with shards placed as at its formation.
func placementView(shards, replicas int, nodes ...string) *state.ControlView {
	v := &state.ControlView{
		ClusterID: "c", Shards: uint32(shards), Replicas: uint32(replicas), Nodes: map[string]*state.NodeInfo{}, Placement: map[uint32][]string{},
	}
	for _, id := range nodes {
		addNode(v, id, "")
	}
	for s := 1; s <= shards; s++ {
		v.Placement[uint32(s)] = placeShard(nodes, s, replicas)
	}
	return v
}

func addNode(v *state.ControlView, id, zone string) {
	v.Nodes[id] = &state.NodeInfo{Node: command.Node{ID: id, Roles: []string{RoleGateway, RoleStore}, Zone: zone}, Up: true, State: command.NodeReady, Incarnation: 1}
}

// settle runs a plan and checks each of its steps: one replica at a time, and never fewer than before until the new
// one is there.
func settle(t rapid.TB, p *placer) []move {
	t.Helper()
	moves := p.plan()
	for _, m := range moves {
		before := p.v.Placement[m.shard]
		if (m.add == "") == (m.drop == "") {
			t.Fatalf("%+v changes more or less than one replica", m)
		}
		if m.add != "" && (contains(before, m.add) || !p.hosts(m.add) || len(m.replicas) != len(before)+1) {
			t.Fatalf("%+v on %v", m, before)
		}
		if m.drop != "" && (!contains(before, m.drop) || len(m.replicas) != len(before)-1 || len(m.replicas) == 0) {
			t.Fatalf("%+v on %v", m, before)
		}
		p.v.Placement[m.shard] = m.replicas
	}
	if m, ok := p.next(); ok {
		t.Fatalf("the plan does not end: %+v after %d steps", m, len(moves))
	}
	return moves
}

func TestPlacementGrowsAndShrinks(t *testing.T) {
	v := placementView(8, 3, "n1")
	p := &placer{v: v}
	if moves := settle(t, p); len(moves) != 0 {
		t.Fatalf("one node: %v", moves)
	}
	check := func(want map[string]int) {
		t.Helper()
		settle(t, p)
		if d := cmp.Diff(want, p.counts()); d != "" {
			t.Fatalf("replicas per node (-want +got):\n%s", d)
		}
	}
	addNode(v, "n2", "")
	addNode(v, "n3", "")
	check(map[string]int{"n1": 8, "n2": 8, "n3": 8})
	addNode(v, "n4", "")
	addNode(v, "n5", "")
	check(map[string]int{"n1": 5, "n2": 5, "n3": 5, "n4": 5, "n5": 4})
	v.Nodes["n2"].State = command.NodeRemoving
	v.Nodes["n3"].Up, v.Nodes["n3"].State = false, command.NodeRemoving
	check(map[string]int{"n1": 8, "n4": 8, "n5": 8})
	v.Nodes["n4"].State = command.NodeRemoving // fewer nodes than replicas: they shrink
	check(map[string]int{"n1": 8, "n5": 8})
}

// TestPlacementLeavesTheDeadAlone: a node that is down keeps its replicas until it is removed, or lost for good.
func TestPlacementLeavesTheDeadAlone(t *testing.T) {
	v := placementView(4, 3, "n1", "n2", "n3", "n4")
	v.Nodes["n2"].Up = false
	p := &placer{v: v}
	for _, m := range settle(t, p) {
		if m.drop == "n2" || m.add == "n2" {
			t.Errorf("%+v", m)
		}
	}
	p.lost = map[string]bool{"n2": true}
	settle(t, p)
	for shard, nodes := range v.Placement {
		if contains(nodes, "n2") || len(nodes) != 3 {
			t.Errorf("shard %d is on %v", shard, nodes)
		}
	}
}

// TestPlacementKeepsTheLastReplica: with nowhere to go a leaving node keeps what nobody else has.
func TestPlacementKeepsTheLastReplica(t *testing.T) {
	v := placementView(2, 1, "n1", "n2")
	v.Nodes["n1"].State = command.NodeRemoving
	v.Nodes["n2"].Up = false
	p := &placer{v: v}
	settle(t, p)
	if !slices.Equal(v.Placement[1], []string{"n1"}) {
		t.Errorf("shard 1 is on %v", v.Placement[1])
	}
}

func TestPlacementPrefersTheReplacement(t *testing.T) {
	v := placementView(6, 3, "n1", "n2", "n3", "n4", "n5")
	addNode(v, "n6", "")
	v.Nodes["n1"].State = command.NodeRemoving
	had := 0
	for _, nodes := range v.Placement {
		if contains(nodes, "n1") {
			had++
		}
	}
	p := &placer{v: v, prefer: "n6"}
	settle(t, p)
	if got := p.counts()["n6"]; got < had {
		t.Errorf("n6 has %d replicas, n1 had %d", got, had)
	}
}

// TestPlacementInvariants: whatever happens to the nodes, plans end, and then every shard has its replicas on
// different nodes that stay, over as many zones as there are, evenly.
func TestPlacementInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := rapid.IntRange(0, 3).Draw(t, "zones")
		zone := func(i int) string {
			if zones == 0 {
				return ""
			}
			return fmt.Sprint("z", i%zones)
		}
		v := placementView(rapid.IntRange(1, 12).Draw(t, "shards"), rapid.IntRange(1, 5).Draw(t, "replicas"), "n0", "n1", "n2")
		for i := range 3 {
			v.Nodes[fmt.Sprint("n", i)].Zone = zone(i)
		}
		p := &placer{v: v, lost: map[string]bool{}}
		for i := 3; i < 3+rapid.IntRange(1, 8).Draw(t, "events"); i++ {
			if rapid.Bool().Draw(t, "join") {
				addNode(v, fmt.Sprint("n", i), zone(i))
			} else if ids := slices.Sorted(maps.Keys(v.Nodes)); len(ids) > 1 {
				rec := v.Nodes[rapid.SampledFrom(ids).Draw(t, "node")]
				switch rapid.IntRange(0, 3).Draw(t, "event") {
				case 0:
					rec.State = command.NodeRemoving
				case 1:
					rec.Up = false
				case 2:
					rec.Up, p.lost[rec.ID] = false, true
				case 3:
					rec.Up = true
					delete(p.lost, rec.ID)
				}
			}
			settle(t, p)
			counts := p.counts()
			able := map[string]bool{}
			for id := range v.Nodes {
				able[id] = p.hosts(id)
			}
			for shard, nodes := range v.Placement {
				stay := slices.DeleteFunc(slices.Clone(nodes), p.leaving)
				for id, ok := range able {
					if ok && len(stay) < int(v.Replicas) && !contains(nodes, id) {
						t.Fatalf("shard %d is on %v, and %s is free", shard, nodes, id)
					}
				}
				if len(stay) > int(v.Replicas) || len(stay) > 0 && len(stay) < len(nodes) {
					t.Fatalf("shard %d is on %v of which %v stay, want %d", shard, nodes, stay, v.Replicas)
				}
			}
			_ = counts
		}
	})
}

func TestControlVoters(t *testing.T) {
	v := placementView(1, 3, "n1", "n2", "n3", "n4", "n5", "n6", "n7")
	for n, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 5: 5, 6: 5, 7: 5} {
		w := *v
		w.Nodes = map[string]*state.NodeInfo{}
		for i := 1; i <= n; i++ {
			id := fmt.Sprint("n", i)
			w.Nodes[id] = v.Nodes[id]
		}
		if got := controlVoters(&w, map[string]bool{}); len(got) != want {
			t.Errorf("%d nodes: %d voters, want %d", n, len(got), want)
		}
	}
	voting := map[string]bool{"n3": true, "n4": true, "n5": true, "n6": true, "n7": true}
	if d := cmp.Diff(voting, controlVoters(v, voting)); d != "" {
		t.Errorf("voters changed for no reason:\n%s", d)
	}
	down := *v.Nodes["n5"]
	down.Up = false
	v.Nodes["n5"] = &down
	if got := controlVoters(v, voting); got["n5"] || len(got) != 5 {
		t.Errorf("a dead voter keeps its vote although others could have it: %v", got)
	}
	leaving := *v.Nodes["n3"]
	leaving.State = command.NodeRemoving
	v.Nodes["n3"] = &leaving
	if got := controlVoters(v, voting); got["n3"] {
		t.Errorf("a node that leaves votes: %v", got)
	}
}
