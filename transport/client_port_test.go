package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func serverConfig(t testing.TB, ca *authority) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.DNSNames = []string{"mqtt.example"} })}}
}

func mustAccept(t testing.TB, p *ClientPort) *Conn {
	t.Helper()
	c, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// mustServe is mustAccept of a client whose CONNECT is accepted.
func mustServe(t testing.TB, p *ClientPort) *Conn {
	t.Helper()
	c := mustAccept(t, p)
	c.Established()
	return c
}

// One port takes MQTT and WebSocket, in TLS or not; bytes go both ways.
func TestClientTransports(t *testing.T) {
	ca := newAuthority(t)
	for _, secure := range []bool{false, true} {
		p := openClients(t, func(c *ClientConfig) {
			if secure {
				c.TLS = serverConfig(t, ca)
			}
		})
		for _, web := range []bool{false, true} {
			want := map[[2]bool]string{{false, false}: "tcp", {true, false}: "tls", {false, true}: "ws", {true, true}: "wss"}[[2]bool{secure, web}]
			t.Run(want, func(t *testing.T) {
				var client net.Conn
				if web {
					var wsCA *authority
					if secure {
						wsCA = ca
					}
					ws, _, err := dialWS(t, p, wsCA, nil)
					if err != nil {
						t.Fatal(err)
					}
					client = websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
				} else {
					client = dialRaw(t, nil, p.Addr())
					if secure {
						client = tls.Client(client, &tls.Config{RootCAs: ca.pool, ServerName: "mqtt.example"})
					}
				}
				big := "\x10" + strings.Repeat("0123456789abcdef", 10_000)
				mustWrite(t, client, big)
				c := mustServe(t, p)
				if c.Transport() != want || (c.TLS() != nil) != secure {
					t.Errorf("transport %q, TLS %v", c.Transport(), c.TLS())
				}
				if c.RemoteAddr().Network() != "tcp" || c.LocalAddr().String() != p.Addr().String() {
					t.Errorf("addresses %v, %v", c.RemoteAddr(), c.LocalAddr())
				}
				if left := time.Until(c.HandshakeDeadline()); left > 10*time.Second || left < 5*time.Second {
					t.Errorf("handshake deadline in %v", left)
				}
				mustRead(t, c, big)
				mustWrite(t, c, "answer")
				mustRead(t, client, "answer")
				b := net.Buffers{[]byte("a"), []byte("bc"), nil, []byte(big)}
				if n, err := c.WriteBuffers(&b); n != int64(3+len(big)) || err != nil || len(b) != 0 {
					t.Errorf("WriteBuffers: %d, %v, %d buffers left", n, err, len(b))
				}
				mustRead(t, client, "abc"+big)
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
				if _, err := client.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("client reads %v after CloseWrite", err)
				}
				if !web { // a WebSocket client answers the close frame and is gone
					mustWrite(t, client, "still heard")
					mustRead(t, c, "still heard")
				}
				c.Close()
				if _, err := client.Read(make([]byte, 1)); err != io.EOF { // goodbye of TLS, close frame of WebSocket
					t.Errorf("client reads %v; want a clean end", err)
				}
				if _, err := c.Write([]byte("x")); err == nil {
					t.Error("write after close")
				}
			})
		}
	}
}

// All 256 first bytes on the client port: MQTT goes to Accept, all else is
// closed at once and without an answer, other packets of MQTT among them.
func TestFirstBytesOfTheClientPort(t *testing.T) {
	reg := prometheus.NewRegistry()
	p := openClients(t, func(c *ClientConfig) { c.Registerer = reg })
	for b := range 256 {
		c := dialRaw(t, nil, p.Addr())
		c.SetDeadline(time.Now().Add(9 * time.Second)) // below the handshake timeout
		mustWrite(t, c, string([]byte{byte(b)})+" \r\n\r\n")
		switch {
		case b == firstMQTT:
			s := mustServe(t, p)
			mustRead(t, s, "\x10 \r\n\r\n")
		default:
			if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("first byte %#x: %q, %v", b, got, err)
			}
		}
	}
	if n := metric(t, reg, "flotilla_listener_rejected_total", "reason", reasonFirstByte); n != 256-1-2 {
		t.Errorf("%v rejected for their first byte", n)
	}
	for _, reason := range []string{reasonUnexpectedTLS, reasonPreamble} { // likely mistakes have names
		if n := metric(t, reg, "flotilla_listener_rejected_total", "reason", reason); n != 1 {
			t.Errorf("%v rejected for %s", n, reason)
		}
	}
	if n := metric(t, reg, "flotilla_listener_accepted_total", "transport", "tcp"); n != 1 {
		t.Errorf("%v accepted", n)
	}
	waitFor(t, "no connection pending", func() bool {
		return metric(t, reg, "flotilla_listener_pending", "listener", "mqtt") == 0
	})
}

