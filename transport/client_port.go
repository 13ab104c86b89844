package transport

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// ClientConfig configures a [ClientPort].
type ClientConfig struct {
	// Network is where the port listens. nil means TCP{}.
	Network Network
	// Addr is the address to listen on.
	Addr string
	// TLS puts the whole port inside TLS. nil is plain TCP.
	TLS *tls.Config
	// WebSocketPath is the path of MQTT over WebSocket. Default "/mqtt".
	WebSocketPath string
	// Origins are the browser pages that may connect (host patterns, "scheme://host" or "*"). Empty means the same origin only.
	Origins []string
	// HandshakeTimeout bounds accept to Accept: TLS, first byte, WebSocket upgrade. The session continues under the same deadline (Conn.HandshakeDeadline). Default 10 s.
	HandshakeTimeout time.Duration
	// PendingMax bounds the handshakes under way. Default 1000; more wait in the accept queue.
	PendingMax int
	// HoldPending keeps a connection's pending slot until Conn.Established or Close is called, so that PendingMax covers the wait for CONNECT.
	// Default: a slot is free when Accept returns the connection.
	HoldPending bool
	// Logger is required in production; nil discards.
	Logger *zap.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// ClientPort accepts MQTT clients over TCP, TLS and WebSocket on one address.
type ClientPort struct{}

// OpenClientPort listens and starts the port.
func OpenClientPort(cfg ClientConfig) (*ClientPort, error) { panic("not yet") }

// Accept returns the next client connection, on which MQTT bytes follow.
func (p *ClientPort) Accept() (*Conn, error) { panic("not yet") }

// Addr returns the address that the port listens on.
func (p *ClientPort) Addr() net.Addr { panic("not yet") }

// Close ends the port and all its connections.
func (p *ClientPort) Close() error { panic("not yet") }
