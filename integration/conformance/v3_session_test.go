package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestSessionIsKept_v311_MQTT_3_1_2_4_MQTT_3_1_2_5_MQTT_4_1_0_1_MQTT_4_1_0_2_MQTT_4_5_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v, durable)
		topic := own("a")
		c.subscribe(topic+"/+", 2)
		c.disconnect()
		pub := connect(t, v)
		for i := range 9 {
			pub.publish(fmt.Sprint(topic, "/", i), fmt.Sprint(i), byte(i%2)+1)
		}
		c = connect(t, v, as(c.id), durable)
		for i := range 9 {
			if m := c.message(); string(m.Payload) != fmt.Sprint(i) || m.QoS != byte(i%2)+1 || m.Dup || m.Retain {
				t.Fatalf("%s: message %d is %+v", v, i, m)
			}
		}
		c.quiet()
		pub.publish(topic+"/x", "live", 0)
		c.payloads("live")
		// The end of the connection, however it comes, does not end the session.
		c.abort()
		pub.publish(topic+"/x", "after the crash", 1)
		c = connect(t, v, as(c.id), durable)
		c.payloads("after the crash")
		c.quiet()
	}
}

func TestCleanSession_v311_MQTT_3_1_2_6_MQTT_3_1_4_3_MQTT_3_2_2_1(t *testing.T) {
	t.Parallel()
	pub := connect(t, v311)
	for _, v := range olds() {
		c := connect(t, v, durable)
		topic := own("a")
		c.subscribe(topic, 1)
		c.disconnect()
		pub.publish(topic, "waits", 1)
		c = connect(t, v, as(c.id)) // Clean Session 1
		if c.frame[2] != 0 {
			t.Errorf("%s: Session Present after Clean Session 1", v)
		}
		pub.publish(topic, "unheard", 1)
		c.quiet()
		c.subscribe(topic, 1)
		pub.publish(topic, "heard", 1)
		c.payloads("heard")
		// That session has ended with its connection.
		c.disconnect()
		pub.publish(topic, "unheard", 1)
		c = connect(t, v, as(c.id), durable)
		if c.frame[2] != 0 {
			t.Errorf("%s: the session of Clean Session 1 is still there", v)
		}
		pub.publish(topic, "unheard", 1)
		c.quiet()
	}
}

func TestSessionPresent_v311_MQTT_3_2_2_2_MQTT_3_2_2_3(t *testing.T) {
	t.Parallel()
	var c *client
	id := own("c")
	for i, want := range []string{"00", "01", "01"} {
		c = dial(t, v311)
		c.send("10 [('MQTT') 04 00 003C ('%s')]", id)
		c.exactly("20 02 %s 00", want)
		if i == 0 {
			c.put(&mqtt.Disconnect{})
			c.expectEnd()
		}
	}
	c = dial(t, v311) // Clean Session 1 over it
	c.send("10 [('MQTT') 04 02 003C ('%s')]", id)
	c.exactly("20 02 00 00")
	c.put(&mqtt.Disconnect{})
	c.expectEnd()
	c = dial(t, v31) // MQTT 3.1 reserves that byte
	c.send("10 [('MQIsdp') 03 00 003C ('%s')]", id)
	c.exactly("20 02 00 00")
	c = dial(t, v31)
	c.send("10 [('MQIsdp') 03 00 003C ('%s')]", id)
	c.exactly("20 02 00 00")
}

func TestTakeover_v311_MQTT_3_1_4_2_MQTT_3_1_3_2(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		old := connect(t, v, durable)
		topic := own("a")
		old.subscribe(topic, 1)
		fresh := connect(t, v, as(old.id), durable)
		old.expectClosed()
		connect(t, v).publish(topic, "x", 1)
		fresh.payloads("x")
		fresh.quiet()
		again := connect(t, v, as(old.id)) // Clean Session 1 takes over, too
		fresh.expectEnd()
		connect(t, v).publish(topic, "nobody", 1)
		again.quiet()
	}
}

