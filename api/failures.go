package api

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// failuresBurst is how many failed attempts an address may make at once,
	// failuresEvery how soon it gets another one. Keys cannot be guessed at any
	// rate; this keeps the log and the counters readable.
	failuresBurst = 10
	failuresEvery = 6 * time.Second
	// failuresMost bounds the addresses that are remembered.
	failuresMost = 4096
)

// failures counts failed attempts per address. Who shows a right key is never
// held up by it, so that nobody can lock out others of his address.
type failures struct {
	now func() time.Time

	mu sync.Mutex
	// Below mu: when the attempts of an address will be forgotten.
	until map[netip.Prefix]time.Time
}

func newFailures(now func() time.Time) *failures {
	return &failures{now: now, until: map[netip.Prefix]time.Time{}}
}

// add counts an attempt and returns how long to wait if there were too many.
func (f *failures) add(address string) time.Duration {
	now, at := f.now(), prefixOf(address)
	f.mu.Lock()
	defer f.mu.Unlock()
	until, ok := f.until[at]
	if !ok || until.Before(now) {
		until = now
	}
	if !ok && len(f.until) >= failuresMost {
		f.forget(now)
	}
	if wait := until.Add(failuresEvery).Sub(now) - failuresBurst*failuresEvery; wait > 0 {
		return wait
	}
	f.until[at] = until.Add(failuresEvery)
	return 0
}

// forget makes room: first by what is over, else by anybody.
func (f *failures) forget(now time.Time) {
	for at, until := range f.until {
		if !until.After(now) {
			delete(f.until, at)
		}
	}
	for at := range f.until {
		if len(f.until) < failuresMost {
			return
		}
		delete(f.until, at)
	}
}

// prefixOf is what counts as one address: the 64 bits of IPv6 that a network
// gives to one customer.
func prefixOf(address string) netip.Prefix {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the number of bits is right
	return p
}
