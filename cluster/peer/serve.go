package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Handler takes a frame from another node. The frames of one link come in
// order, one after the other, on the goroutine that reads them: a handler must
// not block. payload is valid only during the call.
//
// reply is nil for a frame that wants no reply. Else it must be called once,
// now or later, from any goroutine; it copies its payload and does not block.
// An error reaches the caller as a RemoteError with its text.
type Handler func(from string, payload []byte, reply func(payload []byte, err error))

const (
	// replySoft is how many bytes of replies may wait before no more requests
	// are read from that connection.
	replySoft = 8 << 20
	// replyHard is how many may wait at all, with the replies to requests that
	// were read before: past it the connection is broken.
	replyHard = 64 << 20
)

// server is one incoming connection.
type server struct {
	l     *Links
	from  string
	w     *wire
	boot  uint64 // of the other node's process
	dial  uint64 // grows with its dials
	ended atomic.Bool
	done  chan struct{} // closed when no handler will be called any more
	wrote chan struct{} // closed when the writer has ended
}

// Serve serves the frames that arrive on a connection dialled by node from,
// until it ends. It replaces an earlier connection of that node. It always
// returns an error: what the connection ended with, ErrSuperseded, or ErrClosed.
func (l *Links) Serve(conn net.Conn, from string) error {
	if !l.enter() {
		_ = conn.Close()
		return ErrClosed
	}
	defer l.wg.Done()
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(l.ctx, func() { _ = conn.Close() })()
	s := &server{l: l, from: from, done: make(chan struct{}), wrote: make(chan struct{})}
	s.w = &wire{conn: conn, out: newOutbox(replyHard), limit: l.o.DeadAfter, beat: l.o.Heartbeat, count: &counters{}}
	err := s.serve()
	switch {
	case l.ctx.Err() != nil:
		return ErrClosed
	case s.ended.Load():
		return ErrSuperseded
	}
	l.lg.Debug("incoming link ended", zap.String("peer", from), zap.Error(err))
	return err
}

func (s *server) serve() error {
	r := newFrameReader(s.w)
	if err := s.hello(r); err != nil {
		return err
	}
	if err := s.l.takeOver(s); err != nil {
		return err
	}
	defer s.l.leave(s)
	defer close(s.done)
	stop := make(chan struct{})
	var writeErr error
	go func() {
		defer close(s.wrote)
		writeErr = s.w.pump(stop, s.beat())
		_ = s.w.conn.Close() // ends the reader, if writing failed
	}()
	err := s.read(r)
	close(stop)
	_ = s.w.conn.Close()
	<-s.wrote
	if writeErr != nil && errors.Is(err, net.ErrClosed) {
		err = writeErr // it came first
	}
	return err
}

// beat returns what shows the other side, once per interval, that this one
// lives: nothing, if something was written since.
func (s *server) beat() func() {
	var last uint64
	return func() {
		if n := s.w.count.writes.Load(); n != last {
			last = n
			return
		}
		_ = s.w.out.add(kindPong, 0, 0, nil)
		last++ // the write of this one does not count
	}
}

// hello reads the first frame: which process dialled, and which of its dials this is.
func (s *server) hello(r *frameReader) error {
	h, p, err := r.next()
	if err != nil {
		return err
	}
	if h.kind != kindLink || len(p) < 16 {
		return fmt.Errorf("%w: first frame is of kind %d", ErrProtocol, h.kind)
	}
	s.boot, s.dial = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	return nil
}

// read calls the handlers until the connection ends.
func (s *server) read(r *frameReader) error {
	for {
		if err := s.throttle(); err != nil {
			return err
		}
		h, p, err := r.next()
		if err != nil {
			return err
		}
		s.w.count.framesReceived.Add(1)
		switch {
		case h.kind == kindPing:
			err = s.w.out.add(kindPong, 0, 0, p)
		case h.flags&flagReply != 0 || h.kind >= kindLink:
			err = fmt.Errorf("%w: frame of kind %d with flags %d on an incoming link", ErrProtocol, h.kind, h.flags)
		default:
			s.dispatch(h, p)
		}
		if err != nil {
			return err
		}
	}
}

func (s *server) dispatch(h header, p []byte) {
	fn := s.l.handlers[h.kind]
	call := h.flags&flagCall != 0
	switch {
	case fn == nil && call:
		s.send(h.kind, flagReply|flagError, h.id, []byte{errCodeUnknownKind})
	case fn == nil:
		s.l.unknown.Add(1) // a newer node's one-way frame
	case call:
		fn(s.from, p, func(resp []byte, err error) { s.reply(h.kind, h.id, resp, err) })
	default:
		fn(s.from, p, nil)
	}
}

func (s *server) reply(k Kind, id uint32, p []byte, err error) {
	switch {
	case err != nil:
		text := err.Error()
		s.send(k, flagReply|flagError, id, append([]byte{errCodeRemote}, text[:min(len(text), maxErrorText)]...))
	case len(p) > MaxPayload:
		s.send(k, flagReply|flagError, id, []byte{errCodeTooLarge})
	default:
		s.send(k, flagReply, id, p)
	}
}

// maxErrorText bounds the text of an error reply.
const maxErrorText = 4096

func (s *server) send(k Kind, flags byte, id uint32, p []byte) {
	select {
	case <-s.done:
		return // the connection is gone, the caller knows
	default:
	}
	if err := s.w.out.add(k, flags, id, p); err != nil {
		s.l.lg.Warn("replies pile up, link broken", zap.String("peer", s.from))
		_ = s.w.conn.Close()
	}
}

// throttle waits while too many replies do. The other side reads them, or its
// silence ends the connection.
func (s *server) throttle() error {
	if s.w.out.size() <= replySoft {
		return nil
	}
	t := time.NewTimer(s.l.o.DeadAfter)
	defer t.Stop()
	for s.w.out.size() > replySoft {
		select {
		case <-s.w.out.room:
			t.Reset(s.l.o.DeadAfter)
		case <-s.wrote:
			return net.ErrClosed
		case <-t.C:
			return fmt.Errorf("%w: replies are not read", ErrProtocol)
		}
	}
	return nil
}
