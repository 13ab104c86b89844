package state

import (
	"encoding/binary"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Records are sequences of varints and length-prefixed bytes. Fields are only
// ever added at the end; a reader that meets the end early reads zeros.

func putUvarint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func putBlob[T ~string | ~[]byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func putFlag(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// recordReader reads a record. A read past the end gives zeros; a broken varint
// or length makes the record corrupt (see err).
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) uint() uint64 {
	if len(r.b) == 0 {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) int() int64   { return int64(r.uint()) }
func (r *recordReader) flag() bool   { return r.uint() != 0 }
func (r *recordReader) u32() uint32  { return uint32(r.uint()) }
func (r *recordReader) rest() []byte { return r.b }

// blob aliases the record.
func (r *recordReader) blob() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad = true
		r.b = nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// string copies.
func (r *recordReader) string() string { return string(r.blob()) }

func (r *recordReader) err(what string) error {
	if r.bad {
		return fmt.Errorf("read %s record: %w", what, ErrCorrupt)
	}
	return nil
}

func putRanges(dst []byte, rs []command.Range) []byte {
	dst = putUvarint(dst, uint64(len(rs)))
	var last uint64
	for _, r := range rs {
		dst = putUvarint(putUvarint(dst, r.From-last), r.To-r.From)
		last = r.To
	}
	return dst
}

func (r *recordReader) ranges() []command.Range {
	n := r.uint()
	var out []command.Range
	var last uint64
	for ; n > 0 && len(r.b) > 0; n-- {
		from := last + r.uint()
		to := from + r.uint()
		out = append(out, command.Range{From: from, To: to})
		last = to
	}
	if n > 0 {
		r.bad = true
	}
	return out
}
