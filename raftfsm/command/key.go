package command

// NodeID names a node for good.
type NodeID = string

// SessionKey names a session: client ids are unique within a tenant.
type SessionKey struct {
	Tenant   string
	ClientID string
}

// SessionRef is a session as its owner knew it. A command whose epoch is not
// the session's current one changes nothing (I9). Epochs are never used twice
// within a shard, not even by different sessions.
type SessionRef struct {
	SessionKey
	Epoch uint64
}

// Owner is the connection that holds a session: a process of a node, and the
// epoch that it was given.
type Owner struct {
	Node        NodeID
	Incarnation uint64
	Epoch       uint64
}

// OriginKey is the idempotency key of a message that a shard originated (a
// will, a released QoS 2 message). Targets apply a key once.
type OriginKey struct {
	// Shard is the source shard, Seq the message's number there, from 1.
	Shard uint32
	Seq   uint64
	// Low is the lowest number of that shard that is not yet confirmed by all
	// targets. Targets forget what is below, and skip a Seq below it.
	Low uint64
}

// Range is a run of sequence numbers, both ends included.
type Range struct{ From, To uint64 }

// AppendSeq adds one number to a sorted list of ranges, merging at the end.
// Numbers must come in rising order; an earlier one starts a range of its own
// and is sorted in by the encoder's caller.
func AppendSeq(rs []Range, seq uint64) []Range {
	if n := len(rs); n > 0 && rs[n-1].To+1 == seq {
		rs[n-1].To = seq
		return rs
	}
	return append(rs, Range{From: seq, To: seq})
}
