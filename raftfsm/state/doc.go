// Package state holds the deterministic machines behind the Raft groups: Shard
// (sessions, inboxes, shares, retained messages, what the shard originates)
// and Control (nodes, placement, settings).
//
// # What a machine is
//
// A plain struct: Apply takes a log index and the bytes of an entry and answers
// with results and effects. Equal logs give equal logical state on every replica
// (I20), whenever a replica wrote back, restarted or installed a snapshot.
// So in Apply there is no clock, no randomness, no output in map order, no
// goroutine and no I/O but reads of the machine's own Store.
//
// # Time
//
// A group's clock is the highest time that an entry carried; it never runs back.
// A proposer should stamp Clock() as it was when it became leader plus the
// monotonic time since then (the wall clock only when Clock() is 0): then the
// wall clock of one node, right or wrong, moves nothing (I12).
// Only Tick lets time act. NextDue says when one is worth proposing.
//
// # Storage
//
// The Raft log is the redo log of the Store. Changes stay in memory until
// WriteBack commits all of them, the applied index and the clock in one batch; what
// is acknowledged before that never reaches the store. The tails of inboxes stay
// in memory, older entries live in the store only and are read when they are fetched
// or acknowledged. See DESIGN.md in this folder for layout and reasons.
//
// # Goroutines and locks
//
// The package starts no goroutine. One goroutine at a time (the group's apply
// goroutine) may call Apply, WriteBack and Load; it is the only writer, so it reads
// its own state without the lock and takes mu only to change it. All other
// methods may be called from any goroutine. mu is the only lock and is never held
// during store I/O, with three exceptions that DESIGN.md explains (drop_oldest, shares, Load).
//
// It knows nothing of raft, sessions' connections, gateways or the network.
package state
