package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
)

// upgrade is a valid request for a WebSocket.
const upgradeRequest = "GET /mqtt HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"

// rawWS opens a WebSocket and leaves the frames to the test.
func rawWS(t testing.TB, nw Network, p *ClientPort) (net.Conn, *Conn) {
	t.Helper()
	conn := dialRaw(t, nw, p.Addr())
	mustWrite(t, conn, upgradeRequest)
	c := mustServe(t, p)
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		b := make([]byte, 1)
		if _, err := conn.Read(b); err != nil {
			t.Fatalf("%q, %v", head, err)
		}
		head = append(head, b[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		t.Fatalf("%q", head)
	}
	return conn, c
}

// frame builds a frame of a client. first is FIN, RSV and opcode.
func frame(first byte, payload string) string {
	key := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return string(b)
}

// A frame that is cut off gives the bytes that came, unmasked, and then an error.
func TestWebSocketFrameCutOff(t *testing.T) {
	p := openClients(t, nil)
	for _, n := range []int{7, 8, 20} {
		conn, c := rawWS(t, nil, p)
		mustWrite(t, conn, frame(0x82, "0123456789abcdef")[:n])
		conn.Close()
		got, err := io.ReadAll(c)
		if want := "0123456789abcdef"[:n-6]; string(got) != want || err == nil {
			t.Errorf("%d bytes: %q, %v; want %q", n, got, err, want)
		}
	}
}

// reference reads frames the slow and obvious way. It returns the bytes of the
// data messages, the pings, and the close code that a server sends: 0 for none.
func reference(in []byte) (data []byte, pings []string, code uint16) {
	started := false
	for len(in) >= 2 {
		first, second := in[0], in[1]
		op, fin, size, head := first&15, first&0x80 != 0, int(second&0x7F), 2
		control := op >= 8
		switch {
		case first&0x70 != 0, second&0x80 == 0, control && op > 10, !control && op > 2, control && (!fin || size > 125):
			return data, pings, 1002
		case op == 1:
			return data, pings, 1003
		case !control && started != (op == 0):
			return data, pings, 1002
		}
		extra := map[int]int{126: 2, 127: 8}[size]
		if head += extra; len(in) < head+4 {
			return data, pings, 0
		}
		if extra > 0 {
			big := uint64(0)
			for _, b := range in[2:head] {
				big = big<<8 | uint64(b)
			}
			if big>>63 != 0 {
				return data, pings, 1002
			}
			size = int(min(big, 1<<40))
		}
		body := bytes.Clone(in[head+4:])
		cut := len(body) < size
		body = body[:min(len(body), size)]
		for i := range body {
			body[i] ^= in[head+i%4]
		}
		in = in[min(len(in), head+4+size):]
		switch {
		case !control:
			data, started = append(data, body...), !fin
		case cut:
		case op == 9:
			pings = append(pings, string(body))
		case op == 8 && size == 0:
			return data, pings, 1000
		case op == 8:
			code := uint16(1002)
			if size > 1 {
				if got := binary.BigEndian.Uint16(body); got >= 3000 && got < 5000 ||
					slices.Contains([]uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}, got) {
					code = got
					if !utf8.Valid(body[2:]) {
						code = 1007
					}
				}
			}
			return data, pings, code
		}
	}
	return data, pings, 0
}

