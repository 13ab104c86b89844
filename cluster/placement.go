package cluster

import (
	"cmp"
	"maps"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Where replicas should be. Everything here is a function of the control group's view and of who counts as lost, so
// that any leader comes to the same next step, and the next one can go on where this one stopped. A move is two steps:
// add a replica elsewhere, and, once it has caught up, take the old one away.

// move is one change of a shard's placement.
type move struct {
	shard    uint32
	replicas []string // from now on
	add      string   // what is new in it, or
	drop     string   // what is gone
	why      string
}

// placer knows what a plan needs to know.
type placer struct {
	v *state.ControlView
	// lost are nodes that have been down for so long that their replicas are rebuilt elsewhere.
	lost map[string]bool
	// prefer takes what a leaving node has, if it can: node replace.
	prefer string
	// paused: nothing is moved only to spread replicas evenly.
	paused bool
}

// hosts says that a node may get new replicas.
func (p *placer) hosts(id string) bool {
	rec := p.v.Nodes[id]
	return rec != nil && rec.Up && rec.State == command.NodeReady && hasRole(rec.Roles, RoleStore)
}

// leaving says that a node's replicas are to go.
func (p *placer) leaving(id string) bool {
	rec := p.v.Nodes[id]
	return rec == nil || rec.State == command.NodeRemoving || rec.State == command.NodeRemoved || p.lost[id]
}

// counts is how many replicas each node has that stays.
func (p *placer) counts() map[string]int {
	n := map[string]int{}
	for id := range p.v.Nodes {
		if p.hosts(id) {
			n[id] = 0
		}
	}
	for _, nodes := range p.v.Placement {
		for _, id := range nodes {
			if !p.leaving(id) {
				n[id]++
			}
		}
	}
	return n
}

// next is the next step towards the placement that should be, false if there is none.
func (p *placer) next() (move, bool) {
	counts := p.counts()
	shards := slices.Sorted(maps.Keys(p.v.Placement))
	for _, shard := range shards { // first what is missing
		if m, ok := p.repair(shard, counts); ok {
			return m, true
		}
	}
	for _, shard := range shards { // then what is too much
		if m, ok := p.trim(shard, counts); ok {
			return m, true
		}
	}
	if p.paused {
		return move{}, false
	}
	return p.balance(shards, counts)
}

// repair adds a replica to a shard that has too few on nodes that stay.
func (p *placer) repair(shard uint32, counts map[string]int) (move, bool) {
	cur := p.v.Placement[shard]
	stay := slices.DeleteFunc(slices.Clone(cur), p.leaving)
	if len(stay) >= int(p.v.Replicas) {
		return move{}, false
	}
	to := p.choose(cur, stay, counts)
	if to == "" {
		return move{}, false
	}
	return move{shard: shard, replicas: append(slices.Clone(cur), to), add: to, why: "has too few replicas"}, true
}

// trim takes away what is on leaving nodes, and what is more than there should be.
func (p *placer) trim(shard uint32, counts map[string]int) (move, bool) {
	cur := p.v.Placement[shard]
	var stay, gone []string
	for _, id := range cur {
		if p.leaving(id) {
			gone = append(gone, id)
		} else {
			stay = append(stay, id)
		}
	}
	switch {
	case len(gone) > 0 && len(stay) > 0:
		slices.Sort(gone)
		return p.without(shard, gone[0], "its node leaves"), true
	case len(stay) > int(p.v.Replicas):
		return p.without(shard, p.surplus(stay, counts), "has a replica too many"), true
	}
	return move{}, false
}

func (p *placer) without(shard uint32, id, why string) move {
	left := slices.DeleteFunc(slices.Clone(p.v.Placement[shard]), func(have string) bool { return have == id })
	return move{shard: shard, replicas: left, drop: id, why: why}
}

// surplus is the replica that a shard misses least: one in a zone that has another, on the node with most replicas.
func (p *placer) surplus(nodes []string, counts map[string]int) string {
	return slices.MinFunc(nodes, func(a, b string) int {
		return cmp.Or(cmp.Compare(p.zoneShare(b, nodes), p.zoneShare(a, nodes)), cmp.Compare(counts[b], counts[a]), cmp.Compare(b, a))
	})
}

// zoneShare is how many of nodes are in a node's zone.
func (p *placer) zoneShare(id string, nodes []string) int {
	n := 0
	for _, other := range nodes {
		if p.zone(other) == p.zone(id) {
			n++
		}
	}
	return n
}

func (p *placer) zone(id string) string {
	if rec := p.v.Nodes[id]; rec != nil && rec.Zone != "" {
		return rec.Zone
	}
	return "\x00" + id // no zone: every node is one of its own
}

// choose is the node that should get a replica of a shard: in a zone that has none, with few replicas.
func (p *placer) choose(cur, stay []string, counts map[string]int) string {
	best := ""
	better := func(a, b string) bool {
		return cmp.Or(cmp.Compare(p.zoneShare(a, stay), p.zoneShare(b, stay)), cmp.Compare(counts[a], counts[b]), cmp.Compare(a, b)) < 0
	}
	for id := range counts {
		switch {
		case !p.hosts(id) || contains(cur, id):
		case id == p.prefer:
			return id
		case best == "" || better(id, best):
			best = id
		}
	}
	return best
}

// balance moves a replica from the node that has most to the one that has least, if that is two less, and the zones do
// not become worse. It adds only: the shard then has one too many, and trim takes the right one.
func (p *placer) balance(shards []uint32, counts map[string]int) (move, bool) {
	var hosts []string
	for id := range counts {
		if p.hosts(id) {
			hosts = append(hosts, id)
		}
	}
	if len(hosts) < 2 {
		return move{}, false
	}
	byCount := func(a, b string) int { return cmp.Or(cmp.Compare(counts[a], counts[b]), cmp.Compare(a, b)) }
	low, high := slices.MinFunc(hosts, byCount), slices.MaxFunc(hosts, byCount)
	if counts[high]-counts[low] < 2 {
		return move{}, false
	}
	for _, shard := range shards {
		cur := p.v.Placement[shard]
		if !contains(cur, high) || contains(cur, low) {
			continue
		}
		after := append(p.without(shard, high, "").replicas, low)
		if p.zoneShare(low, after) > p.zoneShare(high, cur) {
			continue
		}
		return move{shard: shard, replicas: append(slices.Clone(cur), low), add: low, why: "spreads replicas evenly"}, true
	}
	return move{}, false
}

// plan is every step until nothing is left to do, for --dry-run and for tests. It applies each step to a copy of the
// placement as if it had succeeded.
func (p *placer) plan() []move {
	v := *p.v
	v.Placement = maps.Clone(v.Placement)
	sim := placer{v: &v, lost: p.lost, prefer: p.prefer}
	var moves []move
	for range 4 * len(v.Placement) * (len(v.Nodes) + 1) {
		m, ok := sim.next()
		if !ok {
			break
		}
		moves = append(moves, m)
		v.Placement[m.shard] = m.replicas
	}
	return moves
}

// controlVoters says which members of the control group should vote: at most five, an odd number from three on, and
// those that vote already stay.
func controlVoters(v *state.ControlView, voting map[string]bool) map[string]bool {
	var able []string
	for id, rec := range v.Nodes {
		if rec.State == command.NodeReady || rec.State == command.NodeDraining || rec.State == command.NodeDrained {
			able = append(able, id)
		}
	}
	want := min(len(able), maxControlVoters)
	if want > 2 && want%2 == 0 {
		want--
	}
	// Who votes comes first, then who is up; so a dead voter gives its vote up once there is somebody else.
	rank := func(id string) int {
		switch up := v.Nodes[id].Up; {
		case voting[id] && up:
			return 0
		case up:
			return 1
		case voting[id]:
			return 2
		}
		return 3
	}
	slices.SortFunc(able, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	out := map[string]bool{}
	for _, id := range able[:want] {
		out[id] = true
	}
	return out
}

func contains(list []string, id string) bool { return slices.Contains(list, id) }
