package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func retain(p *mqtt.Publish) { p.Retain = true }

func handling(h byte) func(*mqtt.Subscribe) {
	return func(s *mqtt.Subscribe) { s.Filters[0].RetainHandling = h }
}

func TestRetainedIsReplaced_v5_MQTT_3_3_1_5_MQTT_3_3_1_8(t *testing.T) {
	t.Parallel()
	topic := own("r")
	pub := connect(t, v5)
	for qos := byte(0); qos <= 2; qos++ {
		payload := fmt.Sprint("kept ", qos)
		pub.publish(topic, payload, qos, retain)
		pub.publish(topic, "passing", qos)
		c := connect(t, v5)
		// QoS 0 is not acknowledged: its way into the store is seen when it has ended.
		eventually(t, func() string {
			c.subscribe(topic, 2)
			if m := c.message(); string(m.Payload) != payload || !m.Retain || m.QoS != qos || m.Dup {
				return fmt.Sprintf("retained: %q %+v, want %q", m.Payload, m, payload)
			}
			return ""
		})
		c.quiet()
		c.disconnect()
	}
}

func TestRetainedIsRemoved_v5_MQTT_3_3_1_6_MQTT_3_3_1_7(t *testing.T) {
	t.Parallel()
	for qos := byte(1); qos <= 2; qos++ {
		topic := own("r")
		live, pub := watch(t, topic, 2), connect(t, v5)
		pub.publish(topic, "kept", qos, retain)
		pub.publish(topic, "", qos, retain)
		live.payloads("kept", "")
		watch(t, topic, 2).quiet()
		pub.publish(topic, "", qos, retain) // of nothing: no error
		live.payloads("")
		pub.publish(topic, "again", qos, retain)
		watch(t, topic, 2).payloads("again")
	}
}

func TestRetainHandling_v5_MQTT_3_3_1_9_MQTT_3_3_1_10_MQTT_3_3_1_11_MQTT_3_8_4_4(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("r")
		pub := connect(t, v5)
		pub.publish(topic, "kept", 1, retain)
		c := connect(t, v5, opts...)
		c.id += " " + name
		c.subscribe(topic, 1, handling(0))
		c.payloads("kept")
		c.subscribe(topic, 1, handling(0))
		c.payloads("kept")
		c.subscribe(topic, 1, handling(1))
		c.quiet()
		c.subscribe(topic, 1, handling(2))
		c.quiet()
		c.unsubscribe(topic)
		c.subscribe(topic, 1, handling(2))
		c.quiet()
		c.unsubscribe(topic)
		c.subscribe(topic, 1, handling(1))
		c.payloads("kept")
		c.quiet()
	}
}

// TestRetainHandlingOfASessionThatReturns: its subscriptions exist.
func TestRetainHandlingOfASessionThatReturns_v5_MQTT_3_3_1_10(t *testing.T) {
	t.Parallel()
	topic := own("r")
	connect(t, v5).publish(topic, "kept", 1, retain)
	c := connect(t, v5, durable)
	c.subscribe(topic, 1, handling(1))
	c.payloads("kept")
	c.disconnect()
	c = connect(t, v5, as(c.id), durable)
	c.quiet()
	c.subscribe(topic, 1, handling(1))
	c.quiet()
	c.subscribe(topic, 1)
	c.payloads("kept")
}

func TestRetainAsPublished_v5_MQTT_3_3_1_12_MQTT_3_3_1_13(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("r")
		plain, kept, pub := connect(t, v5, opts...), connect(t, v5, opts...), connect(t, v5)
		plain.subscribe(topic, 2)
		kept.subscribe(topic, 2, func(s *mqtt.Subscribe) { s.Filters[0].RetainAsPublished = true })
		for qos := byte(0); qos <= 2; qos++ {
			for _, r := range []bool{true, false} {
				pub.publish(topic, "x", qos, func(p *mqtt.Publish) { p.Retain = r })
				if m := plain.message(); m.Retain {
					t.Errorf("%s, QoS %d: RETAIN with Retain As Published 0", name, qos)
				}
				if m := kept.message(); m.Retain != r {
					t.Errorf("%s, QoS %d: RETAIN %v with Retain As Published 1, published %v", name, qos, m.Retain, r)
				}
			}
		}
	}
}

