package transport

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// ClientConfig configures a [ClientPort].
type ClientConfig struct {
	// Network is where the port listens. nil means TCP{}.
	Network Network
	// Addr is the address to listen on. A wildcard "[::]:1883" or ":1883" takes
	// IPv4, too; "0.0.0.0:1883" takes nothing else.
	Addr string
	// Name is the value of the label "listener" in metrics and logs, and of
	// Conn.Listener. Default "mqtt", with TLS "mqtts".
	Name string
	// TLS puts the whole port inside TLS (1.2 or later). It is used as it is:
	// see TLSFiles. Without both the port is plain TCP.
	TLS *tls.Config
	// TLSFiles is TLS from files that may change. It excludes TLS.
	TLSFiles *TLSFiles
	// Proxy says which PROXY protocol the port speaks with the proxies that it
	// trusts: each of their connections must begin with a header, before TLS,
	// and Conn.RemoteAddr is what the header says. Others are clients, and a
	// header of theirs closes the connection.
	Proxy ProxyMode
	// TrustedProxies are the networks of the proxies: see ParseProxies. Proxy
	// needs at least one.
	TrustedProxies []netip.Prefix
	// WebSocketPath is the path of MQTT over WebSocket. Default "/mqtt".
	WebSocketPath string
	// Origins are the browser pages that may connect: patterns as of path.Match
	// for the host, or for "scheme://host"; "*" is all. The same origin always may.
	Origins []string
	// HandshakeTimeout bounds accept to Accept: PROXY header, TLS, first byte,
	// WebSocket upgrade. The read deadline then still stands at its end, for
	// CONNECT. Default 10 s.
	HandshakeTimeout time.Duration
	// Admission bounds the connections and their rate; the client ports of a
	// node share one. A connection is pending until Conn.Established or Close is
	// called. nil gives the port one of its own, with PendingMax places.
	Admission *Admission
	// PendingMax is used without Admission only. Default 1000.
	PendingMax int
	// PreConnectMax bounds the bytes that are read of a connection before
	// Conn.Established, all layers included. Default 64 KiB.
	PreConnectMax int
	// Logger: nil discards.
	Logger *zap.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

func (c *ClientConfig) secure() bool { return c.TLS != nil || c.TLSFiles != nil }

func (c *ClientConfig) prepare() error {
	if c.Network == nil {
		c.Network = TCP{}
	}
	if c.Name == "" {
		c.Name = "mqtt"
		if c.secure() {
			c.Name = "mqtts"
		}
	}
	if err := c.prepareTLS(); err != nil {
		return err
	}
	if err := c.checkProxy(); err != nil {
		return err
	}
	if c.WebSocketPath == "" {
		c.WebSocketPath = "/mqtt"
	}
	if c.WebSocketPath[0] != '/' {
		return fmt.Errorf("%w: WebSocket path %q", ErrConfig, c.WebSocketPath)
	}
	if err := checkOrigins(c.Origins); err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Admission == nil {
		c.Admission = NewAdmission(AdmissionConfig{PendingMax: c.PendingMax})
	}
	c.HandshakeTimeout = orDefault(c.HandshakeTimeout, 10*time.Second)
	c.PreConnectMax = orDefault(c.PreConnectMax, 64<<10)
	return nil
}

func (c *ClientConfig) prepareTLS() error {
	switch {
	case c.TLS != nil && c.TLSFiles != nil:
		return fmt.Errorf("%w: both TLS and TLSFiles", ErrConfig)
	case c.TLS != nil:
		if len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil {
			return fmt.Errorf("%w: TLS without a certificate", ErrConfig)
		}
		c.TLS = c.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS12)
	case c.TLSFiles != nil:
		f := *c.TLSFiles
		c.TLSFiles = &f
		return f.prepare()
	}
	return nil
}

func (c *ClientConfig) checkProxy() error {
	switch {
	case c.Proxy > ProxyAny:
		return fmt.Errorf("%w: PROXY protocol %d", ErrConfig, c.Proxy)
	case c.Proxy == ProxyOff && len(c.TrustedProxies) > 0:
		return fmt.Errorf("%w: trusted proxies, but the PROXY protocol is off", ErrConfig)
	case c.Proxy != ProxyOff && len(c.TrustedProxies) == 0:
		return fmt.Errorf("%w: PROXY protocol without trusted proxies", ErrConfig)
	}
	for _, p := range c.TrustedProxies {
		if !validProxy(p) {
			return fmt.Errorf("%w: trusted proxy %s matches no address", ErrConfig, p)
		}
	}
	return nil
}
