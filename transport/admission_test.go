package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// memoryPort opens a port on a network in memory.
func memoryPort(t *testing.T, edit func(*ClientConfig)) (*ClientPort, *transporttest.Hub, *prometheus.Registry) {
	t.Helper()
	hub, reg := transporttest.NewHub(), prometheus.NewRegistry()
	return openClients(t, func(c *ClientConfig) {
		c.Network, c.Addr, c.Registerer, c.Name = hub.Node("n1"), "n1:1883", reg, "x"
		if edit != nil {
			edit(c)
		}
	}), hub, reg
}

func rejected(t testing.TB, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	return metric(t, reg, "flotilla_listener_rejected_total", "reason", reason)
}

// serveAll serves whoever says "\x10head", and waits for more of the others.
func serveAll(p *ClientPort) {
	for {
		c, err := p.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if string(b) != "\x10head" { // its CONNECT never ends
				_, _ = io.Copy(io.Discard, c)
				return
			}
			c.Established()
			_ = c.SetReadDeadline(time.Time{})
			for {
				if _, err := c.Write(b); err != nil {
					return
				}
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
			}
		}()
	}
}

// greet wants the port to serve a new client, and returns how long it took.
func greet(t testing.TB, nw Network, p *ClientPort, secure *tls.Config) time.Duration {
	t.Helper()
	start := time.Now()
	conn := dialRaw(t, nw, p.Addr())
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	mustWrite(t, conn, "\x10head")
	mustRead(t, conn, "\x10head")
	return time.Since(start)
}

// Half-open connections of every kind hold no more than the pending places, and
// a new client waits but a moment for one of them. Who is in, notices nothing.
func TestHalfOpenConnectionsKeepNobodyOut(t *testing.T) {
	upgrade := "GET /mqtt HTTP/1.1\r\nHost: x\r\n"
	for name, c := range map[string]struct {
		first  string
		secure bool
		most   time.Duration
	}{
		"silent":            {"", false, time.Second},
		"silent, TLS":       {"", true, time.Second},
		"one byte":          {"\x10", false, 1500 * time.Millisecond},
		"half a CONNECT":    {"\x10\x20\x00\x04MQ", false, 1500 * time.Millisecond},
		"half a hello":      {"\x16\x03\x01\x02\x00\x01\x00", true, 6 * time.Second},
		"half an upgrade":   {upgrade, false, 6 * time.Second},
		"half of PROXY":     {"PRO", false, 6 * time.Second},
		"half of a request": {"GE", false, 6 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var secure *tls.Config
			p, hub, reg := memoryPort(t, func(cfg *ClientConfig) {
				cfg.PendingMax = 50
				if c.secure {
					ca := newAuthority(t)
					cfg.TLS, secure = serverConfig(t, ca), &tls.Config{RootCAs: ca.pool, ServerName: "mqtt.example"}
				}
			})
			go serveAll(p)
			x := hub.Node("x")
			old := dialRaw(t, x, p.Addr())
			if c.secure {
				old = tls.Client(old, secure)
			}
			mustWrite(t, old, "\x10head")
			mustRead(t, old, "\x10head")
			for range 250 {
				mustWrite(t, dialRaw(t, x, p.Addr()), c.first)
			}
			synctest.Wait()
			if n := goroutines(); n > 3*60 {
				t.Errorf("%s: %d goroutines for 50 places", name, n)
			}
			if d := greet(t, x, p, secure); d > c.most {
				t.Errorf("%s: a new client waited %v", name, d)
			}
			synctest.Wait()
			mustWrite(t, old, "ping!")
			mustRead(t, old, "ping!")
			if n := rejected(t, reg, reasonEvicted); n < 150 {
				t.Errorf("%s: %v evicted", name, n)
			}
			if n := p.in.adm.pendingLen(); n > 50 {
				t.Errorf("%s: %d pending", name, n)
			}
			time.Sleep(11 * time.Second)
			synctest.Wait()
			if n := p.in.adm.pendingLen(); n != 0 || p.in.adm.total != 2 {
				t.Errorf("%s: %d pending, %d in all", name, n, p.in.adm.total)
			}
			p.Close()
		})
	}
}