// exchange sends bytes on a WebSocket, in pieces of the given size, and returns
// what the server's side reads, and what it sends.
func exchange(t testing.TB, p *ClientPort, in []byte, piece int) (data, sent []byte, err error) {
	t.Helper()
	conn, c := rawWS(t, nil, p)
	answers := make(chan []byte, 1)
	go func() { b, _ := io.ReadAll(conn); answers <- b }()
	go func() {
		for part := range slices.Chunk(in, piece) {
			if _, err := conn.Write(part); err != nil {
				return
			}
		}
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	data, err = io.ReadAll(c)
	if err == nil {
		err = io.EOF
	}
	_ = c.Close()
	return data, <-answers, err
}

// deaf is a connection that is written to only.
type deaf struct {
	net.Conn
	sent bytes.Buffer
}

func (d *deaf) Write(p []byte) (int, error)        { return d.sent.Write(p) }
func (d *deaf) Close() error                       { return nil }
func (d *deaf) SetWriteDeadline(t time.Time) error { return nil }

// pieces reads at most n bytes at a time.
type pieces struct {
	r io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// simulate is exchange without a network.
func simulate(p *ClientPort, in []byte, piece int) (data, sent []byte, err error) {
	conn := &deaf{}
	early := min(len(in), piece*7%600)
	s := newWebSocket(p, newTracked(conn, time.Time{}, nil), pieces{bytes.NewReader(in[early:]), piece}, in[:early])
	data, err = io.ReadAll(pieces{s, piece*5%97 + 1})
	s.goodbye()
	return data, conn.sent.Bytes(), err
}

// checkFrames holds what was read and sent against the reference.
func checkFrames(t testing.TB, in, got, sent []byte, err error) {
	t.Helper()
	want, pings, code := reference(in)
	if !bytes.Equal(got, want) {
		t.Fatalf("% X: read %q, want %q (%v)", in, got, want, err)
	}
	for len(sent) >= 2 && sent[0] == 0x8A { // pongs, of which some may be left out, come in order
		n := int(sent[1])
		at := slices.Index(pings, string(sent[2:2+n]))
		if at < 0 {
			t.Fatalf("% X: pong %q for pings %q", in, sent[2:2+n], pings)
		}
		pings = pings[at+1:]
		sent = sent[2+n:]
	}
	if code == 0 {
		code = 1000 // of Close
	}
	if wire := binary.BigEndian.AppendUint16([]byte{0x88, 2}, code); !bytes.Equal(sent, wire) && len(sent) > 0 {
		t.Fatalf("% X: sent % X, want close code %d", in, sent, code)
	}
}

func webSocketSeeds() map[string]string {
	big := strings.Repeat("x", 70_000)
	return map[string]string{
		"one message":              frame(0x82, "\x10\x0cCONNECT"),
		"empty message":            frame(0x82, "") + frame(0x82, "a"),
		"three frames":             frame(0x02, "a") + frame(0x00, "") + frame(0x80, "bc"),
		"control between":          frame(0x02, "a") + frame(0x89, "ping") + frame(0x8A, "pong") + frame(0x80, "b"),
		"ping of 125":              frame(0x89, big[:125]) + frame(0x82, "a"),
		"empty ping":               frame(0x89, "") + frame(0x82, "a"),
		"length of 16 bits":        frame(0x82, big[:126]) + frame(0x82, big[:4096]),
		"length of 64 bits":        frame(0x82, big) + frame(0x82, "a"),
		"text":                     frame(0x82, "a") + frame(0x81, "text") + frame(0x82, "b"),
		"text in a message":        frame(0x02, "a") + frame(0x81, "text"),
		"close":                    frame(0x82, "a") + frame(0x88, "") + frame(0x82, "b"),
		"close with a code":        frame(0x88, "\x03\xe9"),
		"close with a reason":      frame(0x88, "\x03\xe8bye"),
		"close of an application":  frame(0x88, "\x0f\xa0bye"),
		"close within a message":   frame(0x02, "a") + frame(0x88, "\x03\xe8"),
		"close of one byte":        frame(0x88, "\x03"),
		"close 1005":               frame(0x88, "\x03\xed"),
		"close 999":                frame(0x88, "\x03\xe7"),
		"close, reason not UTF-8":  frame(0x88, "\x03\xe8\xff"),
		"continuation first":       frame(0x80, "a"),
		"continuation after end":   frame(0x82, "a") + frame(0x80, "b"),
		"message within a message": frame(0x02, "a") + frame(0x82, "b"),
		"reserved bit 1":           frame(0xC2, "a"),
		"reserved bit 2":           frame(0xA2, "a"),
		"reserved bit 3":           frame(0x92, "a"),
		"reserved data opcode":     frame(0x83, "a"),
		"reserved control opcode":  frame(0x8B, "a"),
		"fragmented ping":          frame(0x09, "a"),
		"ping too long":            frame(0x89, big[:126]),
		"not masked":               "\x82\x01a",
		"length with sign":         "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04",
		"length of 2^62":           "\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04abc",
		"length not minimal":       "\x82\xfe\x00\x01\x00\x00\x00\x00a" + frame(0x82, "b"),
		"cut off in the head":      frame(0x82, "a") + "\x82",
		"cut off in the length":    "\x82\xfe\x01",
		"cut off in the key":       "\x82\x81\x01\x02",
		"cut off in the payload":   frame(0x82, "abcdef")[:9],
		"cut off in a ping":        frame(0x89, "abcdef")[:9],
		"nothing":                  "",
	}
}

// Every rule of the framing, whole and byte by byte, against the reference.
func TestWebSocketFrames_v5_MQTT_6_0_0_1_MQTT_6_0_0_2_v311_MQTT_6_0_0_1_MQTT_6_0_0_2(t *testing.T) {
	p := openClients(t, func(c *ClientConfig) { c.Logger = zap.NewNop() })
	for name, in := range webSocketSeeds() {
		for _, piece := range []int{len(in) + 1, 1} {
			if piece == 1 && len(in) > 5000 {
				continue
			}
			t.Run(name, func(t *testing.T) {
				got, sent, err := exchange(t, p, []byte(in), piece)
				checkFrames(t, []byte(in), got, sent, err)
			})
		}
	}
}

// FuzzWebSocket: whatever frames a client sends, the server reads what the
// reference reads and answers as it must; no input panics or hangs.
func FuzzWebSocket(f *testing.F) {
	for _, in := range webSocketSeeds() {
		if len(in) < 5000 {
			f.Add([]byte(in), byte(3))
		}
	}
	p := &ClientPort{}
	f.Fuzz(func(t *testing.T, in []byte, piece byte) {
		got, sent, err := simulate(p, in, int(piece)+1)
		checkFrames(t, in, got, sent, err)
	})
}

// FuzzWebSocketFrames builds frames from a script, so that most of them are in
// order: each three bytes are a first byte, a length and a filler.
func FuzzWebSocketFrames(f *testing.F) {
	f.Add([]byte{0x02, 3, 'a', 0x89, 2, 'p', 0x80, 200, 'b', 0x88, 2, 3}, byte(0))
	f.Add([]byte{0x82, 0, 0, 0x82, 255, 'x', 0x81, 1, 't'}, byte(4))
	p := &ClientPort{}
	f.Fuzz(func(t *testing.T, script []byte, piece byte) {
		var in []byte
		started := false
		for part := range slices.Chunk(script[:min(len(script), 300)], 3) {
			if len(part) < 3 {
				break
			}
			first := part[0]
			if first&0x0F < 8 && first&0x40 == 0 { // a data frame where one may be
				first = first & 0x80
				if !started {
					first |= 2
				}
				started = first&0x80 == 0
			}
			in = append(in, frame(first, strings.Repeat(string(rune(part[2]%128)), int(part[1])))...)
		}
		got, sent, err := simulate(p, in, int(piece)+1)
		checkFrames(t, in, got, sent, err)
	})
}

// What a frame has so far is read, though its rest is long in coming; a read
// deadline anywhere loses nothing.
func TestWebSocketBytesAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, _ := memoryPort(t, nil)
		conn, c := rawWS(t, hub.Node("x"), p)
		text := "a PINGREQ, then half of a PUBLISH"
		whole := frame(0x02, text[:10]) + frame(0x89, "ping") + frame(0x80, text[10:])
		var got []byte
		b := make([]byte, 100)
		for i := range len(whole) {
			mustWrite(t, conn, whole[i:i+1])
			for {
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				n, err := c.Read(b)
				got = append(got, b[:n]...)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if want, _, _ := reference([]byte(whole[:i+1])); string(got) != string(want) {
				t.Fatalf("after %d bytes: %q, want %q", i+1, got, want)
			}
		}
		if string(got) != text {
			t.Errorf("%q", got)
		}
		mustRead(t, conn, "\x8A\x04ping")
		p.Close()
	})
}

