package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// gauges are the memory and the disk of a node, as a test has them.
type gauges struct{ memory, disk, memoryLooks, diskLooks atomic.Int64 }

// seen waits until the node has looked twice more.
func (g *gauges) seen(t testing.TB, looks *atomic.Int64) {
	t.Helper()
	before := looks.Load()
	waitFor(t, 10*time.Second, "the node to look", func() string {
		if looks.Load() >= before+2 {
			return ""
		}
		return "not yet"
	})
}

func (g *gauges) config() cluster.LimitsConfig {
	g.disk.Store(1 << 40)
	return cluster.LimitsConfig{
		MemoryHigh: 1000, DiskFreeMin: 1000,
		MemoryUsed: func(int64) int64 { g.memoryLooks.Add(1); return g.memory.Load() },
		DiskFree:   func() (int64, error) { g.diskLooks.Add(1); return g.disk.Load(), nil },
	}
}

// waitAlarm waits until an alarm stands in the status of a node, or not.
func waitAlarm(t testing.TB, n *cluster.Node, name string, want bool) {
	t.Helper()
	waitFor(t, 10*time.Second, fmt.Sprintf("alarm %s: %v", name, want), func() string {
		st := n.Status(t.Context())
		if got := strings.Contains(strings.Join(st.Reasons, "\n"), "alarm "+name); got != want || st.Healthy == want {
			return fmt.Sprint(st.Reasons)
		}
		return ""
	})
}

// send publishes and returns the answer's code.
func send(t testing.TB, c *mqttc.Client, p mqtt.Publish) mqtt.ReasonCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ack, err := c.Publish(ctx, &p)
	if err != nil {
		t.Fatalf("publish to %s: %v", p.Topic, err)
	}
	return ack.Code
}

// counter sums a metric of a registry over the label reason.
func counter(t testing.TB, reg prometheus.Registerer, name, reason string) float64 {
	t.Helper()
	families, err := reg.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// startCounted is startNode with a registry that the test can read.
func startCounted(t testing.TB, cfg cluster.Config) (*cluster.Node, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	n, err := cluster.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(t, n) })
	waitReady(t, n)
	return n, reg
}

// TestMemoryHighStopsPublishersAndNewClients: what waits goes on when the
// memory is back, and subscribers are served all the time.
func TestMemoryHighStopsPublishersAndNewClients(t *testing.T) {
	var g gauges
	cfg := testConfig(t, t.TempDir())
	cfg.Limits = g.config()
	n, reg := startCounted(t, cfg)
	pub, sub := dial(t, n, "pub", true, nil), dial(t, n, "sub", true, nil)
	g.memory.Store(1001)
	waitAlarm(t, n, "memory_high", true)

	_, err := mqttc.Dial(t.Context(), mqttc.Options{URL: "mqtt://" + n.Addrs().MQTT, ClientID: "new", Clean: true})
	var refused *mqttc.RefusedError
	if !errors.As(err, &refused) || refused.Code != mqtt.QuotaExceeded {
		t.Errorf("a new client got %v, want 0x97", err)
	}
	if got := counter(t, reg, "flotilla_connect_rejected_total", "limit"); got != 1 {
		t.Errorf("connect_rejected_total is %v, want 1", got)
	}
	answer := make(chan mqttc.Ack, 1)
	go func() {
		ack, err := pub.Publish(t.Context(), &mqtt.Publish{Topic: []byte("a"), QoS: 1})
		if err == nil {
			answer <- ack
		}
	}()
	waitFor(t, 5*time.Second, "the publisher to wait", func() string {
		families, err := reg.Gather()
		for _, f := range families {
			if f.GetName() == "flotilla_publishers_paused" && f.GetMetric()[0].GetGauge().GetValue() == 1 {
				return ""
			}
		}
		return fmt.Sprint("not paused ", err)
	})
	subscribe(t, sub, "a", 1) // others are served
	if len(answer) != 0 {
		t.Fatal("a publish was acknowledged while the memory was short")
	}
	g.memory.Store(950) // a tenth below the mark, not above it
	g.seen(t, &g.memoryLooks)
	waitAlarm(t, n, "memory_high", true)
	g.memory.Store(899)
	waitAlarm(t, n, "memory_high", false)
	select {
	case <-answer:
	case <-time.After(5 * time.Second):
		t.Fatal("the publisher waits for ever")
	}
	dial(t, n, "new", true, nil).Abort()
}

// TestDiskLowRefusesWhatWouldBeStored: QoS 0 is delivered, what waits is
// delivered, and the alarm does not flap.
func TestDiskLowRefusesWhatWouldBeStored(t *testing.T) {
	var g gauges
	cfg := testConfig(t, t.TempDir())
	cfg.Limits = g.config()
	n, reg := startCounted(t, cfg)
	var in, later inbox
	pub, sub := dial(t, n, "pub", true, nil), dial(t, n, "sub", false, in.onMessage)
	subscribe(t, sub, "a/#", 2)
	sub.Abort()
	if code := send(t, pub, mqtt.Publish{Topic: []byte("a/waits"), Payload: []byte("x"), QoS: 1}); code != mqtt.Success {
		t.Fatalf("code %s", code)
	}
	g.disk.Store(999)
	waitAlarm(t, n, "disk_low", true)
	for qos := byte(1); qos <= 2; qos++ {
		if code := send(t, pub, mqtt.Publish{Topic: []byte("a/refused"), Payload: []byte("x"), QoS: qos}); code != mqtt.QuotaExceeded {
			t.Errorf("QoS %d: code %s, want 0x97", qos, code)
		}
	}
	if got := counter(t, reg, "flotilla_publish_refused_total", "disk_low"); got != 2 {
		t.Errorf("publish_refused_total{disk_low} is %v, want 2", got)
	}
	sub = dial(t, n, "sub", false, in.onMessage)
	in.waitFor(t, "a/waits=x")
	send(t, pub, mqtt.Publish{Topic: []byte("a/zero"), Payload: []byte("y"), Retain: true})
	in.waitFor(t, "a/waits=x", "a/zero=y")
	if got := counter(t, reg, "flotilla_messages_dropped_total", "disk_low"); got != 1 {
		t.Errorf("messages_dropped_total{disk_low} is %v, want 1: the retained copy", got)
	}
	g.disk.Store(1050) // above the least, not yet a tenth above it
	g.seen(t, &g.diskLooks)
	second := dial(t, n, "second", true, later.onMessage)
	subscribe(t, second, "a/#", 0)
	waitAlarm(t, n, "disk_low", true)
	g.disk.Store(1100)
	waitAlarm(t, n, "disk_low", false)
	if code := send(t, pub, mqtt.Publish{Topic: []byte("a/again"), Payload: []byte("z"), QoS: 1}); code != mqtt.Success {
		t.Errorf("code %s after the alarm", code)
	}
	later.waitFor(t, "a/again=z") // nothing retained came before it
	sub.Abort()
}

