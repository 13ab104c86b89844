package router

import (
	"bytes"
	"hash/maphash"
	"math"
	"strings"
)

// Trie maps topic filters to small sets of (key, value) and finds those whose
// filters match a topic. It is not safe for concurrent use: many may Match, or
// one may change it.
//
// It is a radix tree of whole levels: a node stands for one or more levels, so
// there are at most two nodes per filter, however deep the filters are. Nodes,
// pairs and edges live in tables under 32-bit numbers, without a pointer for the
// garbage collector to follow (see DESIGN.md for the bytes per filter).
//
// Filters are expected to be valid (CheckFilter, plain). An invalid one is
// stored and found under its spelling, and matches something or nothing; it
// never panics.
type Trie[V any] struct {
	seed   maphash.Seed
	nodes  pool[node] // number 0 is the root
	sets   pool[set[V]]
	groups pool[group[V]]
	edges  edges

	labels []byte // spellings of the nodes; parts of it may be garbage
	live   int    // bytes of labels in use

	filters int
	pairs   int
}

// node stands for the levels of its label below its parent.
type node struct {
	parent uint32
	off    uint32 // label: labels[off : off+size]; levels with / between them
	size   uint32
	plus   uint32 // the child whose label starts with +; 0: none
	kids   uint32 // number of children, plus included
	xor    uint32 // of all children: the only one if kids is 1
	set    uint32 // number of the set of the filter that ends here, plus 1; 0: none
	multi  uint32 // the same for the filter that goes on with # only
}

const root = 0

// keepTrie is how many nodes an empty trie may keep the memory of.
const keepTrie = pageSize

// NewTrie returns an empty Trie.
func NewTrie[V any]() *Trie[V] {
	t := &Trie[V]{seed: maphash.MakeSeed()}
	t.nodes.take()
	return t
}

// Len returns the number of (filter, key) pairs.
func (t *Trie[V]) Len() int { return t.pairs }

// Filters returns the number of distinct filters.
func (t *Trie[V]) Filters() int { return t.filters }

// Set stores v under key at filter, and returns the value that was there.
func (t *Trie[V]) Set(filter string, key uint64, v V) (old V, existed bool) {
	levels, multi, any := splitMulti(filter)
	n := uint32(root)
	if any {
		n = t.insert(levels)
	}
	if multi {
		return t.put(&t.nodes.at(n).multi, key, v)
	}
	return t.put(&t.nodes.at(n).set, key, v)
}

// Get returns the value under key at exactly this filter.
func (t *Trie[V]) Get(filter string, key uint64) (v V, ok bool) {
	_, at := t.find(filter)
	if at == nil || *at == 0 {
		return v, false
	}
	if e := t.findIn(t.sets.at(*at-1), key); e != nil {
		return e.v, true
	}
	return v, false
}

// At calls fn for every pair at exactly this filter, in no particular order. fn
// must not change the trie.
func (t *Trie[V]) At(filter string, fn func(key uint64, v V)) {
	if _, at := t.find(filter); at != nil {
		t.each(*at, fn)
	}
}

// Count returns the number of keys at exactly this filter.
func (t *Trie[V]) Count(filter string) int {
	if _, at := t.find(filter); at != nil {
		return t.count(*at)
	}
	return 0
}

// Delete removes key from filter and returns its value. Nodes that are not
// needed any more are used for other filters; an empty trie gives its memory back.
func (t *Trie[V]) Delete(filter string, key uint64) (old V, existed bool) {
	n, at := t.find(filter)
	if at == nil {
		return old, false
	}
	old, existed = t.drop(at, key)
	if existed && *at == 0 {
		t.prune(n)
		t.tidy()
	}
	return old, existed
}

// splitMulti takes a filter apart into its levels and a # behind them. has is
// false for the filter # alone, which has no other level: "/#" has one, "".
func splitMulti(filter string) (levels string, multi, has bool) {
	if filter == "#" {
		return "", true, false
	}
	levels, multi = strings.CutSuffix(filter, "/#")
	return levels, multi, true
}

