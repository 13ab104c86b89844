package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/soheilhy/cmux"
	"go.uber.org/zap"
)

// ClientConfig configures a [ClientPort].
type ClientConfig struct {
	// Network is where the port listens. nil means TCP{}.
	Network Network
	// Addr is the address to listen on.
	Addr string
	// Name is the value of the label "listener" in metrics and logs. Default
	// "mqtt", with TLS "mqtts".
	Name string
	// TLS puts the whole port inside TLS (1.2 or later). nil is plain TCP.
	TLS *tls.Config
	// WebSocketPath is the path of MQTT over WebSocket. Default "/mqtt".
	WebSocketPath string
	// Origins are the browser pages that may connect: patterns as of path.Match
	// for the host, or for "scheme://host"; "*" is all. The same origin always may.
	Origins []string
	// HandshakeTimeout bounds accept to Accept: TLS, first byte, WebSocket
	// upgrade. The read deadline then still stands at its end, for CONNECT.
	// Default 10 s.
	HandshakeTimeout time.Duration
	// PendingMax bounds the connections in their handshake. Default 1000; more
	// wait in the accept queue.
	PendingMax int
	// HoldPending keeps a connection in this count until Conn.Established or
	// Close is called, so that the wait for CONNECT is bounded, too. Default:
	// it leaves when Accept returns it.
	HoldPending bool
	// Logger: nil discards.
	Logger *zap.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

func (c *ClientConfig) prepare() error {
	if c.Network == nil {
		c.Network = TCP{}
	}
	if c.Name == "" {
		c.Name = "mqtt"
		if c.TLS != nil {
			c.Name = "mqtts"
		}
	}
	if c.TLS != nil {
		if len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil {
			return fmt.Errorf("%w: TLS without a certificate", ErrConfig)
		}
		c.TLS = c.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS12)
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
	c.HandshakeTimeout = orDefault(c.HandshakeTimeout, 10*time.Second)
	c.PendingMax = orDefault(c.PendingMax, 1000)
	return nil
}

// ClientPort accepts MQTT clients over TCP, TLS and WebSocket on one address.
type ClientPort struct {
	cfg     ClientConfig
	in      *intake
	web     *http.Server
	ready   chan *Conn // unbuffered: who waits here holds a pending slot
	scratch sync.Pool  // *[]byte, for WriteBuffers
	metrics *portMetrics
	lg      *zap.Logger
	once    sync.Once
}

// OpenClientPort listens and starts the port.
func OpenClientPort(cfg ClientConfig) (*ClientPort, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	root, err := cfg.Network.Listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("open client port: %w", err)
	}
	lg := throttled(cfg.Logger.Named("transport").With(zap.String("listener", cfg.Name)))
	m := newPortMetrics(cfg.Registerer, cfg.Name)
	p := &ClientPort{
		cfg: cfg, ready: make(chan *Conn), metrics: m, lg: lg,
		in: newIntake(root, cfg.HandshakeTimeout, cfg.PendingMax, 0, m, lg),
	}
	if cfg.TLS != nil {
		p.in.prepare = handshake(cfg.TLS)
	}
	// A PROXY header will be read in in.prepare, before TLS, from listed
	// networks only, and replace Conn.RemoteAddr.
	mx := newMux(p.in)
	mqtt := mx.cm.Match(matchMQTT)
	web := mx.cm.Match(matchHTTP)
	if err := p.serveWeb(web); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	mx.each(mqtt, func(mc *cmux.MuxConn, t *tracked) {
		p.offer(newConn(p, t, &sniffed{port: p, t: t, r: mc}, p.transportName("tcp", "tls")))
	})
	mx.start()
	lg.Info("listening", zap.String("event", "listener.up"), zap.Stringer("addr", root.Addr()), zap.Bool("tls", cfg.TLS != nil))
	return p, nil
}

func (p *ClientPort) transportName(plain, secure string) string {
	if p.cfg.TLS != nil {
		return secure
	}
	return plain
}

// offer waits until somebody accepts the connection. Its deadline, and the end
// of the port, are the other ways out.
func (p *ClientPort) offer(c *Conn) {
	gone := make(chan struct{})
	if !c.t.onClose(func() { close(gone) }) {
		p.metrics.reject(reasonOf(c.t, reasonGone))
		return
	}
	select {
	case p.ready <- c:
	case <-gone:
		p.metrics.reject(reasonOf(c.t, reasonOwner))
	case <-p.in.closed:
		c.t.kill()
	}
}

// Accept returns the next client connection, on which MQTT bytes follow. Its
// read deadline is Conn.HandshakeDeadline: the owner sets another once CONNECT
// is there. After Close it returns ErrClosed.
func (p *ClientPort) Accept() (*Conn, error) {
	for {
		select {
		case c := <-p.ready:
			if !c.t.handOver() {
				p.metrics.reject(reasonOwner)
				continue
			}
			if !p.cfg.HoldPending {
				c.t.release()
			}
			_ = c.t.raw.SetDeadline(time.Time{})
			_ = c.t.raw.SetReadDeadline(c.t.deadline)
			p.metrics.accept(c.transport)
			return c, nil
		case <-p.in.closed:
			return nil, fmt.Errorf("accept client: %w", ErrClosed)
		}
	}
}

// Addr returns the address that the port listens on.
func (p *ClientPort) Addr() net.Addr { return p.in.Addr() }

// Close ends the port and every connection that came in through it. It returns
// when all its goroutines ended.
func (p *ClientPort) Close() error {
	var err error
	p.once.Do(func() {
		err = p.in.Close()
		if e := p.web.Close(); err == nil && !errors.Is(e, net.ErrClosed) {
			err = e
		}
	})
	p.in.join()
	return err
}
