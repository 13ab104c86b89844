package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// dialWS opens a WebSocket; over TLS if ca is not nil.
func dialWS(t testing.TB, p *ClientPort, ca *authority, edit func(*websocket.DialOptions)) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	scheme := "ws"
	if ca != nil {
		scheme = "wss"
		tr.TLSClientConfig = &tls.Config{RootCAs: ca.pool, ServerName: "mqtt.example"}
	}
	o := &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: tr}}
	if edit != nil {
		edit(o)
	}
	path := p.cfg.WebSocketPath
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, scheme+"://"+p.Addr().String()+path, o)
	if err == nil {
		c.SetReadLimit(-1)
		t.Cleanup(func() { c.CloseNow() })
	}
	return c, resp, err
}

func TestWebSocketRefusals_v5_MQTT_6_0_0_3_v311_MQTT_6_0_0_3(t *testing.T) {
	reg := prometheus.NewRegistry()
	p := openClients(t, func(c *ClientConfig) {
		c.WebSocketPath, c.Origins, c.Registerer = "/here", []string{"app.example", "https://*.pages.example"}, reg
	})
	get := func(req string) string {
		t.Helper()
		c := dialRaw(t, nil, p.Addr())
		c.SetDeadline(time.Now().Add(9 * time.Second))
		mustWrite(t, c, req)
		b, err := io.ReadAll(c) // closed: a connection carries one request
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(b), "\r\n")
		return line
	}
	up := "Host: me\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for name, c := range map[string]struct{ req, want string }{
		"other path":      {"GET / HTTP/1.1\r\n" + up + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", "HTTP/1.1 404 Not Found"},
		"no upgrade":      {"GET /here HTTP/1.1\r\nHost: me\r\n\r\n", "HTTP/1.1 426 Upgrade Required"},
		"no sub-protocol": {"GET /here HTTP/1.1\r\n" + up + "\r\n", "HTTP/1.1 400 Bad Request"},
		"other protocol":  {"GET /here HTTP/1.1\r\n" + up + "Sec-WebSocket-Protocol: soap, wamp\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		"POST":            {"POST /here HTTP/1.1\r\n" + up + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", ""},
		"PUBREC":          {"P\x02\x00\x01", ""},
		"garbage":         {"GET \x00\x01\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		"other origin":    {"GET /here HTTP/1.1\r\n" + up + "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n\r\n", "HTTP/1.1 403 Forbidden"},
		"origin's scheme": {"GET /here HTTP/1.1\r\n" + up + "Sec-WebSocket-Protocol: mqtt\r\nOrigin: http://x.pages.example\r\n\r\n", "HTTP/1.1 403 Forbidden"},
		"HTTP/2 preface":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
	} {
		if got := get(c.req); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for reason, want := range map[string]float64{reasonHTTP: 7, reasonFirstByte: 3} {
		waitFor(t, "all refusals counted: "+reason, func() bool {
			return metric(t, reg, "flotilla_listener_rejected_total", "reason", reason) == want
		})
	}
	for _, origin := range []string{"https://app.example", "https://x.pages.example", "http://" + p.Addr().String()} {
		ws, _, err := dialWS(t, p, nil, func(o *websocket.DialOptions) {
			o.HTTPHeader = http.Header{"Origin": []string{origin}}
		})
		if err != nil {
			t.Errorf("origin %s: %v", origin, err)
			continue
		}
		mustAccept(t, p)
		ws.CloseNow()
	}
}

func TestWebSocketSubprotocols(t *testing.T) {
	p := openClients(t, nil)
	for want, offer := range map[string][]string{"mqtt": {"x", "mqttv3.1", "mqtt"}, "mqttv3.1": {"mqttv3.1"}, "MQTT": {"MQTT"}} {
		ws, resp, err := dialWS(t, p, nil, func(o *websocket.DialOptions) { o.Subprotocols = offer })
		if err != nil || ws.Subprotocol() != want {
			t.Fatalf("offered %v: %v, %v", offer, ws, err)
		}
		if resp.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Error("an extension was agreed on")
		}
		mustAccept(t, p)
	}
}

// Packets may span messages and share them; a text message ends the connection.
func TestWebSocketFraming_v5_MQTT_6_0_0_1_MQTT_6_0_0_2_v311_MQTT_6_0_0_1_MQTT_6_0_0_2(t *testing.T) {
	p := openClients(t, nil)
	ws, _, err := dialWS(t, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := mustAccept(t, p)
	ctx := t.Context()
	for _, m := range []string{"a", "", "bc", "defgh"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	w, err := ws.Writer(ctx, websocket.MessageBinary) // one message in three frames
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"i", "jk", "l"} {
		mustWrite(t, w, m)
	}
	w.Close()
	mustRead(t, c, "abcdefghijkl")
	// One Write is one message, and so is one WriteBuffers.
	mustWrite(t, c, "one")
	b := net.Buffers{[]byte("t"), []byte("wo")}
	if _, err := c.WriteBuffers(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		typ, got, err := ws.Read(ctx)
		if err != nil || typ != websocket.MessageBinary || string(got) != want {
			t.Errorf("message %q of type %v, %v; want %q", got, typ, err, want)
		}
	}
	if err := ws.Write(ctx, websocket.MessageText, []byte("text")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Read(make([]byte, 9)); !errors.Is(err, errNotBinary) {
			t.Errorf("read of a text message: %v", err)
		}
	}
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("the client is told %v", err)
	}
}

func TestWebSocketCloseFromTheClientIsEOF(t *testing.T) {
	p := openClients(t, nil)
	ws, _, err := dialWS(t, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := mustAccept(t, p)
	read := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	ws.Close(websocket.StatusNormalClosure, "")
	if err := <-read; err != io.EOF {
		t.Errorf("read: %v", err)
	}
}

// A read deadline that passed does not end a WebSocket: DISCONNECT can follow.
func TestWebSocketCanSpeakAfterAReadTimeout(t *testing.T) {
	p := openClients(t, nil)
	ws, _, err := dialWS(t, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := mustAccept(t, p)
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read: %v", err)
	}
	mustWrite(t, c, "disconnect")
	if _, got, err := ws.Read(t.Context()); string(got) != "disconnect" {
		t.Errorf("%q, %v", got, err)
	}
	// And it can read on.
	c.SetReadDeadline(time.Time{})
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("last")); err != nil {
		t.Fatal(err)
	}
	mustRead(t, c, "last")
}
