package router

import (
	"cmp"
	"slices"
)

// Walk calls fn for every pair, in byte order of the filters and then of the
// keys, until it returns false. It collects and sorts all pairs first, which
// takes some hundred bytes for each: it is for listings, not for an apply. fn
// may change the trie; Walk goes on with what it has collected.
func (t *Trie[V]) Walk(fn func(filter string, key uint64, v V) bool) {
	all := make([]spelled[V], 0, t.pairs)
	t.scan(0, t.nodes.used, func(filter string, key uint64, v V) {
		all = append(all, spelled[V]{filter, entry[V]{key, v}})
	})
	sortSpelled(all)
	for _, p := range all {
		if !fn(p.filter, p.key, p.v) {
			return
		}
	}
}

// spelled is a pair with its filter.
type spelled[V any] struct {
	filter string
	entry[V]
}

func sortSpelled[V any](all []spelled[V]) {
	slices.SortFunc(all, func(a, b spelled[V]) int {
		return cmp.Or(cmp.Compare(a.filter, b.filter), cmp.Compare(a.key, b.key))
	})
}

// scan calls fn for the pairs of the nodes with numbers in [from, to) that
// exist, in no particular order. A filter keeps its number for as long as it is
// there, so scanning the ranges one after the other, with changes in between,
// meets each filter that stays exactly once.
func (t *Trie[V]) scan(from, to uint32, fn func(filter string, key uint64, v V)) {
	var buf []byte
	for n := from; n < min(to, t.nodes.used); n++ {
		nd := t.nodes.at(n)
		if nd.set == 0 && nd.multi == 0 {
			continue
		}
		buf = t.spell(buf[:0], n)
		if nd.set != 0 {
			filter := string(buf)
			t.each(nd.set, func(key uint64, v V) { fn(filter, key, v) })
		}
		if nd.multi != 0 {
			filter := spellMulti(buf, n)
			t.each(nd.multi, func(key uint64, v V) { fn(filter, key, v) })
		}
	}
}

// spellMulti returns the filter of the levels of node n with # behind them.
func spellMulti(levels []byte, n uint32) string {
	if n == root {
		return "#"
	}
	return string(levels) + "/#"
}

// spelled returns the filter of node n, or the one that goes on with # there.
func (t *Trie[V]) spelled(n uint32, multi bool) string {
	levels := t.spell(nil, n)
	if multi {
		return spellMulti(levels, n)
	}
	return string(levels)
}

// spell appends the levels of node n.
func (t *Trie[V]) spell(dst []byte, n uint32) []byte {
	size, first := 0, true
	for i := n; i != root; i = t.nodes.at(i).parent {
		size += int(t.nodes.at(i).size) + 1
	}
	if size == 0 {
		return dst
	}
	from := len(dst)
	dst = slices.Grow(dst, size)[:from+size-1]
	for at := len(dst); n != root; n = t.nodes.at(n).parent { // from the last level to the first
		if !first {
			at--
			dst[at] = '/'
		}
		first = false
		label := t.label(n)
		at -= len(label)
		copy(dst[at:], label)
	}
	return dst
}

// filtersOf calls fn for every filter that has this key, in no particular order.
// The bytes are valid during the call.
func (t *Trie[V]) filtersOf(key uint64, fn func(filter []byte)) {
	has := func(set uint32) bool { return set != 0 && t.findIn(t.sets.at(set-1), key) != nil }
	var buf []byte
	for n := range t.nodes.used {
		nd := t.nodes.at(n)
		exact, multi := has(nd.set), has(nd.multi)
		if !exact && !multi {
			continue
		}
		buf = t.spell(buf[:0], n)
		if exact {
			fn(buf)
		}
		if multi {
			if n != root {
				buf = append(buf, '/')
			}
			buf = append(buf, '#')
			fn(buf)
		}
	}
}
