package bench

import "sync"

// board knows what the members of a share have got together.
type board struct {
	mu   sync.Mutex
	seen []gaps // by stream; guarded by mu
}

func newBoard(streams int) *board { return &board{seen: make([]gaps, streams)} }

// add notes a message and tells whether it is the first time that it came.
func (b *board) add(stream uint32, seq uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[stream].add(seq) != duplicated
}
