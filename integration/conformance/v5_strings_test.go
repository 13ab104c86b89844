package conformance

import (
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// broken sends packets on a connection of their own and wants DISCONNECT with that code for each.
func broken(t *testing.T, code mqtt.ReasonCode, packets ...string) {
	t.Helper()
	for _, p := range packets {
		c := connect(t, v5)
		c.id += " " + p
		c.send("%s", p)
		c.expectDisconnect(code)
	}
}

// brokenConnect sends CONNECT packets and wants CONNACK with that code for each.
func brokenConnect(t *testing.T, code mqtt.ReasonCode, packets ...string) {
	t.Helper()
	for _, p := range packets {
		c := dial(t, v5)
		c.id = p
		c.send("%s", p)
		if a := expect[*mqtt.Connack](c); a.Code != code || a.SessionPresent {
			t.Errorf("%s: CONNACK %s, want %s", p, a.Code, code)
		}
		c.expectClosed()
	}
}

// ill is what no string may hold: a surrogate, an overlong form, a cut off character, a byte that is none, beyond Unicode.
func ill(t *testing.T, form string, use func(t *testing.T, code mqtt.ReasonCode, packets ...string)) {
	t.Helper()
	for _, s := range []string{"EDA080", "C080", "C3", "FF", "F4908080"} {
		use(t, mqtt.MalformedPacket, strings.ReplaceAll(form, "?", s))
	}
}

func TestIllFormedStrings_v5_MQTT_1_5_4_1(t *testing.T) {
	t.Parallel()
	ill(t, "30 [(?) []]", broken)
	ill(t, "30 [('a' ? 'b') [] 'x']", broken)
}

func TestNullCharacter_v5_MQTT_1_5_4_2_MQTT_4_7_3_2(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.MalformedPacket, "30 [('a' 00 'b') [] 'x']", "30 [(00) []]", "82 [0001 [] ('a' 00) 00]", "A2 [0001 [] (00)]",
		"30 [('a') [26 ('k' 00) ('v')]]", "30 [('a') [03 (00)]]", "30 [('a') [08 ('r' 00)]]", "82 [0001 [26 () (00)] ('a') 00]")
	brokenConnect(t, mqtt.MalformedPacket, "10 [('MQTT') 05 02 0000 [] ('a' 00)]", "10 [('MQTT') 05 82 0000 [] ('a') ('u' 00)]",
		"10 [('MQTT') 05 06 0000 [] ('a') [] ('w' 00) ()]")
}

func TestByteOrderMarkStays_v5_MQTT_1_5_4_3(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	topic := "\ufeff" + own("\ufeffa")
	c.subscribe(topic, 0)
	c.publish(strings.TrimPrefix(topic, "\ufeff"), "without", 0)
	c.publish(topic, "with", 0)
	if m := c.message(); string(m.Topic) != topic || string(m.Payload) != "with" {
		t.Errorf("got %q on %q, want \"with\" on %q", m.Payload, m.Topic, topic)
	}
}

func TestVariableByteIntegerIsMinimal_v5_MQTT_1_5_5_1(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.MalformedPacket,
		"30 8400 0001 'a' 00", "C0 8000", "30 [('a') 8000]", "82 [0001 [0B 8100] ('a') 00]", "30 FFFFFFFF7F", "82 [0001 [0B FFFFFFFF01] ('a') 00]")
	c := connect(t, v5)
	c.subscribe(own("a"), 0, func(s *mqtt.Subscribe) { s.SubscriptionID = mqtt.MaxRemaining })
}

func TestStringPairs_v5_MQTT_1_5_7_1(t *testing.T) {
	t.Parallel()
	ill(t, "30 [('a') [26 (?) ('v')]]", broken)
	ill(t, "30 [('a') [26 ('k') (?)]]", broken)
	ill(t, "82 [0001 [26 ('k') (?)] ('a') 00]", broken)
	broken(t, mqtt.MalformedPacket, "30 [('a') [26 ('k')]]", "30 [('a') [26 ('k') 0005 'v']]")
}

