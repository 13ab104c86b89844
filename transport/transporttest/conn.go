package transporttest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is one direction of a connection: chunks that wait for their time.
type stream struct {
	link *link

	mu     sync.Mutex
	chunks []chunk
	last   time.Time     // delivery time of the newest chunk: order is kept
	free   time.Time     // when the bandwidth is free again
	muted  bool          // the sender has no power: nothing arrives any more
	lost   bool          // something was sent into a muted receiver
	ready  chan struct{} // closed at the next push; nil while nobody waits
}

type chunk struct {
	data []byte
	at   time.Time
	end  error // io.EOF or a reset; then there is no data
}

func newStream(k *link) *stream { return &stream{link: k} }

// push queues data, or an end.
func (s *stream) push(data []byte, end error) {
	delay, bandwidth := s.link.latency()
	now := time.Now()
	s.mu.Lock()
	if s.muted || s.endedLocked() {
		s.mu.Unlock()
		return
	}
	at := now
	if bandwidth > 0 {
		if s.free.After(at) {
			at = s.free
		}
		at = at.Add(time.Duration(float64(len(data)) / float64(bandwidth) * float64(time.Second)))
		s.free = at
	}
	at = at.Add(delay)
	if at.Before(s.last) {
		at = s.last
	}
	s.last = at
	s.chunks = append(s.chunks, chunk{data: append([]byte(nil), data...), at: at, end: end})
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	if ready != nil {
		close(ready)
	}
}

func (s *stream) end(err error) { s.push(nil, err) }

// endedLocked tells whether an end is queued already.
func (s *stream) endedLocked() bool {
	return len(s.chunks) > 0 && s.chunks[len(s.chunks)-1].end != nil
}

// mute drops what is on its way, and all that follows.
func (s *stream) mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks, s.muted = nil, true
}

// arrivals is what take found.
type arrivals struct {
	n       int
	err     error
	ready   <-chan struct{} // else wait for one of these
	changed <-chan struct{}
	at      time.Time // zero: nothing is on its way
}

// take moves what has arrived into p.
func (s *stream) take(p []byte) arrivals {
	up, changed := s.link.up()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var a arrivals
	for up && len(s.chunks) > 0 && !s.chunks[0].at.After(now) {
		c := &s.chunks[0]
		if c.end != nil {
			if a.n == 0 {
				a.err = c.end
			}
			return a
		}
		k := copy(p[a.n:], c.data)
		a.n += k
		c.data = c.data[k:]
		if len(c.data) > 0 {
			return a
		}
		s.chunks = s.chunks[1:]
	}
	if a.n > 0 {
		return a
	}
	if len(s.chunks) > 0 && up {
		a.at = s.chunks[0].at
	}
	if s.ready == nil {
		s.ready = make(chan struct{})
	}
	a.ready, a.changed = s.ready, changed
	return a
}

// over tells whether the end of the stream has arrived, data before it or not.
func (s *stream) over() bool {
	up, _ := s.link.up()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return up && s.endedLocked() && !s.last.After(now)
}

// conn is one end of a connection.
type conn struct {
	hub           *Hub
	host          *host
	local, remote addr
	peer          *conn
	in, out       *stream
	rd, wd        *deadline

	mu     sync.Mutex
	cause  error // why the connection is over, nil while it is not
	shut   bool  // CloseWrite was called
	late   bool  // something was written after the other side's end arrived
	cutOff bool  // the other machine restarted: the next byte is answered by a reset
	done   chan struct{}
}

var _ net.Conn = (*conn)(nil)

func newConn(h *Hub, hs *host, local, remote addr) *conn {
	return &conn{hub: h, host: hs, local: local, remote: remote, rd: newDeadline(), wd: newDeadline(), done: make(chan struct{})}
}

func (c *conn) opErr(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

func (c *conn) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// fail ends this end of the connection; false if it was over already.
func (c *conn) fail(err error) bool {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return false
	}
	c.cause = err
	c.mu.Unlock()
	close(c.done)
	c.rd.set(time.Time{})
	c.wd.set(time.Time{})
	c.hub.mu.Lock()
	delete(c.host.conns, c)
	c.hub.mu.Unlock()
	return true
}

// abort undoes a connection that was never handed out.
func (c *conn) abort() {
	c.fail(net.ErrClosed)
	c.peer.fail(net.ErrClosed)
}

// orphan says that the other machine has restarted and knows nothing of this connection.
func (c *conn) orphan() {
	c.out.mu.Lock()
	lost := c.out.lost
	c.out.mu.Unlock()
	if lost {
		c.fail(errReset)
		return
	}
	c.mu.Lock()
	c.cutOff = true
	c.mu.Unlock()
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if err := c.over(); err != nil {
			return 0, c.opErr("read", err)
		}
		passed := c.rd.wait()
		select {
		case <-passed:
			return 0, c.opErr("read", os.ErrDeadlineExceeded)
		default:
		}
		if len(p) == 0 {
			return 0, nil
		}
		a := c.in.take(p)
		if a.n > 0 {
			return a.n, nil
		}
		if a.err == io.EOF {
			return 0, io.EOF
		}
		if a.err != nil {
			c.fail(a.err)
			return 0, c.opErr("read", a.err)
		}
		c.pause(a, passed)
	}
}

// pause waits until something may have changed.
func (c *conn) pause(a arrivals, passed <-chan struct{}) {
	var arrive <-chan time.Time
	if !a.at.IsZero() {
		t := time.NewTimer(time.Until(a.at))
		defer t.Stop()
		arrive = t.C
	}
	select {
	case <-a.ready:
	case <-a.changed:
	case <-arrive:
	case <-passed:
	case <-c.done:
	}
}

// Write implements net.Conn. It never blocks. As with TCP, the first write
// after the other side has closed may still succeed.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.over(); err != nil {
		return 0, c.opErr("write", err)
	}
	select {
	case <-c.wd.wait():
		return 0, c.opErr("write", os.ErrDeadlineExceeded)
	default:
	}
	ended := c.in.over() && c.peer.over() != nil // after a half close it still reads
	c.mu.Lock()
	late, cutOff := c.late || c.shut, c.cutOff
	c.late = c.late || ended
	c.mu.Unlock()
	if cutOff {
		c.fail(errReset)
		return len(p), nil
	}
	if late {
		return 0, c.opErr("write", syscall.EPIPE)
	}
	if c.peer.over() != nil {
		c.out.mu.Lock()
		c.out.lost = true
		c.out.mu.Unlock()
		return len(p), nil
	}
	c.out.push(p, nil)
	return len(p), nil
}

// Close implements net.Conn: the other side reads what was written, then io.EOF.
func (c *conn) Close() error {
	if !c.fail(net.ErrClosed) {
		return c.opErr("close", net.ErrClosed)
	}
	c.out.end(io.EOF)
	return nil
}

// CloseWrite ends the outgoing direction, as TCP can; reading goes on.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	cause := c.cause
	c.shut = true
	c.mu.Unlock()
	if cause != nil {
		return c.opErr("close", cause)
	}
	c.out.end(io.EOF)
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if err := c.over(); err != nil {
		return c.opErr("set", err)
	}
	c.rd.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn. Writes never block, so it matters only
// when it has passed.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if err := c.over(); err != nil {
		return c.opErr("set", err)
	}
	c.wd.set(t)
	return nil
}
