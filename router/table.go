package router

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// changeChunk is how many records are changed under one hold of the lock, so
// that a large change delays a publish by some hundred microseconds at most.
const changeChunk = 256

// Match is where a publish to a topic has to go. It is immutable and shared:
// nobody may change it or what it refers to. An empty one means that nobody
// subscribes.
type Match struct {
	Durable []uint32    // shards with a durable subscriber, ascending
	Shares  []uint32    // shards with a share, ascending
	Nodes   []NodeRoute // nodes with connected subscribers, by name; each once
	// Groups are the shares, by shard, name and filter.
	Groups []ShareRoute
}

// ShareRoute is a share that a publish matches. Nodes are those with connected
// members, by name; each once.
type ShareRoute struct {
	Shard        uint32
	Name, Filter string
	Nodes        []ShareNode
}

// Empty reports that nobody subscribes.
func (m *Match) Empty() bool {
	return len(m.Durable) == 0 && len(m.Groups) == 0 && len(m.Nodes) == 0
}

// Table is the route table of a gateway: one record per (shard, tenant, filter).
// It is safe for concurrent use: many Match, one change at a time.
type Table struct {
	stamps stamps
	cache  cache
	empty  *Match
	size   atomic.Int64
	misses atomic.Uint64

	applyMu sync.Mutex // makes changes one after the other; taken before mu
	records records    // under applyMu

	// mu guards what follows. Changes hold applyMu and mu, so that holding either
	// is enough to read.
	mu      sync.RWMutex
	tenants map[string]*tenantRoutes
	indexes map[uint32]uint64 // of the last change, by shard
	dead    map[string]uint64 // highest incarnation that was dropped, by node
}

// tenantRoutes is the records of one tenant; the key of a pair is the shard.
type tenantRoutes struct {
	hash uint64
	trie *Trie[*record]
}

// NewTable returns an empty Table.
func NewTable() *Table {
	t := &Table{
		empty:   &Match{},
		tenants: make(map[string]*tenantRoutes),
		indexes: make(map[uint32]uint64),
		dead:    make(map[string]uint64),
	}
	t.stamps.seed = maphash.MakeSeed()
	return t
}

// Apply applies what a shard changed at index of its log. When it has returned,
// every Match that starts sees the change. It returns false and changes nothing
// if index is not above the last one of that shard. It keeps nothing of changes.
//
// A Match during Apply sees each record as it was or as it will be.
func (t *Table) Apply(shard uint32, index uint64, changes []RouteChange) bool {
	t.applyMu.Lock()
	defer t.applyMu.Unlock()
	if index <= t.indexes[shard] {
		return false
	}
	t.changeLocked(shard, changes)
	t.setIndexLocked(shard, index)
	return true
}

// Reset replaces all records of a shard by those of a full dump at index. It
// returns false and changes nothing if index is below the last one of that
// shard: such a dump comes from the past. A record that is in both is never
// missing in between, and one that is the same in both invalidates nothing.
func (t *Table) Reset(shard uint32, index uint64, all []RouteChange) bool {
	t.applyMu.Lock()
	defer t.applyMu.Unlock()
	if index < t.indexes[shard] {
		return false
	}
	t.changeLocked(shard, all)
	t.changeLocked(shard, t.othersLocked(shard, all))
	t.setIndexLocked(shard, index)
	return true
}

// othersLocked returns changes that take away the records of a shard that are
// not in all. The caller holds applyMu.
func (t *Table) othersLocked(shard uint32, all []RouteChange) []RouteChange {
	stay := make(map[string]map[string]struct{})
	for i := range all {
		filters := stay[all[i].Tenant]
		if filters == nil {
			filters = make(map[string]struct{})
			stay[all[i].Tenant] = filters
		}
		filters[all[i].Filter] = struct{}{}
	}
	var others []RouteChange
	for tenant, routes := range t.tenants {
		filters := stay[tenant]
		routes.trie.filtersOf(uint64(shard), func(filter []byte) {
			if _, ok := filters[string(filter)]; !ok {
				others = append(others, RouteChange{Tenant: tenant, Filter: string(filter)})
			}
		})
	}
	return others
}

func (t *Table) setIndexLocked(shard uint32, index uint64) {
	t.mu.Lock()
	t.indexes[shard] = index
	t.mu.Unlock()
}

// changeLocked replaces the records that changes names. The caller holds applyMu.
func (t *Table) changeLocked(shard uint32, changes []RouteChange) {
	for len(changes) > 0 {
		n := min(len(changes), changeChunk)
		t.mu.Lock()
		for i := range changes[:n] {
			t.setLocked(shard, &changes[i])
		}
		t.mu.Unlock()
		changes = changes[n:]
	}
}

// setLocked replaces one record. The caller holds applyMu and mu.
func (t *Table) setLocked(shard uint32, c *RouteChange) {
	routes := t.tenants[c.Tenant]
	r := t.records.intern(c)
	var old *record
	switch {
	case r == nil && routes == nil:
		return
	case r == nil:
		old, _ = routes.trie.Delete(c.Filter, uint64(shard))
		if routes.trie.Len() == 0 {
			delete(t.tenants, c.Tenant)
		}
	default:
		if routes == nil {
			routes = &tenantRoutes{hash: maphash.String(t.stamps.seed, c.Tenant), trie: NewTrie[*record]()}
			t.tenants[strings.Clone(c.Tenant)] = routes
		}
		old, _ = routes.trie.Set(c.Filter, uint64(shard), r)
	}
	if old != nil {
		t.size.Add(-1)
		t.records.drop(old)
	}
	if r != nil {
		t.size.Add(1)
	}
	if old != r {
		t.stamps.raise(routes.hash, c.Filter)
	}
}

