package command

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Results are a sequence of runs. A run starts with a varint: n<<1 is followed by
// a varint code and stands for n results with nothing but that code; n<<1|1 is
// followed by n bytes with one full result. A batch of publishes that all went
// well is two or three bytes.

// ResultWriter encodes results as a machine makes them.
type ResultWriter struct {
	buf  []byte
	code ResultCode
	run  uint64
	n    int
}

// Reset starts a new list, appending to dst.
func (w *ResultWriter) Reset(dst []byte) { *w = ResultWriter{buf: dst} }

// Code adds a result that is nothing but a code.
func (w *ResultWriter) Code(c ResultCode) {
	w.n++
	if w.code == c {
		w.run++
		return
	}
	w.flush()
	w.code, w.run = c, 1
}

// Add adds a result.
func (w *ResultWriter) Add(r *Result) {
	if r.plain() {
		w.Code(r.Code)
		return
	}
	w.flush()
	w.n++
	start := len(w.buf)
	w.buf = r.append(w.buf)
	size := len(w.buf) - start
	head := uint64(size)<<1 | 1
	extra := protowire.SizeVarint(head)
	for range extra {
		w.buf = append(w.buf, 0)
	}
	copy(w.buf[start+extra:], w.buf[start:start+size])
	protowire.AppendVarint(w.buf[start:start], head)
}

// Len is how many results were added.
func (w *ResultWriter) Len() int { return w.n }

// Bytes ends the list.
func (w *ResultWriter) Bytes() []byte {
	w.flush()
	return w.buf
}

func (w *ResultWriter) flush() {
	if w.run > 0 {
		w.buf = protowire.AppendVarint(w.buf, w.run<<1)
		w.buf = protowire.AppendVarint(w.buf, uint64(w.code))
	}
	w.code, w.run = 0, 0
}

// EncodeResults adds encoded results to dst.
func EncodeResults(dst []byte, rs []Result) []byte {
	var w ResultWriter
	w.Reset(dst)
	for i := range rs {
		w.Add(&rs[i])
	}
	return w.Bytes()
}

// ResultReader walks over encoded results. What it returns is copied.
type ResultReader struct {
	b    []byte
	run  uint64
	code ResultCode
}

// NewResultReader reads b.
func NewResultReader(b []byte) ResultReader { return ResultReader{b: b} }

// Next reads the next result into r; false at the end.
func (d *ResultReader) Next(r *Result) (bool, error) {
	if d.run == 0 {
		if len(d.b) == 0 {
			return false, nil
		}
		head, n := protowire.ConsumeVarint(d.b)
		if n < 0 || head>>1 == 0 {
			return false, fmt.Errorf("decode results: %w", ErrMalformed)
		}
		d.b = d.b[n:]
		if head&1 != 0 {
			size := head >> 1
			if size > uint64(len(d.b)) {
				return false, fmt.Errorf("decode results: %w", ErrMalformed)
			}
			err := r.decode(d.b[:size])
			d.b = d.b[size:]
			return err == nil, err
		}
		code, n := protowire.ConsumeVarint(d.b)
		if n < 0 || code == 0 || code > 1<<32-1 {
			return false, fmt.Errorf("decode results: %w", ErrMalformed)
		}
		d.b = d.b[n:]
		d.run, d.code = head>>1, ResultCode(code)
	}
	d.run--
	*r = Result{Code: d.code}
	return true, nil
}

// DecodeResults reads encoded results, at most limit of them (a lane knows how many
// commands it sent): a few hostile bytes can stand for any number.
func DecodeResults(b []byte, limit int) ([]Result, error) {
	d := NewResultReader(b)
	var out []Result
	for {
		var r Result
		ok, err := d.Next(&r)
		if err != nil {
			return nil, err
		}
		if !ok {
			return out, nil
		}
		if len(out) == limit {
			return nil, fmt.Errorf("decode results: more than %d: %w", limit, ErrTooMany)
		}
		out = append(out, r)
	}
}

func (r *Result) plain() bool {
	return r.Epoch == 0 && !r.Present && r.ExpiryS == 0 && r.Prev == (Owner{}) && len(r.Subs) == 0 &&
		len(r.AwaitingRelease) == 0 && r.Index == 0 && len(r.Codes) == 0 && len(r.Existed) == 0 && r.Incarnation == 0 &&
		r.Gate == 0 && len(r.Replays) == 0
}

