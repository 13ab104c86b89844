package mqttc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Target is where a broker URL leads.
type Target struct {
	Scheme string // mqtt, mqtts, ws, wss
	Addr   string // HOST:PORT
	Path   string // of ws and wss
}

// ParseURL reads a broker URL. HOST:PORT and HOST mean mqtt. Ports default to
// 1883 (mqtt), 8883 (mqtts), 80 (ws) and 443 (wss), paths to /mqtt.
func ParseURL(raw string) (Target, error) {
	text := raw
	if !strings.Contains(text, "://") {
		text = "mqtt://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, fmt.Errorf("%w %q: %w", ErrURL, raw, errors.Unwrap(err))
	}
	port, path := "", ""
	switch u.Scheme {
	case "mqtt":
		port = "1883"
	case "mqtts":
		port = "8883"
	case "ws":
		port, path = "80", "/mqtt"
	case "wss":
		port, path = "443", "/mqtt"
	default:
		return Target{}, fmt.Errorf("%w %q: the scheme is mqtt, mqtts, ws or wss, for example mqtt://127.0.0.1:1883", ErrURL, raw)
	}
	if u.Hostname() == "" || u.User != nil {
		return Target{}, fmt.Errorf("%w %q: want SCHEME://HOST:PORT, for example mqtt://127.0.0.1:1883", ErrURL, raw)
	}
	if u.Path != "" && u.Path != "/" {
		if path == "" {
			return Target{}, fmt.Errorf("%w %q: only ws and wss have a path", ErrURL, raw)
		}
		path = u.Path
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return Target{Scheme: u.Scheme, Addr: net.JoinHostPort(u.Hostname(), port), Path: path}, nil
}

// dialConn opens the byte stream.
func dialConn(ctx context.Context, opt *Options) (net.Conn, error) {
	if opt.Dial != nil && opt.URL == "" {
		return opt.Dial(ctx, "")
	}
	t, err := ParseURL(opt.URL)
	if err != nil {
		return nil, err
	}
	dial := opt.Dial
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if t.Scheme == "ws" || t.Scheme == "wss" {
		return dialWebSocket(ctx, opt, t, dial)
	}
	conn, err := dial(ctx, t.Addr)
	if err != nil || t.Scheme == "mqtt" {
		return conn, err
	}
	cfg := opt.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(t.Addr)
	}
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return tc, nil
}

func dialWebSocket(ctx context.Context, opt *Options, t Target, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	scheme := map[string]string{"ws": "http", "wss": "https"}[t.Scheme]
	protocol := "mqtt"
	if opt.Version == mqtt.V31 {
		protocol = "mqttv3.1"
	}
	rt := &http.Transport{
		TLSClientConfig: opt.TLS,
		DialContext:     func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
	}
	ws, _, err := websocket.Dial(ctx, scheme+"://"+t.Addr+t.Path, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: rt},
		Subprotocols: []string{protocol},
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // the codec's limits hold
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

// handshake sends CONNECT and reads CONNACK.
func (c *Client) handshake(ctx context.Context, r *mqtt.Reader) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := mqtt.WritePacket(c.conn, c.version, c.connectPacket()); err != nil {
		return wrapContext(ctx, "send CONNECT", err)
	}
	p, err := r.Next()
	if err != nil {
		return wrapContext(ctx, "read CONNACK", err)
	}
	ack, ok := p.(*mqtt.Connack)
	if !ok {
		return fmt.Errorf("want CONNACK, got %s: %w", p.Type(), ErrLost)
	}
	if ack.Code != mqtt.Success {
		return &RefusedError{Code: ack.Code, Reason: ack.ReasonString}
	}
	c.connack = *ack
	if !stop() {
		return wrapContext(ctx, "read CONNACK", context.Cause(ctx))
	}
	return nil
}

func wrapContext(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *Client) connectPacket() *mqtt.Connect {
	o := &c.opt
	p := &mqtt.Connect{
		Version: c.version, ClientID: o.ClientID, CleanStart: o.Clean,
		KeepAlive: keepAliveSeconds(o.KeepAlive),
		Username:  o.Username, HasUsername: o.Username != "",
		Password: o.Password, HasPassword: o.Password != nil,
		Will: o.Will, RequestProblemInfo: true, ReceiveMaximum: o.ReceiveMaximum,
		SessionExpiry: o.SessionExpiry, HasSessionExpiry: o.SessionExpiry != 0,
		TopicAliasMaximum: o.TopicAliasMaximum,
	}
	if o.EditConnect != nil {
		o.EditConnect(p)
	}
	return p
}

func keepAliveSeconds(d time.Duration) uint16 {
	s := (d + time.Second - 1) / time.Second
	return uint16(min(s, 65535))
}
