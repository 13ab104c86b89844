package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestMalformedSubscribe_v5_MQTT_3_8_3_2_MQTT_3_8_3_5(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.ProtocolError, "82 [0001 []]", "82 [0001 [] ('a') 03]", "82 [0001 [] ('a') 30]", "82 [0001 [0B 00] ('a') 00]", "82 [0001 [0B 01 0B 02] ('a') 00]")
	broken(t, mqtt.MalformedPacket, "82 [0001 [] ('a') 40]", "82 [0001 [] ('a') 80]", "82 [0001 [] ('a') 00 ('b') C0]", "82 [0001 [] ('a')]", "82 [0001 [] 0005 'a' 00]",
		"82 [0001]", "82 []", "82 [0001 [1F ('x')] ('a') 00]", "82 [0001 [23 0001] ('a') 00]", "82 [0001 05 ('a') 00]", "82 [0001 [0B FFFFFFFF01] ('a') 00]")
}

func TestMalformedUnsubscribe_v5_MQTT_3_10_3_2(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.ProtocolError, "A2 [0001 []]")
	broken(t, mqtt.MalformedPacket, "A2 [0001]", "A2 []", "A2 [0001 [0B 01] ('a')]", "A2 [0001 [] 0005 'a']", "A2 [0001 [] ('a') 00]", "A2 [0001 05 ('a')]")
}

func TestNoLocalOnAShare_v5_MQTT_3_8_3_4(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.ProtocolError, "82 [0001 [] ('$share/g/a') 04]", "82 [0001 [] ('a') 04 ('$share/g/a') 05]")
}

func TestSuback_v5_MQTT_3_8_4_1_MQTT_3_8_4_2_MQTT_2_2_1_6_MQTT_3_8_4_5_MQTT_3_8_4_6_MQTT_3_8_4_7_MQTT_3_9_3_1_MQTT_3_9_3_2(t *testing.T) {
	t.Parallel()
	base := own("s")
	c, pub := connect(t, v5), connect(t, v5)
	c.send("82 [ABCD [26 ('k') ('v')] ('%[1]s/2') 02 ('%[1]s/a#') 01 ('%[1]s/0') 00 ('%[1]s/#/b') 02 ('%[1]s/1') 01 ('%[1]s/+x') 00]", base)
	a := expect[*mqtt.Suback](c)
	want := []mqtt.ReasonCode{mqtt.GrantedQoS2, mqtt.TopicFilterInvalid, mqtt.GrantedQoS0, mqtt.TopicFilterInvalid, mqtt.GrantedQoS1, mqtt.TopicFilterInvalid}
	if a.PacketID != 0xABCD || !slices.Equal(a.Codes, want) {
		t.Errorf("SUBACK %04X %v, want ABCD %v", a.PacketID, a.Codes, want)
	}
	for _, name := range []string{"/1", "/2"} { // the good ones count
		pub.publish(base+name, name, 2)
		if m := c.message(); string(m.Payload) != name || m.QoS != name[1]-'0' {
			t.Errorf("%s came as %q with QoS %d", name, m.Payload, m.QoS)
		}
	}
	c.quiet()
}

// TestOneFilterTwiceInOneSubscribe: the later one counts, as if it had come in a packet of its own.
func TestOneFilterTwiceInOneSubscribe_v5_MQTT_3_8_4_5(t *testing.T) {
	t.Parallel()
	topic := own("s")
	c, pub := connect(t, v5), connect(t, v5)
	c.send("82 [0001 [] ('%[1]s') 02 ('%[1]s') 00]", topic)
	if a := expect[*mqtt.Suback](c); !slices.Equal(a.Codes, []mqtt.ReasonCode{2, 0}) {
		t.Errorf("SUBACK %v", a.Codes)
	}
	pub.publish(topic, "x", 2)
	if m := c.message(); m.QoS != 0 {
		t.Errorf("QoS %d", m.QoS)
	}
	c.quiet()
}

