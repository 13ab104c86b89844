package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestSuback_v311_MQTT_3_8_4_1_MQTT_3_8_4_2_MQTT_2_3_1_7_MQTT_3_8_4_5_MQTT_3_9_3_1_MQTT_3_9_3_2_MQTT_3_8_4_4(t *testing.T) {
	t.Parallel()
	c := connect(t, v311)
	name := own("a")
	for _, id := range []int{1, 0x1234, 0xFFFF} {
		c.send("82 [%04X ('%[2]s/0') 00 ('%[2]s/2') 02 ('%[2]s/1') 01 ('%[2]s/+/#') 02]", id, name)
		c.exactly("90 06 %04X 00 02 01 02", id)
	}
	c.send("82 [0001 ('%[1]s/0') 00 ('%[1]s/0') 02]", name) // the same twice: the last one counts
	c.exactly("90 04 0001 00 02")
	connect(t, v311).publish(name+"/0", "x", 2)
	if m := c.message(); m.QoS != 2 {
		t.Errorf("QoS %d, want 2", m.QoS)
	}
	c.quiet()
	// A failure stands at its place.
	c = connect(t, v311, on(guarded(t)), alice)
	c.send("82 [0001 ('fine/%[1]s') 02 ('deny/%[1]s') 02 ('fine/too/%[1]s') 01]", name)
	c.exactly("90 05 0001 02 80 01")
	c = connect(t, v311, on(guarded(t)), alice)
	c.send("82 [0001 ('deny/%s') 01]", name)
	c.exactly("90 03 0001 80")
	c.quiet()
}

// TestGrantedQoS: a server may grant less than it is asked for.
func TestGrantedQoS_v311_MQTT_3_8_4_5(t *testing.T) {
	t.Parallel()
	c := connect(t, v311, on(limited(t)))
	c.send("82 [0001 ('%s') 02]", own("a"))
	c.exactly("90 03 0001 01")
}

// TestSubscriptionIsReplaced: an equal filter replaces the old one, sends what is retained again, and interrupts nothing.
func TestSubscriptionIsReplaced_v311_MQTT_3_8_4_3(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c, pub := connect(t, v), connect(t, v)
		topic := own("a")
		pub.publish(topic, "kept", 1, retain)
		for _, qos := range []byte{2, 0, 1} {
			c.subscribe(topic, qos)
			if m := c.message(); string(m.Payload) != "kept" || m.QoS != min(qos, 1) || !m.Retain {
				t.Errorf("%s: retained with QoS %d: %+v", v, qos, m)
			}
			pub.publish(topic, "live", 2)
			if m := c.message(); string(m.Payload) != "live" || m.QoS != qos || m.Retain {
				t.Errorf("%s: live with QoS %d: %+v", v, qos, m)
			}
			c.quiet() // once, not once per subscription
		}
		// A stream of messages has no gap while the subscription is repeated.
		const n = 60
		for i := range n {
			pub.put(&mqtt.Publish{Topic: []byte(topic), Payload: []byte(fmt.Sprint(i)), QoS: 1, PacketID: uint16(i + 1)})
			if i%10 == 5 {
				c.put(&mqtt.Subscribe{PacketID: c.nextID(), Filters: []mqtt.SubscribeFilter{{Filter: topic, QoS: 1}}})
			}
		}
		for i := 0; i < n; {
			if m, ok := c.next().(*mqtt.Publish); ok {
				c.acknowledge(m)
				if !m.Retain {
					if string(m.Payload) != fmt.Sprint(i) {
						t.Fatalf("%s: got %s, want %d", v, m.Payload, i)
					}
					i++
				}
			}
		}
	}
}

func TestDeliveredQoS_v311_MQTT_3_8_4_6(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		pub := connect(t, v)
		for granted := byte(0); granted <= 2; granted++ {
			c := connect(t, v)
			topic := own("a")
			c.subscribe(topic, granted)
			for published := byte(0); published <= 2; published++ {
				pub.publish(topic, "x", published)
				if m := c.message(); m.QoS != min(granted, published) {
					t.Errorf("%s: QoS %d, published with %d and granted %d", v, m.QoS, published, granted)
				}
			}
		}
	}
}

func TestOverlapping_v311_MQTT_3_3_5_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		for _, keep := range []bool{false, true} {
			c := connect(t, v, func(s *setup) { s.CleanStart = !keep })
			topic := own("a")
			c.subscribe(topic+"/#", 0)
			c.subscribe(topic+"/+", 2)
			c.subscribe(topic+"/x", 1)
			pub := connect(t, v)
			for published := byte(0); published <= 2; published++ {
				pub.publish(topic+"/x", "x", published)
				// One copy or one per subscription are both allowed; this server sends one.
				if m := c.message(); m.QoS != published {
					t.Errorf("%s: QoS %d, want the highest granted, at most the published %d", v, m.QoS, published)
				}
				c.quiet()
			}
			c.disconnect()
		}
	}
}

