package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a broker of a few lines: it takes everything and echoes to whoever
// subscribed, with faults on request.
type sink struct {
	url string
	l   net.Listener
	wg  sync.WaitGroup
	// fault decides what becomes of a message by its number: 0 deliver, -1
	// drop, 1 twice. Nil: deliver all.
	fault func(n int) int
	// swap delivers each pair of messages in the other order.
	swap bool
	// cut closes the publisher's connection after that many messages, once.
	cut int

	mu   sync.Mutex
	subs []*sinkConn
	all  []net.Conn
	n    int
	held []byte
}

type sinkConn struct {
	conn net.Conn
	mu   sync.Mutex
	out  []byte
}

func newSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &sink{l: l, url: "mqtt://" + l.Addr().String()}
	k.wg.Add(1)
	go func() {
		defer k.wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			k.mu.Lock()
			k.all = append(k.all, c)
			k.mu.Unlock()
			k.wg.Add(1)
			go func() { defer k.wg.Done(); k.serve(c) }()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		k.mu.Lock()
		for _, c := range k.all {
			_ = c.Close()
		}
		k.mu.Unlock()
		k.wg.Wait()
	})
	return k
}

func (k *sink) serve(conn net.Conn) {
	defer conn.Close()
	me := &sinkConn{conn: conn}
	r := mqtt.NewReader(conn, mqtt.DefaultLimits())
	var packet []byte
	for {
		p, err := r.Next()
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *mqtt.Connect:
			me.add(r.Version(), &mqtt.Connack{})
		case *mqtt.Subscribe:
			k.mu.Lock()
			k.subs = append(k.subs, me)
			k.mu.Unlock()
			codes := make([]mqtt.ReasonCode, len(p.Filters))
			me.add(r.Version(), &mqtt.Suback{PacketID: p.PacketID, Codes: codes})
		case *mqtt.Publish:
			if p.QoS == 1 {
				me.ack(r.Version(), mqtt.TypePuback, p.PacketID)
			} else if p.QoS == 2 {
				me.ack(r.Version(), mqtt.TypePubrec, p.PacketID)
			}
			copyOf := *p
			copyOf.QoS, copyOf.PacketID, copyOf.Retain, copyOf.Dup = 0, 0, false, false
			packet = mqtt.AppendPublish(packet[:0], mqtt.V5, &copyOf)
			if k.fan(packet) {
				me.flush()
				return
			}
		case *mqtt.Pubrel:
			me.ack(r.Version(), mqtt.TypePubcomp, p.PacketID)
		case *mqtt.Pingreq:
			me.add(r.Version(), &mqtt.Pingresp{})
		case *mqtt.Disconnect:
			return
		}
		if !r.Ready() {
			me.flush()
			k.mu.Lock()
			subs := k.subs
			k.mu.Unlock()
			for _, s := range subs {
				s.flush()
			}
		}
	}
}

// fan hands a packet to the subscribers, with the faults that are ordered.
func (k *sink) fan(packet []byte) (cut bool) {
	k.mu.Lock()
	k.n++
	n := k.n
	times := 1
	if k.fault != nil {
		times += k.fault(n)
	}
	out := packet
	if k.swap {
		if n%2 == 1 {
			k.held, times = append([]byte(nil), packet...), 0
		} else {
			out = append(append([]byte(nil), packet...), k.held...)
		}
	}
	subs := k.subs
	cut = k.cut != 0 && n == k.cut
	k.mu.Unlock()
	for range times {
		for _, s := range subs {
			s.bytes(out)
		}
	}
	return cut
}

func (s *sinkConn) add(v mqtt.Version, p mqtt.Packet) {
	b, err := mqtt.Append(nil, v, p)
	if err != nil {
		panic(err)
	}
	s.bytes(b)
}

func (s *sinkConn) ack(v mqtt.Version, t mqtt.Type, id uint16) {
	s.mu.Lock()
	s.out = mqtt.AppendAck(s.out, v, t, id, mqtt.Success)
	s.mu.Unlock()
}

func (s *sinkConn) bytes(b []byte) {
	s.mu.Lock()
	s.out = append(s.out, b...)
	full := len(s.out) > 64<<10
	s.mu.Unlock()
	if full {
		s.flush()
	}
}

func (s *sinkConn) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) > 0 {
		_, _ = s.conn.Write(s.out)
		s.out = s.out[:0]
	}
}

func testConfig(k *sink) Config {
	c := DefaultConfig()
	c.URLs = []string{k.url}
	c.Count, c.Drain, c.Duration = 1000, 200*time.Millisecond, 20*time.Second
	return c
}

func TestNothingIsLost(t *testing.T) {
	for qos := range byte(3) {
		t.Run(fmt.Sprint(qos), func(t *testing.T) {
			c := testConfig(newSink(t))
			c.QoS, c.Publishers, c.Subscribers, c.Topics = qos, 3, 2, 1
			rep, err := PubSub(t.Context(), "pubsub", c)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Sent != 1000 || rep.Acked != 1000 || rep.Received != 2000 || rep.Expected != 2000 || rep.Lost+rep.Duplicated+rep.OutOfOrder+rep.Unacked != 0 || !rep.OK() {
				t.Errorf("%+v", rep)
			}
			if rep.Delivery == nil || rep.Delivery.Count != 2000 || (rep.Ack != nil) != (qos > 0) {
				t.Errorf("latencies: %+v %+v", rep.Delivery, rep.Ack)
			}
		})
	}
}

