package transport

import (
	"crypto/tls"
	"net"
	"time"
)

// Conn is a client connection that carries MQTT bytes, whatever is below.
type Conn struct{ net.Conn }

// Transport returns "tcp", "tls", "ws" or "wss".
func (c *Conn) Transport() string { panic("not yet") }

// TLS returns the state of the TLS connection, nil without TLS.
func (c *Conn) TLS() *tls.ConnectionState { panic("not yet") }

// HandshakeDeadline is when the handshake must be over; the read deadline stands at it until the owner sets another.
func (c *Conn) HandshakeDeadline() time.Time { panic("not yet") }

// Established says that the client's CONNECT was accepted; see ClientConfig.HoldPending.
func (c *Conn) Established() { panic("not yet") }

// WriteBuffers writes all buffers, with one system call (writev) where the connection is TCP, as one message on WebSocket. It consumes b.
func (c *Conn) WriteBuffers(b *net.Buffers) (int64, error) { panic("not yet") }
