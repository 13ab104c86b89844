package conformance

import (
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// will gives a CONNECT a will.
func will(topic, payload string, edits ...func(*mqtt.Will)) func(*setup) {
	return func(s *setup) {
		s.Will = &mqtt.Will{Topic: topic, Payload: []byte(payload), QoS: 1}
		for _, e := range edits {
			e(s.Will)
		}
	}
}

func delay(s uint32) func(*mqtt.Will) { return func(w *mqtt.Will) { w.Delay = s } }

// watch subscribes a client of its own.
func watch(t *testing.T, filter string, qos byte) *client {
	t.Helper()
	c := connect(t, v5)
	c.subscribe(filter, qos)
	return c
}

func TestWillIsPublished_v5_MQTT_3_1_2_7_MQTT_3_1_2_8(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 2)
	ends := map[string]func(c *client){
		"abort":                func(c *client) { c.abort() },
		"malformed packet":     func(c *client) { c.send("00 00") },
		"protocol error":       func(c *client) { c.send("D0 00") },
		"disconnect with will": func(c *client) { c.put(&mqtt.Disconnect{Code: mqtt.DisconnectWithWill}) },
		"disconnect 0x80":      func(c *client) { c.put(&mqtt.Disconnect{Code: mqtt.UnspecifiedError}) },
		"disconnect 0x82":      func(c *client) { c.put(&mqtt.Disconnect{Code: mqtt.ProtocolError}) },
		"takeover":             func(c *client) { connect(t, v5, as(c.id)) },
		"takeover and resume":  func(c *client) { connect(t, v5, as(c.id), durable) },
		"keep alive":           func(c *client) { c.expectDisconnect(mqtt.KeepAliveTimeout) },
	}
	for name, end := range ends {
		c := connect(t, v5, will(topic, name), expires(60), func(s *setup) {
			if name == "keep alive" {
				s.KeepAlive = 1
			}
		})
		end(c)
		sub.payloads(name)
	}
	sub.quiet()
}

func TestNormalDisconnectDiscardsTheWill_v5_MQTT_3_14_4_3_MQTT_3_1_2_10(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 1)
	connect(t, v5, will(topic, "never")).disconnect()
	durably := connect(t, v5, will(topic, "never"), durable)
	durably.disconnect()
	// Not even when the session ends, or when its connection is lost without a new will.
	c := connect(t, v5, as(durably.id), durable)
	c.abort()
	connect(t, v5, as(durably.id))
	// A published will is published once.
	c = connect(t, v5, will(topic, "once"), durable)
	c.abort()
	sub.payloads("once")
	connect(t, v5, as(c.id), durable).abort()
	connect(t, v5, as(c.id)).abort()
	connect(t, v5).publish(topic, "marker", 1)
	sub.payloads("marker")
}

func TestWillRetain_v5_MQTT_3_1_2_14_MQTT_3_1_2_15(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := connect(t, v5)
	sub.subscribe(topic, 1, func(s *mqtt.Subscribe) { s.Filters[0].RetainAsPublished = true })
	connect(t, v5, will(topic, "passing")).abort()
	if m := sub.message(); m.Retain {
		t.Error("the will has RETAIN")
	}
	watch(t, topic, 1).quiet()
	connect(t, v5, will(topic, "kept", func(w *mqtt.Will) { w.Retain = true })).abort()
	if m := sub.message(); !m.Retain {
		t.Error("the will has no RETAIN")
	}
	late := watch(t, topic, 1)
	if m := late.message(); string(m.Payload) != "kept" || !m.Retain {
		t.Errorf("retained: %+v", m)
	}
}

func TestWillQoS_v5_MQTT_3_1_2_12(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 2)
	for qos := byte(0); qos <= 2; qos++ {
		connect(t, v5, will(topic, "x", func(w *mqtt.Will) { w.QoS = qos })).abort()
		if m := sub.message(); m.QoS != qos {
			t.Errorf("will of QoS %d came with %d", qos, m.QoS)
		}
	}
}

