package integration

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Bounds of the abuse scenario.
const (
	markAbuse = 100 * time.Millisecond // ping-pong p99 of other clients
	// linesPerSecond is what the log may take of one event (INTERFACES.md section 10).
	linesPerSecond = 20
	// memoryPerConnection is what a connection before its CONNECT may cost, and memoryAllowance what a node may hold besides.
	memoryPerConnection = 64 << 10
	memoryAllowance     = 192 << 20
	// memoryPerDeaf is for a client that takes nothing: its outbox, its part of a queue whose messages are shared, and garbage.
	memoryPerDeaf = 8 << 20
)

// abuse is one cluster under attack: its first node is the target, and honest clients watch.
type abuse struct {
	t         *testing.T
	c         *harness.Cluster
	target    *harness.Node
	near, far *witness
	size      int           // connections of the largest attack
	handshake time.Duration // what the target gives a CONNECT
	connects  delays
}

func newAbuse(t *testing.T, size int, handshake time.Duration) *abuse {
	t.Helper()
	c := harness.Start(t, harness.Options{Nodes: 3, Flags: []string{"--set", "limits.connect_timeout=" + handshake.String()}})
	return &abuse{
		t: t, c: c, target: c.Nodes[0], size: size, handshake: handshake,
		near: watch(t, "near", c.Nodes[0], c.Nodes[0]), far: watch(t, "far", c.Nodes[1], c.Nodes[0]),
	}
}

// attack runs f, meanwhile connects honest clients to the target, and then looks at what the others noticed, at the log, the
// memory (extra is what this attack may cost besides) and the counters.
func (a *abuse) attack(name string, extra int64, counters []string, f func(ctx context.Context)) {
	a.t.Run(name, func(t *testing.T) {
		load, before, start := harness.Load(), a.counts(t, counters), time.Now()
		events, lines := a.target.EventCounts(), a.target.LogLines()
		resident, _ := a.target.Memory()
		a.near.take(t, "before "+name)
		a.far.take(t, "before "+name)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.newcomers(ctx, t, name) })
		f(ctx)
		cancel()
		wg.Wait()
		took := time.Since(start)
		near, far, connects := a.near.take(t, name), a.far.take(t, name), a.connects.take()
		_, peak := a.target.Memory()
		t.Logf("%v: ping-pong near %s, far %s; new clients %s; memory %d MiB before, peak %d; %d log lines",
			took.Round(time.Millisecond), near, far, connects, resident>>20, peak>>20, a.target.LogLines()-lines)
		mark(t, name+": ping-pong p99 of other clients", max(near.at(.99), far.at(.99)), markAbuse, load)
		healthy(t, a.c)
		if bound := memoryAllowance + memoryPerConnection*int64(a.size) + extra; peak > bound {
			t.Errorf("the target held %d MiB at most, want at most %d", peak>>20, bound>>20)
		}
		a.quietLog(t, events, took)
		for i, v := range a.counts(t, counters) {
			if v <= before[i] {
				t.Errorf("%s did not rise", counters[i])
			}
		}
	})
}

// newcomers connects one honest client after the other until ctx ends.
func (a *abuse) newcomers(ctx context.Context, t *testing.T, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		start := time.Now()
		dial, cancel := context.WithTimeout(context.Background(), patience)
		r, err := dialRaw(dial, a.target.MQTTAddr(), &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: fmt.Sprintf("new-%d", i)}, false)
		cancel()
		if err != nil {
			t.Errorf("%s: an honest client could not connect in %v: %v", name, time.Since(start), err)
			return
		}
		a.connects.add(time.Since(start))
		_ = r.Close()
		pause(ctx, 50*time.Millisecond)
	}
}

// counts reads sums of metrics of the target.
func (a *abuse) counts(t *testing.T, names []string) []float64 {
	t.Helper()
	m, err := a.target.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := make([]float64, len(names))
	for i, n := range names {
		list[i] = m.Sum(n)
	}
	return list
}

// quietLog holds the rate of each log event.
func (a *abuse) quietLog(t *testing.T, before map[string]int, took time.Duration) {
	t.Helper()
	bound := int(linesPerSecond * (took.Seconds() + 2))
	for name, n := range a.target.EventCounts() {
		if n -= before[name]; n > bound {
			t.Errorf("%d lines %s in %v, want at most %d", n, name, took.Round(time.Millisecond), bound)
		}
	}
}