func TestReplacedSubscription_v5_MQTT_3_8_4_3(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("s")
		c, pub := connect(t, v5, opts...), connect(t, v5)
		c.id += " " + name
		c.subscribe(topic, 2, func(s *mqtt.Subscribe) { s.SubscriptionID, s.Filters[0].NoLocal = 5, true })
		pub.publish(topic, "x", 2)
		if m := c.message(); m.QoS != 2 || !slices.Equal(m.SubscriptionIDs, []uint32{5}) {
			t.Errorf("%s: QoS %d, ids %v", name, m.QoS, m.SubscriptionIDs)
		}
		c.subscribe(topic, 1, func(s *mqtt.Subscribe) { s.SubscriptionID = 6 })
		pub.publish(topic, "x", 2)
		if m := c.message(); m.QoS != 1 || !slices.Equal(m.SubscriptionIDs, []uint32{6}) {
			t.Errorf("%s: replaced: QoS %d, ids %v", name, m.QoS, m.SubscriptionIDs)
		}
		c.subscribe(topic, 0)
		pub.publish(topic, "x", 2)
		if m := c.message(); m.QoS != 0 || len(m.SubscriptionIDs) > 0 {
			t.Errorf("%s: replaced again: QoS %d, ids %v", name, m.QoS, m.SubscriptionIDs)
		}
		c.quiet()
	}
}

// TestNothingIsLostWhileReplacing: every message published around the replacements arrives.
func TestNothingIsLostWhileReplacing_v5_MQTT_3_8_4_4(t *testing.T) {
	t.Parallel()
	topic := own("s")
	c, pub := connect(t, v5, durable), connect(t, v5)
	c.subscribe(topic, 1)
	const n = 40
	for i := range n {
		pub.put(&mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), QoS: 1, PacketID: uint16(i + 1)})
		if i%4 == 0 {
			c.put(&mqtt.Subscribe{PacketID: uint16(i + 100), Filters: []mqtt.SubscribeFilter{{Filter: topic, QoS: byte(i/4%2) + 1}}})
		}
	}
	for next := 0; next < n; {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			if want := fmt.Sprint(next); string(p.Payload) != want {
				t.Fatalf("got %s, want %s", p.Payload, want)
			}
			next++
			c.acknowledge(p)
		case *mqtt.Suback:
		default:
			t.Fatalf("got %+v", p)
		}
	}
}

func TestNoLocal_v5_MQTT_3_8_3_3(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		base := own("s")
		c, other := connect(t, v5, opts...), connect(t, v5)
		c.id += " " + name
		c.subscribe(base+"/deaf", 2, func(s *mqtt.Subscribe) { s.Filters[0].NoLocal = true })
		for qos := byte(0); qos <= 2; qos++ {
			c.publish(base+"/deaf", "mine", qos)
			other.publish(base+"/deaf", "other", qos)
			c.payloads("other")
		}
		c.quiet()
		// By another filter it still hears itself.
		c.subscribe(base+"/+", 0)
		c.publish(base+"/deaf", "mine", 0)
		c.payloads("mine")
	}
}

func TestQoSIsTheLower_v5_MQTT_3_8_4_8(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		pub := connect(t, v5)
		for granted := byte(0); granted <= 2; granted++ {
			topic := own("s")
			c := connect(t, v5, opts...)
			c.subscribe(topic, granted)
			for qos := byte(0); qos <= 2; qos++ {
				pub.publish(topic, "x", qos)
				if m := c.message(); m.QoS != min(qos, granted) {
					t.Errorf("%s: published %d, granted %d: came with %d", name, qos, granted, m.QoS)
				}
			}
		}
	}
}

