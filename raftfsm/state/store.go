package state

// Store is where a machine keeps its state between restarts. Keys are relative:
// whoever provides the store puts the group's prefix in front.
//
// Reads may run concurrently with each other and with a Commit, and see a batch
// either not at all or whole for each single call (Get, Iterate).
type Store interface {
	// Get returns the value, owned by the caller, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Iterate calls fn with the pairs in [lower, upper) in key order until fn
	// answers false. upper nil means no bound. k and v are valid during the call only.
	Iterate(lower, upper []byte, fn func(k, v []byte) (more bool)) error
	// NewBatch begins an atomic change.
	NewBatch() Batch
}

// Batch gathers changes; they take effect in order, all together, at Commit.
// Set copies key and value.
type Batch interface {
	Set(k, v []byte)
	Delete(k []byte)
	// DeleteRange deletes [lo, hi).
	DeleteRange(lo, hi []byte)
	Commit() error
	// Len is how many bytes the batch holds.
	Len() int
}
