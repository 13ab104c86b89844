package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"
)

// goodbyeTimeout bounds the write of a close frame when a connection is
// closed: it fits into any socket buffer that is not full.
const goodbyeTimeout = 50 * time.Millisecond

// webSocketBuffer is what a waiting WebSocket holds: more than the longest head
// and the longest control frame.
const webSocketBuffer = 512

// copyMax is the length of a message up to which one Write of a copy is cheaper
// than a writev.
const copyMax = 16 << 10

// The opcodes and bits of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
	bitFin         = 0x80
	bitsReserved   = 0x70
	bitMask        = 0x80
	bitControl     = 0x08 // of the opcode
	controlMax     = 125  // bytes in a control frame
)

// The close codes that are sent.
const (
	closeNormal    = 1000
	closeProtocol  = 1002
	closeNotBinary = 1003
	closeNotText   = 1007 // a reason that is not UTF-8
)

// errNotBinary ends a connection that sends text frames. [MQTT-6.0.0-1]
var errNotBinary = errors.New("websocket: data frame is not binary")

// webSocket is the byte stream in the binary messages of a WebSocket. Packets
// may span messages and frames, and share them. [MQTT-6.0.0-2]
//
// Bytes are handed on as they come, without waiting for the end of their frame,
// and a Read that timed out can be repeated.
type webSocket struct {
	port *ClientPort
	t    *tracked
	src  io.Reader

	// Of the reader alone. Unread bytes are buf[r:w].
	buf     []byte
	r, w    int
	left    uint64 // payload of the data frame under way
	key     [4]byte
	keyAt   int   // which byte of the key comes next
	message bool  // a fragmented message goes on
	err     error // why no more can be read

	writing chan struct{} // capacity 1: one frame at a time; never given back after a close frame
	one     [1][]byte     // under writing
	broken  bool          // under writing: a frame was written in part
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	pong []byte // the answer that the last ping waits for; nil: none
}

