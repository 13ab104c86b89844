package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func receiveMaximum(n uint16) func(*setup) { return func(s *setup) { s.ReceiveMaximum = n } }

// TestReceiveMaximumOfTheClient: no more than that many under way; everything else goes on; each acknowledgement makes room.
func TestReceiveMaximumOfTheClient_v5_MQTT_3_3_4_9_MQTT_3_3_4_10_MQTT_4_9_0_1_MQTT_4_9_0_2_MQTT_4_9_0_3(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("f")
		c, pub := connect(t, v5, append(opts, receiveMaximum(3))...), connect(t, v5)
		c.id += " " + name
		c.subscribe(topic, 2)
		for i := range 8 {
			pub.publish(topic, fmt.Sprint(i), byte(i%2)+1)
		}
		var m []*mqtt.Publish
		for range 3 {
			m = append(m, expect[*mqtt.Publish](c))
		}
		c.quiet()
		c.publish(own("other"), "x", 2)
		c.subscribe(topic+"/x", 1)
		c.unsubscribe(topic + "/x")
		c.put(&mqtt.Pubrec{PacketID: m[1].PacketID})
		expect[*mqtt.Pubrel](c)
		c.quiet() // PUBREC alone makes no room
		c.put(&mqtt.Pubcomp{PacketID: m[1].PacketID})
		m[1] = expect[*mqtt.Publish](c)
		c.quiet()
		for _, p := range m {
			c.acknowledge(p)
		}
		c.payloads("4", "5", "6", "7")
		c.quiet()
	}
}

// TestQoS0GoesPastReceiveMaximum: it is not counted.
func TestQoS0GoesPastReceiveMaximum_v5_MQTT_3_3_4_9(t *testing.T) {
	t.Parallel()
	topic := own("f")
	c, pub := connect(t, v5, receiveMaximum(1)), connect(t, v5)
	c.subscribe(topic, 1)
	pub.publish(topic, "1", 1)
	expect[*mqtt.Publish](c)
	pub.publish(topic, "2", 1)
	pub.publish(topic, "zero", 0)
	c.payloads("zero")
	c.quiet()
}

func TestReceiveMaximumOfTheServer_v5_MQTT_3_3_4_7(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(limited(t)))
	if c.ack.ReceiveMaximum != 4 {
		t.Fatalf("receive maximum %d, want 4", c.ack.ReceiveMaximum)
	}
	topic := own("a")
	connect(t, v5, on(limited(t)), durable).subscribe(topic, 1)
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, "32 [('%s') %04X [] 'x']", topic, i+1)
	}
	c.send("%s", many.String())
	acks := 0
	for _, p := range c.expectEnd() {
		switch p := p.(type) {
		case *mqtt.Puback:
			acks++
		case *mqtt.Disconnect:
			if p.Code != mqtt.ReceiveMaximumExceeded {
				t.Errorf("DISCONNECT %s", p.Code)
			}
			return
		}
	}
	t.Errorf("no DISCONNECT after %d acknowledgements", acks)
}

// TestReceiveMaximumOfTheServerWithQoS2: an identifier counts until PUBCOMP.
func TestReceiveMaximumOfTheServerWithQoS2_v5_MQTT_3_3_4_7(t *testing.T) {
	t.Parallel()
	topic := own("a")
	c := connect(t, v5)
	for i := range c.ack.ReceiveMaximum {
		c.send("34 [('%s') %04X []]", topic, i+1)
		expect[*mqtt.Pubrec](c)
	}
	c.send("34 [('%s') %04X []]", topic, 1) // a repetition is no new one
	expect[*mqtt.Pubrec](c)
	c.send("62 [0001]")
	expect[*mqtt.Pubcomp](c)
	c.send("34 [('%s') 0001 []]", topic)
	expect[*mqtt.Pubrec](c)
	c.send("34 [('%s') FFFF []]", topic)
	c.expectDisconnect(mqtt.ReceiveMaximumExceeded)
}

func maximumPacketSize(n uint32) func(*setup) { return func(s *setup) { s.MaximumPacketSize = n } }

// TestMaximumPacketSizeOfTheClient: too large counts as sent, for every QoS, live, queued and retained.
func TestMaximumPacketSizeOfTheClient_v5_MQTT_3_1_2_24_MQTT_3_1_2_25(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("m")
		opts = append(slices.Clone(opts), maximumPacketSize(100), receiveMaximum(2))
		c, pub := connect(t, v5, opts...), connect(t, v5)
		c.id += " " + name
		c.subscribe(topic, 2)
		fits := strings.Repeat("x", 100-2-2-len(topic)-2-1) // with a packet identifier
		for qos := byte(0); qos <= 2; qos++ {
			for range 4 {
				pub.publish(topic, fits+"yyy", qos)
			}
			pub.publish(topic, fits, qos)
			m := c.message()
			if string(m.Payload) != fits {
				t.Errorf("%s, QoS %d: %d bytes came", name, qos, len(m.Payload))
			}
		}
		pub.publish(topic, strings.Repeat("x", 200), 1, retain)
		c.subscribe(topic, 1)
		c.quiet()
	}
}

