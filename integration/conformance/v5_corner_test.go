package conformance

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestAliasesAreNotUsedOnTheNextConnection: what is sent again names its topic, or sets an alias first.
func TestAliasesAreNotUsedOnTheNextConnection_v5_MQTT_3_3_2_7(t *testing.T) {
	t.Parallel()
	topic := own("a")
	aliases := func(s *setup) { s.TopicAliasMaximum = 5 }
	c, pub := connect(t, v5, durable, aliases), connect(t, v5)
	c.subscribe(topic, 1)
	for range 3 {
		pub.publish(topic, "x", 1)
		expect[*mqtt.Publish](c)
	}
	c.abort()
	c = connect(t, v5, as(c.id), durable, aliases)
	known := map[uint16]string{}
	for range 3 {
		m := c.message()
		if len(m.Topic) > 0 && m.TopicAlias > 0 {
			known[m.TopicAlias] = string(m.Topic)
		}
		if len(m.Topic) == 0 {
			m.Topic = []byte(known[m.TopicAlias])
		}
		if string(m.Topic) != topic {
			t.Fatalf("alias %d is not known on this connection", m.TopicAlias)
		}
	}
	c.abort()
	c = connect(t, v5, as(c.id), durable) // and now without aliases
	pub.publish(topic, "y", 1)
	if m := c.message(); string(m.Topic) != topic || m.TopicAlias != 0 {
		t.Errorf("topic %q, alias %d", m.Topic, m.TopicAlias)
	}
}

// TestAliasesWithSmallPackets: an alias makes no packet too large, and none too small packet is lost.
func TestAliasesWithSmallPackets_v5_MQTT_3_1_2_24(t *testing.T) {
	t.Parallel()
	topic := own("a")
	c, pub := connect(t, v5, maximumPacketSize(40), func(s *setup) { s.TopicAliasMaximum = 5 }), connect(t, v5)
	c.subscribe(topic, 1)
	for size := range 40 {
		pub.publish(topic, fmt.Sprintf("%0*d", size, 0)[:size], 0)
	}
	pub.publish(topic, "e", 0)
	largest := 0
	for {
		m := c.message()
		if len(c.frame) > 40 {
			t.Errorf("a packet of %d bytes", len(c.frame))
		}
		if string(m.Payload) == "e" {
			break
		}
		largest = max(largest, len(m.Payload))
	}
	if fits := 40 - 2 - 2 - len(topic) - 1; largest < fits {
		t.Errorf("the largest payload had %d bytes, %d fit", largest, fits)
	}
}

func TestRetainedWithQoS2_v5_MQTT_3_3_1_9(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		base := own("r")
		pub := connect(t, v5)
		for i := range 10 {
			pub.publish(fmt.Sprint(base, "/", i), fmt.Sprint(i), 2, retain)
		}
		c := connect(t, v5, append(slices.Clone(opts), receiveMaximum(3))...)
		c.id += " " + name
		c.subscribe(base+"/+", 2)
		got := map[string]int{}
		for range 10 {
			m := c.message()
			if m.QoS != 2 || !m.Retain {
				t.Errorf("%s: %+v", name, m)
			}
			got[string(m.Payload)]++
		}
		if len(got) != 10 {
			t.Errorf("%s: %v", name, got)
		}
		c.quiet()
	}
}

// TestWrongAcknowledgements: the packet of another QoS ends no delivery.
func TestWrongAcknowledgements_v5_MQTT_4_3_2_3_MQTT_4_3_3_3(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]string{"PUBACK for QoS 2": "40 [%04[2]X]", "PUBREC for QoS 1": "50 [%04[1]X]", "PUBCOMP for QoS 2": "70 [%04[2]X]", "PUBCOMP for QoS 1": "70 [%04[1]X]"} {
		topic := own("q")
		c, pub := connect(t, v5, durable), connect(t, v5)
		c.id += " " + name
		c.subscribe(topic, 2)
		pub.publish(topic, "1", 1)
		pub.publish(topic, "2", 2)
		one, two := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
		c.send(wrong, one.PacketID, two.PacketID)
		c.put(&mqtt.Disconnect{})
		c.expectEnd()
		c = connect(t, v5, as(c.id[:len(c.id)-len(name)-1]), durable)
		c.id += " " + name
		c.payloads("1", "2")
		c.quiet()
	}
}

// TestManyConnectionsWithOneClientID: one is left, on whatever node, and it works.
func TestManyConnectionsWithOneClientID_v5_MQTT_3_1_4_3(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	id, topic := own("c"), own("a")
	first := connect(t, v5, as(id), durable, on(nodes[0]))
	first.subscribe(topic, 1)
	clients := make([]*client, 12)
	for i := range clients {
		clients[i] = dial(t, v5, on(nodes[i%3]))
		clients[i].id = fmt.Sprint(id, " ", i)
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			b, err := mqtt.Append(nil, v5, &mqtt.Connect{ClientID: id, HasSessionExpiry: true, SessionExpiry: 100, RequestProblemInfo: true})
			if err == nil {
				_, _ = c.nc.Write(b)
			}
		})
	}
	wg.Wait()
	eventually(t, func() string {
		clients = slices.DeleteFunc(clients, func(c *client) bool { return !c.alive() })
		if len(clients) != 1 {
			return fmt.Sprint(len(clients), " connections are left")
		}
		return ""
	})
	first.expectDisconnect(mqtt.SessionTakenOver)
	connect(t, v5, on(nodes[1])).publish(topic, "who is it", 1)
	clients[0].payloads("who is it")
}