// newWebSocket begins with what was read behind the request.
func newWebSocket(p *ClientPort, t *tracked, src io.Reader, early []byte) *webSocket {
	s := &webSocket{
		port: p, t: t, src: src, buf: make([]byte, max(webSocketBuffer, len(early))),
		writing: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	s.w = copy(s.buf, early)
	return s
}

func (s *webSocket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for s.err == nil {
		if s.left > 0 {
			return s.payload(p)
		}
		if err := s.nextFrame(); err != nil {
			if t, ok := err.(net.Error); ok && t.Timeout() {
				return 0, err // nothing is lost
			}
			s.err = err
		}
	}
	return 0, s.err
}

// payload reads what is there of the data frame under way.
func (s *webSocket) payload(p []byte) (n int, err error) {
	p = p[:min(uint64(len(p)), s.left)]
	if s.r < s.w {
		n = copy(p, s.buf[s.r:s.w])
		s.r += n
	} else {
		n, err = s.src.Read(p)
	}
	unmask(p[:n], s.key, s.keyAt)
	s.keyAt = (s.keyAt + n) % 4
	s.left -= uint64(n)
	if n > 0 {
		return n, nil // an error comes again
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return 0, webError(err)
}

func webError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &webReadError{err}
}

// webReadError keeps what the network says about its error.
type webReadError struct{ err error }

func (e *webReadError) Error() string { return "websocket: " + e.err.Error() }

func (e *webReadError) Unwrap() error { return e.err }

func (e *webReadError) Timeout() bool {
	t, ok := e.err.(net.Error)
	return ok && t.Timeout()
}

func (e *webReadError) Temporary() bool { return false }

// want reads until n bytes are in the buffer.
func (s *webSocket) want(n int) ([]byte, error) {
	if s.r == s.w {
		s.r, s.w = 0, 0
	}
	if s.r+n > len(s.buf) {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	for s.w-s.r < n {
		k, err := s.src.Read(s.buf[s.w:])
		s.w += k
		if k == 0 && err != nil {
			if s.w > s.r && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, webError(err)
		}
	}
	return s.buf[s.r : s.r+n], nil
}

// nextFrame reads the head of the next frame, and the whole of a control frame.
func (s *webSocket) nextFrame() error {
	b, err := s.want(2)
	if err != nil {
		return err
	}
	first, second := b[0], b[1]
	opcode, size := first&0x0F, int(second&^bitMask)
	if err := s.checkHead(first, second); err != nil {
		return err
	}
	head := 2
	switch size {
	case 126:
		head += 2
	case 127:
		head += 8
	}
	whole := head + 4
	if opcode&bitControl != 0 {
		whole += size
	}
	if b, err = s.want(whole); err != nil {
		return err
	}
	n := uint64(size)
	switch head {
	case 4:
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 10:
		if n = binary.BigEndian.Uint64(b[2:]); n>>63 != 0 {
			return s.fail(closeProtocol, "length of 64 bits")
		}
	}
	s.key, s.keyAt = [4]byte(b[head:]), 0
	s.r += whole
	if opcode&bitControl != 0 {
		unmask(b[head+4:], s.key, 0)
		return s.control(opcode, b[head+4:])
	}
	s.left, s.message = n, first&bitFin == 0
	return nil
}

// checkHead holds the rules about the first two bytes of a frame.
func (s *webSocket) checkHead(first, second byte) error {
	opcode := first & 0x0F
	control := opcode&bitControl != 0
	switch {
	case first&bitsReserved != 0:
		return s.fail(closeProtocol, "reserved bits")
	case second&bitMask == 0:
		return s.fail(closeProtocol, "frame is not masked")
	case control && opcode > opPong, !control && opcode > opBinary:
		return s.fail(closeProtocol, "unknown opcode")
	case control && (first&bitFin == 0 || second&^bitMask > controlMax):
		return s.fail(closeProtocol, "control frame is fragmented or too long")
	case opcode == opText:
		s.close(closeNotBinary)
		s.t.kill() // at once, whatever the owner does
		return errNotBinary
	case !control && (opcode == opContinuation) != s.message:
		return s.fail(closeProtocol, "continuation out of place")
	}
	return nil
}

func (s *webSocket) fail(code uint16, msg string) error {
	s.close(code)
	return errors.New("websocket: " + msg)
}

// control handles a control frame.
func (s *webSocket) control(opcode byte, payload []byte) error {
	switch opcode {
	case opPing:
		s.answer(payload)
		return nil
	case opPong:
		return nil
	}
	if len(payload) == 0 {
		s.close(closeNormal)
		return io.EOF
	}
	if len(payload) == 1 {
		return s.fail(closeProtocol, "close code of one byte")
	}
	code := binary.BigEndian.Uint16(payload)
	switch {
	case !validClose(code):
		return s.fail(closeProtocol, "invalid close code")
	case !utf8.Valid(payload[2:]):
		return s.fail(closeNotText, "reason of the close is not UTF-8")
	}
	s.close(code)
	if code == closeNormal || code == 1001 { // done, or the page is left
		return io.EOF
	}
	return fmt.Errorf("websocket: closed by the client with code %d", code)
}

// validClose holds RFC 6455, section 7.4.
func validClose(code uint16) bool {
	switch {
	case code >= 3000 && code < 5000:
		return true
	case code < 1000 || code > 1014:
		return false
	}
	return code != 1004 && code != 1005 && code != 1006
}

// unmask applies the key, beginning with its byte number at.
func unmask(b []byte, key [4]byte, at int) {
	var long [8]byte
	for i := range long {
		long[i] = key[(at+i)%4]
	}
	word := binary.LittleEndian.Uint64(long[:])
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= long[i]
	}
}

// answer sends a pong. While a frame is being written it only notes what to
// send: the writer does it then, and the reader never waits for a client that
// does not read. Only the last of several pings is answered, as RFC 6455 allows.
func (s *webSocket) answer(payload []byte) {
	s.mu.Lock()
	s.pong = append(s.pong[:0], payload...)
	if s.pong == nil {
		s.pong = []byte{}
	}
	s.mu.Unlock()
	s.flushPong()
}

// flushPong sends the pong that waits, unless somebody is writing: then he will.
func (s *webSocket) flushPong() {
	for {
		s.mu.Lock()
		waits := s.pong != nil
		s.mu.Unlock()
		if !waits {
			return
		}
		select {
		case s.writing <- struct{}{}:
		default:
			return
		}
		s.mu.Lock()
		pong := s.pong
		s.pong = nil
		s.mu.Unlock()
		if pong != nil {
			_, _ = s.frame(opPong, [][]byte{pong}) // the next write fails, too
		}
		<-s.writing
	}
}

// Write writes p as one message.
func (s *webSocket) Write(p []byte) (int, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	s.one[0] = p
	n, err := s.frame(opBinary, s.one[:])
	s.one[0] = nil
	s.end()
	return int(n), err
}

func (s *webSocket) writeBuffers(b *net.Buffers) (int64, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	n, err := s.frame(opBinary, *b)
	*b = nil
	s.end()
	return n, err
}

func (s *webSocket) begin() error {
	select {
	case s.writing <- struct{}{}:
		return nil
	case <-s.closed:
		return fmt.Errorf("websocket: %w", net.ErrClosed)
	}
}

func (s *webSocket) end() {
	<-s.writing
	s.flushPong()
}

// frame writes one frame, and returns the bytes of its payload: all or none.
// The caller holds writing.
func (s *webSocket) frame(opcode byte, b [][]byte) (int64, error) {
	if s.broken {
		return 0, fmt.Errorf("websocket: after a write that failed: %w", net.ErrClosed)
	}
	size := 0
	for _, x := range b {
		size += len(x)
	}
	var err error
	if tcp, ok := s.t.Conn.(*net.TCPConn); ok && size > copyMax {
		all := append(net.Buffers{appendHead(nil, opcode, size)}, b...)
		_, err = all.WriteTo(tcp)
	} else {
		err = s.copyFrame(opcode, size, b)
	}
	if err != nil {
		s.broken = true
		return 0, fmt.Errorf("websocket: %w", err)
	}
	return int64(size), nil
}

// copyFrame writes a frame with one Write.
func (s *webSocket) copyFrame(opcode byte, size int, b [][]byte) error {
	buf := s.port.borrow()
	*buf = appendHead(*buf, opcode, size)
	for _, x := range b {
		*buf = append(*buf, x...)
	}
	_, err := s.t.Conn.Write(*buf)
	s.port.giveBack(buf)
	return err
}

// appendHead appends the head of a whole, unmasked frame.
func appendHead(b []byte, opcode byte, size int) []byte {
	b = append(b, bitFin|opcode)
	switch {
	case size <= controlMax:
		return append(b, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(size))
}

func (s *webSocket) closeWrite() error {
	s.close(closeNormal)
	return nil
}

func (s *webSocket) goodbye() { s.close(closeNormal) }

// close sends a close frame, unless there was one, or a message is being
// written. It does not wait for the answer of the client.
func (s *webSocket) close(code uint16) {
	s.once.Do(func() { close(s.closed) })
	select {
	case s.writing <- struct{}{}: // never given back: nothing may follow a close frame
	default:
		return
	}
	_ = s.t.raw.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	_, _ = s.frame(opClose, [][]byte{binary.BigEndian.AppendUint16(nil, code)}) // the connection is closed either way
}