// swarm opens connections with many dialers and gives each to f on a goroutine of its own. It returns when all have ended.
func swarm(ctx context.Context, addr string, count int, f func(i int, conn net.Conn)) (opened int64) {
	const dialers = 128
	var wg, open sync.WaitGroup
	var n atomic.Int64
	for d := range dialers {
		wg.Go(func() {
			for i := d; i < count && ctx.Err() == nil; i += dialers {
				dial, cancel := context.WithTimeout(ctx, patience)
				conn, err := new(net.Dialer).DialContext(dial, "tcp", addr)
				cancel()
				if err != nil {
					continue // the accept queue is full: the attack has done what it can
				}
				n.Add(1)
				open.Go(func() {
					defer conn.Close()
					stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
					defer stop()
					f(i, conn)
				})
			}
		})
	}
	wg.Wait()
	open.Wait()
	return n.Load()
}

// readToEnd reads until the other side closes.
func readToEnd(conn net.Conn) {
	buf := make([]byte, 512)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// trickle writes one byte a second until the other side closes or all is written.
func trickle(ctx context.Context, conn net.Conn, b []byte) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		readToEnd(conn)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer func() {
		_ = conn.Close()
		<-gone
	}()
	for i := range b {
		if _, err := conn.Write(b[i : i+1]); err != nil {
			return
		}
		select {
		case <-gone:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limited ends an attack that the server does not end by itself.
func limited(ctx context.Context, d time.Duration, f func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	f(ctx)
}

// TestAbuse: whatever a stranger does to the ports of a node, its other clients go on, its memory stays bounded, its counters
// tell, and its log does not flood. The full form has 10,000 half-open connections.
func TestAbuse(t *testing.T) {
	long(t)
	size := sized(t, "FLOTILLA_ABUSE_CONNECTIONS", 1500, 10_000)
	handshake, hold := 2*time.Second, 3*time.Second
	if fullScenario() {
		handshake, hold = 10*time.Second, 30*time.Second
	}
	a := newAbuse(t, size, handshake)
	addr := a.target.MQTTAddr()
	const rejected = "flotilla_listener_rejected_total"

	a.attack("half-open connections", 0, []string{rejected}, func(ctx context.Context) {
		limited(ctx, hold, func(ctx context.Context) {
			t.Logf("%d of %d half-open connections were accepted by the kernel", swarm(ctx, addr, size, func(_ int, conn net.Conn) { readToEnd(conn) }), size)
		})
	})
	connectBytes, err := mqtt.Append(nil, mqtt.V311, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: "a client that takes its time"})
	if err != nil {
		t.Fatal(err)
	}
	a.attack("one byte a second before CONNECT is complete", 0, []string{"flotilla_connect_rejected_total"}, func(ctx context.Context) {
		limited(ctx, hold, func(ctx context.Context) {
			swarm(ctx, addr, size/10, func(_ int, conn net.Conn) { trickle(ctx, conn, connectBytes) })
		})
	})
	a.attack("one byte a second of a PUBLISH", 0, nil, func(ctx context.Context) {
		limited(ctx, hold, func(ctx context.Context) {
			swarm(ctx, addr, size/10, func(i int, conn net.Conn) {
				b, _ := mqtt.Append(nil, mqtt.V311, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: fmt.Sprintf("slow-writer-%d", i)})
				if _, err := conn.Write(b); err == nil {
					trickle(ctx, conn, mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("slow/writer"), Payload: make([]byte, 100)}))
				}
			})
		})
	})
	a.attack("garbage on every port", 0, []string{rejected, "flotilla_connect_rejected_total"}, func(ctx context.Context) {
		limited(ctx, 2*hold, func(ctx context.Context) { a.garbage(ctx, t) })
	})
	a.attack("declared giant lengths", 0, []string{"flotilla_connections_closed_total"}, func(ctx context.Context) {
		limited(ctx, hold, func(ctx context.Context) { a.giants(ctx, size/10) })
	})
	a.attack("a storm of connects", 0, []string{"flotilla_connections_opened_total"}, func(ctx context.Context) {
		limited(ctx, hold, func(ctx context.Context) { a.storm(ctx, t, 2*size) })
	})
	a.attack("clients that never read", int64(size/50)*memoryPerDeaf, []string{"flotilla_messages_dropped_total"}, func(ctx context.Context) {
		a.deafClients(ctx, t, size/50)
	})
	harness.Wait(t, patience, "the slots of all handshakes to be free again", func(ctx context.Context) error {
		if n := a.counts(t, []string{"flotilla_listener_pending"})[0]; n > 5 {
			return fmt.Errorf("%v are taken", n)
		}
		return nil
	})
	a.c.WaitAgreement(t, patience)
}
