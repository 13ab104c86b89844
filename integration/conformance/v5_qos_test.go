package conformance

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestIdentifiersOfDeliveries_v5_MQTT_2_2_1_4_MQTT_4_3_2_1_MQTT_4_3_2_2_MQTT_4_3_3_1_MQTT_4_3_3_2(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("q")
		sub, pub := connect(t, v5, opts...), connect(t, v5)
		sub.subscribe(topic, 2)
		seen := map[uint16]bool{}
		for i := range 40 {
			pub.publish(topic, "x", byte(i%2)+1)
			m := expect[*mqtt.Publish](sub)
			if m.PacketID == 0 || seen[m.PacketID] || m.Dup {
				t.Errorf("%s: id %d, seen %v, DUP %v", name, m.PacketID, seen[m.PacketID], m.Dup)
			}
			seen[m.PacketID] = true
		}
	}
}

// TestUnacknowledgedComesAgain: PUBLISH until PUBACK or PUBREC, PUBREL until PUBCOMP, under the old identifiers, in the
// old order, with DUP, only on the next connection of the session.
func TestUnacknowledgedComesAgain_v5_MQTT_4_4_0_1_MQTT_3_3_1_1_MQTT_4_3_2_3_MQTT_4_3_3_3_MQTT_4_3_3_5_MQTT_4_3_3_6(t *testing.T) {
	t.Parallel()
	topic := own("q")
	c, pub := connect(t, v5, durable), connect(t, v5)
	c.subscribe(topic, 2)
	for i := range 6 {
		pub.publish(topic, fmt.Sprint(i), byte(i%2)+1)
	}
	var m []*mqtt.Publish
	for range 6 {
		m = append(m, expect[*mqtt.Publish](c))
	}
	c.put(&mqtt.Puback{PacketID: m[2].PacketID}, &mqtt.Pubrec{PacketID: m[1].PacketID}, &mqtt.Pubrec{PacketID: m[3].PacketID})
	for range 2 {
		expect[*mqtt.Pubrel](c)
	}
	c.put(&mqtt.Pubcomp{PacketID: m[1].PacketID})
	c.quiet() // nothing comes again on this connection
	c.abort()
	c = connect(t, v5, as(c.id), durable)
	var got []string
	for range 4 {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			got = append(got, fmt.Sprintf("%s/%d/%v", p.Payload, p.PacketID, p.Dup))
			c.acknowledge(p)
		case *mqtt.Pubrel:
			got = append(got, fmt.Sprintf("rel/%d", p.PacketID))
			c.put(&mqtt.Pubcomp{PacketID: p.PacketID})
		}
	}
	want := []string{fmt.Sprintf("0/%d/true", m[0].PacketID), fmt.Sprintf("rel/%d", m[3].PacketID),
		fmt.Sprintf("4/%d/true", m[4].PacketID), fmt.Sprintf("5/%d/true", m[5].PacketID)}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.quiet()
	c.disconnect()
	connect(t, v5, as(c.id), durable).quiet()
}

func TestUnacknowledgedComesAgainOnAnotherNode_v5_MQTT_4_4_0_1(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	topic := own("q")
	c, pub := connect(t, v5, on(nodes[0]), durable), connect(t, v5, on(nodes[1]))
	c.subscribe(topic, 2)
	pub.publish(topic, "1", 1)
	pub.publish(topic, "2", 2)
	one, two := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
	c.put(&mqtt.Pubrec{PacketID: two.PacketID})
	expect[*mqtt.Pubrel](c)
	c.abort()
	c = connect(t, v5, on(nodes[2]), as(c.id), durable)
	if m := expect[*mqtt.Publish](c); m.PacketID != one.PacketID || !m.Dup {
		t.Errorf("got id %d, DUP %v, want %d", m.PacketID, m.Dup, one.PacketID)
	}
	if r := expect[*mqtt.Pubrel](c); r.PacketID != two.PacketID {
		t.Errorf("PUBREL %d, want %d", r.PacketID, two.PacketID)
	}
	c.put(&mqtt.Puback{PacketID: one.PacketID}, &mqtt.Pubcomp{PacketID: two.PacketID})
	c.quiet()
}

