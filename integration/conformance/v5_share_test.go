package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// share returns the filter of a share of its own, and its inner filter.
func share(suffix string) (filter, topic string) {
	name := own("")
	topic = name + suffix
	return "$share/g" + name[1:len(name)-1] + "/" + topic, topic
}

func TestShareFilters_v5_MQTT_4_8_2_1_MQTT_4_8_2_2(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	for _, bad := range []string{"$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g#/a", "$share/#", "$share/g+h/a", "$share/g/a#", "$share/g/+a"} {
		c.put(&mqtt.Subscribe{PacketID: c.nextID(), Filters: []mqtt.SubscribeFilter{{Filter: bad}}})
		switch a := c.next().(type) {
		case *mqtt.Suback:
			if a.Codes[0] != mqtt.TopicFilterInvalid {
				t.Errorf("%s: %s", bad, a.Codes[0])
			}
		default:
			t.Fatalf("%s: got %+v", bad, a)
		}
	}
	for _, good := range []string{"$share/g/" + own("a"), "$share/a name/" + own("+/#"), "$share/g//", "$SHARE/g/x", "$shared/x"} {
		c.subscribe(good, 1)
	}
}

// TestShareSpreads: each message to one member, none twice, none lost.
func TestShareSpreads(t *testing.T) {
	t.Parallel()
	for qos := byte(0); qos <= 2; qos++ {
		filter, topic := share("a")
		one, two, outside, pub := connect(t, v5), connect(t, v5), connect(t, v5), connect(t, v5)
		one.subscribe(filter, qos)
		two.subscribe(filter, qos)
		outside.subscribe(topic, qos)
		const n = 20
		for i := range n {
			pub.publish(topic, fmt.Sprint(i), qos)
			outside.payloads(fmt.Sprint(i))
		}
		got := map[string]int{}
		counts := [2]int{}
		for i, all := range gather(t, n, one, two) {
			for _, m := range all {
				got[string(m.Payload)]++
				counts[i]++
			}
		}
		if len(got) != n || counts[0]+counts[1] != n || counts[0] == 0 || counts[1] == 0 {
			t.Errorf("QoS %d: %d different messages, %v per member, want %d", qos, len(got), counts, n)
		}
	}
}

// drain takes messages until none has come for a while: what a share assigns comes by a way of its own, so nothing else
// shows its end.
func (c *client) drain(t *testing.T) []*mqtt.Publish {
	t.Helper()
	var all []*mqtt.Publish
	for {
		_ = c.nc.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
		if len(c.kept) == 0 {
			if _, err := c.in.Peek(1); err != nil {
				return all
			}
		}
		all = append(all, c.message())
	}
}

func TestShareRespectsGrantedQoS_v5_MQTT_4_8_2_3(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	members := []*client{connect(t, v5), connect(t, v5), connect(t, v5, durable)}
	for qos, c := range members {
		c.subscribe(filter, byte(qos))
	}
	pub := connect(t, v5)
	for range 30 {
		pub.publish(topic, "x", 2)
	}
	for granted, all := range gather(t, 30, members...) {
		if len(all) == 0 {
			t.Errorf("the member with QoS %d got nothing", granted)
		}
		for _, m := range all {
			if int(m.QoS) != granted {
				t.Fatalf("granted %d, came with %d", granted, m.QoS)
			}
		}
	}
}

// TestShareFinishesQoS2WithItsMember: the message comes again to the one that had it, and to nobody else meanwhile.
func TestShareFinishesQoS2WithItsMember_v5_MQTT_4_8_2_4(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	c := connect(t, v5, durable)
	c.subscribe(filter, 2)
	connect(t, v5).publish(topic, "mine", 2)
	m := expect[*mqtt.Publish](c)
	other := connect(t, v5)
	other.subscribe(filter, 2)
	c.abort()
	if got := other.drain(t); len(got) > 0 {
		t.Errorf("another member got %q", got[0].Payload)
	}
	c = connect(t, v5, as(c.id), durable)
	again := expect[*mqtt.Publish](c)
	if again.PacketID != m.PacketID || !again.Dup || string(again.Payload) != "mine" {
		t.Errorf("got %q, id %d, DUP %v, want id %d", again.Payload, again.PacketID, again.Dup, m.PacketID)
	}
	c.acknowledge(again)
	c.quiet()
}