func TestUnsubscribe_v311_MQTT_3_10_4_1_MQTT_3_10_4_2_MQTT_3_10_4_4_MQTT_3_10_4_5_MQTT_3_10_4_6_MQTT_2_3_1_7(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c, pub := connect(t, v), connect(t, v)
		a, b, fence := own("a"), own("b"), own("fence")
		c.subscribe(a+"/#", 1)
		c.subscribe(a+"/+", 1)
		c.subscribe(b, 1)
		c.subscribe(fence, 1)
		// Only an equal filter counts, not what matches the same topics.
		c.send("A2 [0100 ('%s/x')]", a)
		c.exactly("B0 02 0100")
		c.send("A2 [0101 ('%s')]", strings.ToUpper(b))
		c.exactly("B0 02 0101")
		pub.publish(a+"/x", "still", 1)
		pub.publish(b, "still b", 1)
		c.payloads("still", "still b")
		c.send("A2 [FFFF ('%s/#') ('%s') ('never/%s')]", a, b, a)
		c.exactly("B0 02 FFFF")
		pub.publish(a+"/x/y", "nobody", 1)
		pub.publish(b, "nobody", 1)
		pub.publish(a+"/x", "by the other", 1)
		pub.publish(fence, "fence", 1)
		c.payloads("by the other", "fence")
		c.send("A2 [0001 ('%s/#')]", a) // a second time
		c.exactly("B0 02 0001")
		c.quiet()
	}
}

// TestUnsubscribeCompletes: what is under way is brought to its end.
func TestUnsubscribeCompletes_v311_MQTT_3_10_4_3(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c, pub := connect(t, v, durable), connect(t, v)
		topic := own("a")
		c.subscribe(topic, 2)
		pub.publish(topic, "one", 1)
		pub.publish(topic, "two", 2)
		one, two := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
		c.unsubscribe(topic)
		c.abort()
		c = connect(t, v, as(c.id), durable)
		for _, old := range []*mqtt.Publish{one, two} {
			m := c.message()
			if m.PacketID != old.PacketID || !m.Dup || string(m.Payload) != string(old.Payload) {
				t.Errorf("%s: got %+v again, want %+v", v, m, old)
			}
		}
		pub.publish(topic, "three", 1)
		c.quiet()
	}
}

// TestNotAllowed: a message that nobody may send is acknowledged like others, or ends the connection; here it ends it.
func TestNotAllowed_v311_MQTT_3_3_5_2(t *testing.T) {
	t.Parallel()
	site := guarded(t)
	watcher := connect(t, v311, on(site), alice)
	watcher.hears("#")
	for _, v := range olds() {
		for qos := byte(0); qos <= 2; qos++ {
			c := connect(t, v, on(site), alice)
			p := &mqtt.Publish{Topic: []byte("deny/" + own("a")), QoS: qos}
			if qos > 0 {
				p.PacketID = 7
			}
			c.put(p, &mqtt.Pingreq{})
			for {
				p, err := c.receive()
				if err != nil {
					c.wasEnd(err)
					break
				}
				if _, ok := p.(*mqtt.Pingresp); ok {
					break
				}
			}
		}
	}
	watcher.put(&mqtt.Pingreq{})
	for {
		p := watcher.next()
		if m, ok := p.(*mqtt.Publish); ok && strings.HasPrefix(string(m.Topic), "deny/") {
			t.Errorf("a message came through: %+v", m)
		}
		if _, ok := p.(*mqtt.Pingresp); ok {
			return
		}
	}
}

func TestTransientMessages_v311_MQTT_4_5_0_1(t *testing.T) {
	t.Parallel()
	topic := own("a")
	var subs []*client
	for _, v := range []mqtt.Version{v31, v311, v5} {
		for qos := byte(0); qos <= 2; qos++ {
			c := connect(t, v)
			c.subscribe(topic, qos)
			subs = append(subs, c)
		}
	}
	for _, v := range []mqtt.Version{v31, v311, v5} {
		connect(t, v).publish(topic, v.String(), 2)
	}
	for _, c := range subs {
		var got []string
		for range 3 {
			got = append(got, string(c.message().Payload))
		}
		slices.Sort(got)
		want := []string{v31.String(), v311.String(), v5.String()}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v", c.v, got)
		}
		c.quiet()
	}
}
