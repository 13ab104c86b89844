// Package raftfsm owns the life of Raft groups on one node: logs, votes, state database, snapshots,
// proposals, linearizable reads, membership and the guards around hashicorp/raft.
//
// It must not know what a command means, nor sessions, transports or peers: a group carries opaque
// entries to a Machine, over a Layer that its caller provides. No type of hashicorp/raft leaves the
// package, apart from StableLog, which an injected store implements.
package raftfsm
