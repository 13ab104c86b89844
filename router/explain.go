package router

import (
	"cmp"
	"maps"
	"slices"
)

// walkChunk is how many nodes of a trie a walk looks at under one hold of the lock.
const walkChunk = 1024

// Explained is one record that takes part in a match.
type Explained struct {
	Shard  uint32
	Change RouteChange
	Hidden []string // nodes of the record that were dropped: they get nothing
}

// Explain returns every record that a publish to topic matches, by filter and
// shard. It is for people: Match is the fast one.
func (t *Table) Explain(tenant string, topic []byte) []Explained {
	var all []Explained
	t.mu.RLock()
	if routes := t.tenants[tenant]; routes != nil {
		trie := routes.trie
		trie.match(topic, func(n, set uint32, multi bool) {
			filter := trie.spelled(n, multi)
			trie.each(set, func(shard uint64, r *record) {
				e := Explained{Shard: uint32(shard), Change: r.change(tenant, filter)}
				e.Hidden = r.hidden(t.dead)
				all = append(all, e)
			})
		})
	}
	t.mu.RUnlock()
	slices.SortFunc(all, func(a, b Explained) int {
		return cmp.Or(cmp.Compare(a.Change.Filter, b.Change.Filter), cmp.Compare(a.Shard, b.Shard))
	})
	return all
}

// Walk calls fn for every record, by tenant, filter and shard, until it returns
// false. Records of dropped nodes are there as they came. A record that does not
// change meanwhile is met exactly once; one that does is met as it was, as it
// is, or not at all. fn runs without a lock. Walk collects a tenant at a time.
func (t *Table) Walk(fn func(shard uint32, c RouteChange) bool) {
	t.mu.RLock()
	tenants := slices.Sorted(maps.Keys(t.tenants))
	t.mu.RUnlock()
	for _, tenant := range tenants {
		var all []spelled[*record]
		for from, more := uint32(0), true; more; from += walkChunk {
			all, more = t.collect(all, tenant, from)
		}
		sortSpelled(all)
		for _, p := range all {
			if !fn(uint32(p.key), p.v.change(tenant, p.filter)) {
				return
			}
		}
	}
}

// collect appends the records at walkChunk nodes of a tenant, and reports
// whether there are more nodes behind them.
func (t *Table) collect(all []spelled[*record], tenant string, from uint32) ([]spelled[*record], bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	routes := t.tenants[tenant]
	if routes == nil {
		return all, false
	}
	routes.trie.scan(from, from+walkChunk, func(filter string, key uint64, r *record) {
		all = append(all, spelled[*record]{filter, entry[*record]{key, r}})
	})
	return all, from+walkChunk < routes.trie.nodes.used
}
