package cluster

import (
	"errors"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

var (
	_ raftfsm.Machine = (*shardMachine)(nil)
	_ raftfsm.Machine = (*controlMachine)(nil)
	_ state.Store     = machineStore{}
)

// machineStore lets a machine use the store of the room above it: neither knows
// the other's types.
type machineStore struct{ raftfsm.Store }

// NewBatch implements state.Store.
func (s machineStore) NewBatch() state.Batch { return s.Store.NewBatch() }

// Get implements state.Store.
func (s machineStore) Get(key []byte) ([]byte, error) {
	v, err := s.Store.Get(key)
	if errors.Is(err, raftfsm.ErrNotFound) {
		return nil, state.ErrNotFound
	}
	return v, err
}

// shardMachine is a shard's machine as its group sees it. Effects leave here,
// on the apply goroutine, and must not block.
type shardMachine struct {
	*state.Shard
	n     *Node
	id    uint32
	clock *groupClock
}

// Load implements raftfsm.Machine. After a snapshot install the effects of what
// was skipped are made up for: every session of the shard looks at its inbox.
func (m *shardMachine) Load(st raftfsm.Store) error {
	if err := m.Shard.Load(machineStore{st}); err != nil {
		return err
	}
	if ms := m.Shard.Clock(); ms != 0 {
		m.clock.load(ms)
	}
	if m.n.serving.Load() {
		m.n.spawn(func() { m.n.wakeSessions(func(shard uint32) bool { return shard == m.id }) })
	}
	return nil
}

// Apply implements raftfsm.Machine.
func (m *shardMachine) Apply(index, term uint64, entry []byte) (any, error) {
	results, effects, err := m.Shard.Apply(index, entry)
	if err != nil {
		return nil, err
	}
	m.clock.observe(term, m.Shard.Clock())
	if !effects.Empty() {
		if m.n.leading(m.id) != nil {
			m.n.events.applied(m.id, &effects)
		}
		m.n.applied(m.id, &effects)
	}
	return results, nil
}

// controlMachine is the control machine as its group sees it.
type controlMachine struct {
	c     *control
	meter *applyMeter
}

func (m *controlMachine) Applied() uint64            { return m.c.mach.Applied() }
func (m *controlMachine) WriteBack() error           { return m.c.mach.WriteBack() }
func (m *controlMachine) DirtyBytes() int            { return m.c.mach.DirtyBytes() }
func (m *controlMachine) Digest() (uint64, [16]byte) { return m.c.mach.Digest() }

// Load implements raftfsm.Machine.
func (m *controlMachine) Load(st raftfsm.Store) error {
	err := m.c.mach.Load(machineStore{st})
	m.c.n.events.controlLoaded(m.c.view())
	return err
}

// Apply implements raftfsm.Machine.
func (m *controlMachine) Apply(index, _ uint64, entry []byte) (any, error) {
	before := m.c.mach.View()
	kind, began := m.meter.beginEntry(entry)
	results, err := m.c.mach.Apply(index, entry)
	m.meter.End(kind, began)
	if err != nil {
		return nil, err
	}
	if after := m.c.mach.View(); after != before {
		m.c.n.events.controlChanged(before, after)
		select {
		case m.c.changed <- struct{}{}:
		default: // a wake-up is already pending
		}
	}
	return results, nil
}
