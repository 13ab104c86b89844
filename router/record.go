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
	Shares         bool        // a share of this shard has it
	Nodes          []NodeRoute // nodes with connected subscribers
}

// NodeRoute says what a node's connected subscribers of a filter need.
type NodeRoute struct {
	Node        string
	Incarnation uint64
	Any         bool // some subscriber: QoS 0 publishes are forwarded there
	Transient   bool // a subscriber that gets QoS 1 and 2 publishes by forwarding, too
}

// record is what the table keeps of a RouteChange. Records are immutable, and
// equal ones are one: 10^6 filters have some dozens of different records.
type record struct {
	durable, shares bool
	nodes           []NodeRoute // sorted by node; neither empty routes nor a node twice
	refs            int
	key             string
}

// change returns the record as the RouteChange that it came from.
func (r *record) change(tenant, filter string) RouteChange {
	return RouteChange{Tenant: tenant, Filter: filter, Durable: r.durable, Shares: r.shares, Nodes: copied(r.nodes)}
}

// records makes equal records one.
type records struct {
	byKey map[string]*record
	nodes []NodeRoute // scratch
	key   []byte      // scratch
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
	if !c.Durable && !c.Shares && len(rs.nodes) == 0 {
		return nil
	}
	sortNodes(rs.nodes)
	rs.key = append(rs.key[:0], bit(c.Durable)|bit(c.Shares)<<1)
	for _, n := range rs.nodes {
		rs.key = append(rs.key, bit(n.Any)|bit(n.Transient)<<1)
		rs.key = binary.AppendUvarint(rs.key, n.Incarnation)
		rs.key = binary.AppendUvarint(rs.key, uint64(len(n.Node)))
		rs.key = append(rs.key, n.Node...)
	}
	r := rs.byKey[string(rs.key)]
	if r == nil {
		r = &record{durable: c.Durable, shares: c.Shares, nodes: copied(rs.nodes), key: string(rs.key)}
		for i := range r.nodes { // a change may be a view of a received frame
			r.nodes[i].Node = strings.Clone(r.nodes[i].Node)
		}
		if rs.byKey == nil {
			rs.byKey = make(map[string]*record)
		}
		rs.byKey[r.key] = r
	}
	r.refs++
	return r
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

func sortNodes(nodes []NodeRoute) {
	slices.SortFunc(nodes, func(a, b NodeRoute) int { return cmp.Compare(a.Node, b.Node) })
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