func TestShareGivesQoS2ToNobodyElse_v5_MQTT_4_8_2_5(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	c := connect(t, v5)
	c.subscribe(filter, 2)
	connect(t, v5).publish(topic, "gone", 2)
	expect[*mqtt.Publish](c)
	other := connect(t, v5)
	other.subscribe(filter, 2)
	c.abort() // and with it its session
	if got := other.drain(t); len(got) > 0 {
		t.Errorf("another member got %q", got[0].Payload)
	}
	connect(t, v5).publish(topic, "next", 2)
	other.payloads("next")
}

// TestShareGivesQoS1ToAnother: a session that ends without PUBACK leaves the message to another member.
func TestShareGivesQoS1ToAnother(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	c := connect(t, v5)
	c.subscribe(filter, 1)
	connect(t, v5).publish(topic, "again", 1)
	expect[*mqtt.Publish](c)
	other := connect(t, v5)
	other.subscribe(filter, 1)
	c.abort()
	other.payloads("again")
}

func TestShareDiscardsWhatAMemberRefuses_v5_MQTT_4_8_2_6(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	c := connect(t, v5, durable)
	c.subscribe(filter, 2)
	pub := connect(t, v5)
	pub.publish(topic, "1", 1)
	pub.publish(topic, "2", 2)
	one, two := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
	other := connect(t, v5)
	other.subscribe(filter, 2)
	c.put(&mqtt.Puback{PacketID: one.PacketID, Code: mqtt.UnspecifiedError}, &mqtt.Pubrec{PacketID: two.PacketID, Code: mqtt.QuotaExceeded})
	c.quiet()
	c.abort()
	connect(t, v5, as(c.id)) // ends the session: nothing may come back
	if got := other.drain(t); len(got) > 0 {
		t.Errorf("another member got %q", got[0].Payload)
	}
}

// TestShareGetsNoRetainedMessages: v5 3.8.3.1 and 3.3.1.3: not for shared subscriptions.
func TestShareGetsNoRetainedMessages(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	pub := connect(t, v5)
	pub.publish(topic, "kept", 1, retain)
	c := connect(t, v5)
	c.subscribe(filter, 1)
	pub.publish(topic, "live", 1)
	c.payloads("live")
	c.quiet()
}

// TestShareBesideOwnSubscription: a member that subscribes to the topic itself gets it for that, too.
func TestShareBesideOwnSubscription(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	c, pub := connect(t, v5), connect(t, v5)
	c.subscribe(filter, 1, func(s *mqtt.Subscribe) { s.SubscriptionID = 1 })
	c.subscribe(topic, 1, func(s *mqtt.Subscribe) { s.SubscriptionID = 2 })
	pub.publish(topic, "x", 1)
	var ids []uint32
	for range 2 {
		ids = append(ids, c.message().SubscriptionIDs...)
	}
	if slices.Sort(ids); !slices.Equal(ids, []uint32{1, 2}) {
		t.Errorf("ids %v, want 1 and 2", ids)
	}
}

func TestShareEnds(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	one, two, pub := connect(t, v5), connect(t, v5), connect(t, v5)
	one.subscribe(filter, 1)
	two.subscribe(filter, 1)
	one.unsubscribe(filter)
	for i := range 4 {
		pub.publish(topic, fmt.Sprint(i), 1)
		two.payloads(fmt.Sprint(i))
	}
	one.quiet()
	one.put(&mqtt.Unsubscribe{PacketID: 77, Filters: []string{filter}})
	if a := expect[*mqtt.Unsuback](one); a.Codes[0] != mqtt.NoSubscriptionExisted {
		t.Errorf("UNSUBACK %s", a.Codes[0])
	}
}

