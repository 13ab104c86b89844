package transport

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"go.uber.org/zap"
)

// maxHTTPHeader bounds the head of an upgrade request.
const maxHTTPHeader = 16 << 10

// webSocketGUID is appended to a client's key (RFC 6455, section 1.3).
const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// checkOrigins refuses patterns that would silently match nothing.
func checkOrigins(origins []string) error {
	for _, o := range origins {
		if _, err := path.Match(o, ""); err != nil || o == "" {
			return fmt.Errorf("%w: origin pattern %q", ErrConfig, o)
		}
	}
	return nil
}

// webConn is a connection as http.Server sees it: sniffed bytes first.
type webConn struct {
	*tracked
	r     io.Reader
	asked bool // a request came; only the goroutine of the connection looks
}

func (c *webConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// webListener yields the connections that begin like HTTP.
type webListener struct{ net.Listener }

func (l webListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	mc, t := unwrap(c)
	t.patience.Store(int64(evictSlow))
	return &webConn{tracked: t, r: mc}, nil
}

// Close leaves the listener alone: it is cmux's.
func (l webListener) Close() error { return nil }

type webConnKey struct{}

// serveWeb starts the HTTP server. It does nothing but upgrades; a connection
// carries one request.
func (p *ClientPort) serveWeb(l net.Listener) error {
	errorLog, err := zap.NewStdLogAt(p.lg, zap.WarnLevel)
	if err != nil {
		return fmt.Errorf("log of the http server: %w", err)
	}
	p.web = &http.Server{
		Handler:           http.HandlerFunc(p.upgrade),
		ReadHeaderTimeout: p.cfg.HandshakeTimeout,
		MaxHeaderBytes:    maxHTTPHeader,
		ErrorLog:          errorLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey{}, c)
		},
		// http.Server.Close does not wait for its goroutines; Close of the port does.
		ConnState: func(c net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				p.in.wg.Add(1)
			case http.StateClosed:
				if wc := c.(*webConn); !wc.asked {
					p.metrics.reject(reasonOf(wc.tracked, reasonHTTP))
				}
				p.in.wg.Done()
			case http.StateHijacked:
				p.in.wg.Done()
			}
		},
	}
	p.web.SetKeepAlivesEnabled(false)
	p.in.wg.Go(func() { _ = p.web.Serve(webListener{l}) })
	return nil
}

// upgrade makes a WebSocket out of a request, or refuses it.
func (p *ClientPort) upgrade(w http.ResponseWriter, r *http.Request) {
	p.in.wg.Add(1) // a hijacked connection's handler is not counted by ConnState
	defer p.in.wg.Done()
	c, err := p.acceptWebSocket(w, r)
	if err != nil {
		p.metrics.reject(reasonHTTP)
		p.lg.Debug("no websocket", zap.String("peer", r.RemoteAddr), zap.Error(err))
		return
	}
	p.offer(c)
}

// acceptWebSocket answers the request in any case.
func (p *ClientPort) acceptWebSocket(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	wc := r.Context().Value(webConnKey{}).(*webConn)
	wc.asked = true
	status, err := p.judgeUpgrade(w.Header(), r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return nil, err
	}
	protocol, _ := offeredMQTT(r.Header)
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered()) // frames behind the request
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	t := wc.tracked
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(r.Header.Get("Sec-WebSocket-Key")) + "\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n"
	_ = t.raw.SetDeadline(t.deadline)
	if _, err := io.WriteString(t.Conn, answer); err != nil {
		t.kill()
		return nil, fmt.Errorf("answer the upgrade: %w", err)
	}
	return newConn(p, t, newWebSocket(p, t, wc.r, early), p.transportName("ws", "wss")), nil
}

// judgeUpgrade says with which status a request is refused, and why: RFC 6455,
// section 4.2.1, and [MQTT-6.0.0-3].
func (p *ClientPort) judgeUpgrade(answer http.Header, r *http.Request) (int, error) {
	h := r.Header
	switch {
	case r.URL.Path != p.cfg.WebSocketPath:
		return http.StatusNotFound, errors.New("MQTT over WebSocket is at " + p.cfg.WebSocketPath)
	case !r.ProtoAtLeast(1, 1) || !hasToken(h, "Connection", "upgrade") || !hasToken(h, "Upgrade", "websocket"):
		answer.Set("Connection", "Upgrade")
		answer.Set("Upgrade", "websocket")
		return http.StatusUpgradeRequired, errors.New("only WebSocket is spoken here")
	case h.Get("Sec-WebSocket-Version") != "13":
		answer.Set("Sec-WebSocket-Version", "13")
		return http.StatusUpgradeRequired, errors.New("the WebSocket version must be 13")
	}
	if key, err := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key")); err != nil || len(key) != 16 {
		return http.StatusBadRequest, errors.New("Sec-WebSocket-Key must be 16 bytes in base64")
	}
	if _, ok := offeredMQTT(h); !ok {
		return http.StatusBadRequest, errors.New("the WebSocket sub-protocol must be mqtt or mqttv3.1")
	}
	if !p.originAllowed(r) {
		return http.StatusForbidden, errors.New("pages of this origin may not connect")
	}
	return 0, nil
}

// acceptKey proves that the request was understood.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hasToken tells whether a header that is a list has the token.
func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for tok := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(tok), token) {
				return true
			}
		}
	}
	return false
}

// offeredMQTT returns the sub-protocol to agree on, as the client writes it:
// "mqtt" rather than "mqttv3.1". [MQTT-6.0.0-3] [MQTT-6.0.0-4]
func offeredMQTT(h http.Header) (protocol string, ok bool) {
	for _, v := range h.Values("Sec-WebSocket-Protocol") {
		for tok := range strings.SplitSeq(v, ",") {
			switch tok = strings.TrimSpace(tok); {
			case strings.EqualFold(tok, "mqtt"):
				return tok, true
			case strings.EqualFold(tok, "mqttv3.1") && !ok:
				protocol, ok = tok, true
			}
		}
	}
	return protocol, ok
}

// originAllowed holds ClientConfig.Origins. Clients that are no browsers name no
// origin.
func (p *ClientPort) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, pattern := range p.cfg.Origins {
		target := u.Host
		if strings.Contains(pattern, "://") {
			target = u.Scheme + "://" + u.Host
		}
		if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(target)); ok {
			return true
		}
	}
	return false
}
