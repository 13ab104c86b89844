package session_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// nullBackend accepts everything at no cost. Publishes go to the server itself,
// if there is one.
type nullBackend struct {
	epoch  atomic.Uint64
	server *session.Server
	limit  uint64 // how many entries the inbox has
	acked  atomic.Uint64
	msg    command.Message
}

func (b *nullBackend) Connect(_ context.Context, req session.ConnectRequest) (session.Attached, error) {
	return session.Attached{Ref: command.SessionRef{SessionKey: req.Key, Epoch: b.epoch.Add(1)}}, nil
}
func (*nullBackend) Disconnect(command.SessionRef, session.DisconnectInfo) {}
func (*nullBackend) Subscribe(_ context.Context, _ command.SessionRef, subs []command.Subscription) ([]session.Granted, error) {
	g := make([]session.Granted, len(subs))
	for i := range subs {
		g[i].Code = subs[i].QoS
	}
	return g, nil
}
func (*nullBackend) Unsubscribe(_ context.Context, _ command.SessionRef, f []string) ([]byte, error) {
	return make([]byte, len(f)), nil
}
func (b *nullBackend) Publish(_ context.Context, tenant string, m *command.Message, done func(session.Outcome)) {
	if b.server != nil {
		b.server.Deliver(tenant, m)
	}
	if done != nil {
		done(session.Outcome{})
	}
}
func (*nullBackend) Receive(_ context.Context, _ command.SessionRef, _ uint16, _ *command.Message, done func(session.Outcome)) {
	done(session.Outcome{})
}
func (*nullBackend) Release(_ context.Context, _ command.SessionRef, _ uint16, done func(session.Outcome)) {
	done(session.Outcome{})
}
func (*nullBackend) Retained(context.Context, session.RetainedQuery) (session.RetainedPage, error) {
	return session.RetainedPage{}, nil
}

func (*nullBackend) Horizon(context.Context, string, []string) (session.Horizon, error) {
	return nil, nil
}

// Fetch serves limit copies of msg.
func (b *nullBackend) Fetch(_ context.Context, _ command.SessionRef, cursor uint64, n, _ int) (session.Page, error) {
	cursor = max(cursor, 1)
	p := session.Page{Next: cursor}
	for p.Next <= b.limit && len(p.Deliveries) < n {
		p.Deliveries = append(p.Deliveries, session.Delivery{Seq: p.Next, Msg: b.msg, QoS: b.msg.QoS, State: session.Queued})
		p.Next++
	}
	p.More = p.Next <= b.limit
	return p, nil
}
func (*nullBackend) Replay(context.Context, command.SessionRef, session.ReplayPage) error { return nil }

func (b *nullBackend) Ack(_ command.SessionRef, a session.Ack, done func(error)) {
	b.acked.Add(uint64(len(a.Done)))
	if done != nil {
		done(nil)
	}
}

func newBench(tb testing.TB) (*session.Server, *nullBackend) {
	b := &nullBackend{}
	s := session.NewServer(session.DefaultConfig(), session.Backend{Sessions: b, Publisher: b, Inbox: b, Retained: b}, nil, nil)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return s, b
}

// scriptConn is a connection that costs next to nothing: reads come from a
// script, writes are counted.
type scriptConn struct {
	script io.Reader
	done   chan struct{}
	once   sync.Once
	wrote  atomic.Int64
	writes atomic.Int64
	onEOF  func()
}

func newScript(r io.Reader) *scriptConn { return &scriptConn{script: r, done: make(chan struct{})} }

func (c *scriptConn) Read(p []byte) (int, error) {
	if c.script != nil {
		n, err := c.script.Read(p)
		if err == nil {
			return n, nil
		}
		c.script = nil
		if c.onEOF != nil {
			c.onEOF()
		}
	}
	<-c.done
	return 0, io.EOF
}
func (c *scriptConn) Write(p []byte) (int, error) {
	c.wrote.Add(int64(len(p)))
	c.writes.Add(1)
	return len(p), nil
}
func (c *scriptConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}
func (c *scriptConn) LocalAddr() net.Addr              { return nil }
func (c *scriptConn) RemoteAddr() net.Addr             { return nil }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptConn) SetReadDeadline(t time.Time) error {
	if t.Unix() == 1 { // the server's way to end a read
		return c.Close()
	}
	return nil
}