func TestWillDelay_v5_MQTT_3_1_3_9_MQTT_3_1_2_8(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 1)
	c := connect(t, v5, will(topic, "in time", delay(2)), durable)
	begin := time.Now()
	c.abort()
	sub.payloads("in time")
	if took := time.Since(begin); took < 2*time.Second || took > 2*time.Second+patience {
		t.Errorf("a delay of 2 s took %v", took)
	}
	// Back within the delay: never.
	c = connect(t, v5, will(topic, "never", delay(4)), durable)
	c.abort()
	c = connect(t, v5, as(c.id), durable)
	second := connect(t, v5, will(topic, "later", delay(5)), durable)
	second.abort()
	sub.payloads("later")
	c.quiet()
	// A takeover within the delay withdraws it, too; the new connection has its own.
	c = connect(t, v5, will(topic, "never", delay(1)), durable)
	now := connect(t, v5, as(c.id), durable, will(topic, "mine"))
	c.expectDisconnect(mqtt.SessionTakenOver)
	now.abort()
	sub.payloads("mine")
	sub.quiet()
}

// TestWillDelayAndTheEndOfTheSession: the will comes with the end of the session if that is earlier.
func TestWillDelayAndTheEndOfTheSession_v5_MQTT_3_1_2_8(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 1)
	// A session that ends with its connection does not wait.
	begin := time.Now()
	connect(t, v5, will(topic, "at once", delay(100))).abort()
	sub.payloads("at once")
	// One that expires before the delay.
	c := connect(t, v5, will(topic, "expired", delay(100)), func(s *setup) { s.HasSessionExpiry, s.SessionExpiry = true, 1 })
	c.abort()
	sub.payloads("expired")
	// Clean Start ends the old session.
	c = connect(t, v5, will(topic, "cleaned", delay(100)), durable)
	c.abort()
	connect(t, v5, as(c.id))
	sub.payloads("cleaned")
	// DISCONNECT 0x04 with session expiry 0.
	c = connect(t, v5, will(topic, "said so", delay(100)), durable)
	c.put(&mqtt.Disconnect{Code: mqtt.DisconnectWithWill, HasSessionExpiry: true})
	sub.payloads("said so")
	if took := time.Since(begin); took > 90*time.Second {
		t.Errorf("that took %v", took)
	}
	sub.quiet()
}

func TestWillProperties_v5_MQTT_3_1_3_10(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 1)
	sent := mqtt.MessageProps{
		PayloadIsUTF8: true, ContentType: "text/plain", ResponseTopic: "re/ply", Correlation: []byte{0, 1, 255},
		UserProperties: []mqtt.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "0"}, {Key: "", Value: ""}},
	}
	props, err := sent.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	connect(t, v5, will(topic, "x", func(w *mqtt.Will) { w.Props, w.HasExpiry, w.Expiry = props, true, 60 })).abort()
	m := sub.message()
	if string(m.Props) != string(props) {
		t.Errorf("properties % X, want % X", m.Props, props)
	}
	if !m.HasExpiry || m.Expiry > 60 || m.Expiry < 55 {
		t.Errorf("expiry %v %d, want what is left of 60 s", m.HasExpiry, m.Expiry)
	}
}

// TestWillExpiryCountsFromItsPublication: not from CONNECT, nor from the end of the connection.
func TestWillExpiryCountsFromItsPublication(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 1)
	connect(t, v5, durable, will(topic, "x", delay(3), func(w *mqtt.Will) { w.HasExpiry, w.Expiry = true, 2 })).abort()
	sub.payloads("x")
}

func TestWillOfANodeAway_v5_MQTT_3_1_2_8(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	topic := own("w")
	sub := connect(t, v5, on(nodes[0]))
	sub.subscribe(topic, 1)
	connect(t, v5, on(nodes[1]), will(topic, "x")).abort()
	sub.payloads("x")
	c := connect(t, v5, on(nodes[1]), will(topic, "never", delay(1)), durable)
	c.abort()
	connect(t, v5, on(nodes[2]), as(c.id), durable)
	c = connect(t, v5, on(nodes[2]), will(topic, "late", delay(2)), durable)
	c.abort()
	sub.payloads("late")
	sub.quiet()
}

func TestWillsOfLimitedServers_v5_MQTT_3_2_2_12_MQTT_3_2_2_13(t *testing.T) {
	t.Parallel()
	n := limited(t)
	refused(t, v5, mqtt.QoSNotSupported, on(n), will("w", "x", func(w *mqtt.Will) { w.QoS = 2 }))
	refused(t, v5, mqtt.RetainNotSupported, on(n), will("w", "x", func(w *mqtt.Will) { w.Retain = true }))
}

// TestWillWithoutPermission: a will that may not be published is refused before it is stored.
func TestWillWithoutPermission(t *testing.T) {
	t.Parallel()
	refused(t, v5, mqtt.NotAuthorized, on(guarded(t)), alice, will("deny/w", "x"))
	refused(t, v5, mqtt.NotAuthorized, will("$SYS/broker/x", "x"))
}
