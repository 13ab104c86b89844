package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// garbage sends what does not belong there to the client, the cluster and the admin port.
func (a *abuse) garbage(ctx context.Context, t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 3))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	connect, err := mqtt.Append(nil, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "lost", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	publish := mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("a"), Payload: []byte("b")})
	pieces := [][]byte{
		{}, {0}, {0xFF}, {0x10}, {0x16, 3, 1}, []byte("GET / HTTP/1.1\r\n\r\n"), []byte("GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
		[]byte("POST /api/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n{"), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		[]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), []byte("SSH-2.0-OpenSSH\r\n"), connect, publish, append(connect[:len(connect)-1:len(connect)-1], noise(5)...),
		{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, {0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, {0xE0, 0}, append([]byte("FLOTILLA"), noise(64)...), append([]byte("GET "), noise(70_000)...),
	}
	for _, n := range []int{1, 4, 16, 64, 1024, 70_000} {
		pieces = append(pieces, noise(n), append([]byte{0x10}, noise(n)...), append([]byte{0x16, 3, 1, 2, 0}, noise(n)...), append([]byte("F"), noise(n)...))
	}
	for _, addr := range []string{a.target.MQTTAddr(), a.target.ClusterAddr(), a.target.AdminAddr()} {
		if ctx.Err() != nil {
			return
		}
		swarm(ctx, addr, 3*len(pieces), func(i int, conn net.Conn) {
			_, _ = conn.Write(pieces[i%len(pieces)])
			if half, ok := conn.(*net.TCPConn); ok && i%3 == 0 {
				_ = half.CloseWrite()
			}
			if i%3 == 1 {
				_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // gone without a word
			} else {
				_ = conn.SetReadDeadline(time.Now().Add(a.handshake + time.Second))
			}
			_, _ = io.Copy(io.Discard, conn)
		})
		swarm(ctx, addr, 10, func(_ int, conn net.Conn) {
			_ = conn.SetDeadline(time.Now().Add(a.handshake + time.Second))
			_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // it must fail
		})
	}
}

// giants declares lengths that never come, before and after CONNECT.
func (a *abuse) giants(ctx context.Context, count int) {
	heads := [][]byte{
		{0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0xFF, 0xFF, 'a'},
		{0x10, 0xFF, 0xFF, 0x7F, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F, 0x26, 0xFF, 0xFF},
		{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 'a'},
		{0x82, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 0xFF, 0xFF},
		{0x30, 0xFE, 0xFF, 0x3F, 0xFF, 0xFF, 'a', 'b'}, // just below the maximum packet size
		{0x62, 0xFF, 0xFF, 0xFF, 0x7F},
	}
	swarm(ctx, a.target.MQTTAddr(), count, func(i int, conn net.Conn) {
		head := heads[i%len(heads)]
		if head[0] != 0x10 {
			b, _ := mqtt.Append(nil, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: fmt.Sprintf("giant-%d", i)})
			_, _ = conn.Write(b)
		}
		_, _ = conn.Write(head)
		readToEnd(conn)
	})
}

// storm connects and leaves without a word, as fast as it can.
func (a *abuse) storm(ctx context.Context, t *testing.T, count int) {
	var done, failed atomic.Int64
	const width = 64
	start := time.Now()
	stormers := make(chan struct{}, width)
	for range width {
		go func() {
			defer func() { stormers <- struct{}{} }()
			for n := done.Add(1); n <= int64(count) && ctx.Err() == nil; n = done.Add(1) {
				p := &mqtt.Connect{Version: mqtt.V311, CleanStart: n%2 == 0, ClientID: fmt.Sprintf("storm-%d", n%1000)}
				r, err := dialRaw(ctx, a.target.MQTTAddr(), p, false)
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = r.Close()
			}
		}()
	}
	for range width {
		<-stormers
	}
	t.Logf("%d connects at %.0f/s, %d failed", min(done.Load(), int64(count)), float64(min(done.Load(), int64(count)))/time.Since(start).Seconds(), failed.Load())
}

// deafClients subscribe and never read, while others publish to them, until some of it has been dropped.
func (a *abuse) deafClients(ctx context.Context, t *testing.T, count int) {
	for i := range count {
		p := &mqtt.Connect{Version: mqtt.V5, ClientID: fmt.Sprintf("deaf-%d", i), CleanStart: true}
		if i%3 == 2 {
			p.SessionExpiry, p.HasSessionExpiry = 60, true
		}
		r := openRaw(t, a.target, p, true)
		r.subscribe(t, "deaf/#", byte(i%3))
	}
	const counted = "flotilla_messages_dropped_total"
	before := a.counts(t, []string{counted})[0]
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	payload := make([]byte, 1024)
	ended := make(chan error, 2)
	for k, n := range a.c.Nodes[:2] {
		go func() {
			publisher, err := tryConnect(t, n, fmt.Sprintf("loud-%d", k), transient)
			if err != nil {
				ended <- err
				return
			}
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := publisher.Send(ctx, &mqtt.Publish{Topic: []byte("deaf/x"), Payload: payload, QoS: byte(i % 2)}, 0); err != nil {
					break
				}
			}
			ended <- nil
		}()
	}
	err := harness.Until(t.Context(), patience, "messages to be dropped", func(context.Context) error {
		if a.counts(t, []string{counted})[0] == before {
			return fmt.Errorf("none is")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	pause(ctx, deafTime)
	enough()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// deafTime is for how long it goes on then.
const deafTime = time.Second
