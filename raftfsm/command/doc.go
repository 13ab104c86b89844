// Package command is the replicated vocabulary of Flotilla: what may stand in
// a Raft log entry, and its bytes.
//
// It owns the kinds of commands, the fields of each, the framing of batches
// and entries, and the results that state machines answer with. Kinds, field
// numbers and result codes are append-only: a number that was ever in a log
// keeps its meaning for ever, and retired numbers stay reserved.
//
// # Framing
//
// An entry is one Raft log entry: a version byte, a header (the proposer's
// clock, its proposal id, its node id) and the batches of any number of lanes.
// A batch is a lane header and commands. A lane encodes commands straight into
// its buffer (AppendPublish and the like), frames them with AppendBatch, and
// the leader concatenates the batches of many lanes with BuildEntry without
// looking into them.
//
// # Aliasing
//
// Decoding copies nothing: strings and byte slices of a decoded value point
// into the bytes that were decoded, which must never change afterwards. Raft
// entries satisfy this. Whoever keeps a string for longer than it wants to keep
// the whole entry in memory clones it (strings.Clone). Results are the
// exception: DecodeResults copies, because its input is a reused frame buffer.
//
// # Hostile bytes
//
// Decoders never panic and never allocate by a declared length or count: what
// they allocate is bounded by the bytes that are there.
//
// The package knows nothing of raft, of state machines or of the network. It
// has no goroutines and no locks.
package command