// One byte a second: the deadline counts from the accept, and a busy port does
// not even wait for it. A client that makes progress keeps its place meanwhile.
func TestSlowWriters(t *testing.T) {
	hello := clientHello(t)
	for name, c := range map[string]struct {
		text   string
		start  int // bytes that come at once
		secure bool
		grace  time.Duration
	}{
		"CONNECT": {"\x10\x20\x00\x04MQTT\x05\x02" + strings.Repeat("x", 40), 1, false, evictPlain},
		"upgrade": {"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", 5, false, evictSlow},
		"TLS":     {hello, 1, true, evictSlow},
		"PROXY":   {"PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n", 1, false, evictSlow},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, hub, _ := memoryPort(t, func(cfg *ClientConfig) {
				cfg.PendingMax = 10
				if c.secure {
					cfg.TLS = serverConfig(t, newAuthority(t))
				}
				if name == "PROXY" {
					cfg.Proxy = ProxyAny
					cfg.TrustedProxies, _ = ParseProxies([]string{"10.0.0.1"})
				}
			})
			go serveAll(p)
			x := hub.Node("10.0.0.1")
			drip := func(conn net.Conn) time.Duration {
				start := time.Now()
				gone := make(chan struct{})
				go func() { _, _ = io.Copy(io.Discard, conn); close(gone) }()
				for i := c.start; i <= len(c.text); i++ {
					part := c.text[i-1 : i]
					if i == c.start {
						part = c.text[:i]
					}
					_, _ = io.WriteString(conn, part)
					select {
					case <-gone:
						return time.Since(start)
					case <-time.After(time.Second):
					}
				}
				<-gone
				return time.Since(start)
			}
			if d := drip(dialRaw(t, x, p.Addr())); d != 10*time.Second {
				t.Errorf("%s: alone, closed after %v", name, d)
			}
			ends := make(chan time.Duration)
			for range 20 {
				conn := dialRaw(t, x, p.Addr())
				go func() { ends <- drip(conn) }()
			}
			first := <-ends
			if first < c.grace || first > c.grace+100*time.Millisecond {
				t.Errorf("%s: with others waiting, the first was closed after %v", name, first)
			}
			for range 19 {
				<-ends
			}
			synctest.Wait() // the port has noticed, too
			if n := p.in.adm.pendingLen(); n != 0 {
				t.Errorf("%s: %d pending", name, n)
			}
			p.Close()
		})
	}
}

// clientHello is the first record of a TLS client.
func clientHello(t *testing.T) string {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: "mqtt.example"}).HandshakeContext(t.Context())
		_ = a.Close()
	}()
	buf := make([]byte, 4096)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Who waits for us is not evicted: it is not the client that is slow.
func TestWaitingForTheOwnerIsNotHeldAgainstAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, reg := memoryPort(t, func(c *ClientConfig) { c.PendingMax = 2 })
		x := hub.Node("x")
		for range 3 {
			mustWrite(t, dialRaw(t, x, p.Addr()), "\x10CONNECT")
		}
		a := mustAccept(t, p)
		mustRead(t, a, "\x10CONNECT") // and now it is authenticated, which takes its time
		time.Sleep(9 * time.Second)
		if n := rejected(t, reg, reasonEvicted); n != 0 {
			t.Errorf("%v evicted", n)
		}
		mustWrite(t, a, "CONNACK")
		a.Established()
		b := mustAccept(t, p)
		mustRead(t, b, "\x10CONNECT")
		p.Close()
	})
}

