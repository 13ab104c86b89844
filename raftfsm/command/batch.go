package command

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// EntryVersion is the format that BuildEntry writes. Decoders know all versions
// up to it.
const EntryVersion = 1

// Header is what the leader says of an entry.
type Header struct {
	// Time is the proposer's clock in unix ms. A group's clock is the highest
	// time that it has seen.
	Time int64
	// Proposal and Leader let the proposer find its own entry again.
	Proposal uint64
	Leader   NodeID
}

// BatchHeader identifies a batch of a lane. Node "" is the leader itself (ticks,
// the loss of a node): such batches are not numbered and not deduplicated.
type BatchHeader struct {
	Node        NodeID
	Incarnation uint64
	// Seq counts the batches of (node, incarnation) to this group, from 1.
	Seq uint64
	// AckedSeq tells up to where the lane has results: they may be forgotten.
	AckedSeq uint64
}

// Batch is a lane's commands as they stand in an entry.
type Batch struct {
	BatchHeader
	commands []byte
}

// AppendBatch frames commands (the output of AppendPublish and its kin) under a
// lane header. Fields: 1 node, 2 incarnation, 3 seq, 4 acked seq, 5 commands.
func AppendBatch(dst []byte, h *BatchHeader, commands []byte) []byte {
	dst = putString(dst, 1, h.Node)
	dst = putUint(dst, 2, h.Incarnation)
	dst = putUint(dst, 3, h.Seq)
	dst = putUint(dst, 4, h.AckedSeq)
	return putBytes(dst, 5, commands)
}

// BuildEntry makes an entry of batches that AppendBatch framed. It does not look
// into them. Fields after the version byte: 1 time, 2 proposal, 3 leader,
// 4 batch (repeated).
func BuildEntry(dst []byte, h *Header, batches ...[]byte) []byte {
	dst = append(dst, EntryVersion)
	dst = putUint(dst, 1, uint64(h.Time))
	dst = putUint(dst, 2, h.Proposal)
	dst = putString(dst, 3, h.Leader)
	for _, b := range batches {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendBytes(dst, b)
	}
	return dst
}

// EntrySize bounds the bytes of an entry with batches of the given total size.
func EntrySize(h *Header, batches, bytes int) int {
	return 1 + 11 + 11 + 2 + 5 + len(h.Leader) + batches*6 + bytes
}

// Entry iterates over the batches of an entry.
type Entry struct {
	Header
	f       fields
	pending bool
}

// DecodeEntry reads an entry's header. The result aliases b.
func DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	if len(b) == 0 {
		return e, fmt.Errorf("decode entry: %w", ErrMalformed)
	}
	if b[0] != EntryVersion {
		return e, fmt.Errorf("decode entry of version %d: %w", b[0], ErrVersion)
	}
	e.f = fields{b: b[1:]}
	for e.f.next() {
		switch e.f.num {
		case 1:
			e.Time = int64(e.f.uint())
		case 2:
			e.Proposal = e.f.uint()
		case 3:
			e.Leader = e.f.string()
		case 4:
			e.pending = true
			return e, e.f.err("entry")
		}
	}
	return e, e.f.err("entry")
}

// Next reads the next batch into b; false at the end.
func (e *Entry) Next(b *Batch) (bool, error) {
	for e.pending || e.f.next() {
		e.pending = false
		if e.f.num != 4 {
			continue
		}
		data := e.f.bytes()
		if e.f.bad {
			break
		}
		return true, b.decode(data)
	}
	return false, e.f.err("entry")
}

func (b *Batch) decode(data []byte) error {
	*b = Batch{}
	f := fields{b: data}
	for f.next() {
		switch f.num {
		case 1:
			b.Node = f.string()
		case 2:
			b.Incarnation = f.uint()
		case 3:
			b.Seq = f.uint()
		case 4:
			b.AckedSeq = f.uint()
		case 5:
			b.commands = f.bytes()
		}
	}
	return f.err("batch")
}

// DecodeBatch reads one framed batch, as a lane sends it. The result aliases data.
func DecodeBatch(data []byte) (Batch, error) {
	var b Batch
	err := b.decode(data)
	return b, err
}

// Commands iterates over the commands of the batch.
func (b *Batch) Commands() Iter { return Iter{b: b.commands} }

// Iter walks over encoded commands. It is a value: copy it to walk again.
type Iter struct{ b []byte }

// Command is one undecoded command. Decode its Payload with the Decode method of
// the type that belongs to Kind.
type Command struct {
	Kind Kind
	// Ignorable: a program that does not know Kind may skip the command. Without
	// it, an unknown kind must end the process.
	Ignorable bool
	Payload   []byte
}

// Next reads the next command into c; false at the end.
func (it *Iter) Next(c *Command) (bool, error) {
	if len(it.b) == 0 {
		return false, nil
	}
	tag, n := protowire.ConsumeVarint(it.b)
	if n < 0 || tag>>1 == 0 || tag>>1 > 1<<32-1 {
		return false, fmt.Errorf("decode command: %w", ErrMalformed)
	}
	payload, m := protowire.ConsumeBytes(it.b[n:])
	if m < 0 {
		return false, fmt.Errorf("decode command: %w", ErrMalformed)
	}
	it.b = it.b[n+m:]
	*c = Command{Kind: Kind(tag >> 1), Ignorable: tag&1 != 0, Payload: payload}
	return true, nil
}

// AppendIgnorable adds a command of a kind that older programs may skip.
func AppendIgnorable(dst []byte, k Kind, payload []byte) []byte {
	dst = protowire.AppendVarint(dst, uint64(k)<<1|1)
	return protowire.AppendBytes(dst, payload)
}

// CountCommands walks over encoded commands and checks their framing.
func CountCommands(commands []byte) (int, error) {
	it := Iter{b: commands}
	var c Command
	for n := 0; ; n++ {
		ok, err := it.Next(&c)
		if err != nil || !ok {
			return n, err
		}
	}
}

// Commands iterates over encoded commands that stand alone.
func Commands(b []byte) Iter { return Iter{b: b} }
