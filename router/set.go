package router

// The size at which a group gets an index, and loses it again.
const (
	indexAbove = 16
	indexBelow = 8
)

type entry[V any] struct {
	key uint64
	v   V
}

// set is the pairs of one filter. Most filters have one, which is kept in place.
type set[V any] struct {
	one   entry[V]
	group uint32 // 0: one holds the only pair; else number of the group that holds all, plus 1
}

// group is the pairs of a filter with more than one.
type group[V any] struct {
	entries []entry[V]
	index   map[uint64]uint32 // key to place in entries; nil while small
}

func (g *group[V]) find(key uint64) int {
	if g.index != nil {
		if i, ok := g.index[key]; ok {
			return int(i)
		}
		return -1
	}
	for i := range g.entries {
		if g.entries[i].key == key {
			return i
		}
	}
	return -1
}

func (g *group[V]) add(e entry[V]) {
	g.entries = append(g.entries, e)
	n := len(g.entries)
	switch {
	case g.index != nil:
		g.index[e.key] = uint32(n - 1)
	case n > indexAbove:
		g.index = make(map[uint64]uint32, 2*n)
		for i := range g.entries {
			g.index[g.entries[i].key] = uint32(i)
		}
	}
}

func (g *group[V]) remove(i int) {
	last := len(g.entries) - 1
	if g.index != nil {
		delete(g.index, g.entries[i].key)
		if i != last {
			g.index[g.entries[last].key] = uint32(i)
		}
		if last < indexBelow {
			g.index = nil
		}
	}
	g.entries[i] = g.entries[last]
	g.entries[last] = entry[V]{} // let go of what the value refers to
	g.entries = g.entries[:last]
	if last >= indexAbove && last*4 < cap(g.entries) {
		g.entries = append(make([]entry[V], 0, 2*last), g.entries...)
		if g.index != nil { // a map never shrinks by itself
			index := make(map[uint64]uint32, 2*last)
			for k, v := range g.index {
				index[k] = v
			}
			g.index = index
		}
	}
}

// put stores a pair in the set *at, and makes the set if there is none (0).
func (t *Trie[V]) put(at *uint32, key uint64, v V) (old V, existed bool) {
	if *at == 0 {
		i := t.sets.take()
		t.sets.at(i).one = entry[V]{key, v}
		*at = i + 1
		t.filters++
		t.pairs++
		return old, false
	}
	s := t.sets.at(*at - 1)
	if e := t.findIn(s, key); e != nil {
		old, e.v = e.v, v
		return old, true
	}
	if s.group == 0 {
		i := t.groups.take()
		t.groups.at(i).add(s.one)
		s.one, s.group = entry[V]{}, i+1
	}
	t.groups.at(s.group - 1).add(entry[V]{key, v})
	t.pairs++
	return old, false
}

// drop removes a pair from the set *at, and the set if it was its last.
func (t *Trie[V]) drop(at *uint32, key uint64) (old V, existed bool) {
	if *at == 0 {
		return old, false
	}
	s := t.sets.at(*at - 1)
	e := t.findIn(s, key)
	if e == nil {
		return old, false
	}
	old = e.v
	t.pairs--
	if s.group == 0 {
		t.sets.give(*at - 1)
		*at = 0
		t.filters--
		return old, true
	}
	g := t.groups.at(s.group - 1)
	g.remove(g.find(key))
	if len(g.entries) == 1 {
		s.one = g.entries[0]
		t.groups.give(s.group - 1)
		s.group = 0
	}
	return old, true
}

// findIn returns the pair of a key in a set, nil if there is none.
func (t *Trie[V]) findIn(s *set[V], key uint64) *entry[V] {
	if s.group == 0 {
		if s.one.key == key {
			return &s.one
		}
		return nil
	}
	g := t.groups.at(s.group - 1)
	if i := g.find(key); i >= 0 {
		return &g.entries[i]
	}
	return nil
}

// each calls fn for the pairs of the set with this number plus 1; 0 is empty.
func (t *Trie[V]) each(set uint32, fn func(key uint64, v V)) {
	if set == 0 {
		return
	}
	s := t.sets.at(set - 1)
	if s.group == 0 {
		fn(s.one.key, s.one.v)
		return
	}
	for _, e := range t.groups.at(s.group - 1).entries {
		fn(e.key, e.v)
	}
}

// count returns the number of pairs in a set.
func (t *Trie[V]) count(set uint32) int {
	if set == 0 {
		return 0
	}
	s := t.sets.at(set - 1)
	if s.group == 0 {
		return 1
	}
	return len(t.groups.at(s.group - 1).entries)
}
