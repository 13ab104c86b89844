package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/soheilhy/cmux"
	"go.uber.org/zap"
)

// ClientPort accepts MQTT clients over TCP, TLS and WebSocket on one address.
type ClientPort struct {
	cfg     ClientConfig
	in      *intake
	certs   *certificates // nil without TLSFiles
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
	lg := throttled(cfg.Logger.Named("transport").With(zap.String("listener", cfg.Name)), 20)
	var certs *certificates
	if cfg.TLSFiles != nil {
		var err error
		if certs, err = openCertificates(cfg.TLSFiles, cfg.Registerer, cfg.Name, lg); err != nil {
			return nil, err
		}
	}
	root, err := cfg.Network.Listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("open client port: %w", err)
	}
	m := newPortMetrics(cfg.Registerer, cfg.Name)
	p := &ClientPort{
		cfg: cfg, ready: make(chan *Conn), metrics: m, lg: lg,
		in: newIntake(root, cfg.HandshakeTimeout, cfg.Admission, m, lg), certs: certs,
	}
	p.in.preConnect = int64(cfg.PreConnectMax)
	p.in.prepare = p.preparation()
	mx := newMux(p.in)
	mqtt := mx.cm.Match(matchMQTT)
	header := mx.cm.Match(matchProxy1, matchProxy2)
	web := mx.cm.Match(matchHTTP)
	if err := p.serveWeb(web); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	mx.each(mqtt, func(mc *cmux.MuxConn, t *tracked) {
		p.offer(newConn(p, t, &sniffed{port: p, t: t, r: mc}, p.transportName("tcp", "tls")))
	})
	mx.each(header, func(_ *cmux.MuxConn, t *tracked) {
		m.reject(reasonProxyStranger)
		lg.Debug("PROXY header from a stranger", zap.Stringer("peer", t.RemoteAddr()))
		t.kill()
	})
	mx.start()
	if certs != nil {
		p.in.wg.Go(func() { certs.watch(p.in.closed) })
	}
	lg.Info("listening", zap.String("event", "listener.up"), zap.Stringer("addr", root.Addr()), zap.Bool("tls", cfg.secure()),
		zap.Stringer("proxy_protocol", cfg.Proxy))
	return p, nil
}

// CountPaused counts a connection that the network of the port turned away, because its owner lets nobody in.
func (p *ClientPort) CountPaused() { p.metrics.reject(reasonPaused) }

// preparation returns what comes before the first byte of MQTT or HTTP.
func (p *ClientPort) preparation() func(*tracked) error {
	if p.cfg.Proxy == ProxyOff && !p.cfg.secure() {
		return nil
	}
	return func(t *tracked) error {
		if err := p.readProxy(t); err != nil {
			return err
		}
		switch {
		case p.certs != nil:
			return nameClear(startTLS(t, p.certs.current().server))
		case p.cfg.TLS != nil:
			return nameClear(startTLS(t, p.cfg.TLS))
		}
		return nil
	}
}

// nameClear names the likely mistakes among failed TLS handshakes.
func nameClear(err error) error {
	var h tls.RecordHeaderError
	if !errors.As(err, &h) {
		return err
	}
	first := h.RecordHeader[:]
	switch {
	case beginsAlike(first, proxySign1), beginsAlike(first, proxySign2):
		return &rejection{reasonProxyStranger, err}
	case first[0] == firstMQTT, first[0] >= 'A' && first[0] <= 'Z':
		return &rejection{reasonNotTLS, err}
	}
	return err
}

func (p *ClientPort) transportName(plain, secure string) string {
	if p.cfg.secure() {
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
// is there, and calls Conn.Established once it is accepted. After Close it returns ErrClosed.
func (p *ClientPort) Accept() (*Conn, error) {
	for {
		select {
		case c := <-p.ready:
			if !c.t.handOver() {
				p.metrics.reject(reasonOwner)
				continue
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

// ReloadTLS reads the files of ClientConfig.TLSFiles now, rather than when
// their next look is due. An error means that the old ones stay.
func (p *ClientPort) ReloadTLS() error {
	if p.certs == nil {
		return nil
	}
	return p.certs.reload()
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
