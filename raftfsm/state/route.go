package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/router"
)

// route counts the subscribers of one filter in this shard: what the gateways'
// route tables are fed with.
type route struct {
	tenant  *tenant
	filter  string
	subs    int32 // all subscriptions
	durable int32 // of durable sessions, with QoS above 0
	touched bool  // in the list of the entry that is being applied
	nodes   []routeNode
	groups  []*session // shares, sorted by name
}

// routeNode counts the connected subscribers on a process of a node.
type routeNode struct {
	owner          *owner
	any, transient int32
}

// touchedRoute is a route as it was before the entry that is being applied.
type touchedRoute struct {
	r   *route
	was router.RouteChange
}

// routeOf finds or makes the record of a filter.
func (s *Shard) routeOf(t *tenant, filter string) *route {
	r := t.routes[filter]
	if r == nil {
		r = &route{tenant: t, filter: strings.Clone(filter)}
		t.routes[r.filter] = r
	}
	return r
}

func (s *Shard) touchRoute(r *route) {
	if r.touched {
		return
	}
	r.touched = true
	s.touchedRoutes = append(s.touchedRoutes, touchedRoute{r: r, was: r.record()})
}

// count adds (n = 1) or takes away (n = -1) a subscription of its session as it is now.
func (s *Shard) countRoute(u *sub, n int32) {
	r := u.route
	if r == nil { // the share has the route
		return
	}
	s.touchRoute(r)
	if u.sess.durable && u.bits.qos() > 0 {
		r.durable += n
	}
	o := u.sess.owner
	if o == nil {
		return
	}
	i := slices.IndexFunc(r.nodes, func(rn routeNode) bool { return rn.owner == o })
	if i < 0 {
		i = len(r.nodes)
		r.nodes = append(r.nodes, routeNode{owner: o})
	}
	rn := &r.nodes[i]
	rn.any += n
	if !u.sess.durable || u.bits.qos() == 0 {
		rn.transient += n
	}
	if rn.any == 0 {
		r.nodes = slices.Delete(r.nodes, i, i+1)
	}
}

// countRoutes does countRoute for all subscriptions of a session.
func (s *Shard) countRoutes(ss *session, n int32) {
	for _, u := range ss.subs {
		s.countRoute(u, n)
	}
}

// view is the record's list of nodes, sorted.
func (r *route) view() []router.NodeRoute {
	if len(r.nodes) == 0 {
		return nil
	}
	out := make([]router.NodeRoute, 0, len(r.nodes))
	for _, rn := range r.nodes {
		out = append(out, router.NodeRoute{Node: rn.owner.key.node, Incarnation: rn.owner.key.incarnation, Any: rn.any > 0, Transient: rn.transient > 0})
	}
	slices.SortFunc(out, func(a, b router.NodeRoute) int {
		if c := strings.Compare(a.Node, b.Node); c != 0 {
			return c
		}
		return cmp.Compare(a.Incarnation, b.Incarnation)
	})
	return out
}

func (r *route) record() router.RouteChange {
	c := router.RouteChange{Tenant: r.tenant.name, Filter: r.filter, Durable: r.durable > 0, Nodes: r.view()}
	for _, ss := range r.groups {
		c.Groups = append(c.Groups, ss.share.group())
	}
	return c
}

func sameGroup(a, b router.ShareGroup) bool {
	return a.Name == b.Name && slices.Equal(a.Nodes, b.Nodes)
}

// routeChanges ends the routes' part of an entry: the records that differ from
// what they were before it, sorted.
func (s *Shard) routeChanges() []router.RouteChange {
	if len(s.touchedRoutes) == 0 {
		return nil
	}
	var out []router.RouteChange
	for _, t := range s.touchedRoutes {
		t.r.touched = false
		now := t.r.record()
		if t.r.subs == 0 && len(t.r.groups) == 0 {
			delete(t.r.tenant.routes, t.r.filter)
		}
		if now.Durable != t.was.Durable || !slices.Equal(now.Nodes, t.was.Nodes) || !slices.EqualFunc(now.Groups, t.was.Groups, sameGroup) {
			out = append(out, now)
		}
	}
	clear(s.touchedRoutes)
	s.touchedRoutes = s.touchedRoutes[:0]
	sortRoutes(out)
	return out
}

func sortRoutes(rs []router.RouteChange) {
	slices.SortFunc(rs, func(a, b router.RouteChange) int {
		if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
			return c
		}
		return strings.Compare(a.Filter, b.Filter)
	})
}