// A client that does not read its pongs does not stop its own packets, and the
// pong goes out behind the message that was being written.
func TestWebSocketPongsDoNotBlockTheReader(t *testing.T) {
	p := openClients(t, nil)
	conn, c := rawWS(t, nil, p)
	big := strings.Repeat("x", 16<<20)
	wrote := make(chan error, 1)
	go func() { _, err := io.WriteString(c, big); wrote <- err }() // blocks: nobody reads
	waitFor(t, "the write to block", func() bool { return len(c.stream.(*webSocket).writing) == 1 })
	for range 1000 {
		mustWrite(t, conn, frame(0x89, "early"))
	}
	mustWrite(t, conn, frame(0x89, "late")+frame(0x82, "packet"))
	mustRead(t, c, "packet")
	head := make([]byte, 10)
	if _, err := io.ReadFull(conn, head); err != nil || head[0] != 0x82 || head[1] != 127 {
		t.Fatalf("% X, %v", head, err)
	}
	if _, err := io.CopyN(io.Discard, conn, int64(len(big))); err != nil {
		t.Fatal(err)
	}
	mustRead(t, conn, "\x8A\x04late")
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// Frames right behind the request, which a client should not send yet, count.
func TestWebSocketEarlyFrames(t *testing.T) {
	p := openClients(t, nil)
	conn := dialRaw(t, nil, p.Addr())
	early := strings.Repeat("e", 2000)
	mustWrite(t, conn, upgradeRequest+frame(0x82, early)+frame(0x82, "more"))
	mustRead(t, mustServe(t, p), early+"more")
}

// After a write that failed in the middle, nothing follows.
func TestWebSocketIsBrokenAfterAWriteThatFailed(t *testing.T) {
	p := openClients(t, nil)
	_, c := rawWS(t, nil, p)
	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Write(make([]byte, 64<<20)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

func TestUnmask(t *testing.T) {
	key := [4]byte{1, 20, 100, 200}
	for n := range 40 {
		for at := range 4 {
			b := bytes.Repeat([]byte{0x55}, n)
			unmask(b, key, at)
			for i := range b {
				if b[i] != 0x55^key[(at+i)%4] {
					t.Fatalf("length %d, at %d, byte %d", n, at, i)
				}
			}
		}
	}
}

// The upgrade itself: RFC 6455, section 4.2.1.
func TestWebSocketUpgrades_v5_MQTT_6_0_0_4_v311_MQTT_6_0_0_4(t *testing.T) {
	p := openClients(t, nil)
	swap := func(old, now string) string {
		if !strings.Contains(upgradeRequest, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(upgradeRequest, old, now, 1)
	}
	for name, c := range map[string]struct{ request, status, header string }{
		"as it should be":    {upgradeRequest, "101", "Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI="},
		"lists and case":     {swap("Connection: Upgrade", "connection: keep-alive, UPGRADE"), "101", "Sec-WebSocket-Protocol: mqtt"},
		"two headers":        {swap("Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: soap\r\nSec-WebSocket-Protocol: x, mqttv3.1"), "101", "Sec-WebSocket-Protocol: mqttv3.1"},
		"both":               {swap("Protocol: mqtt", "Protocol: mqttv3.1, mqtt"), "101", "Sec-WebSocket-Protocol: mqtt\r\n"},
		"an extension":       {swap("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "101", "Sec-WebSocket-Protocol: mqtt\r\n\r\n"},
		"query":              {swap("/mqtt ", "/mqtt?token=x "), "101", ""},
		"other version":      {swap("13", "8"), "426", "Sec-Websocket-Version: 13"},
		"no version":         {swap("Sec-WebSocket-Version: 13\r\n", ""), "426", "Sec-Websocket-Version: 13"},
		"no key":             {swap("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", ""), "400", ""},
		"short key":          {swap("AAAAAAAAAAAAAAAAAAAAAA==", "AAAA"), "400", ""},
		"key not base64":     {swap("AAAAAAAAAAAAAAAAAAAAAA==", "!!!!!!!!!!!!!!!!!!!!!!=="), "400", ""},
		"no connection":      {swap("Connection: Upgrade\r\n", ""), "426", ""},
		"other upgrade":      {swap("Upgrade: websocket", "Upgrade: h2c"), "426", ""},
		"HTTP/1.0":           {swap("HTTP/1.1", "HTTP/1.0"), "426", ""},
		"no host":            {swap("Host: n1\r\n", ""), "400", ""},
		"no sub-protocol":    {swap("Sec-WebSocket-Protocol: mqtt\r\n", ""), "400", ""},
		"empty sub-protocol": {swap("Protocol: mqtt", "Protocol: "), "400", ""},
		"a prefix of it":     {swap("Protocol: mqtt", "Protocol: mqttv5"), "400", ""},
		"head too large":     {swap("\r\n\r\n", "\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n"), "431", ""},
	} {
		conn := dialRaw(t, nil, p.Addr())
		_ = conn.SetDeadline(time.Now().Add(9 * time.Second))
		go func() { _, _ = io.WriteString(conn, c.request) }()
		if c.status == "101" {
			s := mustServe(t, p)
			_ = s.CloseWrite()
			_ = s.t.Conn.(*net.TCPConn).CloseWrite()
		}
		got, err := io.ReadAll(conn)
		if !strings.HasPrefix(strings.TrimPrefix(string(got), "HTTP/1."), "1 "+c.status+" ") && name != "HTTP/1.0" || !strings.Contains(string(got), c.header) ||
			strings.Contains(string(got), "Extensions") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func BenchmarkWebSocketWrite(b *testing.B) {
	p := openClients(b, func(c *ClientConfig) { c.Logger = zap.NewNop() })
	conn, c := rawWS(b, nil, p)
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	msg := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWebSocketRead(b *testing.B) {
	p := openClients(b, func(c *ClientConfig) { c.Logger = zap.NewNop() })
	conn, c := rawWS(b, nil, p)
	wire := []byte(strings.Repeat(frame(0x82, strings.Repeat("x", 300)), 20))
	go func() {
		for {
			if _, err := conn.Write(wire); err != nil {
				return
			}
		}
	}()
	msg := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(c, msg); err != nil {
			b.Fatal(err)
		}
	}
}

// A text frame ends the connection, whatever the owner does.
func TestTextFrameClosesTheConnection_v5_MQTT_6_0_0_1_v311_MQTT_6_0_0_1(t *testing.T) {
	p := openClients(t, nil)
	for _, first := range []byte{0x81, 0x01} {
		conn, c := rawWS(t, nil, p)
		mustWrite(t, conn, frame(first, "\xC0\x00"))
		if _, err := c.Read(make([]byte, 9)); !errors.Is(err, errNotBinary) {
			t.Errorf("read: %v", err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		mustRead(t, conn, "\x88\x02\x03\xEB")
		mustEnd(t, conn)
	}
}