// find returns the node of a filter and where its set is noted; nil if there is
// no such node.
func (t *Trie[V]) find(filter string) (n uint32, at *uint32) {
	levels, multi, has := splitMulti(filter)
	for has {
		if n = t.child(n, firstLevel(levels)); n == root {
			return 0, nil
		}
		label := t.label(n)
		if k := commonLevels(label, levels); k < len(label) {
			return 0, nil
		}
		if has = len(levels) > len(label); has {
			levels = levels[len(label)+1:]
		}
	}
	nd := t.nodes.at(n)
	if multi {
		return n, &nd.multi
	}
	return n, &nd.set
}

// insert returns the node of these levels, and makes it if there is none.
func (t *Trie[V]) insert(levels string) uint32 {
	parent := uint32(root)
	for {
		n := t.child(parent, firstLevel(levels))
		if n == root {
			return t.leaf(parent, levels)
		}
		k := commonLevels(t.label(n), levels)
		if k < int(t.nodes.at(n).size) {
			n = t.split(n, k)
		}
		if k == len(levels) {
			return n
		}
		parent, levels = n, levels[k+1:]
	}
}

// leaf makes a new child of parent for all these levels.
func (t *Trie[V]) leaf(parent uint32, levels string) uint32 {
	n := t.nodes.take()
	off := t.grow(len(levels))
	t.labels = append(t.labels, levels...)
	nd := t.nodes.at(n)
	nd.off, nd.size = off, uint32(len(levels))
	t.link(parent, n)
	return n
}

// split puts a node above n for the first k bytes of its label, and returns it.
func (t *Trie[V]) split(n uint32, k int) uint32 {
	mid := t.nodes.take()
	nd, m := t.nodes.at(n), t.nodes.at(mid)
	m.off, m.size = nd.off, uint32(k)
	t.replace(n, mid)
	nd.off += uint32(k) + 1
	nd.size -= uint32(k) + 1
	t.live--
	t.link(mid, n)
	return mid
}

// prune takes out n and the nodes above it that carry nothing and do not branch.
func (t *Trie[V]) prune(n uint32) {
	for n != root {
		nd := t.nodes.at(n)
		if nd.set != 0 || nd.multi != 0 || nd.kids > 1 {
			return
		}
		if nd.kids == 1 {
			t.merge(n, nd.xor)
			return
		}
		parent := nd.parent
		t.unlink(n)
		t.live -= int(nd.size)
		t.nodes.give(n)
		n = parent
	}
}

// merge makes the only child of n take the place of n.
func (t *Trie[V]) merge(n, child uint32) {
	t.unlink(child)
	nd, c := t.nodes.at(n), t.nodes.at(child)
	end := nd.off + nd.size
	if end+1 == c.off && t.labels[end] == '/' { // as a split leaves them
		c.off, c.size = nd.off, nd.size+1+c.size
		t.live++
	} else {
		size := nd.size + 1 + c.size
		off := t.grow(int(size))
		t.labels = append(t.labels, t.labels[nd.off:end]...)
		t.labels = append(t.labels, '/')
		t.labels = append(t.labels, t.labels[c.off:c.off+c.size]...)
		t.live -= int(nd.size + c.size)
		c.off, c.size = off, size
	}
	t.replace(n, child)
	t.nodes.give(n)
}

// replace puts node b, which has no parent, into the place of a below the parent
// of a. Both labels start with the same level.
func (t *Trie[V]) replace(a, b uint32) {
	parent := t.nodes.at(a).parent
	t.nodes.at(b).parent = parent
	p := t.nodes.at(parent)
	p.xor ^= a ^ b
	if p.plus == a {
		p.plus = b
		return
	}
	t.edges.replace(t.hash(parent, firstOf(t.label(a))), a, b)
}

