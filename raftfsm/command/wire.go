package command

import (
	"fmt"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields iterates over the protowire fields of one message without allocating.
// A known field of the wrong wire type makes the message malformed, an unknown
// field is skipped: a later version may have added it.
type fields struct {
	b    []byte
	num  protowire.Number
	typ  protowire.Type
	val  uint64
	data []byte
	bad  bool
}

// next reads one field; false at the end or at malformed bytes (see err).
func (f *fields) next() bool {
	if len(f.b) == 0 || f.bad {
		return false
	}
	num, typ, n := protowire.ConsumeTag(f.b)
	if n < 0 {
		f.bad = true
		return false
	}
	f.b = f.b[n:]
	f.num, f.typ = num, typ
	switch typ {
	case protowire.VarintType:
		f.val, n = protowire.ConsumeVarint(f.b)
	case protowire.BytesType:
		f.data, n = protowire.ConsumeBytes(f.b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, f.b)
	}
	if n < 0 {
		f.bad = true
		return false
	}
	f.b = f.b[n:]
	return true
}

func (f *fields) uint() uint64 {
	if f.typ != protowire.VarintType {
		f.bad = true
		return 0
	}
	return f.val
}

// max is a varint that must fit a smaller type.
func (f *fields) max(limit uint64) uint64 {
	v := f.uint()
	if v > limit {
		f.bad = true
		return 0
	}
	return v
}

func (f *fields) bool() bool { return f.max(1) == 1 }

func (f *fields) u32() uint32 { return uint32(f.max(1<<32 - 1)) }

func (f *fields) bytes() []byte {
	if f.typ != protowire.BytesType {
		f.bad = true
		return nil
	}
	return f.data[:len(f.data):len(f.data)]
}

func (f *fields) string() string { return alias(f.bytes()) }

func (f *fields) err(what string) error {
	if f.bad {
		return fmt.Errorf("decode %s: %w", what, ErrMalformed)
	}
	return nil
}

// alias makes a string of bytes that never change. It is what keeps decoding
// free of allocations; see the package comment for what it demands.
func alias(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func putUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

func putBool(dst []byte, num protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return putUint(dst, num, 1)
}

func putString(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, s)
}

func putBytes(dst []byte, num protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, b)
}

func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n) // field numbers below 16: one byte of tag
}

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

// open begins a length-delimited part; close writes its length. One byte is
// kept for the length, so a part of up to 127 bytes is never moved.
func open(dst []byte) ([]byte, int) { return append(dst, 0), len(dst) }

func closeAt(dst []byte, mark int) []byte {
	n := len(dst) - mark - 1
	if n < 0x80 {
		dst[mark] = byte(n)
		return dst
	}
	extra := protowire.SizeVarint(uint64(n)) - 1
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[mark+1+extra:], dst[mark+1:mark+1+n])
	protowire.AppendVarint(dst[mark:mark], uint64(n))
	return dst
}

// openField begins a length-delimited field.
func openField(dst []byte, num protowire.Number) ([]byte, int) {
	return open(protowire.AppendTag(dst, num, protowire.BytesType))
}

// appendRanges writes sorted ranges as varint pairs: the distance from the end
// of the last range, and the length less one.
func appendRanges(dst []byte, num protowire.Number, rs []Range) []byte {
	if len(rs) == 0 {
		return dst
	}
	dst, mark := openField(dst, num)
	var last uint64
	for _, r := range rs {
		dst = protowire.AppendVarint(dst, r.From-last)
		dst = protowire.AppendVarint(dst, r.To-r.From)
		last = r.To
	}
	return closeAt(dst, mark)
}

// ranges decodes what appendRanges wrote into dst. Ranges that overlap, do not
// rise or wrap around are malformed.
func (f *fields) ranges(dst []Range) []Range {
	b := f.bytes()
	var last uint64
	for len(b) > 0 {
		gap, n := protowire.ConsumeVarint(b)
		if n < 0 {
			f.bad = true
			return dst
		}
		length, m := protowire.ConsumeVarint(b[n:])
		if m < 0 {
			f.bad = true
			return dst
		}
		b = b[n+m:]
		from := last + gap
		to := from + length
		if from < last || to < from || gap == 0 {
			f.bad = true
			return dst
		}
		dst = append(dst, Range{From: from, To: to})
		last = to
	}
	return dst
}
