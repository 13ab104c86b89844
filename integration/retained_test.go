package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Marks of the retained scenario.
const (
	markPingPong = 20 * time.Millisecond
	markExact    = 5 * time.Millisecond
)

// retainedTopic spreads the messages over three levels, as meters in houses in streets.
func retainedTopic(i int) string { return fmt.Sprintf("kept/%d/%d/%d", i%100, i/100%1000, i) }

// loadRetained stores count retained messages on distinct topics, with many publishers that each have a wide window, and
// tells how long that took.
func loadRetained(t testing.TB, c *harness.Cluster, count int) time.Duration {
	t.Helper()
	const publishers = 24
	start := time.Now()
	var lost atomic.Int64
	together(t, publishers, func(i int) error {
		l := &loader{c: c, id: i, of: publishers, count: count, session: mqttc.NewSession()}
		for !l.done() {
			if err := l.connection(t.Context()); err != nil && t.Context().Err() != nil {
				return err
			}
			lost.Add(1)
		}
		if n := l.refused.Load(); n > 0 {
			return fmt.Errorf("%d of %d retained messages were refused", n, l.sent)
		}
		return nil
	})
	if n := lost.Load() - publishers; n > 0 {
		t.Logf("%d connections of publishers broke while they stored: the nodes got too little of this machine", n)
	}
	return time.Since(start)
}

// loader is a publisher of every of-th message; what a broken connection leaves unanswered it sends again.
type loader struct {
	c             *harness.Cluster
	id, of, count int
	session       *mqttc.Session
	sent          int64
	acked         atomic.Int64
	refused       atomic.Int64
}

func (l *loader) done() bool { return l.id+int(l.sent)*l.of >= l.count && l.acked.Load() == l.sent }

// connection sends on one connection until all is acknowledged or it ends.
func (l *loader) connection(ctx context.Context) error {
	const size = 64
	cl, err := mqttc.Dial(ctx, mqttc.Options{
		// MQTT 3.1.1 knows no Receive Maximum, so the window is ours to choose.
		URL: "mqtt://" + l.c.Nodes[l.id%len(l.c.Nodes)].MQTTAddr(), ClientID: fmt.Sprintf("loader-%d", l.id), Version: mqtt.V311, Clean: true,
		Window: 500, Session: l.session,
		OnAck: func(_ *mqttc.Client, a mqttc.Ack) {
			l.acked.Add(1)
			if a.Code.Failed() {
				l.refused.Add(1)
			}
		},
	})
	if err != nil {
		pause(ctx, reconnectDelay)
		return err
	}
	defer cl.Close()
	if _, err := cl.Resend(ctx); err != nil {
		return err
	}
	payload := make([]byte, size)
	for k := l.id + int(l.sent)*l.of; k < l.count; k += l.of {
		binary.BigEndian.PutUint64(payload, uint64(k))
		if _, err := cl.Send(ctx, &mqtt.Publish{Topic: []byte(retainedTopic(k)), Payload: payload, QoS: 1, Retain: true}, 0); err != nil {
			return err
		}
		l.sent++
	}
	return harness.Until(ctx, patience, "all acknowledgements", func(context.Context) error {
		if err := cl.Err(); err != nil {
			return harness.Never(err)
		}
		if !l.done() {
			return fmt.Errorf("%d of %d", l.acked.Load(), l.sent)
		}
		return nil
	})
}

// replay receives retained messages and ticks each off.
type replay struct {
	mu       sync.Mutex
	got      []uint64 // guarded by mu; a bit for each message
	distinct int      // guarded by mu
	copies   int      // guarded by mu; received before
	live     int      // guarded by mu; without RETAIN
	done     chan struct{}
	want     int
}

func newReplay(count int) *replay {
	return &replay{got: make([]uint64, count/64+1), want: count, done: make(chan struct{})}
}

func (r *replay) take(p *mqtt.Publish) {
	if !strings.HasPrefix(string(p.Topic), "kept/") || len(p.Payload) < 8 {
		return
	}
	i := binary.BigEndian.Uint64(p.Payload)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.Retain {
		r.live++
		return
	}
	if r.got[i/64]&(1<<(i%64)) != 0 {
		r.copies++
		return
	}
	r.got[i/64] |= 1 << (i % 64)
	r.distinct++
	if r.distinct == r.want {
		close(r.done)
	}
}

