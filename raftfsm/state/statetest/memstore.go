package statetest

import (
	"bytes"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

var _ state.Store = (*MemStore)(nil)

// MemStore is a state.Store in memory. Its content is a persistent treap, so
// Clone, and a reader that runs beside a Commit, cost nothing.
type MemStore struct {
	mu      sync.Mutex
	root    *node
	commits int
	fail    error
	reads   int
}

// NewMemStore returns an empty store.
func NewMemStore() *MemStore { return &MemStore{} }

// Clone is the store as it is now, as a crash would leave it.
func (m *MemStore) Clone() *MemStore { return &MemStore{root: m.snapshot()} }

func (m *MemStore) snapshot() *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.root
}

// FailCommits makes every following Commit fail with err, nil ends it.
func (m *MemStore) FailCommits(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Commits is how many batches were committed.
func (m *MemStore) Commits() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits
}

// Reads is how many calls of Get and Iterate were made.
func (m *MemStore) Reads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// Len is the number of pairs.
func (m *MemStore) Len() int { return m.snapshot().size() }

// Bytes is the size of all keys and values.
func (m *MemStore) Bytes() int {
	total := 0
	m.snapshot().walk(nil, nil, func(n *node) bool {
		total += len(n.key) + len(n.value)
		return true
	})
	return total
}

// Count is the number of keys that begin with prefix.
func (m *MemStore) Count(prefix string) int {
	count := 0
	m.snapshot().walk([]byte(prefix), nil, func(n *node) bool {
		if !bytes.HasPrefix(n.key, []byte(prefix)) {
			return false
		}
		count++
		return true
	})
	return count
}

// Dump is the whole content, sorted, one "key=value" in quotes per pair.
func (m *MemStore) Dump() []string {
	var out []string
	m.snapshot().walk(nil, nil, func(n *node) bool {
		out = append(out, quote(n.key)+"="+quote(n.value))
		return true
	})
	return out
}

// Get implements state.Store.
func (m *MemStore) Get(key []byte) ([]byte, error) {
	m.mu.Lock()
	n := m.root
	m.reads++
	m.mu.Unlock()
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c == 0:
			return slices.Clone(n.value), nil
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return nil, state.ErrNotFound
}

// Iterate implements state.Store. It reuses one buffer for keys and one for
// values, so that a caller that keeps them is found out.
func (m *MemStore) Iterate(lower, upper []byte, fn func(k, v []byte) bool) error {
	m.mu.Lock()
	root := m.root
	m.reads++
	m.mu.Unlock()
	var k, v []byte
	root.walk(lower, upper, func(n *node) bool {
		k, v = append(k[:0], n.key...), append(v[:0], n.value...)
		return fn(k, v)
	})
	return nil
}

// NewBatch implements state.Store.
func (m *MemStore) NewBatch() state.Batch { return &batch{store: m} }

type batch struct {
	store *MemStore
	ops   []op
	bytes int
}

type op struct {
	key, value, hi []byte
	kind           byte // 's', 'd', 'r'
}

func (b *batch) add(o op) {
	b.ops = append(b.ops, o)
	b.bytes += len(o.key) + len(o.value) + len(o.hi)
}

func (b *batch) Set(k, v []byte) { b.add(op{key: slices.Clone(k), value: slices.Clone(v), kind: 's'}) }
func (b *batch) Delete(k []byte) { b.add(op{key: slices.Clone(k), kind: 'd'}) }
func (b *batch) DeleteRange(lo, hi []byte) {
	b.add(op{key: slices.Clone(lo), hi: slices.Clone(hi), kind: 'r'})
}
func (b *batch) Len() int { return b.bytes }

func (b *batch) Commit() error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if b.store.fail != nil {
		return b.store.fail
	}
	root := b.store.root
	for _, o := range b.ops {
		lo, rest := split(root, o.key)
		switch o.kind {
		case 's':
			_, hi := split(rest, after(o.key))
			n := &node{key: o.key, value: o.value, prio: xxhash.Sum64(o.key), count: 1}
			root = merge(merge(lo, n), hi)
		case 'd':
			_, hi := split(rest, after(o.key))
			root = merge(lo, hi)
		case 'r':
			_, hi := split(rest, o.hi)
			root = merge(lo, hi)
		}
	}
	b.store.root = root
	b.store.commits++
	return nil
}

// after is the next key behind k.
func after(k []byte) []byte { return append(slices.Clip(slices.Clone(k)), 0) }
