package sessiontest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Pipe returns the two ends of an in-memory connection. Each direction holds up
// to capacity bytes: a write beyond it blocks until the other end reads, as with
// TCP. What was written before Close can still be read by the other end.
// Deadlines work.
func Pipe(capacity int) (a, b *PipeConn) {
	ab, ba := newHalf(capacity), newHalf(capacity)
	return &PipeConn{in: ba, out: ab, name: "client"}, &PipeConn{in: ab, out: ba, name: "server"}
}

// PipeConn is one end of a Pipe.
type PipeConn struct {
	in, out *half
	name    string
}

var _ net.Conn = (*PipeConn)(nil)

// half is one direction.
type half struct {
	cap int

	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte // guarded by mu, as the rest
	closedW  bool   // the writing end is closed: EOF after buf
	closedR  bool   // the reading end is closed: writes fail
	readBy   deadline
	writeBy  deadline
	written  int64
	writeErr error // injected
}

func newHalf(capacity int) *half {
	h := &half{cap: capacity}
	h.cond = sync.NewCond(&h.mu)
	return h
}

// deadline is a point in time that wakes those who wait.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set is called with h.mu held.
func (d *deadline) set(h *half, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	h.cond.Broadcast()
}

// Read reads what has been written, waiting for the first byte.
func (c *PipeConn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.closedR:
			return 0, net.ErrClosed
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.closedW:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

// Write writes everything, waiting for room.
func (c *PipeConn) Write(p []byte) (int, error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for {
		switch {
		case h.closedW:
			return n, net.ErrClosed
		case h.writeErr != nil:
			return n, h.writeErr
		case h.closedR:
			return n, io.ErrClosedPipe
		case h.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		case len(h.buf) < h.cap:
			k := min(len(p), h.cap-len(h.buf))
			h.buf = append(h.buf, p[:k]...)
			h.written += int64(k)
			p, n = p[k:], n+k
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
}

// Close closes this end. The other one reads what is there, then EOF; its
// writes fail.
func (c *PipeConn) Close() error {
	h := c.in
	h.mu.Lock()
	h.closedR, h.buf = true, nil
	h.readBy.set(h, time.Time{})
	h.cond.Broadcast()
	h.mu.Unlock()
	h = c.out
	h.mu.Lock()
	h.closedW = true
	h.writeBy.set(h, time.Time{})
	h.cond.Broadcast()
	h.mu.Unlock()
	return nil
}

// CloseWrite ends the stream to the other end and goes on reading.
func (c *PipeConn) CloseWrite() error {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closedW = true
	h.cond.Broadcast()
	return nil
}

// FailWrites makes every later write of this end fail with err.
func (c *PipeConn) FailWrites(err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeErr = err
	h.cond.Broadcast()
}

// Written returns how many bytes this end has written.
func (c *PipeConn) Written() int64 {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.written
}

// SetDeadline sets both deadlines.
func (c *PipeConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of reads.
func (c *PipeConn) SetReadDeadline(t time.Time) error {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readBy.set(h, t)
	return nil
}

// SetWriteDeadline sets the deadline of writes.
func (c *PipeConn) SetWriteDeadline(t time.Time) error {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeBy.set(h, t)
	return nil
}

// LocalAddr names this end.
func (c *PipeConn) LocalAddr() net.Addr { return pipeAddr(c.name) }

// RemoteAddr names the other end.
func (c *PipeConn) RemoteAddr() net.Addr { return pipeAddr("pipe") }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }
