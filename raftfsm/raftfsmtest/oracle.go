package raftfsmtest

import (
	"fmt"
	"sync"
)

// Oracle holds every replica of every run to one history: the digest after an index is the same
// wherever and whenever the index is applied, and what was acknowledged stays.
type Oracle struct {
	mu      sync.Mutex
	digests map[uint32]map[uint64][16]byte
	acked   map[uint32]uint64
	err     error
}

// NewOracle returns an oracle that has seen nothing.
func NewOracle() *Oracle {
	return &Oracle{digests: map[uint32]map[uint64][16]byte{}, acked: map[uint32]uint64{}}
}

// Watch makes the oracle see what a node's machine applies.
func (o *Oracle) Watch(node string, group uint32, m *Machine) {
	m.OnApply = func(index uint64, _ []byte) {
		_, d := m.Digest()
		o.see(node, group, index, d)
	}
}

func (o *Oracle) see(node string, group uint32, index uint64, d [16]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.digests[group]
	if g == nil {
		g = map[uint64][16]byte{}
		o.digests[group] = g
	}
	if was, ok := g[index]; ok && was != d && o.err == nil {
		o.err = fmt.Errorf("%s: digest of group %d at %d is %x, elsewhere it was %x", node, group, index, d, was)
	}
	g[index] = d
}

// Check holds a machine that was loaded from disk against the history.
func (o *Oracle) Check(node string, group uint32, m *Machine) {
	if index, d := m.Digest(); index > 0 {
		o.see(node, group, index, d)
	}
}

// Acked notes that the entry at index was acknowledged.
func (o *Oracle) Acked(group uint32, index uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked[group] = max(o.acked[group], index)
}

// Floor is the highest acknowledged index of a group.
func (o *Oracle) Floor(group uint32) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked[group]
}

// Err returns the first contradiction.
func (o *Oracle) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
