// Package raftfsm owns the life of Raft groups on one node: logs, votes, state database, snapshots,
// proposals, linearizable reads, membership, and the guards around hashicorp/raft. A Host is a node's
// data directory; a Group is one replica of one group on it.
//
// It must not know what an entry means, nor sessions, transports or peers: a group carries opaque
// entries to a Machine, over a Layer that its caller provides. No type of hashicorp/raft leaves the
// package, apart from StableLog, which an injected store implements. DESIGN.md says why things are as
// they are.
//
// Guards, each with a test of its name: G1 no heartbeat fast path (serial.go), G2 divergent log under
// an installed snapshot (snapshotstore.go, check.go), G3 watchdog (guard.go), G4 no pipeline
// (serial.go), G5 fail-stop, checksums and the fence (guard.go, logstore.go, entry.go), G6 identity
// (check.go, tail.go, stablestore.go), G8 an error of the machine ends the node (fsm.go).
//
// Goroutines. A host has its watchdog and those of two Pebble databases. A group has raft's (main
// loop, state machine, snapshots, two for each follower), the transport's (listener, one for each
// inbound connection), and its own: watchLeadership, proposals.feed, compact, tellLeadership, one
// courier for each follower while it has something to carry, and reopen after a failed hand-over. All
// are joined by Close and by Kill; a database whose disk has failed may be left behind. A trunk has one
// that accepts, one for each dial under way and each stream that this node has dialled, and for each that was accepted one and
// one for each group on it; a leader has one for each message that goes ahead.
//
// Locks. None is held across a channel operation, a sleep or I/O (a call into a database counts as
// I/O, and so does a callback), so that everything runs in testing/synctest. The order, from the
// outside in: proposals.mu, peers.mu, leaderEvents.mu; Host.mu; trunkLink.mu, trunk.mu; all others are leaves. proposals.led is
// called under proposals.mu and takes peers.mu and leaderEvents.mu. The log's and the snapshot store's
// locks guard memory only: raft's main goroutine is the only one that writes a group's log and votes.
package raftfsm
