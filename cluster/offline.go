package cluster

import (
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

var (
	_ raftfsm.Machine = offlineControl{}
	_ raftfsm.Machine = offlineShard{}
)

// offlineControl is a control machine without a node around it.
type offlineControl struct{ *state.Control }

// Apply implements raftfsm.Machine.
func (m offlineControl) Apply(index, _ uint64, entry []byte) (any, error) {
	return m.Control.Apply(index, entry)
}

// offlineShard is a shard's machine without a node around it: what it does to the world reaches nobody.
type offlineShard struct{ *state.Shard }

// Apply implements raftfsm.Machine.
func (m offlineShard) Apply(index, _ uint64, entry []byte) (any, error) {
	results, _, err := m.Shard.Apply(index, entry)
	return results, err
}