// append writes a full result: 1 code, 2 epoch, 3 present, 4 expiry, 5 previous
// owner {1 node, 2 incarnation, 3 epoch}, 6 subscription (repeated), 7 packet ids,
// 8 index, 9 codes, 10 existed, 11 incarnation, 12 gate, 13 replay (repeated)
// {1 filter, 2 after}.
func (r *Result) append(dst []byte) []byte {
	dst = putUint(dst, 1, uint64(r.Code))
	dst = putUint(dst, 2, r.Epoch)
	dst = putBool(dst, 3, r.Present)
	dst = putUint(dst, 4, uint64(r.ExpiryS))
	if r.Prev != (Owner{}) {
		var m int
		dst, m = openField(dst, 5)
		dst = putString(dst, 1, r.Prev.Node)
		dst = putUint(dst, 2, r.Prev.Incarnation)
		dst = putUint(dst, 3, r.Prev.Epoch)
		dst = closeAt(dst, m)
	}
	for i := range r.Subs {
		var m int
		dst, m = openField(dst, 6)
		dst = AppendSubscription(dst, &r.Subs[i])
		dst = closeAt(dst, m)
	}
	if len(r.AwaitingRelease) > 0 {
		var m int
		dst, m = openField(dst, 7)
		for _, id := range r.AwaitingRelease {
			dst = protowire.AppendVarint(dst, uint64(id))
		}
		dst = closeAt(dst, m)
	}
	dst = putUint(dst, 8, r.Index)
	dst = putBytes(dst, 9, r.Codes)
	if len(r.Existed) > 0 {
		var m int
		dst, m = openField(dst, 10)
		for _, e := range r.Existed {
			if e {
				dst = append(dst, 1)
			} else {
				dst = append(dst, 0)
			}
		}
		dst = closeAt(dst, m)
	}
	dst = putUint(dst, 11, r.Incarnation)
	dst = putUint(dst, 12, r.Gate)
	for i := range r.Replays {
		var m int
		dst, m = openField(dst, 13)
		dst = putString(dst, 1, r.Replays[i].Filter)
		dst = putString(dst, 2, r.Replays[i].After)
		dst = closeAt(dst, m)
	}
	return dst
}

func (r *Result) decode(b []byte) error {
	*r = Result{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			r.Code = ResultCode(f.u32())
		case 2:
			r.Epoch = f.uint()
		case 3:
			r.Present = f.bool()
		case 4:
			r.ExpiryS = f.u32()
		case 5:
			f.prev(&r.Prev)
		case 6:
			s, err := DecodeSubscription(f.bytes())
			if err != nil {
				return err
			}
			s.Filter = strings.Clone(s.Filter)
			r.Subs = append(r.Subs, s)
		case 7:
			r.AwaitingRelease = f.packetIDs(r.AwaitingRelease)
		case 8:
			r.Index = f.uint()
		case 9:
			r.Codes = slices.Clone(f.bytes())
		case 10:
			for _, e := range f.bytes() {
				r.Existed = append(r.Existed, e != 0)
			}
		case 11:
			r.Incarnation = f.uint()
		case 12:
			r.Gate = f.uint()
		case 13:
			r.Replays = append(r.Replays, f.pendingReplay())
		}
	}
	return f.err("result")
}

func (f *fields) pendingReplay() (p PendingReplay) {
	in := fields{b: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			p.Filter = strings.Clone(in.string())
		case 2:
			p.After = strings.Clone(in.string())
		}
	}
	f.bad = f.bad || in.bad
	return p
}

func (f *fields) prev(o *Owner) {
	in := fields{b: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			o.Node = strings.Clone(in.string())
		case 2:
			o.Incarnation = in.uint()
		case 3:
			o.Epoch = in.uint()
		}
	}
	f.bad = f.bad || in.bad
}

func (f *fields) packetIDs(dst []uint16) []uint16 {
	for b := f.bytes(); len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 || v > 1<<16-1 {
			f.bad = true
			return dst
		}
		dst = append(dst, uint16(v))
		b = b[n:]
	}
	return dst
}
