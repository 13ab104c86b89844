package conformance

import (
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// hears subscribes to what other tests publish, too: messages may come before SUBACK.
func (c *client) hears(filter string) {
	c.t.Helper()
	c.put(&mqtt.Subscribe{PacketID: c.nextID(), Filters: []mqtt.SubscribeFilter{{Filter: filter}}})
	for {
		if _, ok := c.next().(*mqtt.Suback); ok {
			return
		}
	}
}

func TestDollarTopics_v5_MQTT_4_7_2_1(t *testing.T) {
	t.Parallel()
	name := own("d")
	pub := connect(t, v5)
	for filter, hears := range map[string]bool{"#": false, "+/" + name: false, "+/#": false, "$" + name + "/#": true, "$" + name + "/+": true} {
		sub := connect(t, v5)
		marker := own("marker")
		sub.subscribe(marker, 0)
		sub.hears(filter)
		pub.publish("$"+name+"/a", "dollar", 0)
		pub.publish(marker, "marker", 0)
		heard := false
		for {
			m := sub.message() // "#" hears all other tests, too
			if string(m.Topic) == "$"+name+"/a" {
				heard = true
			}
			if string(m.Topic) == marker {
				break
			}
		}
		if heard != hears {
			t.Errorf("%s hears $%s/a: %v", filter, name, heard)
		}
		sub.disconnect()
	}
}

func TestRetainedDollarTopics_v5_MQTT_4_7_2_1(t *testing.T) {
	t.Parallel()
	name := strings.ReplaceAll(own("d"), "/", "-")
	connect(t, v5).publish("$"+name, "kept", 1, retain)
	sub := connect(t, v5)
	sub.hears("+")
	marker := strings.ReplaceAll(own("marker"), "/", "-")
	connect(t, v5).publish(marker, "marker", 0)
	for {
		m := sub.message()
		if string(m.Topic) == "$"+name {
			t.Error("+ gets a retained message of a $ topic")
		}
		if string(m.Topic) == marker {
			break
		}
	}
	watch(t, "$"+name, 0).payloads("kept")
}

func TestEmptyTopics_v5_MQTT_4_7_3_1(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.ProtocolError, "30 [() []]", "32 [() 0001 []]")
	for _, p := range []string{"82 [0001 [] () 00]", "A2 [0001 [] ()]"} {
		c := connect(t, v5)
		c.id = p
		c.send("%s", p)
		switch a := c.next().(type) {
		case *mqtt.Suback:
			if a.Codes[0] != mqtt.TopicFilterInvalid {
				t.Errorf("SUBACK %s", a.Codes[0])
			}
		case *mqtt.Unsuback:
			if a.Codes[0] != mqtt.TopicFilterInvalid {
				t.Errorf("UNSUBACK %s", a.Codes[0])
			}
		case *mqtt.Disconnect:
			if !a.Code.Failed() {
				t.Errorf("DISCONNECT %s", a.Code)
			}
			c.expectClosed()
		default:
			t.Errorf("%s: got %+v", p, a)
		}
	}
	c := connect(t, v5)
	for _, topic := range []string{"/", "//", " "} { // one character is enough
		c.subscribe(topic, 0)
		connect(t, v5).publish(topic, topic, 0)
		c.payloads(topic)
	}
}

// TestLongTopics: up to the broker's limit they work; above it they are refused, and nothing else.
func TestLongTopics_v5_MQTT_4_7_3_3(t *testing.T) {
	t.Parallel()
	base := own("l")
	long := base + strings.Repeat("x", 1024-len(base))
	c, pub := connect(t, v5), connect(t, v5)
	c.subscribe(long, 1)
	pub.publish(long, "x", 1)
	if m := c.message(); string(m.Topic) != long {
		t.Errorf("%d bytes came as %d", len(long), len(m.Topic))
	}
	for _, size := range []int{1025, 65535} {
		topic := strings.Repeat("x", size)
		pub := connect(t, v5)
		pub.send("32 [('%s') 0001 []]", topic)
		pub.expectDisconnect(mqtt.TopicNameInvalid)
		sub := connect(t, v5)
		sub.send("82 [0001 [] ('%s') 00]", topic)
		switch a := sub.next().(type) {
		case *mqtt.Suback:
			if a.Codes[0] != mqtt.TopicFilterInvalid {
				t.Errorf("SUBACK %s", a.Codes[0])
			}
		case *mqtt.Disconnect:
			if a.Code != mqtt.TopicFilterInvalid {
				t.Errorf("DISCONNECT %s", a.Code)
			}
		}
	}
}

func TestTopicsAreNotNormalized_v5_MQTT_4_7_3_4(t *testing.T) {
	t.Parallel()
	base := own("n")
	spellings := []string{"/a", "/A", "/a/", "//a", "/ a", "/a ", "/\u00e9", "/e\u0301", "/\u00c5", "/\u212b", "/A\u030a", "/%61", "/\ufb01", "/fi", "/a/../a", "/./a"}
	pub := connect(t, v5)
	for _, one := range spellings {
		c := connect(t, v5)
		c.id = one
		marker := own("marker")
		c.subscribe(base+one, 0)
		c.subscribe(marker, 0)
		for _, other := range spellings {
			pub.publish(base+other, other, 0)
		}
		pub.publish(marker, "marker", 0)
		c.payloads(one, "marker")
	}
}

func TestDeepTopics(t *testing.T) {
	t.Parallel()
	base := own("l")
	deep := base + strings.Repeat("/x", 126)
	c, pub := connect(t, v5), connect(t, v5)
	c.subscribe(deep, 0)
	pub.publish(deep, "x", 0)
	c.payloads("x")
	pub.send("30 [('%s/too/deep') []]", deep)
	pub.expectDisconnect(mqtt.TopicNameInvalid)
}