func TestSubscriptionIdentifiers_v5_MQTT_3_3_4_3(t *testing.T) {
	t.Parallel()
	base := own("s")
	pub := connect(t, v5)
	for _, id := range []uint32{1, 127, 128, 16383, 16384, 2097151, 2097152, mqtt.MaxRemaining} {
		c := connect(t, v5, durable)
		c.subscribe(fmt.Sprint(base, "/", id), 1, func(s *mqtt.Subscribe) { s.SubscriptionID = id })
		for qos := byte(0); qos <= 1; qos++ {
			pub.publish(fmt.Sprint(base, "/", id), "x", qos)
			if m := c.message(); !slices.Equal(m.SubscriptionIDs, []uint32{id}) {
				t.Errorf("ids %v, want %d", m.SubscriptionIDs, id)
			}
		}
		c.disconnect() // they are part of the session
		pub.publish(fmt.Sprint(base, "/", id), "x", 1)
		c = connect(t, v5, as(c.id), durable)
		if m := c.message(); !slices.Equal(m.SubscriptionIDs, []uint32{id}) {
			t.Errorf("after the return: ids %v, want %d", m.SubscriptionIDs, id)
		}
	}
}

// TestSameIdentifierOnSeveralFilters: a message that matches them may carry it once or for each.
func TestSameIdentifierOnSeveralFilters_v5_MQTT_3_3_4_4(t *testing.T) {
	t.Parallel()
	base := own("s")
	c := connect(t, v5)
	c.send("82 [0001 [0B 07] ('%[1]s/#') 01 ('%[1]s/+') 01]", base)
	expect[*mqtt.Suback](c)
	connect(t, v5).publish(base+"/a", "x", 1)
	m := c.message()
	if len(m.SubscriptionIDs) == 0 || slices.ContainsFunc(m.SubscriptionIDs, func(id uint32) bool { return id != 7 }) {
		t.Errorf("ids %v", m.SubscriptionIDs)
	}
	c.quiet()
}

func TestUnsuback_v5_MQTT_3_10_4_1_MQTT_3_10_4_4_MQTT_3_10_4_5_MQTT_3_10_4_6_MQTT_3_11_3_1_MQTT_3_11_3_2_MQTT_2_2_1_6(t *testing.T) {
	t.Parallel()
	base := own("u")
	c, pub := connect(t, v5), connect(t, v5)
	c.subscribe(base+"/+", 0)
	c.subscribe(base+"/a", 1)
	c.subscribe(base+"/b", 1)
	c.send("A2 [4711 [26 ('k') ('v')] ('%[1]s/a') ('%[1]s/A') ('%[1]s/#') ('%[1]s/b') ('%[1]s/a') ('%[1]s/a/')]", base)
	a := expect[*mqtt.Unsuback](c)
	none := mqtt.NoSubscriptionExisted
	if want := []mqtt.ReasonCode{0, none, none, 0, none, none}; a.PacketID != 0x4711 || !slices.Equal(a.Codes, want) {
		t.Errorf("UNSUBACK %04X %v, want 4711 %v", a.PacketID, a.Codes, want)
	}
	pub.publish(base+"/a", "x", 1) // only base/+ is left
	if m := c.message(); m.QoS != 0 {
		t.Errorf("QoS %d", m.QoS)
	}
	c.unsubscribe(base + "/+")
	pub.publish(base+"/a", "x", 1)
	c.quiet()
}

func TestUnsubscribeStops_v5_MQTT_3_10_4_2_MQTT_3_10_4_3(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("u")
		c, pub := connect(t, v5, opts...), connect(t, v5)
		c.id += " " + name
		c.subscribe(topic, 2)
		pub.publish(topic, "one", 1)
		pub.publish(topic, "two", 2)
		one, two := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
		c.unsubscribe(topic)
		pub.publish(topic, "none", 1)
		pub.publish(topic, "none", 2)
		// What had begun is finished.
		c.acknowledge(one)
		c.acknowledge(two)
		c.quiet()
	}
}

