package raftfsmtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

// Slots is how many values a Machine holds.
const Slots = 256

// Machine is a small raftfsm.Machine: an entry replaces the value of the slot that its first byte
// names. Its digest covers the values and a hash chain over all entries, so it shows order, loss and
// repetition. An entry that begins with "bad" is impossible, and so is one that was applied before.
type Machine struct {
	// OnApply, if set before use, is called after each entry, with the machine unlocked.
	OnApply func(index uint64, entry []byte)

	mu      sync.Mutex
	st      raftfsm.Store
	applied uint64
	loaded  uint64
	count   uint64
	chain   [16]byte
	slots   [Slots][]byte
	dirty   map[byte]bool
	bytes   int
}

var _ raftfsm.Machine = (*Machine)(nil)

// NewMachine returns an empty machine.
func NewMachine() *Machine { return &Machine{dirty: map[byte]bool{}} }

// ErrImpossible is what Apply returns for an impossible entry.
var ErrImpossible = errors.New("impossible entry")

// Apply implements raftfsm.Machine. The result is how many entries were applied before.
func (m *Machine) Apply(index, _ uint64, entry []byte) (any, error) {
	if bytes.HasPrefix(entry, []byte("bad")) {
		return nil, ErrImpossible
	}
	m.mu.Lock()
	if index <= m.applied {
		defer m.mu.Unlock()
		return nil, fmt.Errorf("%w: %d is not behind %d", ErrImpossible, index, m.applied)
	}
	h := sha256.New()
	h.Write(m.chain[:])
	h.Write(entry)
	copy(m.chain[:], h.Sum(nil))
	n := m.count
	m.count++
	m.applied = index
	slot := entry[0]
	m.slots[slot] = append([]byte(nil), entry...)
	m.dirty[slot] = true
	m.bytes += len(entry)
	m.mu.Unlock()
	if m.OnApply != nil {
		m.OnApply(index, entry)
	}
	return n, nil
}

var headKey = []byte("head")

func slotKey(s byte) []byte { return []byte{'s', s} }

// Load implements raftfsm.Machine.
func (m *Machine) Load(st raftfsm.Store) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.st, m.applied, m.count, m.chain, m.bytes = st, 0, 0, [16]byte{}, 0
	m.slots = [Slots][]byte{}
	clear(m.dirty)
	head, err := st.Get(headKey)
	if err != nil && !errors.Is(err, raftfsm.ErrNotFound) {
		return err
	}
	if err == nil {
		if len(head) != 32 {
			return fmt.Errorf("head of %d bytes", len(head))
		}
		m.applied, m.count = binary.BigEndian.Uint64(head), binary.BigEndian.Uint64(head[8:])
		copy(m.chain[:], head[16:])
	}
	m.loaded = m.applied
	return st.Iterate([]byte("s"), []byte("t"), func(k, v []byte) bool {
		m.slots[k[1]] = append([]byte(nil), v...)
		return true
	})
}

// Loaded is the applied index that the last Load found in the store.
func (m *Machine) Loaded() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loaded
}

// WriteBack implements raftfsm.Machine.
func (m *Machine) WriteBack() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.st.NewBatch()
	for s := range m.dirty {
		b.Set(slotKey(s), m.slots[s])
	}
	head := binary.BigEndian.AppendUint64(nil, m.applied)
	head = binary.BigEndian.AppendUint64(head, m.count)
	b.Set(headKey, append(head, m.chain[:]...))
	clear(m.dirty)
	m.bytes = 0
	return b.Commit()
}

// Applied implements raftfsm.Machine.
func (m *Machine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// Count is how many entries the machine has applied.
func (m *Machine) Count() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// DirtyBytes implements raftfsm.Machine.
func (m *Machine) DirtyBytes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// Digest implements raftfsm.Machine.
func (m *Machine) Digest() (uint64, [16]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := sha256.New()
	h.Write(m.chain[:])
	for _, v := range m.slots {
		fmt.Fprintf(h, "%d:", len(v))
		h.Write(v)
	}
	var d [16]byte
	copy(d[:], h.Sum(nil))
	return m.applied, d
}