// Index returns the index of the last change of a shard, zero before the first.
func (t *Table) Index(shard uint32) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.indexes[shard]
}

// DropNode hides the routes to that incarnation of a node and to older ones, in
// records that are there and in records that come. Routes to a higher
// incarnation are not touched.
func (t *Table) DropNode(node string, incarnation uint64) {
	t.applyMu.Lock()
	defer t.applyMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if incarnation > t.dead[node] {
		t.dead[node] = incarnation
		t.stamps.all.Add(1)
	}
}

// Len returns the number of records, one per (shard, tenant, filter).
func (t *Table) Len() int { return int(t.size.Load()) }

// Misses returns how many Matches were not answered by the cache.
func (t *Table) Misses() uint64 { return t.misses.Load() }

// Match returns where a publish of a tenant to topic has to go. The result is
// never nil. A result from the cache costs no lock and no allocation.
//
// A Match that starts after Apply, Reset or DropNode returned sees the change
// (I5). The change has raised a counter that the topic depends on, under the
// lock. An entry of the cache carries the sum of these counters from before the
// match that made it, so that the match knows all that is counted. Here the
// entry is read first and the counters after it; as counters only grow, the sums
// are equal only if no such change came between.
func (t *Table) Match(tenant string, topic []byte) *Match {
	tenantHash := maphash.String(t.stamps.seed, tenant)
	topicHash := maphash.Bytes(t.stamps.seed, topic)
	hash := topicHash ^ tenantHash*0x9e3779b97f4a7c15
	old := t.cache.get(hash, tenant, topic)
	sum := t.stamps.sum(tenantHash, topicHash, firstOf(topic))
	if old != nil && old.sum == sum {
		return old.match
	}
	t.misses.Add(1)
	m, known := t.compute(tenant, topic)
	if known {
		t.cache.put(hash, tenant, topic, sum, m, old)
	}
	return m
}

// compute matches without the cache. known is false for a tenant without routes.
func (t *Table) compute(tenant string, topic []byte) (m *Match, known bool) {
	var g gather
	g.durable, g.nodes = g.bufs.durable[:0], g.bufs.nodes[:0]
	t.mu.RLock()
	routes := t.tenants[tenant]
	if routes != nil {
		trie := routes.trie
		trie.match(topic, func(n, set uint32, multi bool) {
			trie.each(set, func(shard uint64, r *record) {
				g.add(uint32(shard), r, t.dead)
				if len(r.groups) > 0 {
					g.addGroups(uint32(shard), trie.spelled(n, multi), r, t.dead)
				}
			})
		})
	}
	t.mu.RUnlock()
	if len(g.durable) == 0 && len(g.groups) == 0 && len(g.nodes) == 0 {
		return t.empty, routes != nil
	}
	slices.Sort(g.durable)
	sortNodes(g.nodes)
	m = &Match{Durable: copied(g.durable), Nodes: copied(g.nodes), Groups: g.groups}
	slices.SortFunc(m.Groups, func(a, b ShareRoute) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Filter, b.Filter))
	})
	for i := range m.Groups {
		if s := m.Groups[i].Shard; i == 0 || s != m.Groups[i-1].Shard {
			m.Shares = append(m.Shares, s)
		}
	}
	return m, true
}

// copied is slices.Clone for what is on the stack: an empty copy refers to nothing.
func copied[T any](s []T) []T { return append([]T(nil), s...) }

// gather merges records. Its buffers are on the stack of compute.
type gather struct {
	durable []uint32
	nodes   []NodeRoute
	groups  []ShareRoute // shares are few: these are not on the stack
	last    *record
	bufs    struct {
		durable [16]uint32
		nodes   [8]NodeRoute
	}
}

func (g *gather) add(shard uint32, r *record, dead map[string]uint64) {
	if r.durable && !slices.Contains(g.durable, shard) {
		g.durable = append(g.durable, shard)
	}
	if r == g.last { // most records of a topic are the same one
		return
	}
	g.last = r
	for _, n := range r.nodes {
		if n.Incarnation > dead[n.Node] {
			g.nodes = mergeNode(g.nodes, n)
		}
	}
}

// addGroups adds the shares of one filter. The nodes are the record's own slice
// unless one of them is hidden.
func (g *gather) addGroups(shard uint32, filter string, r *record, dead map[string]uint64) {
	for _, group := range r.groups {
		nodes := group.Nodes
		hidden := func(n ShareNode) bool { return n.Incarnation <= dead[n.Node] }
		if slices.ContainsFunc(nodes, hidden) {
			nodes = slices.DeleteFunc(slices.Clone(nodes), hidden)
		}
		if len(nodes) == 0 {
			nodes = nil
		}
		g.groups = append(g.groups, ShareRoute{Shard: shard, Name: group.Name, Filter: filter, Nodes: nodes})
	}
}
