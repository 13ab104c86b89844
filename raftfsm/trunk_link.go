package raftfsm

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// trunkLink is the way to one node: its stream, or the dial that is to bring one.
type trunkLink struct {
	t    *trunk
	node string

	mu      sync.Mutex
	current *trunkStream
	dial    *trunkDial
	without time.Time // until when the node is taken for one that has no trunk
}

// trunkDial is a dial under way; whoever needs the stream waits for it.
type trunkDial struct {
	done   chan struct{}
	stream *trunkStream
	err    error
}

// withoutTrunk is how long a node that refused a trunk is not asked again.
const withoutTrunk = time.Second

// stream returns the stream to the node; the first who needs one dials it.
func (l *trunkLink) stream(e *trunkEnd) (*trunkStream, error) {
	select {
	case <-e.closed:
		return nil, net.ErrClosed
	default:
	}
	l.mu.Lock()
	if s := l.current; s != nil && !s.ended() {
		l.mu.Unlock()
		return s, nil
	}
	if time.Now().Before(l.without) {
		l.mu.Unlock()
		return nil, errNoTrunk
	}
	d := l.dial
	if d == nil {
		d = &trunkDial{done: make(chan struct{})}
		// On a goroutine of the trunk: a replica that is closed does not wait for a peer that does not answer.
		if !l.t.attend(func() { l.connect(d, e.dial) }) {
			l.mu.Unlock()
			return nil, net.ErrClosed
		}
		l.dial = d
	}
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.stream, d.err
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

// connect dials, and tells those who wait.
func (l *trunkLink) connect(d *trunkDial, timeout time.Duration) {
	c, err := l.t.layer.Dial(raft.ServerAddress(l.node), timeout)
	var refusal interface{ Refused() bool }
	refused := errors.As(err, &refusal) && refusal.Refused()
	if err == nil {
		d.stream = newTrunkStream(c)
		if !l.t.attend(d.stream.read) {
			_ = c.Close()
			err = net.ErrClosed
		}
	}
	l.mu.Lock()
	l.dial = nil
	switch {
	case err == nil:
		l.current = d.stream
	case refused:
		l.without = time.Now().Add(withoutTrunk)
		err = errNoTrunk
	}
	l.mu.Unlock()
	d.err = err
	close(d.done)
}

// attend runs fn on a goroutine that close waits for, unless the trunk is closed.
func (t *trunk) attend(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.spawn(fn)
	return true
}

// trunkStream is the end of a stream that this node has dialled.
type trunkStream struct {
	conn  net.Conn
	out   frameWriter
	heard atomic.Int64 // when something was read last, in nanoseconds

	mu    sync.Mutex
	calls map[uint64]*trunkCall
	last  uint64
	err   error
	free  []*trunkCall
}

// trunkCall is a request that waits for its answer.
type trunkCall struct {
	number uint64
	resp   any
	done   chan error // capacity 1
	timer  *time.Timer
}

func newTrunkStream(c net.Conn) *trunkStream {
	return &trunkStream{conn: c, out: frameWriter{conn: c, patience: trunkPatience}, calls: map[uint64]*trunkCall{}}
}

func (s *trunkStream) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// call sends a request and waits for its answer.
func (s *trunkStream) call(f frame, resp any, e *trunkEnd) error {
	begun := time.Now().UnixNano()
	c, err := s.begin(resp, e.patience)
	if err != nil {
		return err
	}
	f.number = c.number
	if err := s.out.send(f); err != nil {
		s.end(err)
	}
	select {
	case err = <-c.done:
	case <-c.timer.C:
		err = s.giveUp(c, errNoAnswer)
		if s.heard.Load() < begun {
			s.end(errNoAnswer) // nothing came back on it for as long: it leads nowhere
		}
	case <-e.closed:
		err = s.giveUp(c, net.ErrClosed)
	}
	s.release(c)
	return err
}

func (s *trunkStream) begin(resp any, timeout time.Duration) (*trunkCall, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	var c *trunkCall
	if n := len(s.free); n > 0 {
		c, s.free = s.free[n-1], s.free[:n-1]
		c.timer.Reset(timeout)
	} else {
		c = &trunkCall{done: make(chan error, 1), timer: time.NewTimer(timeout)}
	}
	s.last++
	c.number, c.resp = s.last, resp
	s.calls[c.number] = c
	return c, nil
}

// giveUp withdraws a call. If its answer has just come, that counts.
func (s *trunkStream) giveUp(c *trunkCall, why error) error {
	if s.take(c.number) == nil {
		return <-c.done // whoever took it answers it at once
	}
	return why
}

func (s *trunkStream) take(number uint64) *trunkCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[number]
	delete(s.calls, number)
	return c
}

func (s *trunkStream) release(c *trunkCall) {
	c.timer.Stop()
	c.resp = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, c)
}

// end ends the stream: every call under way fails with why.
func (s *trunkStream) end(why error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = why
	}
	calls := s.calls
	s.calls = map[uint64]*trunkCall{}
	s.mu.Unlock()
	_ = s.conn.Close()
	for _, c := range calls {
		c.done <- why
	}
}

// read takes the answers until the stream ends.
func (s *trunkStream) read() {
	r := bufio.NewReaderSize(s.conn, trunkBuffer)
	for {
		f, err := readFrame(r)
		if err != nil {
			s.end(err)
			return
		}
		s.heard.Store(time.Now().UnixNano())
		if c := s.take(f.number); c != nil { // otherwise it comes too late
			c.done <- f.answer(c.resp)
		}
	}
}
