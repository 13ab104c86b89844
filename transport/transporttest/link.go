package transporttest

import (
	"math/rand/v2"
	"sync"
	"time"
)

// link is the way from one node to another, shared by all their connections.
type link struct {
	mu        sync.Mutex
	cut       bool
	delay     time.Duration
	jitter    time.Duration
	bandwidth int
	rng       *rand.Rand
	changed   chan struct{} // closed and replaced at each change
}

func newLink(seed uint64) *link {
	return &link{rng: rand.New(rand.NewPCG(seed, seed)), changed: make(chan struct{})}
}

func (k *link) update(fn func(*link)) {
	k.mu.Lock()
	fn(k)
	ch := k.changed
	k.changed = make(chan struct{})
	k.mu.Unlock()
	close(ch)
}

// up tells whether the link carries, and returns a channel that is closed at the next change.
func (k *link) up() (bool, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.cut, k.changed
}

// latency draws the time that one chunk takes.
func (k *link) latency() (d time.Duration, bandwidth int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d = k.delay
	if k.jitter > 0 {
		d += time.Duration(k.rng.Int64N(int64(k.jitter) + 1))
	}
	return d, k.bandwidth
}