func encode(tb testing.TB, v mqtt.Version, ps ...mqtt.Packet) []byte {
	var b []byte
	for _, p := range ps {
		var err error
		if b, err = mqtt.Append(b, v, p); err != nil {
			tb.Fatal(err)
		}
	}
	return b
}

// repeat reads head once and then packet n times.
type repeat struct {
	head, packet []byte
	n            int
	rest         []byte
}

func (r *repeat) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	total := 0
	for total < len(p) {
		if len(r.rest) == 0 {
			if r.n == 0 {
				break
			}
			r.n--
			r.rest = r.packet
		}
		n := copy(p[total:], r.rest)
		r.rest = r.rest[n:]
		total += n
	}
	if total == 0 {
		return 0, io.EOF
	}
	return total, nil
}

func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			tb.Fatal("waiting for " + what)
		}
	}
}

// BenchmarkFanoutQoS0 is one Deliver to n receivers; deliveries/op and what each
// costs are what counts.
func BenchmarkFanoutQoS0(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, _ := newBench(b)
			subscribers(b, s, n, mqtt.V5)
			m := command.Message{Topic: []byte("sensor/1/temperature"), Payload: make([]byte, 256)}
			b.ReportAllocs()
			for b.Loop() {
				s.Deliver("", &m)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/delivery")
		})
	}
}

// subscribers opens n connections that are subscribed to everything.
func subscribers(tb testing.TB, s *session.Server, n int, v mqtt.Version) []*scriptConn {
	var out []*scriptConn
	for i := range n {
		c := newScript(&repeat{head: encode(tb, v,
			&mqtt.Connect{Version: v, ClientID: fmt.Sprint("s", i), CleanStart: true, KeepAlive: 600},
			&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "sensor/+/temperature"}}})})
		out = append(out, c)
		s.Serve(c, session.Meta{Listener: "bench", Transport: "tcp"})
		if i%500 == 499 {
			waitFor(tb, "handshakes", func() bool { return s.Stats().Pending == 0 })
		}
	}
	waitFor(tb, "subscriptions", func() bool { return s.Stats().Subscriptions == n })
	return out
}

// BenchmarkPublish is the way of a publish from the socket to the backend, and
// of its acknowledgement back.
func BenchmarkPublish(b *testing.B) {
	for qos := range byte(2) {
		b.Run(fmt.Sprintf("qos%d", qos), func(b *testing.B) {
			s, _ := newBench(b)
			p := pub("sensor/1/temperature", string(make([]byte, 256)), qos, uint16(qos))
			ended := make(chan struct{})
			c := newScript(&repeat{head: encode(b, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "p", CleanStart: true}),
				packet: encode(b, mqtt.V5, p), n: b.N})
			c.onEOF = func() { close(ended) }
			b.ReportAllocs()
			b.ResetTimer()
			s.Serve(c, session.Meta{Listener: "bench", Transport: "tcp"})
			<-ended
			b.StopTimer()
			b.ReportMetric(float64(c.writes.Load())/float64(b.N), "writes/op")
		})
	}
}

// BenchmarkPubSub is a QoS 0 publish from one socket to one other.
func BenchmarkPubSub(b *testing.B) {
	s, be := newBench(b)
	be.server = s
	sub := subscribers(b, s, 1, mqtt.V5)[0]
	size := int64(len(encode(b, mqtt.V5, pub("sensor/1/temperature", string(make([]byte, 256)), 0, 0))))
	ended := make(chan struct{})
	c := newScript(&repeat{head: encode(b, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "p", CleanStart: true}),
		packet: encode(b, mqtt.V5, pub("sensor/1/temperature", string(make([]byte, 256)), 0, 0)), n: b.N})
	c.onEOF = func() { close(ended) }
	b.ReportAllocs()
	b.ResetTimer()
	s.Serve(c, session.Meta{Listener: "bench", Transport: "tcp"})
	<-ended
	b.StopTimer()
	b.ReportMetric(float64(sub.writes.Load())/float64(b.N), "writes/op")
	b.ReportMetric(float64(sub.wrote.Load())/float64(size)/float64(b.N), "delivered/op")
}