// TestNoAnswerExceedsMaximumPacketSize: reason strings and user properties give way, for every kind of answer.
func TestNoAnswerExceedsMaximumPacketSize_v5_MQTT_3_4_2_2_MQTT_3_4_2_3_MQTT_3_5_2_2_MQTT_3_5_2_3_MQTT_3_6_2_2_MQTT_3_6_2_3_MQTT_3_7_2_2_MQTT_3_7_2_3_MQTT_3_9_2_1_MQTT_3_9_2_2_MQTT_3_11_2_1_MQTT_3_11_2_2(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{30, 40, 60} { // CONNACK needs about 25
		c := connect(t, v5, on(guarded(t)), alice, maximumPacketSize(size))
		c.send("32 [('deny/a') 0001 []] 34 [('deny/a') 0002 []] 50 [0003] 62 [0004] 82 [0005 [26 ('k') ('v')] ('a/#/b') 00] A2 [0006 [26 ('k') ('v')] ('x')]")
		for range 6 {
			if p := c.next(); len(c.frame) > int(size) {
				t.Errorf("%s has %d bytes, more than %d", p.Type(), len(c.frame), size)
			}
		}
	}
}

func TestNoDisconnectExceedsMaximumPacketSize_v5_MQTT_3_14_2_3_MQTT_3_14_2_4(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{30, 40, 1000} {
		c := connect(t, v5, maximumPacketSize(size))
		c.send("36 [('a') 0001 []]")
		c.expectDisconnect(mqtt.MalformedPacket)
		if len(c.frame) > int(size) {
			t.Errorf("DISCONNECT has %d bytes, more than %d", len(c.frame), size)
		}
	}
}

func TestNoConnackExceedsMaximumPacketSize_v5_MQTT_3_2_2_19_MQTT_3_2_2_20(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{6, 10, 20, 100} {
		c := dial(t, v5)
		c.send("10 [('MQTT') 05 02 0000 [27 %08X] ('a/+')]", size)
		for _, p := range c.expectEnd() {
			if a, ok := p.(*mqtt.Connack); !ok || a.Code != mqtt.ClientIdentifierNotValid || len(c.frame) > int(size) {
				t.Errorf("maximum %d: %d bytes: %+v", size, len(c.frame), p)
			}
		}
	}
}

// TestAcceptingConnackExceedsMaximumPacketSize: nothing that is too large is sent, whatever becomes of the connection.
func TestAcceptingConnackExceedsMaximumPacketSize_v5_MQTT_3_1_2_24(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{1, 4, 5, 10, 15, 20, 25} {
		c := dial(t, v5)
		c.send("10 [('MQTT') 05 02 0000 [27 %08X] ('%s')] E0 []", size, own("c"))
		for _, p := range c.expectEnd() {
			if len(c.frame) > int(size) {
				t.Errorf("maximum %d: %s of %d bytes", size, p.Type(), len(c.frame))
			}
		}
	}
}

func TestMaximumPacketSizeOfTheServer_v5_MQTT_3_2_2_15(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(limited(t)))
	if c.ack.MaximumPacketSize != 2048 {
		t.Fatalf("maximum packet size %d", c.ack.MaximumPacketSize)
	}
	topic := own("a")
	c.publish(topic, strings.Repeat("x", 2048-1-2-2-len(topic)-2-1), 1) // exactly
	c.publish(topic, strings.Repeat("x", 2048-1-2-2-len(topic)-2-1+1), 1, func(p *mqtt.Publish) { p.QoS, p.PacketID = 0, 0; p.Payload = append(p.Payload, 'x', 'x') })
	c.expectDisconnect(mqtt.PacketTooLarge)
	// It is the declared length that counts: nobody waits for the rest.
	c = connect(t, v5, on(limited(t)))
	c.send("32 FFFFFF7F")
	c.expectDisconnect(mqtt.PacketTooLarge)
}