// metric returns the value of the series that has this label.
func metric(t testing.TB, reg *prometheus.Registry, name, label, value string) float64 {
	t.Helper()
	fams, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					sum += valueOf(m)
				}
			}
		}
	}
	return sum
}

func valueOf(m *dto.Metric) float64 { return m.GetCounter().GetValue() + m.GetGauge().GetValue() }

// waitFor waits for a state: for a minute, which a busy machine may need.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("waited for: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// A silent client is closed at the deadline, at whichever stage it falls
// silent, and its goroutine is gone.
func TestSilentClientsAreClosedAtTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		first  string
		secure bool
	}{
		"nothing":          {"", false},
		"half a request":   {"GET /mqtt HTT", false},
		"half the headers": {"GET /mqtt HTTP/1.1\r\nHost: x\r\n", false},
		"nothing, TLS":     {"", true},
		"half a hello":     {"\x16\x03\x01\x02\x00\x01\x00", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			hub := transporttest.NewHub()
			p := openClients(t, func(cfg *ClientConfig) {
				cfg.Network, cfg.Addr = hub.Node("n1"), "n1:1883"
				if c.secure {
					cfg.TLS = serverConfig(t, newAuthority(t))
				}
			})
			synctest.Wait() // the port's own have started
			before := goroutines()
			conn := dialRaw(t, hub.Node("x"), p.Addr())
			start := time.Now()
			mustWrite(t, conn, c.first)
			if got, err := io.ReadAll(conn); len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 4") {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("%s: closed after %v", name, d)
			}
			synctest.Wait()
			if n := goroutines(); n > before {
				t.Errorf("%s: %d goroutines, %d before", name, n, before)
			}
			if hub.Conns("n1") != 0 {
				t.Errorf("%s: connections are left", name)
			}
			p.Close()
		})
	}
}

// goroutines counts those of a port: runtime.NumGoroutine also counts
// finalizers that happen to run.
func goroutines() (n int) {
	buf := make([]byte, 8<<20)
	for st := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, mark := range []string{"transport.(*intake)", "transport.(*mux)", "transport.(*ClientPort)", "cmux.(*cMux)", "http.(*conn)"} {
			if strings.Contains(st, mark) {
				n++
				break
			}
		}
	}
	return n
}

// The time for CONNECT counts from the accept: what the first steps took is not given again.
func TestHandshakeDeadlineStaysForConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := transporttest.NewHub()
		p := openClients(t, func(c *ClientConfig) { c.Network, c.Addr = hub.Node("n1"), "n1:1883" })
		conn := dialRaw(t, hub.Node("x"), p.Addr())
		start := time.Now()
		time.Sleep(7 * time.Second)
		mustWrite(t, conn, "\x10") // the rest of CONNECT never comes
		c := mustAccept(t, p)
		mustRead(t, c, "\x10")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("after %v", d)
		}
		// The owner may set another.
		c.SetReadDeadline(time.Time{})
		time.Sleep(time.Minute)
		mustWrite(t, conn, "x")
		mustRead(t, c, "x")
		mustWrite(t, c, "y")
		mustRead(t, conn, "y")
		p.Close()
	})
}