// BenchmarkPumpQoS1 is the way from an inbox to a client and of its
// acknowledgement back.
func BenchmarkPumpQoS1(b *testing.B) {
	s, be := newBench(b)
	be.limit = uint64(b.N)
	be.msg = command.Message{Topic: []byte("sensor/1/temperature"), Payload: make([]byte, 256), QoS: 1}
	client, server := sessiontest.Pipe(64 << 10)
	b.ReportAllocs()
	b.ResetTimer()
	s.Serve(server, session.Meta{Listener: "bench", Transport: "tcp"})
	rd := mqtt.NewReader(client, mqtt.Limits{})
	rd.SetVersion(mqtt.V5)
	out := encode(b, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", HasSessionExpiry: true, SessionExpiry: 100, ReceiveMaximum: 256})
	_, _ = client.Write(out)
	if _, err := rd.Next(); err != nil {
		b.Fatal(err)
	}
	out = out[:0]
	for n := 0; n < b.N; {
		p, err := rd.Next()
		if err != nil {
			b.Fatal(err)
		}
		out = mqtt.AppendAck(out, mqtt.V5, mqtt.TypePuback, p.(*mqtt.Publish).PacketID, mqtt.Success)
		if n++; !rd.Ready() {
			_, _ = client.Write(out)
			out = out[:0]
		}
	}
	waitFor(b, "acknowledgements", func() bool { return be.acked.Load() == uint64(b.N) })
}

// An idle connection costs one goroutine and little memory.
func TestIdleConnectionCost(t *testing.T) {
	const n = 4000
	s, _ := newBench(t)
	measure := func() (heap, stack uint64, goroutines int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse, runtime.NumGoroutine()
	}
	h0, s0, g0 := measure()
	conns := subscribers(t, s, n, mqtt.V5)
	h1, s1, g1 := measure()
	per := (h1 + s1 - min(h0+s0, h1+s1)) / n
	t.Logf("%d bytes (%d of them stack) and %.3f goroutines per idle connection with one subscription, socket apart",
		per, (s1-min(s0, s1))/n, float64(g1-g0)/n)
	if per > 9<<10 && !raceEnabled {
		t.Errorf("%d bytes per idle connection", per)
	}
	if extra := g1 - g0 - n; extra > 2 {
		t.Errorf("%d goroutines beyond one per connection", extra)
	}
	runtime.KeepAlive(conns)
}

// The fan-out and the way in allocate nothing per message.
func TestAllocationsPerMessage(t *testing.T) {
	if testing.CoverMode() != "" || raceEnabled {
		t.Skip("instrumented")
	}
	s, _ := newBench(t)
	subscribers(t, s, 100, mqtt.V5)
	m := command.Message{Topic: []byte("sensor/1/temperature"), Payload: make([]byte, 256)}
	// What a writer goroutine costs is the runtime's: about nothing once warm.
	// A busy machine empties pools at any time, so the best of some runs counts.
	fanout := func() float64 { return testing.AllocsPerRun(200, func() { s.Deliver("", &m) }) / 100 }
	if per := best(fanout); per > 0.2 {
		t.Errorf("%.2f allocations per QoS 0 delivery", per)
	}
	sh := newScript(&repeat{head: encode(t, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "share", CleanStart: true},
		&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "$share/g/sensor/#"}}})})
	s.Serve(sh, session.Meta{Listener: "bench", Transport: "tcp"})
	waitFor(t, "share", func() bool { return s.DeliverShare("", "g", "sensor/#", &m) })
	if per := best(func() float64 { return testing.AllocsPerRun(2000, func() { s.DeliverShare("", "g", "sensor/#", &m) }) }); per > 0.2 {
		t.Errorf("%.2f allocations per delivery to a share", per)
	}
	for qos := range byte(2) {
		if per := best(func() float64 { return allocsPerPublish(t, s, qos) }); per > 0.2 {
			t.Errorf("%.2f allocations per QoS %d publish", per, qos)
		}
	}
}

func best(run func() float64) float64 {
	least := run()
	for range 4 {
		least = min(least, run())
	}
	return least
}

// allocsPerPublish is the way of a publish from the socket to the backend, and
// of its acknowledgement back.
func allocsPerPublish(t *testing.T, s *session.Server, qos byte) float64 {
	const n = 20000
	ended := make(chan struct{})
	c := newScript(&repeat{head: encode(t, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "p", CleanStart: true}),
		packet: encode(t, mqtt.V5, pub("sensor/1/temperature", "x", qos, uint16(qos))), n: n})
	c.onEOF = func() { close(ended) }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.Serve(c, session.Meta{Listener: "bench", Transport: "tcp"})
	<-ended
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / n
}