// TestDiskLowOnAnotherNode: a message that is taken in here is stored there.
func TestDiskLowOnAnotherNode(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	all := make([]gauges, 3)
	i := 0
	nodes, _ := formCluster(t, 3, func(c *cluster.Config) { c.Limits = all[i].config(); i++ })
	pub := dial(t, nodes[0], "pub", true, nil)
	all[2].disk.Store(1)
	code := func(want mqtt.ReasonCode) {
		t.Helper()
		waitFor(t, 10*time.Second, "code "+want.String(), func() string {
			if got := send(t, pub, mqtt.Publish{Topic: []byte("a"), Payload: []byte("x"), QoS: 1}); got != want {
				return got.String()
			}
			return ""
		})
	}
	code(mqtt.QuotaExceeded)
	waitAlarm(t, nodes[0], "disk_low", true)
	all[2].disk.Store(1 << 30)
	code(mqtt.NoMatchingSubscribers)
}

// TestLimitsOfRetainedMessages: the size and the number of them.
func TestLimitsOfRetainedMessages(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	cfg.Settings.RetainedMaxPayload, cfg.Settings.RetainedMaxMessages = 10, 5
	n, reg := startCounted(t, cfg)
	var live inbox
	pub, sub := dial(t, n, "pub", true, nil), dial(t, n, "sub", true, live.onMessage)
	subscribe(t, sub, "big/#", 0)
	retain := func(topic, payload string, qos byte) mqtt.ReasonCode {
		t.Helper()
		return send(t, pub, mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, Retain: true})
	}
	if code := retain("big/1", "12345678901", 1); code != mqtt.QuotaExceeded {
		t.Errorf("11 bytes: code %s, want 0x97", code)
	}
	if got := counter(t, reg, "flotilla_publish_refused_total", "too_large"); got != 1 {
		t.Errorf("publish_refused_total{too_large} is %v", got)
	}
	retain("big/0", "12345678901", 0)
	live.waitFor(t, "big/0=12345678901") // the refused one reached nobody
	if code := retain("big/2", "1234567890", 1); code.Failed() {
		t.Errorf("10 bytes: code %s", code)
	}
	for i := range 4 {
		if code := retain(fmt.Sprint("t/", i), "x", 1); code.Failed() {
			t.Fatalf("message %d: code %s", i+2, code)
		}
	}
	if code := retain("t/more", "x", 1); code != mqtt.QuotaExceeded {
		t.Errorf("beyond the limit: code %s, want 0x97", code)
	}
	if code := retain("t/more", "x", 2); code != mqtt.QuotaExceeded {
		t.Errorf("beyond the limit, QoS 2: code %s, want 0x97", code)
	}
	if got := counter(t, reg, "flotilla_publish_refused_total", "retained_full"); got != 2 {
		t.Errorf("publish_refused_total{retained_full} is %v", got)
	}
	if code := retain("t/0", "new", 1); code.Failed() {
		t.Errorf("another value of a topic that is there: code %s", code)
	}
	if code := retain("t/1", "", 1); code.Failed() {
		t.Errorf("delete: code %s", code)
	}
	if code := retain("t/more", "x", 1); code.Failed() {
		t.Errorf("in the place of a deleted one: code %s", code)
	}
}

// TestDropsOfTheMachinesAreCounted under the names that dashboards know.
func TestDropsOfTheMachinesAreCounted(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	cfg.Settings.InboxMaxMessages, cfg.Settings.InboxOverflow = 3, "drop_oldest"
	n, reg := startCounted(t, cfg)
	var in inbox
	sub := dial(t, n, "sub", false, in.onMessage)
	subscribe(t, sub, "a/#", 1)
	sub.Abort()
	pub := dial(t, n, "pub", true, nil)
	for i := range 8 {
		if code := send(t, pub, mqtt.Publish{Topic: []byte(fmt.Sprint("a/", i)), Payload: []byte("x"), QoS: 1}); code.Failed() {
			t.Fatalf("code %s", code)
		}
	}
	waitFor(t, 5*time.Second, "drops", func() string {
		if got := counter(t, reg, "flotilla_messages_dropped_total", "inbox_full"); got != 5 {
			return fmt.Sprint("inbox_full ", got)
		}
		return ""
	})
	dial(t, n, "sub", true, nil).Abort() // a clean start ends the session
	waitFor(t, 5*time.Second, "drops", func() string {
		if got := counter(t, reg, "flotilla_messages_dropped_total", "session_ended"); got != 3 {
			return fmt.Sprint("session_ended ", got)
		}
		return ""
	})
}