func TestPubrecIsAnsweredWithPubrel_v5_MQTT_4_3_3_4_MQTT_3_6_2_1(t *testing.T) {
	t.Parallel()
	topic := own("q")
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		c := connect(t, v5, opts...)
		c.id += " " + name
		c.subscribe(topic, 2)
		connect(t, v5).publish(topic, "x", 2)
		m := expect[*mqtt.Publish](c)
		for _, form := range []string{"50 [%04X]", "50 [%04X 10]", "50 [%04X 00 [1F ('again')]]"} { // also repeated ones
			c.send(form, m.PacketID)
			if r := expect[*mqtt.Pubrel](c); r.PacketID != m.PacketID || r.Code != mqtt.Success {
				t.Errorf("PUBREL %+v, want %d", r, m.PacketID)
			}
		}
		c.put(&mqtt.Pubcomp{PacketID: m.PacketID})
		c.send("50 [7777]")
		if r := expect[*mqtt.Pubrel](c); r.PacketID != 0x7777 || r.Code != mqtt.PacketIdentifierNotFound {
			t.Errorf("PUBREL of an unknown id: %+v", r)
		}
		c.quiet()
	}
}

// TestFailuresEndTheDelivery: a negative PUBACK or PUBREC counts as an acknowledgement; PUBREC gets no PUBREL.
func TestFailuresEndTheDelivery_v5_MQTT_4_4_0_2_MQTT_4_3_3_4(t *testing.T) {
	t.Parallel()
	topic := own("q")
	c, pub := connect(t, v5, durable, func(s *setup) { s.ReceiveMaximum = 2 }), connect(t, v5)
	c.subscribe(topic, 2)
	pub.publish(topic, "1", 1)
	pub.publish(topic, "2", 2)
	pub.publish(topic, "3", 1)
	one, two := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
	c.quiet() // the quota is used up
	c.put(&mqtt.Puback{PacketID: one.PacketID, Code: mqtt.UnspecifiedError}, &mqtt.Pubrec{PacketID: two.PacketID, Code: mqtt.NotAuthorized})
	c.payloads("3") // and free again
	c.quiet()
	c.abort()
	connect(t, v5, as(c.id), durable).quiet()
}

func TestQoS1Receiver_v5_MQTT_4_3_2_4_MQTT_4_3_2_5(t *testing.T) {
	t.Parallel()
	topic := own("q")
	sub, pub := watch(t, topic, 1), connect(t, v5)
	for _, flags := range []string{"32", "32", "3A"} { // DUP or not, each is a new message
		pub.send("%s [('%s') 0009 [] 'x']", flags, topic)
		if a := expect[*mqtt.Puback](pub); a.PacketID != 9 {
			t.Errorf("PUBACK %d", a.PacketID)
		}
		sub.payloads("x")
	}
}

// TestQoS2Receiver: one message until PUBREL, whatever is repeated, also on the next connection and on another node.
func TestQoS2Receiver_v5_MQTT_4_3_3_8_MQTT_4_3_3_10_MQTT_4_3_3_11_MQTT_4_3_3_12(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("q")
		sub, pub := watch(t, topic, 2), connect(t, v5, opts...)
		pub.id += " " + name
		for _, flags := range []string{"34", "3C", "34"} {
			pub.send("%s [('%s') 0009 [] '1']", flags, topic)
			if a := expect[*mqtt.Pubrec](pub); a.PacketID != 9 || a.Code.Failed() {
				t.Errorf("%s: PUBREC %+v", name, a)
			}
		}
		pub.send("62 [0009]")
		if a := expect[*mqtt.Pubcomp](pub); a.PacketID != 9 || a.Code != mqtt.Success {
			t.Errorf("%s: PUBCOMP %+v", name, a)
		}
		sub.payloads("1")
		pub.publish(topic, "2", 2, func(p *mqtt.Publish) { p.PacketID = 9 })
		sub.payloads("2")
		sub.quiet()
	}
}