// TestUnsubscribeFinishesOnTheNextConnection: also across a resumed session.
func TestUnsubscribeFinishesOnTheNextConnection_v5_MQTT_3_10_4_3(t *testing.T) {
	t.Parallel()
	topic := own("u")
	c := connect(t, v5, durable)
	c.subscribe(topic, 2)
	connect(t, v5).publish(topic, "begun", 2)
	expect[*mqtt.Publish](c)
	c.unsubscribe(topic)
	c.abort()
	c = connect(t, v5, as(c.id), durable)
	if m := c.message(); string(m.Payload) != "begun" || !m.Dup {
		t.Errorf("got %q, DUP %v", m.Payload, m.Dup)
	}
	c.quiet()
}

func TestManyFilters(t *testing.T) {
	t.Parallel()
	base := own("s")
	c := connect(t, v5)
	s := &mqtt.Subscribe{PacketID: 1}
	for i := range 64 {
		s.Filters = append(s.Filters, mqtt.SubscribeFilter{Filter: fmt.Sprint(base, "/", i), QoS: byte(i % 3)})
	}
	c.put(s)
	a := expect[*mqtt.Suback](c)
	for i, code := range a.Codes {
		if int(code) != i%3 {
			t.Errorf("filter %d: %s", i, code)
		}
	}
	connect(t, v5).publish(base+"/63", "x", 0)
	c.payloads("x")
}

func TestSubscriptionLimit(t *testing.T) {
	t.Parallel()
	base := own("s")
	c := connect(t, v5, on(limited(t)))
	for i := range 5 {
		c.subscribe(fmt.Sprint(base, "/", i), 0)
	}
	c.put(&mqtt.Subscribe{PacketID: 99, Filters: []mqtt.SubscribeFilter{{Filter: base + "/6"}, {Filter: base + "/1"}}})
	if a := expect[*mqtt.Suback](c); !slices.Equal(a.Codes, []mqtt.ReasonCode{mqtt.QuotaExceeded, mqtt.Success}) {
		t.Errorf("SUBACK %v", a.Codes)
	}
}

func TestDeniedSubscription_v5_MQTT_3_8_4_7(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(guarded(t)), alice)
	c.put(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "deny/a"}, {Filter: own("a"), QoS: 1}}})
	if a := expect[*mqtt.Suback](c); !slices.Equal(a.Codes, []mqtt.ReasonCode{mqtt.NotAuthorized, mqtt.GrantedQoS1}) {
		t.Errorf("SUBACK %v", a.Codes)
	}
}

func TestTopicFilters_v5_MQTT_4_7_1_1_MQTT_4_7_1_2(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	for _, bad := range []string{"a#", "#/a", "a/#/b", "##", "a/b#", "/#/", "a+", "+a", "a/+b", "a/b+/c", "++"} {
		c.put(&mqtt.Subscribe{PacketID: c.nextID(), Filters: []mqtt.SubscribeFilter{{Filter: bad}}})
		if a := expect[*mqtt.Suback](c); a.Codes[0] != mqtt.TopicFilterInvalid {
			t.Errorf("%s: %s", bad, a.Codes[0])
		}
	}
	base := own("f")
	topics := []string{"", "/", "/a", "//", "/a/", "/a/b", "/a/b/c"}
	pub := connect(t, v5)
	for filter, want := range map[string][]string{
		"/#":     topics, // with the parent level
		"/+":     {"/", "/a"},
		"/+/+":   {"//", "/a/", "/a/b"},
		"/+/b/#": {"/a/b", "/a/b/c"},
		"/a/+":   {"/a/", "/a/b"},
		"/a/#":   {"/a", "/a/", "/a/b", "/a/b/c"},
		"/+/b/+": {"/a/b/c"},
		"//#":    {"/", "//"},
		"":       {""},
		"/":      {"/"},
		"/A":     nil,
		"/a ":    nil,
	} {
		sub, marker := connect(t, v5), own("marker")
		sub.id = "filter " + filter
		sub.subscribe(base+filter, 0)
		sub.subscribe(marker, 0)
		for _, topic := range topics {
			pub.publish(base+topic, topic, 0)
		}
		pub.publish(marker, "marker", 0)
		sub.payloads(append(slices.Clone(want), "marker")...)
	}
}
