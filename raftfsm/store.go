package raftfsm

// Store is a machine's view of the state database: its own keys only, in one generation.
type Store interface {
	// Get returns a copy of the value of key, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Iterate calls fn for each key in [lower, upper) in order until fn returns false. A nil upper
	// means no bound. The slices are valid during the call only.
	Iterate(lower, upper []byte, fn func(k, v []byte) (more bool)) error
	// NewBatch begins an atomic write.
	NewBatch() Batch
}

// Batch is an atomic write. It must not be used after Commit.
type Batch interface {
	Set(k, v []byte)
	Delete(k []byte)
	DeleteRange(lo, hi []byte)
	Commit() error
	// Len is the size of the batch in bytes.
	Len() int
}