// Nobody accepts: at most PendingMax connections are held, by a bounded number
// of goroutines; the rest waits in the accept queue. Those held are closed at
// their deadline.
func TestStalledAcceptorIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := transporttest.NewHub()
		p := openClients(t, func(c *ClientConfig) {
			c.Network, c.Addr, c.PendingMax = hub.Node("n1"), "n1:1883", 100
		})
		x := hub.Node("x")
		synctest.Wait() // the port's own have started
		before := goroutines()
		for i := range 500 {
			conn := dialRaw(t, x, p.Addr())
			if i%5 > 0 {
				mustWrite(t, conn, "\x10")
			} else {
				mustWrite(t, conn, "GET /mqtt HTTP/1.1\r\nHost: n1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
			}
		}
		synctest.Wait()
		if n := p.in.adm.pendingLen(); n != 100 {
			t.Errorf("%d pending", n)
		}
		if n := goroutines() - before; n > 2*100 {
			t.Errorf("%d goroutines for 100 pending connections", n)
		}
		time.Sleep(9 * time.Second)
		if n := p.in.conns.len(); n != 101 { // one waits for a place
			t.Errorf("%d connections before the deadline", n)
		}
		time.Sleep(52 * time.Second) // 5 times the deadline: all have had their turn
		synctest.Wait()
		if n := p.in.conns.len(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		if n := goroutines(); n > before {
			t.Errorf("%d goroutines are left, %d before", n, before)
		}
		// And it goes on.
		mustWrite(t, dialRaw(t, x, p.Addr()), "\x10ok")
		mustRead(t, mustAccept(t, p), "\x10ok")
		p.Close()
	})
}

func TestPendingUntilEstablished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := transporttest.NewHub()
		p := openClients(t, func(c *ClientConfig) {
			c.Network, c.Addr, c.PendingMax = hub.Node("n1"), "n1:1883", 2
		})
		for range 3 {
			mustWrite(t, dialRaw(t, hub.Node("x"), p.Addr()), "\x10")
		}
		a, b := mustAccept(t, p), mustAccept(t, p)
		third := make(chan *Conn, 1)
		go func() {
			c, _ := p.Accept()
			third <- c
		}()
		synctest.Wait()
		if len(third) != 0 {
			t.Fatal("a third handshake, though two are under way")
		}
		a.Established()
		a.Established()
		if c := <-third; c == nil {
			t.Fatal("no third connection")
		}
		b.Close()
		if n := p.in.adm.pendingLen(); n != 1 {
			t.Errorf("%d places taken", n)
		}
		p.Close()
	})
}

