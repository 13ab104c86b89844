package raftfsm

import "github.com/flotilla-mqtt/flotilla/raftfsm/state"

// Store is a machine's view of the state database: its own keys only, in one generation.
type Store = state.Store

// Batch is an atomic write to a Store.
type Batch = state.Batch

// ErrNotFound is returned by Store.Get for a key that has no value.
var ErrNotFound = state.ErrNotFound