// TestSharesAreSeparate: two shares of one filter, and two filters of one share name, get a message each.
func TestSharesAreSeparate(t *testing.T) {
	t.Parallel()
	base := own("a")
	pub := connect(t, v5)
	filters := []string{"$share/x/" + base, "$share/y/" + base, "$share/x/" + base + "/#"}
	var members []*client
	for _, f := range filters {
		c := connect(t, v5)
		c.subscribe(f, 1)
		members = append(members, c)
	}
	pub.publish(base, "x", 1)
	for _, c := range members {
		c.payloads("x")
	}
}

// TestShareKeepsForAbsentMembers: durable members that are all away get what came meanwhile when one returns.
func TestShareKeepsForAbsentMembers(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	c := connect(t, v5, durable)
	c.subscribe(filter, 1)
	c.abort()
	pub := connect(t, v5)
	for _, p := range []string{"1", "2", "3"} {
		pub.publish(topic, p, 1)
	}
	c = connect(t, v5, as(c.id), durable)
	c.payloads("1", "2", "3")
}

// TestShareDoesNotWaitForAbsentMembers: while one is connected, it gets everything.
func TestShareDoesNotWaitForAbsentMembers(t *testing.T) {
	t.Parallel()
	filter, topic := share("a")
	away, here := connect(t, v5, durable), connect(t, v5)
	away.subscribe(filter, 1)
	here.subscribe(filter, 1)
	away.abort()
	pub := connect(t, v5)
	for i := range 6 {
		pub.publish(topic, fmt.Sprint(i), 1)
	}
	got := map[string]bool{}
	for len(got) < 6 {
		got[string(here.message().Payload)] = true
	}
}

func TestShareAcrossNodes(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	for qos := byte(0); qos <= 2; qos++ {
		filter, topic := share("a")
		var members []*client
		for _, n := range nodes {
			c := connect(t, v5, on(n))
			c.subscribe(filter, qos)
			members = append(members, c)
		}
		const n = 30
		for i := range n {
			pub := members[i%3] // a member publishes, too
			p := &mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), QoS: qos}
			if qos > 0 {
				p.PacketID = pub.nextID()
			}
			pub.put(p)
		}
		got := map[string]int{}
		for i, all := range gather(t, n, members...) {
			for _, m := range all {
				got[string(m.Payload)]++
			}
			if len(all) == 0 {
				t.Errorf("QoS %d: the member on node %d got nothing", qos, i)
			}
		}
		if len(got) != n {
			t.Errorf("QoS %d: %d of %d messages", qos, len(got), n)
		}
		for p, k := range got {
			if k != 1 {
				t.Errorf("QoS %d: %s came %d times", qos, p, k)
			}
		}
	}
}

// gather takes the messages of the members of a share until there are n, and what comes in the moment behind them. It
// finishes both directions of QoS 2, for members that publish.
func gather(t *testing.T, n int, members ...*client) [][]*mqtt.Publish {
	t.Helper()
	all := make([][]*mqtt.Publish, len(members))
	late := time.Now().Add(2 * patience)
	for count, idle := 0, 0; idle < 3; {
		before := count
		for i, c := range members {
			for _, p := range c.ready(50 * time.Millisecond) {
				switch p := p.(type) {
				case *mqtt.Publish:
					all[i] = append(all[i], p)
					count++
					c.acknowledge(p)
				case *mqtt.Pubrec:
					c.put(&mqtt.Pubrel{PacketID: p.PacketID})
				}
			}
		}
		switch {
		case time.Now().After(late):
			t.Fatalf("%d of %d messages came", count, n)
		case count == before && count >= n:
			idle++
		default:
			idle = 0
		}
	}
	return all
}

// ready returns the packets that come before a pause.
func (c *client) ready(pause time.Duration) []mqtt.Packet {
	c.t.Helper()
	var all []mqtt.Packet
	for {
		if len(c.kept) == 0 {
			_ = c.nc.SetReadDeadline(time.Now().Add(pause))
			if _, err := c.in.Peek(1); err != nil {
				return all
			}
		}
		all = append(all, c.next())
		if len(all) == 100 {
			return all
		}
	}
}