// Who gives up before there is a place for it, takes none.
func TestClosedWhileWaitingForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, reg := memoryPort(t, func(c *ClientConfig) { c.PendingMax = 1 })
		x := hub.Node("x")
		mustWrite(t, dialRaw(t, x, p.Addr()), "\x10")
		a := mustAccept(t, p)
		mustRead(t, a, "\x10")
		waiting := dialRaw(t, x, p.Addr())
		time.Sleep(20 * time.Second) // beyond its deadline
		mustEnd(t, waiting)
		a.Established()
		mustWrite(t, dialRaw(t, x, p.Addr()), "\x10")
		mustRead(t, mustServe(t, p), "\x10")
		synctest.Wait()
		if n := p.in.adm.pendingLen(); n != 0 || rejected(t, reg, reasonTimeout) != 1 {
			t.Errorf("%d pending, %v timed out", n, rejected(t, reg, reasonTimeout))
		}
		if n := metric(t, reg, "flotilla_listener_pending", "listener", "x"); n != 0 {
			t.Errorf("%v pending in the metrics", n)
		}
		p.Close()
	})
}

// The ports of a node share what they have.
func TestPortsShareAnAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, reg := transporttest.NewHub(), prometheus.NewRegistry()
		adm := NewAdmission(AdmissionConfig{PendingMax: 4, MaxConnections: 6})
		var ports []*ClientPort
		for _, name := range []string{"a", "b"} {
			ports = append(ports, openClients(t, func(c *ClientConfig) {
				c.Network, c.Addr, c.Registerer, c.Name, c.Admission = hub.Node("n1"), "n1:0", reg, name, adm
			}))
		}
		for range 3 { // established on the first port
			mustWrite(t, dialRaw(t, hub.Node("x"), ports[0].Addr()), "\x10")
			mustRead(t, mustServe(t, ports[0]), "\x10")
		}
		for range 3 { // in their handshake on the second, and not to blame
			mustWrite(t, dialRaw(t, hub.Node("x"), ports[1].Addr()), "\x10")
			mustRead(t, mustAccept(t, ports[1]), "\x10")
		}
		conn := dialRaw(t, hub.Node("x"), ports[0].Addr())
		_, err := conn.Read(make([]byte, 1))
		synctest.Wait()
		if err == nil || rejected(t, reg, reasonTooMany) != 1 {
			t.Errorf("a seventh connection: %v", err)
		}
		ports[0].Close()
		if adm.total != 3 || adm.pendingLen() != 3 {
			t.Errorf("%d connections, %d pending after one port was closed", adm.total, adm.pendingLen())
		}
		ports[1].Close()
		if adm.total != 0 || adm.pendingLen() != 0 {
			t.Errorf("%d connections, %d pending at the end", adm.total, adm.pendingLen())
		}
	})
}

// At the limit of connections, too, a silent one makes room.
func TestConnectionLimitEvictsTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, reg := memoryPort(t, func(c *ClientConfig) { c.Admission = NewAdmission(AdmissionConfig{MaxConnections: 3}) })
		go serveAll(p)
		for range 3 {
			dialRaw(t, hub.Node("x"), p.Addr())
		}
		time.Sleep(evictSilent)
		greet(t, hub.Node("x"), p, nil)
		synctest.Wait() // who held it counts it
		if rejected(t, reg, reasonEvicted) != 1 || rejected(t, reg, reasonTooMany) != 0 {
			t.Errorf("%v evicted, %v too many", rejected(t, reg, reasonEvicted), rejected(t, reg, reasonTooMany))
		}
		p.Close()
	})
}

func TestConnectRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hub, reg := memoryPort(t, func(c *ClientConfig) {
			c.Admission = NewAdmission(AdmissionConfig{ConnectRate: 10, ConnectBurst: 5})
		})
		go serveAll(p)
		time.Sleep(time.Hour) // a pause saves up no more than the burst
		start := time.Now()
		times := make(chan time.Duration, 30)
		for range 30 {
			go func() { greet(t, hub.Node("x"), p, nil); times <- time.Since(start) }()
		}
		for i := range 30 {
			d := <-times
			// One accept was reserved before the pause.
			if want := time.Duration(max(0, i-5)) * 100 * time.Millisecond; d < want-100*time.Millisecond || d > want+100*time.Millisecond {
				t.Errorf("client %d after %v, want %v", i, d, want)
			}
		}
		if n := metric(t, reg, "flotilla_listener_throttled_total", "listener", "x"); n < 24 {
			t.Errorf("%v accepts throttled", n)
		}
		p.Close()
	})
}

