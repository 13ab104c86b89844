package raftfsmtest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// conn is one end of a stream in memory. Writes never block; what is written arrives after the link's
// delay, and not while the link is cut: the bytes are held until it heals, as TCP would.
type conn struct {
	in, out       *pipe
	local, remote addr
	onClose       func(*conn)
	once          sync.Once
}

type addr string

func (a addr) Network() string { return "mem" }
func (a addr) String() string  { return string(a) }

func (c *conn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.remote }
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { return nil }
func (c *conn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }

// Close ends both directions: the peer reads what is under way, then EOF.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.in.abort()
		c.out.end()
		if c.onClose != nil {
			c.onClose(c)
		}
	})
	return nil
}

// chunk is bytes on their way.
type chunk struct {
	b  []byte
	at time.Time
}

// pipe is one direction of a stream.
type pipe struct {
	link *link

	mu       sync.Mutex
	chunks   []chunk
	ended    bool // no more is written
	aborted  bool // the reader has closed
	deadline time.Time
	changed  chan struct{}
}

func newPipe(l *link) *pipe { return &pipe{link: l, changed: make(chan struct{})} }

func (p *pipe) changedLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) write(b []byte) (int, error) {
	at := time.Now().Add(p.link.getDelay())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.aborted {
		return 0, net.ErrClosed
	}
	p.link.bytes.Add(int64(len(b)))
	p.chunks = append(p.chunks, chunk{b: append([]byte(nil), b...), at: at})
	p.changedLocked()
	return len(b), nil
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changedLocked()
}

func (p *pipe) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.aborted = true
	p.chunks = nil
	p.changedLocked()
}

func (p *pipe) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	p.changedLocked()
}

func (p *pipe) read(b []byte) (int, error) {
	for {
		n, changed, until, err := p.tryRead(b)
		if n > 0 || err != nil {
			return n, err
		}
		_, healed := p.link.isCut()
		var timer <-chan time.Time
		var t *time.Timer
		if !until.IsZero() {
			t = time.NewTimer(time.Until(until))
			timer = t.C
		}
		select {
		case <-changed:
		case <-healed:
		case <-timer:
		}
		if t != nil {
			t.Stop()
		}
	}
}

// tryRead returns bytes or an error, or what to wait for: a change, and a time if one is set.
func (p *pipe) tryRead(b []byte) (n int, changed <-chan struct{}, until time.Time, err error) {
	cut, _ := p.link.isCut()
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.aborted:
		return 0, nil, until, net.ErrClosed
	case !p.deadline.IsZero() && !now.Before(p.deadline):
		return 0, nil, until, os.ErrDeadlineExceeded
	case !cut && len(p.chunks) > 0 && !now.Before(p.chunks[0].at):
		c := &p.chunks[0]
		n = copy(b, c.b)
		if c.b = c.b[n:]; len(c.b) == 0 {
			p.chunks = p.chunks[1:]
		}
		return n, nil, until, nil
	case !cut && len(p.chunks) == 0 && p.ended:
		return 0, nil, until, io.EOF
	}
	until = p.deadline
	if !cut && len(p.chunks) > 0 && (until.IsZero() || p.chunks[0].at.Before(until)) {
		until = p.chunks[0].at
	}
	return 0, p.changed, until, nil
}
