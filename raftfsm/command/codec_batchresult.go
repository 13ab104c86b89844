package command

import (
	"slices"
	"strings"
)

// Append adds a batch result for the wire: 1 node, 2 incarnation, 3 seq, 4 code,
// 5 results.
func (r *BatchResult) Append(dst []byte) []byte {
	dst = putString(dst, 1, r.Node)
	dst = putUint(dst, 2, r.Incarnation)
	dst = putUint(dst, 3, r.Seq)
	dst = putUint(dst, 4, uint64(r.Code))
	return putBytes(dst, 5, r.Results)
}

// Decode reads what Append wrote. It copies.
func (r *BatchResult) Decode(b []byte) error {
	*r = BatchResult{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			r.Node = strings.Clone(f.string())
		case 2:
			r.Incarnation = f.uint()
		case 3:
			r.Seq = f.uint()
		case 4:
			r.Code = ResultCode(f.u32())
		case 5:
			r.Results = slices.Clone(f.bytes())
		}
	}
	return f.err("batch result")
}