func TestQoS2ReceiverAcrossNodes_v5_MQTT_4_3_3_10(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	topic := own("q")
	sub, pub := connect(t, v5, on(nodes[2])), connect(t, v5, on(nodes[0]), durable)
	sub.subscribe(topic, 2)
	pub.send("34 [('%s') 0009 [] 'once']", topic)
	expect[*mqtt.Pubrec](pub)
	pub.abort()
	pub = connect(t, v5, on(nodes[1]), as(pub.id), durable)
	pub.send("3C [('%s') 0009 [] 'once']", topic)
	if a := expect[*mqtt.Pubrec](pub); a.PacketID != 9 || a.Code.Failed() {
		t.Errorf("PUBREC %+v", a)
	}
	pub.abort()
	pub = connect(t, v5, on(nodes[2]), as(pub.id), durable)
	pub.send("62 [0009]")
	if a := expect[*mqtt.Pubcomp](pub); a.PacketID != 9 || a.Code != mqtt.Success {
		t.Errorf("PUBCOMP %+v", a)
	}
	sub.payloads("once")
	pub.publish(topic, "marker", 2)
	sub.payloads("marker")
}

// TestCleanStartForgetsReceivedIdentifiers: a new session knows no identifier of the old one.
func TestCleanStartForgetsReceivedIdentifiers_v5_MQTT_3_1_2_4(t *testing.T) {
	t.Parallel()
	topic := own("q")
	pub := connect(t, v5, durable)
	pub.send("34 [('%s') 0009 [] 'old']", topic)
	expect[*mqtt.Pubrec](pub)
	pub.abort()
	sub := watch(t, topic, 2)
	pub = connect(t, v5, as(pub.id), durable, func(s *setup) { s.CleanStart = true })
	pub.send("62 [0009]")
	if a := expect[*mqtt.Pubcomp](pub); a.Code != mqtt.PacketIdentifierNotFound {
		t.Errorf("PUBCOMP %s", a.Code)
	}
	pub.publish(topic, "new", 2, func(p *mqtt.Publish) { p.PacketID = 9 })
	for {
		m := sub.message()
		if string(m.Payload) == "new" {
			break
		}
	}
	sub.quiet()
}

func TestRefusedPublish_v5_MQTT_4_3_3_9_MQTT_3_1_2_29(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{true, false} {
		c := connect(t, v5, on(guarded(t)), alice, func(s *setup) { s.RequestProblemInfo = wanted })
		c.send("30 [('deny/a') []] 32 [('deny/a') 0001 []] 34 [('deny/a') 0002 []] 34 [('deny/a') 0002 []]")
		if a := expect[*mqtt.Puback](c); a.Code != mqtt.NotAuthorized || (a.ReasonString != "") != wanted || len(a.UserProps) > 0 {
			t.Errorf("problem information %v: PUBACK %+v", wanted, a)
		}
		for range 2 {
			if a := expect[*mqtt.Pubrec](c); a.Code != mqtt.NotAuthorized || (a.ReasonString != "") != wanted || len(a.UserProps) > 0 {
				t.Errorf("problem information %v: PUBREC %+v", wanted, a)
			}
		}
		// The identifier stands for a new message.
		topic := own("q")
		c.subscribe(topic, 0)
		c.send("34 [('%s') 0002 [] 'x']", topic)
		for range 2 {
			c.next() // PUBREC and the message, in any order
		}
		c.send("62 [0002]")
		if a := expect[*mqtt.Pubcomp](c); a.Code != mqtt.Success {
			t.Errorf("PUBCOMP %s", a.Code)
		}
		// Nor with any other packet but DISCONNECT.
		c.send("82 [0010 [] ('a/#/b') 00] A2 [0011 [] ('not there')] 62 [0999] 50 [0998]")
		for range 4 {
			if p := c.next(); !wanted && len(c.frame) > 6 {
				t.Errorf("%s has more than its codes: % X", p.Type(), c.frame)
			}
		}
	}
}

// TestReservedTopics: what belongs to the broker is not published by clients.
func TestReservedTopics(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	c.send("32 [('$SYS/broker/version') 0001 [] 'x']")
	if a := expect[*mqtt.Puback](c); a.Code != mqtt.NotAuthorized {
		t.Errorf("PUBACK %s", a.Code)
	}
	c.quiet()
}

func TestUnknownAcknowledgements_v5_MQTT_4_9_0_3(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	c.send("40 [1234] 70 [1234] 40 [1234 80] 50 [1234 80] 70 [1234 92]")
	c.quiet()
}
