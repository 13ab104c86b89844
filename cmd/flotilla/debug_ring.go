package main

import (
	"bytes"
	"sync"
)

// logRingBytes is how much of the log a node keeps in memory for a debug bundle.
const logRingBytes = 512 << 10

// logRing keeps the last lines that were written to it, in bounded memory.
type logRing struct {
	most int

	mu sync.Mutex
	// Under mu:
	buf  []byte // a ring once it is full
	next int    // where the next byte goes
	full bool
}

func newLogRing(most int) *logRing { return &logRing{most: most} }

// Write implements io.Writer. It never fails.
func (r *logRing) Write(p []byte) (int, error) {
	n := len(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf == nil {
		r.buf = make([]byte, r.most)
	}
	p = p[max(0, n-r.most):]
	for len(p) > 0 {
		done := copy(r.buf[r.next:], p)
		p = p[done:]
		r.next += done
		if r.next == r.most {
			r.next, r.full = 0, true
		}
	}
	return n, nil
}

// bytes are the whole lines that are left, the oldest first.
func (r *logRing) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.full {
		return bytes.Clone(r.buf[:r.next])
	}
	out := append(bytes.Clone(r.buf[r.next:]), r.buf[:r.next]...)
	if i := bytes.IndexByte(out, '\n'); i >= 0 {
		out = out[i+1:] // the first line is cut
	}
	return out
}