// alive reports whether a connection answers.
func (c *client) alive() bool {
	c.t.Helper()
	_, _ = c.nc.Write([]byte{0xC0, 0})
	for {
		p, err := c.receive()
		if err != nil {
			c.wasEnd(err)
			return false
		}
		if _, ok := p.(*mqtt.Pingresp); ok {
			return true
		}
	}
}

// TestPacketIdentifiersOfBothSides: each side has its own; equal ones do not meet.
func TestPacketIdentifiersOfBothSides_v5_MQTT_2_2_1_5(t *testing.T) {
	t.Parallel()
	in, out := own("i"), own("o")
	c, other := connect(t, v5, durable), connect(t, v5)
	other.subscribe(out, 2)
	c.subscribe(in, 2)
	other.publish(in, "x", 2)
	m := expect[*mqtt.Publish](c)
	c.put(&mqtt.Publish{Topic: []byte(out), Payload: []byte("y"), QoS: 2, PacketID: m.PacketID})
	if a := expect[*mqtt.Pubrec](c); a.PacketID != m.PacketID {
		t.Errorf("PUBREC %d", a.PacketID)
	}
	c.put(&mqtt.Subscribe{PacketID: m.PacketID, Filters: []mqtt.SubscribeFilter{{Filter: own("other")}}})
	expect[*mqtt.Suback](c)
	c.put(&mqtt.Pubrec{PacketID: m.PacketID})
	expect[*mqtt.Pubrel](c)
	c.put(&mqtt.Pubrel{PacketID: m.PacketID})
	expect[*mqtt.Pubcomp](c)
	c.put(&mqtt.Pubcomp{PacketID: m.PacketID})
	other.payloads("y")
	c.quiet()
}

// TestSubscriptionsOfOneSessionOnly: one client's UNSUBSCRIBE, Clean Start or end concerns nobody else.
func TestSubscriptionsOfOneSessionOnly(t *testing.T) {
	t.Parallel()
	topic := own("a")
	stays, goes, cleans, pub := watch(t, topic, 1), watch(t, topic, 1), watch(t, topic, 1), connect(t, v5)
	goes.unsubscribe(topic)
	connect(t, v5, as(cleans.id))
	cleans.expectDisconnect(mqtt.SessionTakenOver)
	pub.publish(topic, "x", 1)
	stays.payloads("x")
	goes.quiet()
}

// TestInboxOfManyMessages: a session that was away gets all of them, in order, at the pace of its Receive Maximum.
func TestInboxOfManyMessages_v5_MQTT_4_5_0_1_MQTT_3_3_4_9(t *testing.T) {
	t.Parallel()
	topic := own("i")
	c, pub := connect(t, v5, durable), connect(t, v5)
	c.subscribe(topic, 2)
	c.disconnect()
	const n, batch = 600, 60
	for from := 0; from < n; from += batch {
		for i := range batch {
			pub.put(&mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, from+i), QoS: 1, PacketID: uint16(i + 1)})
		}
		for range batch {
			expect[*mqtt.Puback](pub)
		}
	}
	c = connect(t, v5, as(c.id), durable, receiveMaximum(9))
	open := []*mqtt.Publish{}
	for next := 0; next < n; {
		m := expect[*mqtt.Publish](c)
		if want := fmt.Sprint(next); string(m.Payload) != want {
			t.Fatalf("got %s, want %s", m.Payload, want)
		}
		next++
		if open = append(open, m); len(open) == 9 {
			c.quiet() // not one more
			for _, m := range open {
				c.put(&mqtt.Puback{PacketID: m.PacketID})
			}
			open = open[:0]
		}
	}
}

// TestFullInbox: the publisher is told, with the code for it, and nothing that was acknowledged is lost.
func TestFullInbox(t *testing.T) {
	t.Parallel()
	n := newBroker(t, func(c *cluster.Config) { c.Settings.InboxMaxMessages = 5 })
	topic := own("i")
	c, pub := connect(t, v5, durable, on(n)), connect(t, v5, on(n))
	c.subscribe(topic, 1)
	c.abort()
	var want []string
	for i := range 9 {
		p := &mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), QoS: 1, PacketID: uint16(i + 1)}
		pub.put(p)
		switch a := expect[*mqtt.Puback](pub); a.Code {
		case mqtt.Success:
			want = append(want, string(p.Payload))
		case mqtt.QuotaExceeded:
		default:
			t.Errorf("PUBACK %s", a.Code)
		}
	}
	if len(want) != 5 {
		t.Errorf("%d messages were acknowledged, want 5", len(want))
	}
	c = connect(t, v5, as(c.id), durable, on(n))
	c.payloads(want...)
	eventually(t, func() string { // the acknowledgements make room when they are committed
		pub.put(&mqtt.Publish{Topic: []byte(topic), Payload: []byte("again"), QoS: 1, PacketID: 1})
		if a := expect[*mqtt.Puback](pub); a.Code.Failed() {
			return "the inbox is still full: " + a.Code.String()
		}
		return ""
	})
	c.payloads("again")
}

// TestSysTopics: a subscriber gets the values at once, and a wildcard at the first level does not.
func TestSysTopics_v5_MQTT_4_7_2_1(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	c.subscribe("$SYS/broker/#", 0)
	if m := c.message(); len(m.Payload) == 0 || !m.Retain {
		t.Errorf("%s: %q, RETAIN %v", m.Topic, m.Payload, m.Retain)
	}
}
