package transport

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// Conn is a client connection that carries MQTT bytes, whatever is below. One
// goroutine may read while another writes; several may write.
type Conn struct {
	port      *ClientPort
	t         *tracked
	stream    stream
	transport string
}

var _ net.Conn = (*Conn)(nil)

// stream is the byte stream of a Conn: the connection itself, or WebSocket on it.
type stream interface {
	io.ReadWriter
	// writeBuffers writes all buffers as one unit, and consumes them.
	writeBuffers(b *net.Buffers) (int64, error)
	// closeWrite ends the outgoing direction.
	closeWrite() error
	// goodbye ends the stream politely before it is closed, if that takes no time.
	goodbye()
}

func newConn(p *ClientPort, t *tracked, s stream, transport string) *Conn {
	return &Conn{port: p, t: t, stream: s, transport: transport}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) { return c.stream.Read(p) }

// Write implements net.Conn. On WebSocket one Write is one message.
func (c *Conn) Write(p []byte) (int, error) { return c.stream.Write(p) }

// WriteBuffers writes all buffers and consumes them: with one system call
// (writev) where the connection is TCP, as one message on WebSocket, and with
// as few TLS records as possible. It returns the bytes written.
func (c *Conn) WriteBuffers(b *net.Buffers) (int64, error) { return c.stream.writeBuffers(b) }

// Close closes the connection. On TLS it says goodbye, which takes up to 5 s
// if the client does not read.
func (c *Conn) Close() error {
	c.stream.goodbye()
	return c.t.Close()
}

// CloseWrite says that nothing more will be written, and leaves reading open:
// a FIN, the goodbye of TLS, or a close frame. Who reads on until the client
// has closed, for a while, can be sure that his last words were not lost to the
// reset that follows Close with unread input.
func (c *Conn) CloseWrite() error { return c.stream.closeWrite() }

// Transport returns "tcp", "tls", "ws" or "wss".
func (c *Conn) Transport() string { return c.transport }

// TLS returns the state of the TLS connection, nil without TLS.
func (c *Conn) TLS() *tls.ConnectionState { return c.t.tlsState() }

// Listener returns the name of the port that accepted the connection.
func (c *Conn) Listener() string { return c.port.cfg.Name }

// CommonName returns the common name of the client's certificate, "" if there
// is none that was verified.
func (c *Conn) CommonName() string {
	s := c.t.tlsState()
	if s == nil || len(s.VerifiedChains) == 0 || len(s.VerifiedChains[0]) == 0 {
		return ""
	}
	return s.VerifiedChains[0][0].Subject.CommonName
}

// ProxyAddr returns the address of the proxy that named the client's, nil
// without one.
func (c *Conn) ProxyAddr() net.Addr {
	if c.t.proxied == nil {
		return nil
	}
	return c.t.raw.RemoteAddr()
}

// AcceptedAt is when the connection was accepted.
func (c *Conn) AcceptedAt() time.Time { return c.t.deadline.Add(-c.port.cfg.HandshakeTimeout) }

// HandshakeDeadline is when the handshake, CONNECT included, must be over. The
// read deadline stands at it until the owner sets another.
func (c *Conn) HandshakeDeadline() time.Time { return c.t.deadline }

// Established says that the client's CONNECT was accepted: the connection leaves
// the pending ones, and there is no more limit to the bytes that it may send.
func (c *Conn) Established() { c.t.release() }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.t.raw.LocalAddr() }

// RemoteAddr implements net.Conn. Behind a proxy it is the address that the
// proxy named.
func (c *Conn) RemoteAddr() net.Addr { return c.t.peer() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.t.raw.SetDeadline(t) }

// SetReadDeadline implements net.Conn. After a Read that timed out nothing is
// lost.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.t.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. After a Write that timed out, TLS and
// WebSocket are of no more use.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.t.raw.SetWriteDeadline(t) }

// gather calls write with all bytes of b in one slice, and consumes b.
func (p *ClientPort) gather(b *net.Buffers, write func([]byte) (int, error)) (int64, error) {
	if len(*b) == 1 {
		one := (*b)[0]
		*b = nil
		n, err := write(one)
		return int64(n), err
	}
	buf := p.borrow()
	for _, x := range *b {
		*buf = append(*buf, x...)
	}
	*b = nil
	n, err := write(*buf)
	p.giveBack(buf)
	return int64(n), err
}

// borrow returns an empty buffer.
func (p *ClientPort) borrow() *[]byte {
	buf, _ := p.scratch.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = (*buf)[:0]
	return buf
}

func (p *ClientPort) giveBack(buf *[]byte) {
	if cap(*buf) <= scratchMax {
		p.scratch.Put(buf)
	}
}

// scratchMax is the largest buffer that is kept for the next one.
const scratchMax = 256 << 10

// sniffed is a connection whose first bytes were read by cmux: they are in r.
// Writes go to the connection itself.
type sniffed struct {
	port *ClientPort
	t    *tracked
	r    io.Reader
}

func (s *sniffed) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s *sniffed) Write(p []byte) (int, error) { return s.t.Conn.Write(p) }
func (s *sniffed) goodbye()                    {}

func (s *sniffed) closeWrite() error {
	if cw, ok := s.t.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// writeBuffers uses writev where there is a TCP connection right below. Other
// connections get one Write: net.Buffers would give each buffer its own.
func (s *sniffed) writeBuffers(b *net.Buffers) (int64, error) {
	if tcp, ok := s.t.Conn.(*net.TCPConn); ok {
		return b.WriteTo(tcp)
	}
	return s.port.gather(b, s.t.Conn.Write)
}