// What cmux hides is there: writev and keep-alive.
func TestAcceptedTCPConnection(t *testing.T) {
	p := openClients(t, nil)
	client := dialRaw(t, nil, p.Addr())
	mustWrite(t, client, "\x10")
	c := mustAccept(t, p)
	tcp, ok := c.t.Conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("writes go to a %T: no writev", c.t.Conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	get := func(level, opt int) (v int) {
		if err := raw.Control(func(fd uintptr) { v, err = syscall.GetsockoptInt(int(fd), level, opt) }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if get(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) == 0 || get(syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE) != 15 {
		t.Error("keep-alive is not set")
	}
	if get(syscall.IPPROTO_TCP, syscall.TCP_NODELAY) == 0 {
		t.Error("Nagle's algorithm is on")
	}
	// WriteBuffers does not copy: no allocation that grows with the payload.
	payload := make([]byte, 32<<10)
	go func() { _, _ = io.Copy(io.Discard, client) }()
	p.scratch.New = func() any { t.Error("buffers are copied, not written with writev"); return new([]byte) }
	bufs := make(net.Buffers, 2)
	n := testing.AllocsPerRun(100, func() {
		b := append(bufs[:0], []byte("head"), payload)
		if _, err := c.WriteBuffers(&b); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%v allocations per WriteBuffers", n)
	if n > 4 {
		t.Errorf("%v allocations", n)
	}
}

func TestClientConfigFailsClosed(t *testing.T) {
	for name, edit := range map[string]func(*ClientConfig){
		"TLS without certificate": func(c *ClientConfig) { c.TLS = &tls.Config{} },
		"path":                    func(c *ClientConfig) { c.WebSocketPath = "mqtt" },
		"origin pattern":          func(c *ClientConfig) { c.Origins = []string{"[a"} },
		"empty origin":            func(c *ClientConfig) { c.Origins = []string{""} },
	} {
		cfg := ClientConfig{Addr: "127.0.0.1:0"}
		edit(&cfg)
		if p, err := OpenClientPort(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if p != nil {
				p.Close()
			}
		}
	}
	p := openClients(t, func(c *ClientConfig) { c.TLS = serverConfig(t, newAuthority(t)) })
	old := tls.Client(dialRaw(t, nil, p.Addr()), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.1 was let in")
	}
}

// Close returns with connections at every stage, and leaves no goroutine.
func TestClientPortCloseWithLiveConnections(t *testing.T) {
	ca := newAuthority(t)
	for _, secure := range []bool{false, true} {
		reg := prometheus.NewRegistry()
		p := openClients(t, func(c *ClientConfig) {
			c.HandshakeTimeout, c.Registerer = time.Minute, reg
			if secure {
				c.TLS = serverConfig(t, ca)
			}
		})
		dial := func(first string) net.Conn {
			c := dialRaw(t, nil, p.Addr())
			if secure {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			}
			if first != "" {
				mustWrite(t, c, first)
			}
			return c
		}
		dial("") // silent
		dial("GET /mqtt HTTP/1.1\r\n")
		dial("\x10")
		c := mustAccept(t, p)
		dial("\x10") // waits for Accept
		dial("\x10")
		var wsCA *authority
		if secure {
			wsCA = ca
		}
		if _, _, err := dialWS(t, p, wsCA, nil); err != nil { // waits, too
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		start := time.Now()
		p.Close()
		if d := time.Since(start); d > time.Second {
			t.Errorf("tls=%v: close took %v", secure, d)
		}
		if err := <-read; err == nil {
			t.Error("a read of an accepted connection goes on")
		}
		if _, err := p.Accept(); !errors.Is(err, ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		p.Close() // again
		if n := p.in.conns.len(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		if n := metric(t, reg, "flotilla_listener_pending", "listener", p.cfg.Name); n != 0 {
			t.Errorf("%v pending", n)
		}
	}
}

// Out of file descriptors, the port pauses and goes on.
type failing struct {
	net.Listener
	errs chan error
}

func (f *failing) Accept() (net.Conn, error) {
	select {
	case err := <-f.errs:
		return nil, err
	default:
		return f.Listener.Accept()
	}
}

type failingNetwork struct{ Network }

func (f failingNetwork) Listen(addr string) (net.Listener, error) {
	l, err := f.Network.Listen(addr)
	errs := make(chan error, 3)
	for range 3 {
		errs <- fmt.Errorf("accept: %w", syscall.EMFILE)
	}
	return &failing{l, errs}, err
}

func TestAcceptErrorsArePassing(t *testing.T) {
	p := openClients(t, func(c *ClientConfig) { c.Network = failingNetwork{TCP{}} })
	mustWrite(t, dialRaw(t, nil, p.Addr()), "\x10")
	mustAccept(t, p)
	if n := p.in.adm.pendingLen(); n != 1 {
		t.Errorf("%d places taken", n)
	}
}

// Two ports may share a registry.
func TestPortsShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, name := range []string{"a", "b"} {
		p := openClients(t, func(c *ClientConfig) { c.Registerer, c.Name = reg, name })
		mustWrite(t, dialRaw(t, nil, p.Addr()), "\x10")
		mustAccept(t, p)
		if n := metric(t, reg, "flotilla_listener_accepted_total", "listener", name); n != 1 {
			t.Errorf("%s: %v accepted", name, n)
		}
	}
}

// gather does not keep what callers may reuse.
func TestGatherCopies(t *testing.T) {
	p := &ClientPort{}
	for range 3 {
		var got bytes.Buffer
		b := net.Buffers{[]byte("ab"), []byte("c")}
		if n, err := p.gather(&b, got.Write); n != 3 || err != nil || got.String() != "abc" || b != nil {
			t.Errorf("%d, %v, %q, %v", n, err, got.String(), b)
		}
	}
}

// Close in the middle of accepts, again and again (for the race detector).
func TestCloseRacesWithAccept(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			hub := transporttest.NewHub()
			p := openClients(t, func(c *ClientConfig) { c.Network, c.Addr = hub.Node("n1"), "n1:1883" })
			x := hub.Node("x")
			dialled := make(chan struct{})
			go func() {
				defer close(dialled)
				for range 20 {
					c, err := x.Dial(t.Context(), p.Addr().String())
					if err != nil {
						return
					}
					_, _ = c.Write([]byte{firstMQTT})
					defer c.Close()
				}
			}()
			_, _ = p.Accept()
			p.Close()
			<-dialled
		})
	}
}
