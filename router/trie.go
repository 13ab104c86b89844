package router

// Trie maps topic filters to small sets of (key, value).
type Trie[V any] struct{ _ V }

// NewTrie returns an empty Trie.
func NewTrie[V any]() *Trie[V] { panic("not yet") }

// Set stores v under key at filter.
func (t *Trie[V]) Set(filter string, key uint64, v V) (old V, existed bool) { panic("not yet") }

// Get returns the value under key at filter.
func (t *Trie[V]) Get(filter string, key uint64) (v V, ok bool) { panic("not yet") }

// Delete removes key from filter.
func (t *Trie[V]) Delete(filter string, key uint64) (old V, existed bool) { panic("not yet") }

// Match calls fn for every pair at every filter that matches topic.
func (t *Trie[V]) Match(topic []byte, fn func(key uint64, v V)) { panic("not yet") }

// At calls fn for every pair at exactly this filter.
func (t *Trie[V]) At(filter string, fn func(key uint64, v V)) { panic("not yet") }

// Count returns the number of keys at exactly this filter.
func (t *Trie[V]) Count(filter string) int { panic("not yet") }

// Len returns the number of (filter, key) pairs.
func (t *Trie[V]) Len() int { panic("not yet") }

// Filters returns the number of distinct filters.
func (t *Trie[V]) Filters() int { panic("not yet") }

// Walk calls fn for every pair in byte order of the filters, then of the keys, until fn returns false.
func (t *Trie[V]) Walk(fn func(filter string, key uint64, v V) bool) { panic("not yet") }