// admitted is connect for the cluster: while it elects a leader, a node may be unavailable.
func admitted(t *testing.T, v mqtt.Version, opts ...func(*setup)) *client {
	t.Helper()
	var c *client
	eventually(t, func() string {
		c = dial(t, v, opts...)
		if ack := c.handshake(opts...); ack.Code != mqtt.Success {
			return "CONNECT refused: " + ack.Code.String()
		}
		return ""
	})
	return c
}

// TestSessionAcrossNodes: on other nodes of a cluster a session is the same.
func TestSessionAcrossNodes_v311_MQTT_3_1_2_4_MQTT_3_1_4_2(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	c := admitted(t, v311, on(nodes[0]), durable)
	topic := own("a")
	c.subscribe(topic, 2)
	pub := admitted(t, v311, on(nodes[1]))
	for round := range 3 {
		next := admitted(t, v311, on(nodes[(round+1)%3]), as(c.id), durable)
		if !next.ack.SessionPresent {
			t.Fatal("no session present")
		}
		c.expectEnd()
		c = next
		pub.publish(topic, fmt.Sprint(round), 2)
		c.payloads(fmt.Sprint(round))
		c.subscribe(own("fence"), 0) // behind it, what was acknowledged is committed
	}
	c.quiet()
}

// TestWillsInAllWays: the will comes at every end of a connection but DISCONNECT, and once.
func TestWill_v311_MQTT_3_1_2_8_MQTT_3_1_2_10_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		topic := own("w")
		sub := connect(t, v)
		sub.subscribe(topic, 2)
		ends := map[string]func(c *client){
			"abort":             func(c *client) { c.abort() },
			"malformed packet":  func(c *client) { c.send("0000") },
			"half a packet":     func(c *client) { c.send("30 10 0001"); c.abort() },
			"second CONNECT":    func(c *client) { c.put(&mqtt.Connect{ClientID: c.id, CleanStart: true}) },
			"reserved flags":    func(c *client) { c.send("C1 00") },
			"topic with a #":    func(c *client) { c.send("30 [('#') 'x']") },
			"packet id 0":       func(c *client) { c.send("82 [0000 ('a') 00]") },
			"server's packet":   func(c *client) { c.send("D000") },
			"takeover":          func(c *client) { connect(t, v, as(c.id)) },
			"packet over limit": func(c *client) { c.send("30 FFFFFF7F") },
		}
		for name, end := range ends {
			c := connect(t, v, will(topic, name))
			end(c)
			sub.payloads(name)
			// It is forgotten: the next end of the same client is a quiet one.
			connect(t, v, as(c.id)).abort()
		}
		sub.quiet()
	}
}

func TestWillIsDiscarded_v311_MQTT_3_14_4_3_MQTT_3_1_2_10_MQTT_3_1_2_12(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := connect(t, v311)
	sub.subscribe(topic, 1)
	for _, v := range olds() {
		connect(t, v, will(topic, "never")).disconnect()
		c := connect(t, v, will(topic, "never"), durable)
		c.disconnect()
		connect(t, v, as(c.id), durable).abort() // without a will now
		connect(t, v).abort()
	}
	// In one write with what follows.
	c := connect(t, v311, will(topic, "never"))
	c.send("E000 C000")
	c.expectEnd()
	connect(t, v311, will(topic, "end")).abort()
	sub.payloads("end")
	sub.quiet()
}

// TestWillQoSAndRetain: a will is a message like others.
func TestWillQoSAndRetain_v311_MQTT_3_1_2_16_MQTT_3_1_2_17(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		for qos := byte(0); qos <= 2; qos++ {
			topic := own("w")
			sub := connect(t, v)
			sub.subscribe(topic, 2)
			as := func(retained bool) func(*mqtt.Will) {
				return func(w *mqtt.Will) { w.QoS, w.Retain = qos, retained }
			}
			connect(t, v, will(topic, "kept", as(true))).abort()
			if m := sub.message(); string(m.Payload) != "kept" || m.QoS != qos || m.Retain {
				t.Errorf("%s: live will of QoS %d: %+v", v, qos, m)
			}
			connect(t, v, will(topic, "passing", as(false))).abort()
			sub.payloads("passing")
			// Nobody waits for a will, so its copy may be stored a little later than it is delivered.
			eventually(t, func() string {
				late := connect(t, v)
				late.subscribe(topic, 2)
				late.put(&mqtt.Pingreq{})
				if m, ok := late.next().(*mqtt.Publish); !ok || string(m.Payload) != "kept" || m.QoS != qos || !m.Retain {
					return fmt.Sprintf("%s: retained will of QoS %d: %+v", v, qos, m)
				}
				return ""
			})
			connect(t, v, will(topic, "", as(true))).abort() // deletes it
			sub.payloads("")
			eventually(t, func() string {
				last := connect(t, v)
				last.subscribe(topic, 2)
				last.put(&mqtt.Pingreq{})
				if m, ok := last.next().(*mqtt.Publish); ok {
					return fmt.Sprintf("%s: still retained after an empty will of QoS %d: %+v", v, qos, m)
				}
				return ""
			})
		}
	}
}

