package conformance

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestQoS0: neither packet id nor acknowledgement.
func TestQoS0_v311_MQTT_4_3_1_1_MQTT_2_3_1_5_MQTT_3_3_4_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 2)
		pub.send("30 [('%s') 'x']", topic)
		sub.exactly("30 [('%s') 'x']", topic)
		pub.quiet()
		sub.quiet()
	}
}

func TestQoS1Inbound_v311_MQTT_4_3_2_2_MQTT_2_3_1_6_MQTT_3_3_4_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 0)
		for _, id := range []int{1, 0xFFFF, 0x8000, 1} { // after PUBACK the id stands for a new message
			pub.send("32 [('%s') %04X 'x']", topic, id)
			pub.exactly("40 02 %04X", id)
			sub.exactly("30 [('%s') 'x']", topic)
		}
		// A repetition of an acknowledged message is a new one, DUP or not.
		pub.send("3A [('%s') 0001 'again']", topic)
		pub.exactly("40 02 0001")
		sub.exactly("30 [('%s') 'again']", topic)
	}
}

func TestQoS1Outbound_v311_MQTT_4_3_2_1_MQTT_3_3_1_1_MQTT_4_5_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 1)
		open := map[uint16]bool{}
		for i := range 40 { // all of them unacknowledged at once
			pub.publish(topic, fmt.Sprint(i), 1)
			m := expect[*mqtt.Publish](sub)
			if m.Dup || m.PacketID == 0 || open[m.PacketID] || string(m.Payload) != fmt.Sprint(i) || m.QoS != 1 {
				t.Fatalf("%s: message %d is %+v", v, i, m)
			}
			open[m.PacketID] = true
		}
		for id := range open {
			sub.put(&mqtt.Puback{PacketID: id})
		}
		sub.quiet() // nothing comes twice on one connection
	}
}

// TestQoS2Inbound: step by step, with every step repeated.
func TestQoS2Inbound_v311_MQTT_4_3_3_2_MQTT_2_3_1_6_MQTT_3_3_4_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 2)
		for range 2 { // after PUBCOMP the id stands for a new message
			pub.send("34 [('%s') 0102 'one']", topic)
			pub.exactly("50 02 0102")
			pub.send("3C [('%s') 0102 'one']", topic) // PUBREC was lost
			pub.exactly("50 02 0102")
			pub.send("34 [('%s') 0102 'one']", topic) // and whoever forgets DUP repeats it all the same
			pub.exactly("50 02 0102")
			pub.send("62 02 0102")
			pub.exactly("70 02 0102")
			pub.send("62 02 0102") // PUBCOMP was lost
			pub.exactly("70 02 0102")
			sub.payloads("one")
			sub.quiet()
			pub.quiet()
		}
		// Two at once do not disturb each other.
		pub.send("34 [('%[1]s') 0001 'a'] 34 [('%[1]s') 0002 'b'] 62 02 0001 62 02 0002", topic)
		var recs, comps []uint16
		for range 4 {
			switch p := pub.next().(type) {
			case *mqtt.Pubrec:
				recs = append(recs, p.PacketID)
			case *mqtt.Pubcomp:
				comps = append(comps, p.PacketID)
			}
		}
		if fmt.Sprint(recs, comps) != "[1 2] [1 2]" {
			t.Errorf("%s: PUBREC %v and PUBCOMP %v, want 1 and 2 of each", v, recs, comps)
		}
		sub.payloads("a", "b")
	}
}

// TestQoS2AcrossConnections: the packet id of a durable publisher is remembered.
func TestQoS2AcrossConnections_v311_MQTT_4_3_3_2_MQTT_4_1_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v, durable)
		topic := own("a")
		sub.subscribe(topic, 2)
		pub.send("34 [('%s') 0007 'one']", topic)
		pub.exactly("50 02 0007")
		pub.abort()
		pub = connect(t, v, as(pub.id), durable)
		pub.send("3C [('%s') 0007 'one']", topic)
		pub.exactly("50 02 0007")
		pub.abort()
		pub = connect(t, v, as(pub.id), durable)
		pub.send("62 02 0007")
		pub.exactly("70 02 0007")
		sub.payloads("one")
		pub.send("34 [('%s') 0007 'two']", topic)
		pub.exactly("50 02 0007")
		pub.send("62 02 0007")
		pub.exactly("70 02 0007")
		sub.payloads("two")
		sub.quiet()
		// A clean session forgets it.
		pub.send("34 [('%s') 0008 'three']", topic)
		pub.exactly("50 02 0008")
		pub.abort()
		pub = connect(t, v, as(pub.id))
		pub.send("34 [('%s') 0008 'four'] 62 02 0008", topic)
		pub.exactly("50 02 0008")
		pub.exactly("70 02 0008")
		m := sub.message()
		if string(m.Payload) == "three" { // a message without PUBREL may or may not be delivered
			m = sub.message()
		}
		if string(m.Payload) != "four" {
			t.Errorf("%s: got %+v", v, m)
		}
	}
}

// TestQoS2Outbound: step by step; after PUBREC the message is not sent again, PUBREL is.
func TestQoS2Outbound_v311_MQTT_4_3_3_1_MQTT_2_3_1_6(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v, durable), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 2)
		pub.publish(topic, "x", 2)
		m := expect[*mqtt.Publish](sub)
		if m.QoS != 2 || m.Dup || m.PacketID == 0 {
			t.Fatalf("%s: %+v", v, m)
		}
		id := m.PacketID
		sub.put(&mqtt.Pubrec{PacketID: id})
		sub.exactly("62 02 %04X", id)
		sub.abort()
		sub = connect(t, v, as(sub.id), durable)
		sub.exactly("62 02 %04X", id)
		sub.put(&mqtt.Pubcomp{PacketID: id})
		sub.quiet()
		sub.abort()
		sub = connect(t, v, as(sub.id), durable)
		sub.quiet()
	}
}

// TestOrder: messages of one client to one topic keep their order, whatever the QoS, as long as it is the same.
func TestOrder_v311_MQTT_4_6_0_5_MQTT_4_6_0_6(t *testing.T) {
	t.Parallel()
	for qos := byte(0); qos <= 2; qos++ {
		sub, pub := connect(t, v311), connect(t, v311)
		topic := own("a")
		sub.subscribe(topic, 2)
		const n = 50
		var want []string
		for i := range n {
			p := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(fmt.Sprint(i)), QoS: qos}
			if qos > 0 {
				p.PacketID = uint16(i + 1)
			}
			pub.put(p)
			want = append(want, fmt.Sprint(i))
		}
		for i := range n { // acknowledgements come in the order of the messages
			switch qos {
			case 1:
				pub.exactly("40 02 %04X", i+1)
			case 2:
				pub.exactly("50 02 %04X", i+1)
			}
		}
		for i := range n {
			if qos == 2 {
				pub.put(&mqtt.Pubrel{PacketID: uint16(i + 1)})
				pub.exactly("70 02 %04X", i+1)
			}
		}
		sub.payloads(want...)
	}
}

func TestDupIsNotHandedOn_v311_MQTT_3_3_1_3(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 2)
		pub.send("3A [('%s') 0001 'x'] 3C [('%s') 0002 'y'] 62 02 0002", topic, topic)
		for _, want := range []string{"x", "y"} {
			if m := sub.message(); m.Dup || string(m.Payload) != want {
				t.Errorf("%s: got %+v, want %s without DUP", v, m, want)
			}
		}
	}
}