func (t *Trie[V]) link(parent, n uint32) {
	t.nodes.at(n).parent = parent
	p := t.nodes.at(parent)
	p.kids++
	p.xor ^= n
	if first := firstOf(t.label(n)); string(first) == "+" {
		p.plus = n
	} else {
		t.edges.add(t.hash(parent, first), n)
	}
}

func (t *Trie[V]) unlink(n uint32) {
	parent := t.nodes.at(n).parent
	p := t.nodes.at(parent)
	p.kids--
	p.xor ^= n
	if p.plus == n {
		p.plus = 0
		return
	}
	t.edges.remove(t.hash(parent, firstOf(t.label(n))), n)
}

// child returns the child of parent whose label starts with level; 0: none.
func (t *Trie[V]) child(parent uint32, level string) uint32 {
	if level == "+" {
		return t.nodes.at(parent).plus
	}
	return lookup(t, parent, level, mix(parent, maphash.String(t.seed, level)))
}

// lookup finds a literal child by its first level, given as it comes.
func lookup[V any, S string | []byte](t *Trie[V], parent uint32, level S, hash uint32) uint32 {
	if t.edges.n == 0 {
		return 0
	}
	for i := t.edges.home(hash); ; i = t.edges.next(i) {
		e := t.edges.slots[i]
		if e.node == 0 {
			return 0
		}
		if e.hash != hash {
			continue
		}
		nd := t.nodes.at(e.node)
		if nd.parent != parent || int(nd.size) < len(level) {
			continue
		}
		label := t.labels[nd.off : nd.off+nd.size]
		if string(label[:len(level)]) == string(level) && (len(label) == len(level) || label[len(level)] == '/') {
			return e.node
		}
	}
}

func (t *Trie[V]) hash(parent uint32, level []byte) uint32 {
	return mix(parent, maphash.Bytes(t.seed, level))
}

// mix makes one hash out of a parent and the hash of a level.
func mix(parent uint32, h uint64) uint32 {
	return uint32((h ^ uint64(parent)*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93 >> 32)
}

func (t *Trie[V]) label(n uint32) []byte {
	nd := t.nodes.at(n)
	return t.labels[nd.off : nd.off+nd.size]
}

// grow makes sure that a label of this size can be appended, counts it, and
// returns where it will be.
func (t *Trie[V]) grow(size int) uint32 {
	if len(t.labels)+size > math.MaxUint32 {
		panic("router: a trie with more than 4 GiB of levels")
	}
	t.live += size
	return uint32(len(t.labels))
}

// tidy gives memory back after a deletion, in amortised constant time.
func (t *Trie[V]) tidy() {
	switch {
	case t.pairs == 0 && t.nodes.used > keepTrie:
		*t = *NewTrie[V]()
	case len(t.labels) > 2*t.live+4096:
		t.compact()
	}
}

// compact copies the labels in use to the front of a new buffer.
func (t *Trie[V]) compact() {
	labels := make([]byte, 0, t.live+t.live/4)
	for i := range t.nodes.used {
		nd := t.nodes.at(i)
		if nd.size == 0 { // free, the root, or an empty level, whose place may lie behind the new buffer
			nd.off = 0
			continue
		}
		off := len(labels)
		labels = append(labels, t.labels[nd.off:nd.off+nd.size]...)
		nd.off = uint32(off)
	}
	t.labels = labels
}

func firstLevel(levels string) string {
	level, _, _ := strings.Cut(levels, "/")
	return level
}

func firstOf(label []byte) []byte { return label[:levelEnd(label, 0)] }

// commonLevels returns how many bytes of whole levels label and levels, whose
// first levels are equal, have in common.
func commonLevels(label []byte, levels string) int {
	i, n := 0, min(len(label), len(levels))
	for i < n && label[i] == levels[i] {
		i++
	}
	if (i == len(label) || label[i] == '/') && (i == len(levels) || levels[i] == '/') {
		return i
	}
	return bytes.LastIndexByte(label[:i], '/')
}