// TestFaultsAreCounted breaks the broker, as the checker must not be blind.
func TestFaultsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name                      string
		fault                     func(int) int
		swap                      bool
		lost, duplicated, swapped uint64
	}{
		{"loss", func(n int) int { return -b2i(n%100 == 7) }, false, 10, 0, 0},
		{"loss at the end", func(n int) int { return -b2i(n > 990) }, false, 10, 0, 0},
		{"twice", func(n int) int { return b2i(n%100 == 7) }, false, 0, 10, 0},
		{"out of order", nil, true, 0, 0, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newSink(t)
			k.fault, k.swap = c.fault, c.swap
			cfg := testConfig(k)
			cfg.QoS = 1
			rep, err := PubSub(t.Context(), "pubsub", cfg)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Lost != c.lost || rep.Duplicated != c.duplicated || rep.OutOfOrder != c.swapped || rep.OK() != (c.lost == 0) {
				t.Errorf("lost %d duplicated %d out of order %d ok %v: %+v", rep.Lost, rep.Duplicated, rep.OutOfOrder, rep.OK(), c)
			}
		})
	}
}

// TestShareCountsTheMembersTogether: one member may have what another lacks, and
// what two have is duplicated.
func TestShareCountsTheMembersTogether(t *testing.T) {
	for _, c := range []struct {
		name             string
		members          int
		fault            func(int) int
		lost, duplicated uint64
	}{
		{"one", 1, nil, 0, 0},
		{"loss", 1, func(n int) int { return -b2i(n%100 == 7) }, 10, 0},
		{"a broker that shares nothing", 2, nil, 0, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newSink(t)
			k.fault = c.fault
			cfg := testConfig(k)
			cfg.QoS, cfg.Share, cfg.Subscribers, cfg.Topics = 1, true, c.members, 2
			rep, err := PubSub(t.Context(), "share", cfg)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Mode != "share" || rep.Expected != 1000 || rep.Received != 1000-c.lost || rep.Lost != c.lost || rep.Duplicated != c.duplicated || rep.OK() != (c.lost == 0) {
				t.Errorf("%+v", rep)
			}
		})
	}
	p := newPlan(Config{Share: true, Subscribers: 3, Publishers: 1, Topics: 2})
	for i, filters := range p.filters {
		if len(filters) != 2 || !strings.HasPrefix(filters[0], "$share/bench-") || filters[0] != p.filters[0][0] {
			t.Errorf("member %d subscribes to %v", i, filters)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestPublisherResendsAfterACut(t *testing.T) {
	k := newSink(t)
	k.cut = 500
	c := testConfig(k)
	c.QoS, c.Durable = 1, true
	c.Log = func(line string) { t.Log(line) }
	rep, err := PubSub(t.Context(), "pubsub", c)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Lost != 0 || rep.Reconnects == 0 || rep.Acked != 1000 {
		t.Errorf("%+v", rep)
	}
}

func TestGapsAgainstASet(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var g gaps
		set := map[uint64]bool{}
		top := uint64(0)
		for range 300 {
			seq := rng.Uint64N(60) + 1
			if rng.IntN(3) == 0 {
				seq = top + 1
			}
			got := g.add(seq)
			want := late
			switch {
			case set[seq]:
				want = duplicated
			case seq == top+1:
				want = inOrder
			case seq > top:
				want = ahead
			}
			set[seq] = true
			top = max(top, seq)
			if got != want || g.count() != uint64(len(set)) {
				t.Fatalf("seed %d: add(%d) is %d, want %d; count %d, want %d", seed, seq, got, want, g.count(), len(set))
			}
		}
		for seq := range top + 2 {
			if g.has(seq) != set[seq] && seq > 0 {
				t.Fatalf("seed %d: has(%d) is %v", seed, seq, g.has(seq))
			}
		}
	}
}

func TestPlanCoversAllTopics(t *testing.T) {
	for _, c := range [][3]int{{1, 1, 1}, {3, 2, 1}, {1, 1, 5}, {2, 7, 5}, {9, 4, 4}, {4, 9, 40}} {
		cfg := DefaultConfig()
		cfg.Publishers, cfg.Subscribers, cfg.Topics = c[0], c[1], c[2]
		p := newPlan(cfg)
		published, followed := map[string]bool{}, map[uint32]int{}
		for i := range p.publish {
			if len(p.publish[i]) == 0 {
				t.Errorf("%v: publisher %d has no stream", c, i)
			}
			for _, id := range p.publish[i] {
				published[p.streams[id].topic] = true
			}
		}
		for i := range p.follow {
			if len(p.filters[i]) == 0 {
				t.Errorf("%v: subscriber %d has no topic", c, i)
			}
			for _, id := range p.follow[i] {
				followed[id]++
			}
		}
		if len(published) != min(c[2], max(c[0], c[2])) && c[0] >= c[2] {
			t.Errorf("%v: %d topics are published", c, len(published))
		}
		for _, s := range p.streams {
			if followed[s.id] == 0 && c[1] >= c[2] {
				t.Errorf("%v: nobody follows stream %d", c, s.id)
			}
		}
	}
}

func TestPlanIsChecked(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"nobody":   func(c *Config) { c.Publishers, c.Subscribers = 0, 0 },
		"qos":      func(c *Config) { c.QoS = 3 },
		"size":     func(c *Config) { c.Size = 27 },
		"window":   func(c *Config) { c.Window = 0 },
		"duration": func(c *Config) { c.Duration = 0 },
		"warmup":   func(c *Config) { c.Warmup = c.Duration },
		"topics":   func(c *Config) { c.Topics = 0 },
		"nowhere":  func(c *Config) { c.URLs = nil },
	} {
		c := DefaultConfig()
		edit(&c)
		if _, err := PubSub(t.Context(), "pubsub", c); !errors.Is(err, ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoBrokerIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c := DefaultConfig()
	c.URLs = []string{"mqtt://" + l.Addr().String()}
	if rep, err := PubSub(t.Context(), "pubsub", c); err == nil {
		t.Errorf("report %+v", rep)
	}
}

func TestReportForPeopleAndScripts(t *testing.T) {
	c := testConfig(newSink(t))
	var mu sync.Mutex
	phases := map[string]bool{}
	c.Count, c.Duration, c.Rate = 0, 1200*time.Millisecond, 500
	c.Progress = func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		phases[p.Phase] = true
	}
	rep, err := PubSub(t.Context(), "pubsub", c)
	if err != nil {
		t.Fatal(err)
	}
	if rep.RateIn < 400 || rep.RateIn > 550 {
		t.Errorf("rate %.0f/s, want about the 500/s asked for", rep.RateIn)
	}
	var out bytes.Buffer
	if err := rep.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rate ", "p50", "p99", "lost 0", "duplicated 0", "out of order 0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, out.String())
		}
	}
	raw, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"lost":0`, `"rate_in":`, `"p99_ms":`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("JSON lacks %s: %s", want, raw)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !phases["publishing"] {
		t.Errorf("progress of phases %v", phases)
	}
}

func TestAgainstMosquitto(t *testing.T) {
	url := mosquitto(t)
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for qos := range byte(3) {
			c := DefaultConfig()
			c.URLs, c.QoS, c.Count, c.Version = []string{url}, qos, 3000, v
			c.Publishers, c.Subscribers, c.Topics, c.Durable, c.Window = 3, 4, 2, qos > 0, 20
			rep, err := PubSub(t.Context(), "pubsub", c)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Lost != 0 || rep.OutOfOrder != 0 || rep.Received != rep.Expected {
				t.Errorf("%s qos %d: %+v", v, qos, rep)
			}
		}
	}
	c := DefaultConfig()
	c.URLs, c.Topics, c.Subscribers, c.QoS, c.Drain = []string{url}, 500, 3, 1, time.Second
	rep, err := Retained(t.Context(), c)
	if err != nil || rep.Lost != 0 || rep.Received != 1500 || rep.Replay == nil || rep.Replay.Count != 3 {
		t.Errorf("retained: %+v, %v", rep, err)
	}
	c.Subscribers, c.Duration = 100, 50*time.Millisecond
	rep, err = Connect(t.Context(), c)
	if err != nil || rep.Lost != 0 || rep.Failed != 0 || rep.Received != 100 || rep.Connect.Count != 100 {
		t.Errorf("connect: %+v, %v", rep, err)
	}
}

func mosquitto(t *testing.T) string {
	t.Helper()
	bin := "/usr/sbin/mosquitto"
	if _, err := os.Stat(bin); err != nil {
		t.Skip("mosquitto is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	conf := filepath.Join(t.TempDir(), "m.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nuser root\n", addr.Port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Skipf("mosquitto does not start: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = c.Close()
			return "mqtt://" + addr.String()
		}
		if ctx.Err() != nil {
			t.Fatal("mosquitto does not listen")
		}
		wait(ctx, 10*time.Millisecond)
	}
}

// BenchmarkQoS0 measures the generator with the sink beside it in one process.
func BenchmarkQoS0(b *testing.B) { benchmark(b, 0) }

// BenchmarkQoS1 is the same with acknowledgements.
func BenchmarkQoS1(b *testing.B) { benchmark(b, 1) }

func benchmark(b *testing.B, qos byte) {
	c := DefaultConfig()
	c.URLs, c.QoS, c.Count, c.Duration, c.Window = []string{newSink(b).url}, qos, uint64(b.N), time.Minute, 1000
	b.ReportAllocs()
	rep, err := PubSub(b.Context(), "pubsub", c)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(rep.RateIn, "in/s")
	b.ReportMetric(rep.RateOut, "out/s")
	if rep.Lost > 0 {
		b.Errorf("lost %d", rep.Lost)
	}
}