// TestRetainedOutlivesSession: of the publisher and of the subscriber.
func TestRetainedOutlivesSession_v311_MQTT_3_1_2_7(t *testing.T) {
	t.Parallel()
	pub := connect(t, v311, durable)
	topic := own("r")
	pub.publish(topic, "kept", 1, retain)
	pub.disconnect()
	connect(t, v311, as(pub.id)).disconnect() // Clean Session 1
	for range 2 {
		sub := connect(t, v311)
		sub.subscribe(topic, 1)
		sub.payloads("kept")
		sub.disconnect()
	}
}

// TestRedelivery: what was not acknowledged comes again in the old order, with its packet ids and DUP, in front of what is
// new; PUBREL comes again as PUBREL.
func TestRedelivery_v311_MQTT_4_4_0_1_MQTT_3_3_1_1_MQTT_2_3_1_4_MQTT_4_6_0_6(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v, durable)
		topic := own("a")
		c.subscribe(topic, 2)
		pub := connect(t, v)
		for i := range 8 {
			pub.publish(topic, fmt.Sprint(i), byte(i%2)+1)
		}
		ids := map[string]uint16{}
		for i := range 8 {
			m := expect[*mqtt.Publish](c)
			if string(m.Payload) != fmt.Sprint(i) || m.Dup || m.PacketID == 0 {
				t.Fatalf("%s: message %d is %+v", v, i, m)
			}
			for payload, id := range ids {
				if id == m.PacketID {
					t.Fatalf("%s: messages %s and %d have the packet id %d", v, payload, i, id)
				}
			}
			ids[fmt.Sprint(i)] = m.PacketID
		}
		// 0 is finished, 1 and 3 (QoS 2) have come as far as PUBREL.
		c.put(&mqtt.Puback{PacketID: ids["0"]}, &mqtt.Pubrec{PacketID: ids["1"]}, &mqtt.Pubrec{PacketID: ids["3"]})
		for _, i := range []string{"1", "3"} {
			if p := expect[*mqtt.Pubrel](c); p.PacketID != ids[i] {
				t.Fatalf("%s: PUBREL %d, want %d", v, p.PacketID, ids[i])
			}
		}
		c.quiet()
		c.abort()
		pub.publish(topic, "8", 1)
		for range 2 { // twice over
			c = connect(t, v, as(c.id), durable)
			var released []uint16
			var payloads []string
			for len(payloads) < 6 || len(released) < 2 {
				switch p := c.next().(type) {
				case *mqtt.Pubrel:
					released = append(released, p.PacketID)
				case *mqtt.Publish:
					payloads = append(payloads, string(p.Payload))
					if isNew := string(p.Payload) == "8"; p.Dup == isNew && !(isNew && p.Dup) || !isNew && p.PacketID != ids[string(p.Payload)] {
						t.Errorf("%s: %+v, want it with DUP and the packet id %d", v, p, ids[string(p.Payload)])
					}
				default:
					t.Fatalf("%s: got %s", v, p.Type())
				}
			}
			if want := []string{"2", "4", "5", "6", "7", "8"}; !slices.Equal(payloads, want) {
				t.Errorf("%s: again came %v, want %v", v, payloads, want)
			}
			if want := []uint16{ids["1"], ids["3"]}; !slices.Equal(released, want) {
				t.Errorf("%s: PUBREL of %v, want %v", v, released, want)
			}
			c.quiet()
			c.abort()
		}
	}
}
