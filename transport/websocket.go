package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"
)

// maxHTTPHeader bounds the head of an upgrade request.
const maxHTTPHeader = 16 << 10

// goodbyeTimeout bounds the write of a close frame when a connection is
// closed: it fits into any socket buffer that is not full.
const goodbyeTimeout = 50 * time.Millisecond

// subprotocols in the order of preference. [MQTT-6.0.0-3]
var subprotocols = [...]string{"mqtt", "mqttv3.1"}

// errNotBinary ends a connection that sends text frames. [MQTT-6.0.0-1]
var errNotBinary = errors.New("websocket: data frame is not binary")

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
	t := wc.tracked
	if r.URL.Path != p.cfg.WebSocketPath {
		http.Error(w, "MQTT over WebSocket is at "+p.cfg.WebSocketPath, http.StatusNotFound)
		return nil, fmt.Errorf("path %q", r.URL.Path)
	}
	isUpgrade := r.Header.Get("Upgrade") != ""
	if isUpgrade && !offersMQTT(r.Header) { // [MQTT-6.0.0-3]
		http.Error(w, "the WebSocket sub-protocol must be mqtt or mqttv3.1", http.StatusBadRequest)
		return nil, errors.New("sub-protocol mqtt is not offered")
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:    subprotocols[:],
		OriginPatterns:  p.cfg.Origins,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // of messages, which mean nothing here; packets are bounded by the codec
	return newConn(p, t, newWebSocket(p, t, ws), p.transportName("ws", "wss")), nil
}

// offersMQTT tells whether the client offers one of our sub-protocols.
func offersMQTT(h http.Header) bool {
	for _, v := range h.Values("Sec-WebSocket-Protocol") {
		for tok := range strings.SplitSeq(v, ",") {
			if slices.Contains(subprotocols[:], strings.ToLower(strings.TrimSpace(tok))) {
				return true
			}
		}
	}
	return false
}

// webSocket is the byte stream in the binary messages of a WebSocket. Packets
// may span messages, and share them. [MQTT-6.0.0-2]
//
// It replaces the library's NetConn because that one closes the connection
// when a read deadline passes, so that nothing can be said any more, and waits
// up to 5 s in Close.
type webSocket struct {
	port *ClientPort
	t    *tracked
	ws   *websocket.Conn

	msg io.Reader // the message that is being read
	err error     // why no more can be read; reader only

	writing chan struct{} // capacity 1: one message at a time
	closed  chan struct{}
	once    sync.Once
}

func newWebSocket(p *ClientPort, t *tracked, ws *websocket.Conn) *webSocket {
	return &webSocket{port: p, t: t, ws: ws, writing: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (s *webSocket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for s.err == nil {
		if s.msg == nil {
			typ, r, err := s.ws.Reader(context.Background()) // bounded by the read deadline
			if err == nil && typ != websocket.MessageBinary {
				s.close(websocket.StatusUnsupportedData)
				s.t.kill()
				err = errNotBinary
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, readError(err) // between frames: reading can go on
			}
			if err != nil {
				s.err = readError(err)
				break
			}
			s.msg = r
		}
		n, err := s.msg.Read(p)
		if errors.Is(err, io.EOF) {
			s.msg, err = nil, nil // the message is over, not the stream
		}
		if err != nil {
			s.err = readError(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, s.err
}

// readError turns a close frame into the end of the stream.
func readError(err error) error {
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return io.EOF
	}
	return fmt.Errorf("websocket: %w", err)
}

// Write writes p as one message.
func (s *webSocket) Write(p []byte) (int, error) {
	select {
	case s.writing <- struct{}{}:
	case <-s.closed:
		return 0, fmt.Errorf("websocket: %w", net.ErrClosed)
	}
	defer func() { <-s.writing }()
	if err := s.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil { // bounded by the write deadline
		return 0, fmt.Errorf("websocket: %w", err)
	}
	return len(p), nil
}

func (s *webSocket) writeBuffers(b *net.Buffers) (int64, error) { return s.port.gather(b, s.Write) }

func (s *webSocket) closeWrite() error {
	s.close(websocket.StatusNormalClosure)
	return nil
}

func (s *webSocket) goodbye() { s.close(websocket.StatusNormalClosure) }

// close sends a close frame, unless a message is being written. The library's
// Close waits for the answer of the client; this does not.
func (s *webSocket) close(code websocket.StatusCode) {
	s.once.Do(func() { close(s.closed) })
	select {
	case s.writing <- struct{}{}: // never given back: nothing may follow a close frame
	default:
		return
	}
	frame := binary.BigEndian.AppendUint16([]byte{0x88, 2}, uint16(code)) // FIN and close, 2 bytes, not masked
	_ = s.t.raw.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	_, _ = s.t.Conn.Write(frame) // the connection is closed either way
}