func TestTopicAliasesOfTheClient_v5_MQTT_3_3_2_8_MQTT_3_3_2_12(t *testing.T) {
	t.Parallel()
	base := own("t")
	sub, pub := watch(t, base+"/#", 1), connect(t, v5)
	last := pub.ack.TopicAliasMaximum
	if last == 0 {
		t.Fatal("no topic aliases")
	}
	for alias := uint16(1); alias <= last; alias++ {
		pub.send("30 [('%s/%d') [23 %04X] 'set']", base, alias, alias)
	}
	for alias := uint16(1); alias <= last; alias++ {
		if m := sub.message(); string(m.Topic) != fmt.Sprint(base, "/", alias) || m.TopicAlias != 0 {
			t.Errorf("alias %d: %+v", alias, m)
		}
	}
	for alias := last; alias > 0; alias -= min(alias, 7) {
		pub.send("32 [() %04X [23 %04X] 'used']", alias, alias)
		expect[*mqtt.Puback](pub)
		if m := sub.message(); string(m.Topic) != fmt.Sprint(base, "/", alias) {
			t.Errorf("alias %d came as %s", alias, m.Topic)
		}
	}
	pub.send("30 [('%s/new') [23 0001] 'x'] 30 [() [23 0001] 'x']", base)
	for range 2 {
		if m := sub.message(); string(m.Topic) != base+"/new" {
			t.Errorf("a changed alias came as %s", m.Topic)
		}
	}
	broken(t, mqtt.TopicAliasInvalid, "30 [('a') [23 0000]]", "30 [() [23 0000]]")
}

func TestTopicAliasAboveTheMaximum_v5_MQTT_3_2_2_17_MQTT_3_3_2_9(t *testing.T) {
	t.Parallel()
	for _, alias := range []uint16{3, 0xFFFF} {
		c := connect(t, v5, on(limited(t)))
		if c.ack.TopicAliasMaximum != 2 {
			t.Fatalf("topic alias maximum %d", c.ack.TopicAliasMaximum)
		}
		c.send("30 [('a') [23 %04X]]", alias)
		c.expectDisconnect(mqtt.TopicAliasInvalid)
	}
}

func TestTopicAliasesEndWithTheConnection_v5_MQTT_3_3_2_7(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, durable)
	c.send("30 [('a') [23 0001]]")
	c.quiet()
	c.abort()
	c = connect(t, v5, as(c.id), durable)
	c.send("30 [() [23 0001]]")
	if d := expect[*mqtt.Disconnect](c); d.Code != mqtt.ProtocolError && d.Code != mqtt.TopicAliasInvalid {
		t.Errorf("DISCONNECT %s", d.Code)
	}
	c.expectClosed()
}

// TestTopicAliasesOfTheServer: within the client's maximum, each known before it is used, and used at all.
func TestTopicAliasesOfTheServer_v5_MQTT_3_1_2_26_MQTT_3_3_2_11(t *testing.T) {
	t.Parallel()
	base := own("t")
	c, pub := connect(t, v5, func(s *setup) { s.TopicAliasMaximum = 3 }), connect(t, v5)
	c.subscribe(base+"/#", 1)
	known := map[uint16]string{}
	used := 0
	for i := range 40 {
		topic := fmt.Sprint(base, "/", i%5)
		pub.publish(topic, "x", byte(i%2))
		m := c.message()
		switch {
		case m.TopicAlias > 3:
			t.Fatalf("alias %d", m.TopicAlias)
		case m.TopicAlias > 0 && len(m.Topic) > 0:
			known[m.TopicAlias] = string(m.Topic)
		case m.TopicAlias > 0:
			used++
			m.Topic = []byte(known[m.TopicAlias])
		}
		if string(m.Topic) != topic {
			t.Fatalf("%s came as %q", topic, m.Topic)
		}
	}
	if used == 0 {
		t.Error("no alias was used")
	}
}

func TestNoTopicAliasForClientsWithout_v5_MQTT_3_1_2_27(t *testing.T) {
	t.Parallel()
	topic := own("t")
	c, pub := watch(t, topic, 1), connect(t, v5)
	for range 5 {
		pub.publish(topic, "x", 1)
		if m := c.message(); m.TopicAlias != 0 {
			t.Errorf("alias %d", m.TopicAlias)
		}
	}
}

func TestMaximumQoS_v5_MQTT_3_2_2_9_MQTT_3_2_2_10_MQTT_3_2_2_11(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(limited(t)))
	if !c.ack.HasMaximumQoS || c.ack.MaximumQoS != 1 {
		t.Errorf("maximum QoS %v %d", c.ack.HasMaximumQoS, c.ack.MaximumQoS)
	}
	base := own("m")
	c.put(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: base + "/0"}, {Filter: base + "/1", QoS: 1}, {Filter: base + "/2", QoS: 2}}})
	if a := expect[*mqtt.Suback](c); !slices.Equal(a.Codes, []mqtt.ReasonCode{0, 1, 1}) {
		t.Errorf("SUBACK %v", a.Codes)
	}
	connect(t, v5, on(limited(t))).publish(base+"/2", "x", 1)
	c.payloads("x")
	c.send("34 [('a') 0001 []]")
	c.expectDisconnect(mqtt.QoSNotSupported)
	if c := connect(t, v5); c.ack.HasMaximumQoS {
		t.Error("maximum QoS is sent by a server that has all")
	}
}