func (r *replay) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d of %d (%d copies, %d without RETAIN)", r.distinct, r.want, r.copies, r.live)
}

// all reads every retained message through a wildcard with a small Receive Maximum, and tells how long it took.
func (r *replay) all(t testing.TB, n *harness.Node, id string, qos byte, edit func(*mqttc.Options), timeout time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	sub := connect(t, n, id, edit, func(o *mqttc.Options) {
		o.ReceiveMaximum = 20
		o.OnMessage = func(_ *mqttc.Client, p *mqtt.Publish) { r.take(p) }
	})
	sub.subscribe(t, mqtt.SubscribeFilter{Filter: "#", QoS: qos})
	select {
	case <-r.done:
	case <-sub.Done():
		t.Fatalf("%s: the connection ended after %s: %v", id, r, sub.Err())
	case <-time.After(timeout):
		t.Fatalf("%s: received %s in %v", id, r, timeout)
	}
	took := time.Since(start)
	if r.copies > 0 || r.live > 0 {
		t.Errorf("%s: %s", id, r)
	}
	_ = sub.Close()
	return took
}

// exact measures a SUBSCRIBE to one topic: until SUBACK, and until its retained message; and UNSUBSCRIBE.
func exact(t testing.TB, n *harness.Node, id string, edit func(*mqttc.Options), topics []string) (suback, message, unsuback quantiles) {
	t.Helper()
	got := make(chan string, 16)
	sub := connect(t, n, id, edit, func(o *mqttc.Options) {
		o.OnMessage = func(_ *mqttc.Client, p *mqtt.Publish) { got <- string(p.Topic) }
	})
	var toSuback, toMessage, toUnsuback delays
	for _, topic := range topics {
		start := time.Now()
		sub.subscribe(t, mqtt.SubscribeFilter{Filter: topic, QoS: 1})
		toSuback.add(time.Since(start))
		select {
		case name := <-got:
			if name != topic {
				t.Fatalf("%s: got %s, want %s", id, name, topic)
			}
			toMessage.add(time.Since(start))
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no retained message of %s", id, topic)
		}
		start = time.Now()
		if _, err := sub.Unsubscribe(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		toUnsuback.add(time.Since(start))
	}
	_ = sub.Close()
	return toSuback.take(), toMessage.take(), toUnsuback.take()
}

// TestRetainedMillion: a wildcard subscriber with Receive Maximum 20 gets every retained message, whatever their number, also a
// durable one that the cluster's restart interrupts; meanwhile other clients notice nothing, and a SUBSCRIBE to one topic costs
// what it costs without them. `make scenarios` stores 1,000,000 messages.
func TestRetainedMillion(t *testing.T) {
	long(t)
	count := sized(t, "FLOTILLA_RETAINED_MESSAGES", 20_000, 1_000_000)
	load := harness.Load()
	c := harness.Start(t, harness.Options{Nodes: 3})
	some := make([]string, 50)
	for i := range some {
		some[i] = retainedTopic(i * (count / len(some)))
	}
	took := loadRetained(t, c, count)
	t.Logf("%d retained messages stored at %.0f/s; memory: %s (load before %.1f, now %.1f)", count, float64(count)/took.Seconds(), memories(c), load, harness.Load())

	load = harness.Load()
	near, far := watch(t, "near", c.Nodes[0], c.Nodes[0]), watch(t, "far", c.Nodes[1], c.Nodes[2])
	pause(t.Context(), time.Second)
	t.Logf("ping-pong before: on the subscriber's node %s; on others %s", near.take(t, "before"), far.take(t, "before"))

	if fullScenario() { // the stores still tidy up what was written in a minute
		suback, message, _ := exact(t, c.Nodes[0], "fresh", transient, some)
		t.Logf("SUBSCRIBE to one topic right after the last was stored: SUBACK %s; retained message %s (load %.1f)", suback, message, harness.Load())
		pause(t.Context(), 20*time.Second)
	}
	suback, message, unsuback := exact(t, c.Nodes[0], "exact", transient, some)
	t.Logf("SUBSCRIBE to one topic of %d: SUBACK %s; retained message %s; UNSUBACK %s (load %.1f)", count, suback, message, unsuback, harness.Load())
	mark(t, "exact-topic SUBSCRIBE until its retained message, p50", message.at(.5), markExact, load)

	for _, form := range []struct {
		name string
		qos  byte
		edit func(*mqttc.Options)
	}{
		{"transient QoS 1", 1, transient}, {"transient QoS 0", 0, transient}, {"durable QoS 1", 1, clean},
	} {
		load = harness.Load()
		r := newReplay(count)
		took := r.all(t, c.Nodes[0], "all-"+strings.ReplaceAll(form.name, " ", "-"), form.qos, form.edit, 20*time.Minute)
		q1, q2 := near.take(t, form.name), far.take(t, form.name)
		t.Logf("%s: all %d messages through # with Receive Maximum 20 in %v (%.0f/s); memory: %s", form.name, count, took.Round(time.Millisecond), float64(count)/took.Seconds(), memories(c))
		t.Logf("%s: ping-pong meanwhile: on the subscriber's node %s; on others %s", form.name, q1, q2)
		mark(t, form.name+": ping-pong p99 beside the replay", max(q1.at(.99), q2.at(.99)), markPingPong, load)
	}
	healthy(t, c)
}

// TestRetainedReplayGoesOn: a durable session whose connection breaks in the middle of a replay gets the rest on another node,
// also when all nodes were killed meanwhile.
func TestRetainedReplayGoesOn(t *testing.T) {
	long(t)
	count := sized(t, "FLOTILLA_RETAINED_REPLAY", 3000, 100_000)
	c := harness.Start(t, harness.Options{Nodes: 3})
	loadRetained(t, c, count)
	r := newReplay(count)
	session := mqttc.NewSession()
	open := func(n *harness.Node) *mqttc.Client {
		t.Helper()
		var cl *mqttc.Client
		harness.Wait(t, patience, "the subscriber to connect", func(ctx context.Context) (err error) {
			cl, err = mqttc.Dial(ctx, mqttc.Options{
				URL: "mqtt://" + n.MQTTAddr(), ClientID: "goes-on", SessionExpiry: sessionExpiry, KeepAlive: time.Minute, ReceiveMaximum: 20, Session: session,
				OnMessage: func(_ *mqttc.Client, p *mqtt.Publish) { r.take(p) },
			})
			return err
		})
		t.Cleanup(func() { _ = cl.Close() })
		return cl
	}
	until := func(share float64) {
		t.Helper()
		harness.Wait(t, time.Duration(1+count/20_000)*time.Minute, fmt.Sprintf("%.0f %% of the replay", 100*share), func(context.Context) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.distinct < int(share*float64(count)) {
				return fmt.Errorf("%d of %d (%d copies, %d without RETAIN)", r.distinct, count, r.copies, r.live)
			}
			return nil
		})
	}
	cl := open(c.Nodes[0])
	if _, err := cl.Subscribe(t.Context(), mqtt.SubscribeFilter{Filter: "kept/#", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	until(.3)
	_ = cl.Close()
	t.Logf("first connection: %s", r)
	cl = open(c.Nodes[1])
	if !cl.SessionPresent() {
		t.Error("no session present")
	}
	until(.6)
	t.Logf("second connection, on another node: %s", r)
	// Acknowledgements that wait for their commit are lost with their connection: copies follow a reconnect (I3).
	c.KillAll(t)
	<-cl.Done()
	c.StartAll(t)
	cl = open(c.Nodes[2])
	until(1)
	t.Logf("third connection, after the death of all nodes: %s", r)
	if r.mu.Lock(); r.live > 0 {
		t.Errorf("%d without RETAIN", r.live)
	}
	r.mu.Unlock()
	_ = cl.Close()
	c.WaitAgreement(t, patience)
}
