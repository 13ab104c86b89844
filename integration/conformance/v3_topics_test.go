package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestMatching: the examples of the specification and some more, on a prefix of the test's own.
func TestMatching_v311_MQTT_4_7_1_2_MQTT_4_7_1_3_MQTT_4_7_3_4_MQTT_3_3_2_3(t *testing.T) {
	t.Parallel()
	pub := connect(t, v311)
	prefix := own("m")
	for filter, topics := range map[string]map[string]bool{
		"sport/tennis/player1/#": {"sport/tennis/player1": true, "sport/tennis/player1/ranking": true, "sport/tennis/player1/score/wimbledon": true, "sport/tennis/player2": false},
		"sport/#":                {"sport": true, "sport/": true, "sport/x/y/z": true, "sports": false, "/sport": false},
		"sport/tennis/+":         {"sport/tennis/player1": true, "sport/tennis/player1/ranking": false, "sport/tennis": false, "sport/tennis/": true},
		"sport/+":                {"sport": false, "sport/": true},
		"+/+":                    {"/finance": true, "a/b": true, "a": false, "a/b/c": false},
		"/+":                     {"/finance": true, "a/finance": false},
		"+":                      {"/finance": false, "finance": true},
		"+/tennis/#":             {"sport/tennis": true, "/tennis/x": true, "tennis": false},
		"a//b":                   {"a//b": true, "a/b": false, "a///b": false},
		"ACCOUNTS":               {"ACCOUNTS": true, "Accounts": false},
		"a b":                    {"a b": true, "ab": false},
		"ü/水":                    {"ü/水": true, "u/水": false},
		"caf\u00e9":              {"caf\u00e9": true, "cafe\u0301": false}, // no normalization
	} {
		sub := connect(t, v311)
		sub.subscribe(prefix+"/"+filter, 0)
		fence := own("fence")
		sub.subscribe(fence, 0)
		want := map[string]bool{}
		for topic, matches := range topics {
			pub.publish(prefix+"/"+topic, topic, 0)
			if matches {
				want[topic] = true
			}
		}
		pub.publish(fence, "fence", 0)
		for {
			m := sub.message()
			if string(m.Payload) == "fence" {
				break
			}
			if !want[string(m.Payload)] || string(m.Topic) != prefix+"/"+string(m.Payload) {
				t.Errorf("%s heard %s", filter, m.Topic)
			}
			delete(want, string(m.Payload))
		}
		if len(want) > 0 {
			t.Errorf("%s did not hear %v", filter, want)
		}
	}
}

// TestDollarTopics: wildcards in the first level leave them out, other filters do not.
func TestDollarTopics_v311_MQTT_4_7_2_1(t *testing.T) {
	t.Parallel()
	name := own("d")
	pub := connect(t, v311)
	for filter, hears := range map[string]bool{"#": false, "+/" + name: false, "+/#": false, "$" + name + "/#": true, "$" + name + "/+": true, "$" + name + "/a": true} {
		sub := connect(t, v311)
		marker := own("marker")
		sub.subscribe(marker, 0)
		sub.hears(filter)
		pub.publish("$"+name+"/a", "dollar", 0)
		pub.publish(marker, "marker", 0)
		heard := false
		for {
			m := sub.message() // "#" hears all other tests, too
			heard = heard || string(m.Topic) == "$"+name+"/a"
			if string(m.Topic) == marker {
				break
			}
			if strings.HasPrefix(filter, "#") && strings.HasPrefix(string(m.Topic), "$") {
				t.Errorf("# heard %s", m.Topic)
			}
		}
		if heard != hears {
			t.Errorf("%s heard the message: %v", filter, heard)
		}
	}
}

func TestLongTopics_v311_MQTT_4_7_3_1(t *testing.T) {
	t.Parallel()
	c := connect(t, v311)
	for _, topic := range []string{own("") + strings.Repeat("x", 1000), own("") + strings.Repeat("/", 100), own("") + strings.Repeat("/x", 100)} {
		c.subscribe(topic, 0)
		c.send("30 [('%s') 'x']", topic)
		c.payloads("x")
	}
}

func TestRetained_v311_MQTT_3_3_1_5_MQTT_3_3_1_6_MQTT_3_3_1_8_MQTT_3_3_1_9_MQTT_3_3_1_12(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		prefix := own("r")
		pub, live := connect(t, v), connect(t, v)
		live.subscribe(prefix+"/#", 2)
		for qos := byte(1); qos <= 2; qos++ {
			topic := fmt.Sprint(prefix, "/", qos)
			pub.publish(topic, "old", qos, retain)
			pub.publish(topic, "kept", qos, retain)
			pub.publish(topic, "passing", qos)
			for _, want := range []string{"old", "kept", "passing"} {
				if m := live.message(); m.Retain || string(m.Payload) != want {
					t.Errorf("%s: established subscription: %+v, want %s without RETAIN", v, m, want)
				}
			}
			for granted := byte(0); granted <= 2; granted++ {
				c := connect(t, v)
				c.subscribe(topic, granted)
				if m := c.message(); !m.Retain || m.Dup || string(m.Payload) != "kept" || m.QoS != min(qos, granted) || string(m.Topic) != topic {
					t.Errorf("%s: new subscription: %+v", v, m)
				}
				c.quiet()
			}
		}
		// Each topic once, by a wildcard, too; and for each filter of one SUBSCRIBE.
		c := connect(t, v)
		c.send("82 [0001 ('%[1]s/+') 02 ('%[1]s/1') 01]", prefix)
		got := map[string]int{}
		for n := 0; n < 3; {
			if m, ok := c.next().(*mqtt.Publish); ok {
				c.acknowledge(m)
				got[string(m.Topic)]++
				n++
			}
		}
		if got[prefix+"/1"] != 2 || got[prefix+"/2"] != 1 {
			t.Errorf("%s: retained messages by topic: %v", v, got)
		}
		c.quiet()
	}
}

func TestRetainedQoS0_v311_MQTT_3_3_1_7(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		topic := own("r")
		pub := connect(t, v)
		pub.publish(topic, "of QoS 1", 1, retain)
		pub.publish(topic, "of QoS 0", 0, retain)
		pub.quiet()
		eventually(t, func() string {
			c := connect(t, v)
			c.subscribe(topic, 2)
			if m := c.message(); string(m.Payload) != "of QoS 0" || m.QoS != 0 || !m.Retain {
				return fmt.Sprintf("%s: retained is %+v", v, m)
			}
			return ""
		})
	}
}

func TestRetainedIsDeleted_v311_MQTT_3_3_1_10_MQTT_3_3_1_11(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		for qos := byte(0); qos <= 2; qos++ {
			topic := own("r")
			pub, live := connect(t, v), connect(t, v)
			pub.publish(topic, "kept", 1, retain)
			live.subscribe(topic, 2)
			live.payloads("kept")
			pub.publish(topic, "", qos, retain)
			if m := live.message(); len(m.Payload) != 0 || m.Retain || m.QoS != qos {
				t.Errorf("%s: the empty message came as %+v", v, m)
			}
			pub.publish(topic+"/other", "", qos, retain) // nothing to delete
			eventually(t, func() string {
				c := connect(t, v)
				c.subscribe(topic+"/#", 2)
				c.put(&mqtt.Pingreq{})
				if m, ok := c.next().(*mqtt.Publish); ok {
					return fmt.Sprintf("%s: still retained: %+v", v, m)
				}
				return ""
			})
		}
	}
}
