package router

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// RouteChange is the full record of one filter in one shard; it replaces the
// record before it. A record without anything takes the route away.
type RouteChange struct {
	Tenant, Filter string      // plain filter: that of a share stands without $share and name
	Durable        bool        // a durable session has it with QoS 1 or 2, connected or not
	Nodes          []NodeRoute // nodes with connected subscribers
	Groups         []ShareGroup
}

// NodeRoute says what a node's connected subscribers of a filter need.
type NodeRoute struct {
	Node        string
	Incarnation uint64
	Any         bool // some subscriber: QoS 0 publishes are forwarded there
	Transient   bool // a subscriber that gets QoS 1 and 2 publishes by forwarding, too
}

// ShareGroup is a share of a filter that lives in the shard of the record. One
// without connected members is there, too: its queue takes what is published.
type ShareGroup struct {
	Name  string
	Nodes []ShareNode // nodes with connected members
}

// ShareNode says how many connected members of a share a node has.
type ShareNode struct {
	Node        string
	Incarnation uint64
	Members     uint32
}

// record is what the table keeps of a RouteChange. Records are immutable, and
// equal ones are one: 10^6 filters have some dozens of different records.
type record struct {
	durable bool
	nodes   []NodeRoute  // sorted by node; neither empty routes nor a node twice
	groups  []ShareGroup // sorted by name, each with nodes like those above
	refs    int
	key     string
}

// change returns the record as the RouteChange that it came from.
func (r *record) change(tenant, filter string) RouteChange {
	c := RouteChange{Tenant: tenant, Filter: filter, Durable: r.durable, Nodes: copied(r.nodes)}
	for _, g := range r.groups {
		c.Groups = append(c.Groups, ShareGroup{g.Name, copied(g.Nodes)})
	}
	return c
}

// hidden are the nodes of the record that were dropped, each once.
func (r *record) hidden(dead map[string]uint64) (names []string) {
	add := func(node string, incarnation uint64) {
		if incarnation <= dead[node] && !slices.Contains(names, node) {
			names = append(names, node)
		}
	}
	for _, n := range r.nodes {
		add(n.Node, n.Incarnation)
	}
	for _, g := range r.groups {
		for _, n := range g.Nodes {
			add(n.Node, n.Incarnation)
		}
	}
	return names
}

// records makes equal records one.
type records struct {
	byKey  map[string]*record
	nodes  []NodeRoute  // scratch
	groups []ShareGroup // scratch
	key    []byte       // scratch
}

// intern returns the record of c and counts a reference to it, or nil if c
// takes its route away.
func (rs *records) intern(c *RouteChange) *record {
	rs.nodes = rs.nodes[:0]
	for _, n := range c.Nodes {
		if n.Any || n.Transient {
			rs.nodes = mergeNode(rs.nodes, n)
		}
	}
	if !c.Durable && len(c.Groups) == 0 && len(rs.nodes) == 0 {
		return nil
	}
	sortNodes(rs.nodes)
	rs.mergeGroups(c.Groups)
	rs.spellKey(c.Durable)
	r := rs.byKey[string(rs.key)]
	if r == nil {
		r = &record{durable: c.Durable, nodes: copied(rs.nodes), groups: copied(rs.groups), key: string(rs.key)}
		for i := range r.nodes { // a change may be a view of a received frame
			r.nodes[i].Node = strings.Clone(r.nodes[i].Node)
		}
		for i := range r.groups {
			g := &r.groups[i]
			g.Name = strings.Clone(g.Name)
			for k := range g.Nodes { // mergeGroups has made the slice
				g.Nodes[k].Node = strings.Clone(g.Nodes[k].Node)
			}
		}
		if rs.byKey == nil {
			rs.byKey = make(map[string]*record)
		}
		rs.byKey[r.key] = r
	}
	r.refs++
	return r
}

// mergeGroups gathers the groups of a change: each name once, each node once.
func (rs *records) mergeGroups(groups []ShareGroup) {
	clear(rs.groups)
	rs.groups = rs.groups[:0]
	for _, c := range groups {
		i := slices.IndexFunc(rs.groups, func(g ShareGroup) bool { return g.Name == c.Name })
		if i < 0 {
			i = len(rs.groups)
			rs.groups = append(rs.groups, ShareGroup{Name: c.Name})
		}
		for _, n := range c.Nodes {
			if n.Members > 0 {
				rs.groups[i].Nodes = mergeShareNode(rs.groups[i].Nodes, n)
			}
		}
	}
	for _, g := range rs.groups {
		slices.SortFunc(g.Nodes, func(a, b ShareNode) int { return cmp.Compare(a.Node, b.Node) })
	}
	slices.SortFunc(rs.groups, func(a, b ShareGroup) int { return cmp.Compare(a.Name, b.Name) })
}

// spellKey writes what is gathered as a key that no other record has.
func (rs *records) spellKey(durable bool) {
	b := append(rs.key[:0], bit(durable))
	name := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = binary.AppendUvarint(b, uint64(len(rs.nodes)))
	for _, n := range rs.nodes {
		b = append(b, bit(n.Any)|bit(n.Transient)<<1)
		b = binary.AppendUvarint(b, n.Incarnation)
		name(n.Node)
	}
	for _, g := range rs.groups {
		name(g.Name)
		b = binary.AppendUvarint(b, uint64(len(g.Nodes)))
		for _, n := range g.Nodes {
			b = binary.AppendUvarint(b, n.Incarnation)
			b = binary.AppendUvarint(b, uint64(n.Members))
			name(n.Node)
		}
	}
	rs.key = b
}

// drop takes a reference back.
func (rs *records) drop(r *record) {
	if r.refs--; r.refs == 0 {
		delete(rs.byKey, r.key)
	}
}

// mergeNode adds n to nodes, or its bits to the same node there. Of two
// incarnations the higher one stands: the older one has no clients any more, and
// a copy too much does no harm.
func mergeNode(nodes []NodeRoute, n NodeRoute) []NodeRoute {
	for i := range nodes {
		if have := &nodes[i]; have.Node == n.Node {
			have.Incarnation = max(have.Incarnation, n.Incarnation)
			have.Any = have.Any || n.Any
			have.Transient = have.Transient || n.Transient
			return nodes
		}
	}
	return append(nodes, n)
}

// mergeShareNode adds n to nodes. Of two incarnations the higher one stands, with
// its members alone: those of the older one are gone, and a pick of them would be
// a message that nobody gets.
func mergeShareNode(nodes []ShareNode, n ShareNode) []ShareNode {
	for i := range nodes {
		if have := &nodes[i]; have.Node == n.Node {
			switch {
			case n.Incarnation > have.Incarnation:
				*have = n
			case n.Incarnation == have.Incarnation:
				have.Members += n.Members
			}
			return nodes
		}
	}
	return append(nodes, n)
}

func sortNodes(nodes []NodeRoute) {
	slices.SortFunc(nodes, func(a, b NodeRoute) int { return cmp.Compare(a.Node, b.Node) })
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
