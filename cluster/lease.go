package cluster

import (
	"sync"
	"sync/atomic"
	"time"
)

// lease is a gateway's right to route and acknowledge (INVARIANTS I5, section
// 3). It runs from the moment when a renewal was sent, so that it ends on the
// gateway before the control leader, who counts from the receipt, gives it up.
type lease struct {
	base  time.Time    // monotonic origin
	until atomic.Int64 // nanoseconds after base; 0 = not held
	heard atomic.Int64 // nanoseconds after base of the last confirmed renewal, 0 for none
}

func newLease() *lease { return &lease{base: time.Now()} }

// held is checked after a packet was read and before it is matched.
func (l *lease) held() bool {
	return int64(time.Since(l.base)) < l.until.Load() || planted("lease-ignored")
}

// extend sets the end of the lease: sent is when the renewal left.
func (l *lease) extend(sent time.Time, length time.Duration) {
	l.heard.Store(max(1, int64(sent.Sub(l.base))))
	l.until.Store(int64(sent.Sub(l.base) + length))
}

// age is how long ago the last confirmed renewal left, negative if there was none.
func (l *lease) age() time.Duration {
	heard := l.heard.Load()
	if heard == 0 {
		return -1
	}
	return time.Since(l.base) - time.Duration(heard)
}

func (l *lease) drop() { l.until.Store(0) }

// leaseBook is what the control leader knows of the gateways' leases. It lives
// in memory: a new leader starts by giving everybody a full lease.
type leaseBook struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func newLeaseBook() *leaseBook { return &leaseBook{seen: map[string]time.Time{}} }

// restart forgets everything and counts every node as seen now.
func (b *leaseBook) restart(nodes []string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = make(map[string]time.Time, len(nodes))
	for _, n := range nodes {
		b.seen[n] = now
	}
}

func (b *leaseBook) renew(node string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[node] = now
}

// lastSeen returns when node was last heard of, and whether it was at all.
func (b *leaseBook) lastSeen(node string) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.seen[node]
	return t, ok
}

// lost returns the nodes among up that were not heard of for longer than a lease.
func (b *leaseBook) lost(up []string, length time.Duration, now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, n := range up {
		t, ok := b.seen[n]
		if !ok {
			b.seen[n] = now // came up since: starts with a full lease
			continue
		}
		if now.Sub(t) > length {
			out = append(out, n)
		}
	}
	return out
}