// TestRetainedByWildcard: all that match, with the subscription's identifier and the lower QoS.
func TestRetainedByWildcard_v5_MQTT_3_3_1_9_MQTT_3_8_4_8(t *testing.T) {
	t.Parallel()
	base := own("r")
	pub := connect(t, v5)
	var want []string
	for i := range 150 {
		topic := fmt.Sprintf("%s/%03d/x", base, i)
		pub.publish(topic, "kept", byte(i%2)+1, retain)
		want = append(want, topic)
	}
	pub.publish(base+"/000/y", "other", 1, retain)
	sub := connect(t, v5, func(s *setup) { s.ReceiveMaximum = 7 })
	sub.subscribe(base+"/+/x", 1, func(s *mqtt.Subscribe) { s.SubscriptionID = 9 })
	var got []string
	for range want {
		m := sub.message()
		if !m.Retain || m.QoS != 1 || !slices.Equal(m.SubscriptionIDs, []uint32{9}) {
			t.Fatalf("%s: %+v", m.Topic, m)
		}
		got = append(got, string(m.Topic))
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%d topics, want %d", len(got), len(want))
	}
	sub.quiet()
}

// TestRetainedReplayIsResumed: what was not acknowledged when the connection broke comes on the next one, and the rest.
func TestRetainedReplayIsResumed_v5_MQTT_3_3_1_9_MQTT_4_4_0_1(t *testing.T) {
	t.Parallel()
	base := own("r")
	pub := connect(t, v5)
	const n = 60
	for i := range n {
		pub.publish(fmt.Sprintf("%s/%03d", base, i), "kept", 1, retain)
	}
	narrow := func(s *setup) { s.ReceiveMaximum = 5 }
	c := connect(t, v5, durable, narrow)
	c.subscribe(base+"/#", 1)
	seen := map[string]bool{}
	for range 20 {
		seen[string(c.message().Topic)] = true
	}
	c.abort()
	c = connect(t, v5, as(c.id), durable, narrow)
	for len(seen) < n {
		m := c.message()
		if !m.Retain {
			t.Fatalf("%s came without RETAIN", m.Topic)
		}
		seen[string(m.Topic)] = true
	}
}

func TestRetainedAcrossNodes_v5_MQTT_3_3_1_5_MQTT_3_3_1_6(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	topic := own("r")
	pub := connect(t, v5, on(nodes[0]))
	for i, n := range nodes {
		pub.publish(topic, fmt.Sprint(i), 1, retain)
		c := connect(t, v5, on(n))
		c.subscribe(topic, 1)
		c.payloads(fmt.Sprint(i))
	}
	pub.publish(topic, "", 1, retain)
	for _, n := range nodes {
		c := connect(t, v5, on(n))
		c.subscribe(topic, 1)
		c.quiet()
	}
}

func TestRetainedExpires_v5_MQTT_3_3_2_5_MQTT_3_3_2_6(t *testing.T) {
	t.Parallel()
	topic := own("r")
	pub := connect(t, v5)
	expiry := func(s uint32) func(*mqtt.Publish) {
		return func(p *mqtt.Publish) { p.Retain, p.HasExpiry, p.Expiry = true, true, s }
	}
	begin := time.Now()
	pub.publish(topic+"/long", "x", 1, expiry(100))
	pub.publish(topic+"/short", "x", 1, expiry(2))
	wait(t, time.Now().Add(2200*time.Millisecond))
	sub := watch(t, topic+"/#", 1)
	m := sub.message()
	if left := 99 - int(time.Since(begin).Seconds()); string(m.Topic) != topic+"/long" || !m.HasExpiry || int(m.Expiry) < left || m.Expiry > 98 {
		t.Errorf("got %s, expiry %v %d, want about %d", m.Topic, m.HasExpiry, m.Expiry, left)
	}
	sub.quiet()
}

// TestRetainedNoLocal: the flag keeps a client's own messages from it, retained or not.
func TestRetainedNoLocal_v5_MQTT_3_8_3_3(t *testing.T) {
	t.Parallel()
	topic := own("r")
	c, other := connect(t, v5), connect(t, v5)
	c.publish(topic, "mine", 1, retain)
	c.subscribe(topic, 1, func(s *mqtt.Subscribe) { s.Filters[0].NoLocal = true })
	other.publish(topic, "marker", 1)
	for {
		m := c.message()
		if string(m.Payload) == "marker" {
			break
		}
		if !m.Retain {
			t.Errorf("got %q", m.Payload)
		}
	}
}

func TestNothingIsRetainedOnLimitedServers_v5_MQTT_3_2_2_14(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(limited(t)))
	if !c.ack.RetainUnavailable {
		t.Error("CONNACK does not say that retained messages are not available")
	}
	c.publish(own("a"), "x", 1)
	c.send("31 [('a') []]")
	c.expectDisconnect(mqtt.RetainNotSupported)
}
