package transport

import (
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"
)

// BenchmarkClientAccept is connect, first byte, Accept, close.
func BenchmarkClientAccept(b *testing.B) {
	p := openClients(b, func(c *ClientConfig) { c.Logger = zap.NewNop() })
	b.ReportAllocs()
	for range b.N {
		c, err := TCP{}.Dial(b.Context(), p.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		mustWrite(b, c, "\x10")
		s, err := p.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		s.Close()
	}
}

// BenchmarkGroupDial is connect and preamble both ways.
func BenchmarkGroupDial(b *testing.B) {
	ids := book{}
	quiet := func(c *ClusterConfig) { c.Logger = zap.NewNop() }
	n1, n2 := openNode(b, ids, "n1", "c", quiet), openNode(b, ids, "n2", "c", quiet)
	l1, l2 := n1.GroupLayer(1), n2.GroupLayer(1)
	b.ReportAllocs()
	for range b.N {
		c, err := l2.Dial("n1", time.Second)
		if err != nil {
			b.Fatal(err)
		}
		s, err := l1.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		s.Close()
	}
}

// An idle client costs no goroutine here, and few bytes, on WebSocket, too.
func TestIdleClientCost(t *testing.T) {
	for _, web := range []bool{false, true} {
		p := openClients(t, func(c *ClientConfig) { c.Logger = zap.NewNop() })
		const n = 200
		running, before := goroutines(), heap()
		for range n {
			if web {
				rawWS(t, nil, p)
				continue
			}
			mustWrite(t, dialRaw(t, nil, p.Addr()), "\x10")
			mustServe(t, p)
		}
		waitFor(t, "no goroutine per connection", func() bool { return goroutines() < running+10 })
		per := (heap() - before) / n // both ends, and the test's own bookkeeping
		t.Logf("%d bytes per connection, WebSocket: %v", per, web)
		if per > 4096 {
			t.Errorf("%d bytes per connection, WebSocket: %v", per, web)
		}
	}
}

// A client in its handshake costs a bounded number of bytes, stacks included,
// wherever it stops: what is held for strangers is this times PendingMax.
func TestPendingClientCost(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		first  string
		secure bool
		most   int64
	}{
		"silent":         {"", false, 16 << 10},
		"half a CONNECT": {"\x10\xff\xff\x03\x00\x04MQTT", false, 16 << 10},
		"half a request": {upgradeRequest[:40], false, 32 << 10},
		"half a hello":   {"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc", true, 40 << 10},
	} {
		p := openClients(t, func(cfg *ClientConfig) {
			cfg.Logger = zap.NewNop()
			if c.secure {
				cfg.TLS = serverConfig(t, ca)
			}
		})
		const n = 200
		before := heap() + stacks()
		for range n {
			mustWrite(t, dialRaw(t, nil, p.Addr()), c.first)
		}
		waitFor(t, "all to be pending", func() bool { return p.in.adm.pendingLen() == n })
		per := (heap() + stacks() - before) / n // the clients' ends included
		t.Logf("%s: %d bytes per connection", name, per)
		if per > c.most {
			t.Errorf("%s: %d bytes per connection", name, per)
		}
		p.Close()
	}
}

func stacks() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.StackInuse)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
