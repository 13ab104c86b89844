package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestSlowConsumerQoS0: a client that does not read loses QoS 0 messages, and only those: what it gets when it reads again and
// what the counters hold is what was published, also across nodes. Nobody else waits for it.
func TestSlowConsumerQoS0(t *testing.T) {
	long(t)
	count := sized(t, "FLOTILLA_SLOW_MESSAGES", 30_000, 100_000)
	const size = 1024
	c := harness.Start(t, harness.Options{Nodes: 3})
	for _, from := range []*harness.Node{c.Nodes[0], c.Nodes[1]} {
		t.Run("publisher on "+from.ID, func(t *testing.T) {
			topic := "slow/" + from.ID
			deaf := openRaw(t, c.Nodes[0], &mqtt.Connect{Version: mqtt.V5, ClientID: "deaf-" + from.ID, CleanStart: true}, true)
			deaf.subscribe(t, topic, 0)
			quick := &counter{}
			reader := connect(t, c.Nodes[2], "quick-"+from.ID, transient, func(o *mqttc.Options) {
				o.OnMessage = func(_ *mqttc.Client, p *mqtt.Publish) { quick.next.Add(1) }
			})
			reader.subscribe(t, mqtt.SubscribeFilter{Filter: topic})
			before := lost(t, c, "qos0_slow")
			publisher := connect(t, from, "fast-"+from.ID, transient)
			payload := make([]byte, size)
			start := time.Now()
			for i := range count {
				binary.BigEndian.PutUint64(payload, uint64(i))
				if _, err := publisher.Send(t.Context(), &mqtt.Publish{Topic: []byte(topic), Payload: payload}, 0); err != nil {
					t.Fatal(err)
				}
				if i%500 == 499 { // less than a reader may leave unread: what the other one loses would be counted, too
					harness.Wait(t, patience, "the quick reader to keep up", func(context.Context) error {
						if n := quick.next.Load(); n <= uint64(i) {
							return fmt.Errorf("it has %d of %d", n, i+1)
						}
						return nil
					})
				}
			}
			took := time.Since(start)
			got := 0
			last := uint64(0)
			harness.Wait(t, patience, "each message to be received or to be counted as dropped", func(context.Context) error {
				err := deaf.drain(500*time.Millisecond, func(p *mqtt.Publish) {
					got++
					i := binary.BigEndian.Uint64(p.Payload)
					if got > 1 && i <= last {
						t.Errorf("message %d came after %d", i, last)
					}
					last = i
				})
				if !stillOpen(err) {
					return harness.Never(fmt.Errorf("the connection of the slow client ended: %w", err))
				}
				if dropped := lost(t, c, "qos0_slow") - before; got+dropped != count {
					return fmt.Errorf("%d were received, %d are counted as dropped, of %d", got, dropped, count)
				}
				return nil
			})
			if got == count || got == 0 {
				t.Errorf("the slow client received %d of %d: nothing was tried", got, count)
			}
			t.Logf("%d messages of %d bytes at %.0f/s: the slow client received %d, %d are counted as dropped; memory: %s",
				count, size, float64(count)/took.Seconds(), got, count-got, memories(c))
		})
	}
}

// TestSlowConsumerTransient: a client without a durable session that does not acknowledge QoS 1 messages is disconnected with
// 0x97 when its queue is over its limit, and counted; its publishers never wait for it.
func TestSlowConsumerTransient(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{})
	n := c.Nodes[0]
	slow := connect(t, n, "slow", transient, manual, func(o *mqttc.Options) { o.ReceiveMaximum = 10 })
	slow.subscribe(t, mqtt.SubscribeFilter{Filter: "slow/#", QoS: 1})
	const count = 25_000 // the queue of a session without an inbox has 10,000 places, and 20,000 at most
	start := time.Now()
	together(t, 4, func(i int) error { return bulk(t, n, fmt.Sprintf("fast-%d", i), "slow/x", count/4, 64) })
	t.Logf("%d messages acknowledged at %.0f/s beside a client that takes none", count, count/time.Since(start).Seconds())
	var told *mqttc.DisconnectError
	if err := slow.waitGone(t, patience); !errors.As(err, &told) || told.Code != mqtt.QuotaExceeded {
		t.Errorf("the slow client's connection ended with %v, want DISCONNECT 0x97", err)
	}
	if got := len(slow.all()); got != 10 {
		t.Errorf("the slow client got %d messages, its Receive Maximum is 10", got)
	}
	harness.Wait(t, patience, "the counters", func(ctx context.Context) error {
		m, err := n.Metrics(ctx)
		if err != nil {
			return err
		}
		if closed, now := m.Sum("flotilla_connections_closed_total", `reason="slow"`), m.Sum("flotilla_slow_clients"); closed != 1 || now != 0 {
			return fmt.Errorf("closed as slow: %v, slow now: %v", closed, now)
		}
		return nil
	})
	healthy(t, c)
}

// TestSlowConsumerDurable: a durable client that acknowledges nothing gets no more than its Receive Maximum, costs nobody
// anything, and gets everything in order when it goes on.
func TestSlowConsumerDurable(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{})
	n := c.Nodes[0]
	const count, window = 5000, 20
	var got counter
	slow := connect(t, n, "slow", manual, func(o *mqttc.Options) {
		o.ReceiveMaximum = window
		o.OnMessage = func(_ *mqttc.Client, p *mqtt.Publish) { got.take(p) }
	})
	slow.subscribe(t, mqtt.SubscribeFilter{Filter: "slow/#", QoS: 1})
	if err := bulk(t, n, "fast", "slow/x", count, 64); err != nil {
		t.Fatal(err)
	}
	harness.Wait(t, patience, "the window to fill", func(context.Context) error {
		if k := got.next.Load(); k != window {
			return fmt.Errorf("%d received", k)
		}
		return nil
	})
	slow.subscribe(t, mqtt.SubscribeFilter{Filter: "fence", QoS: 1})
	if k := got.next.Load(); k != window {
		t.Errorf("%d messages are under way, the Receive Maximum is %d", k, window)
	}
	_ = slow.Close()
	again := collect(t, n, "slow", &got)
	if !again.SessionPresent() {
		t.Error("no session present")
	}
	got.expect(t, "slow", count, time.Minute)
	if d := got.dups.Load(); d != window {
		t.Errorf("%d messages came again, want the %d that were under way", d, window)
	}
}
