package raftfsm

import (
	"context"
	"math"
	"sync"
)

// appliedIndex is the index up to which a replica has applied, with those who wait for it.
type appliedIndex struct {
	mu      sync.Mutex
	index   uint64
	closed  bool
	waiters map[*appliedWaiter]struct{}
	least   uint64 // no waiter waits for less
}

type appliedWaiter struct {
	index uint64
	done  chan struct{} // closed when the index is reached or the replica is closed
}

func (a *appliedIndex) get() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index
}

// set raises the index.
func (a *appliedIndex) set(index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if index <= a.index {
		return
	}
	a.index = index
	if len(a.waiters) == 0 || index < a.least {
		return
	}
	a.least = math.MaxUint64
	for w := range a.waiters {
		if w.index <= index {
			close(w.done)
			delete(a.waiters, w)
		} else {
			a.least = min(a.least, w.index)
		}
	}
}

// close releases every waiter.
func (a *appliedIndex) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for w := range a.waiters {
		close(w.done)
	}
	clear(a.waiters)
}

// wait returns when index is applied.
func (a *appliedIndex) wait(ctx context.Context, index uint64) error {
	a.mu.Lock()
	if a.index >= index {
		a.mu.Unlock()
		return nil
	}
	if a.closed {
		a.mu.Unlock()
		return ErrClosed
	}
	w := &appliedWaiter{index: index, done: make(chan struct{})}
	if len(a.waiters) == 0 {
		a.waiters, a.least = map[*appliedWaiter]struct{}{}, index
	}
	a.least = min(a.least, index)
	a.waiters[w] = struct{}{}
	a.mu.Unlock()
	select {
	case <-w.done:
		if a.get() >= index {
			return nil
		}
		return ErrClosed
	case <-ctx.Done():
		a.mu.Lock()
		delete(a.waiters, w)
		a.mu.Unlock()
		return ctx.Err()
	}
}