func expiry(s uint32) func(*mqtt.Publish) {
	return func(p *mqtt.Publish) { p.HasExpiry, p.Expiry = true, s }
}

func TestMessageExpiry_v5_MQTT_3_3_2_5_MQTT_3_3_2_6(t *testing.T) {
	t.Parallel()
	topic := own("e")
	c, live, pub := connect(t, v5, durable), watch(t, topic, 1), connect(t, v5)
	c.subscribe(topic, 1)
	c.disconnect() // what is on its way to a lost connection counts as sent
	begin := time.Now()
	pub.publish(topic, "short", 1, expiry(4)) // long enough for who is there
	pub.publish(topic, "long", 1, expiry(100))
	pub.publish(topic, "endless", 1)
	pub.publish(topic, "longest", 1, expiry(0xFFFFFFFF))
	live.payloads("short", "long", "endless", "longest")
	wait(t, time.Now().Add(5100*time.Millisecond))
	c = connect(t, v5, as(c.id), durable)
	m := c.message()
	waited := uint32(time.Since(begin).Seconds())
	if string(m.Payload) != "long" || !m.HasExpiry || m.Expiry > 95 || m.Expiry < 99-waited {
		t.Errorf("got %s, expiry %v %d", m.Payload, m.HasExpiry, m.Expiry)
	}
	if m := c.message(); string(m.Payload) != "endless" || m.HasExpiry {
		t.Errorf("got %s, expiry %v %d", m.Payload, m.HasExpiry, m.Expiry)
	}
	if m := c.message(); string(m.Payload) != "longest" || !m.HasExpiry || m.Expiry < 0xFFFFFFFF-10-waited {
		t.Errorf("got %s, expiry %v %d", m.Payload, m.HasExpiry, m.Expiry)
	}
	c.quiet()
}

// TestMessageExpiryBehindReceiveMaximum: what waits in front of a slow client expires, too, also without an inbox.
func TestMessageExpiryBehindReceiveMaximum_v5_MQTT_3_3_2_5_MQTT_3_3_2_6(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("e")
		c, pub := connect(t, v5, append(slices.Clone(opts), receiveMaximum(1))...), connect(t, v5)
		c.id += " " + name
		c.subscribe(topic, 2)
		begin := time.Now()
		pub.publish(topic, "first", 1)
		pub.publish(topic, "short", 1, expiry(1))
		pub.publish(topic, "long", 2, expiry(50))
		first := expect[*mqtt.Publish](c)
		wait(t, time.Now().Add(2100*time.Millisecond))
		c.acknowledge(first)
		m := c.message()
		if waited := uint32(time.Since(begin).Seconds()); string(m.Payload) != "long" || m.Expiry > 48 || m.Expiry < 49-waited {
			t.Errorf("%s: got %s, expiry %d", name, m.Payload, m.Expiry)
		}
		c.quiet()
	}
}

// TestSentMessagesDoNotExpire: a delivery that has begun is finished, on the next connection, too.
func TestSentMessagesDoNotExpire_v5_MQTT_4_3_3_7_MQTT_4_3_3_13(t *testing.T) {
	t.Parallel()
	topic := own("e")
	c, pub := connect(t, v5, durable), connect(t, v5)
	c.subscribe(topic, 2)
	pub.send("34 [('%s') 0009 [02 00000004] 'x']", topic) // expires at the sender before its PUBREL
	expect[*mqtt.Pubrec](pub)
	pub2 := connect(t, v5)
	pub2.publish(topic, "sent", 2, expiry(4))
	m := expect[*mqtt.Publish](c)
	for string(m.Payload) != "sent" {
		c.acknowledge(m)
		m = expect[*mqtt.Publish](c)
	}
	wait(t, time.Now().Add(5100*time.Millisecond))
	pub.send("62 [0009]")
	if a := expect[*mqtt.Pubcomp](pub); a.Code != mqtt.Success {
		t.Errorf("PUBCOMP %s", a.Code)
	}
	c.abort()
	c = connect(t, v5, as(c.id), durable)
	again := expect[*mqtt.Publish](c)
	if again.PacketID != m.PacketID || !again.Dup {
		t.Errorf("got %q, id %d, DUP %v, want id %d", again.Payload, again.PacketID, again.Dup, m.PacketID)
	}
	c.acknowledge(again)
	c.quiet()
}