// Before CONNECT is accepted, a connection may send 64 KiB; after it, whatever.
func TestBytesBeforeConnectAreBounded(t *testing.T) {
	for _, secure := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ca := newAuthority(t)
			p, hub, _ := memoryPort(t, func(c *ClientConfig) {
				if secure {
					c.TLS = serverConfig(t, ca)
				}
			})
			conns := make([]net.Conn, 2)
			for i := range conns {
				conns[i] = dialRaw(t, hub.Node("x"), p.Addr())
				if secure {
					conns[i] = tls.Client(conns[i], &tls.Config{RootCAs: ca.pool, ServerName: "mqtt.example"})
				}
			}
			mustWrite(t, conns[0], "\x10")
			c := mustAccept(t, p)
			go func() { _, _ = conns[0].Write(make([]byte, 1<<20)) }()
			n, err := io.Copy(io.Discard, c)
			if n > 64<<10 || n < 45<<10 || !errors.Is(err, errOverrun) {
				t.Errorf("secure %v: %d bytes, %v", secure, n, err)
			}
			_ = c.Close()
			mustWrite(t, conns[1], "\x10")
			c = mustServe(t, p)
			go func() { _, _ = conns[1].Write(make([]byte, 1<<20-1)) }()
			if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
				t.Errorf("secure %v: established: %v", secure, err)
			}
			p.Close()
		})
	}
}

// A peer of the cluster port gives its place back once it is accepted.
func TestClusterPlacesAreGivenBack(t *testing.T) {
	b := book{}
	one := openNode(t, b, "n1", "c", nil)
	two := openNode(t, b, "n2", "c", func(c *ClusterConfig) { c.MaxPending = 2 })
	for range 5 {
		if _, _, err := one.DialPeer(t.Context(), "n2", KindPeer); err != nil {
			t.Fatal(err)
		}
		if _, _, err := two.AcceptPeer(); err != nil {
			t.Fatal(err)
		}
	}
	if n := two.in.adm.pendingLen(); n != 0 {
		t.Errorf("%d places taken", n)
	}
}

// FuzzClientPort: whatever somebody sends to a port of any kind, and then falls
// silent or leaves, the port ends the connection and keeps nothing of it.
func FuzzClientPort(f *testing.F) {
	for _, c := range proxyCases() {
		f.Add([]byte(c.header), byte(2))
	}
	for _, s := range []string{upgradeRequest, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "GET ", "PRO"} {
		f.Add([]byte(s+frame(0x82, "\x10")), byte(0))
		f.Add([]byte(s), byte(1))
	}
	hub := transporttest.NewHub()
	ca := newAuthority(f)
	var ports []*ClientPort
	for kind := range 3 {
		p := openClients(f, func(c *ClientConfig) {
			c.Network, c.Addr, c.Logger = hub.Node("n1"), "n1:0", zap.NewNop()
			switch kind {
			case 1:
				c.TLS = serverConfig(f, ca)
			case 2:
				c.Proxy = ProxyAny
				c.TrustedProxies, _ = ParseProxies([]string{"10.0.0.1"})
			}
		})
		ports = append(ports, p)
		go func() {
			for {
				c, err := p.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(io.Discard, c)
				}()
			}
		}()
	}
	f.Fuzz(func(t *testing.T, in []byte, kind byte) {
		p := ports[kind%3]
		conn, err := hub.Node("10.0.0.1").Dial(t.Context(), p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(in)
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection stays open")
		}
		_ = conn.Close()
		waitFor(t, "nothing pending", func() bool { return p.in.adm.pendingLen() == 0 && p.in.conns.len() == 0 })
	})
}