func TestTopicNameIsUTF8AndFirst_v5_MQTT_3_3_2_1(t *testing.T) {
	t.Parallel()
	ill(t, "32 [('a' ?) 0001 []]", broken)
	broken(t, mqtt.MalformedPacket, "30 []", "30 [00]", "30 [0005 'abc']", "32 [('a')]")
}

func TestResponseTopicIsUTF8_v5_MQTT_3_3_2_13(t *testing.T) {
	t.Parallel()
	ill(t, "30 [('a') [08 ('a' ?)]]", broken)
}

func TestContentTypeIsUTF8_v5_MQTT_3_3_2_19(t *testing.T) {
	t.Parallel()
	ill(t, "30 [('a') [03 (?)]]", broken)
}

func TestSubscribeFilterIsUTF8_v5_MQTT_3_8_3_1(t *testing.T) {
	t.Parallel()
	ill(t, "82 [0001 [] ('a' ?) 00]", broken)
}

func TestUnsubscribeFilterIsUTF8_v5_MQTT_3_10_3_1(t *testing.T) {
	t.Parallel()
	ill(t, "A2 [0001 [] ('a' ?)]", broken)
}

func TestClientIDIsUTF8_v5_MQTT_3_1_3_4(t *testing.T) {
	t.Parallel()
	ill(t, "10 [('MQTT') 05 02 0000 [] ('a' ?)]", brokenConnect)
}

func TestWillTopicIsUTF8_v5_MQTT_3_1_3_11(t *testing.T) {
	t.Parallel()
	ill(t, "10 [('MQTT') 05 06 0000 [] ('a') [] (? 'a') ()]", brokenConnect)
}

func TestUserNameIsUTF8_v5_MQTT_3_1_3_12(t *testing.T) {
	t.Parallel()
	ill(t, "10 [('MQTT') 05 82 0000 [] ('a') (?)]", brokenConnect)
	c := dial(t, v5)
	c.send("10 [('MQTT') 05 C2 0000 [] ('%s') ('jürgen') (FF00)]", own("a"))
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.Success {
		t.Errorf("a password that is no text is refused: %s", a.Code)
	}
}

// TestControlCharactersAreCarried: the standard advises against them, and lets a server take them.
func TestControlCharactersAreCarried(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	topic := own("\u0001\u007f\ufdd0\U0001fffe é")
	c.subscribe(topic, 1)
	connect(t, v5).publish(topic, "x", 1)
	if m := c.message(); string(m.Topic) != topic {
		t.Errorf("got %q, want %q", m.Topic, topic)
	}
}

// TestReservedFlags: the first byte of every packet type that a client may send, with every wrong set of flags.
func TestReservedFlags_v5_MQTT_2_1_3_1_MQTT_3_6_1_1_MQTT_3_8_1_1_MQTT_3_10_1_1_MQTT_3_14_1_1_MQTT_3_15_1_1(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"40 [0001]", "50 [0001]", "62 [0001]", "70 [0001]", "82 [0001 [] ('a') 00]", "A2 [0001 [] ('a')]", "C0 []", "E0 []", "F0 [18 [15 ('M')]]"} {
		wire := mqtttest.Wire(p)
		for flags := byte(0); flags < 16; flags++ {
			if flags == wire[0]&15 {
				continue
			}
			c := connect(t, v5)
			c.id = p
			c.write(append([]byte{wire[0]&0xF0 | flags}, wire[1:]...))
			c.expectDisconnect(mqtt.MalformedPacket)
		}
	}
}

func TestReservedPacketTypes(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	c.send("00 []")
	c.expectDisconnect(mqtt.MalformedPacket)
	// What only a server sends is a protocol error.
	broken(t, mqtt.ProtocolError, "20 [00 00 []]", "90 [0001 [] 00]", "B0 [0001 [] 00]", "D0 []")
}

// TestPacketIdentifierZero: the statement binds clients; this is how a server takes a breach.
func TestPacketIdentifierZero_v5_MQTT_2_2_1_3(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.ProtocolError, "32 [('a') 0000 [] 'x']", "34 [('a') 0000 [] 'x']", "82 [0000 [] ('a') 00]", "A2 [0000 [] ('a')]",
		"40 [0000]", "50 [0000]", "62 [0000]", "70 [0000]")
}
