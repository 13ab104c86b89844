package conformance

import (
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// TestReservedFlags: the fixed header of every packet, where PUBLISH apart all flags are fixed.
func TestReservedFlags_v311_MQTT_2_2_2_1_MQTT_2_2_2_2_MQTT_3_6_1_1_MQTT_3_8_1_1_MQTT_3_10_1_1_MQTT_3_14_1_1_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	bodies := map[byte]string{
		0x40: "02 0001", 0x50: "02 0001", 0x60: "02 0001", 0x70: "02 0001", 0x80: "[0001 ('a') 00]", 0xA0: "[0001 ('a')]", 0xC0: "00", 0xE0: "00",
	}
	right := map[byte]byte{0x60: 2, 0x80: 2, 0xA0: 2}
	for head, body := range bodies {
		for _, flags := range []byte{0, 1, 2, 3, 4, 8, 15} {
			if flags == right[head] {
				continue
			}
			c := connect(t, v311)
			c.id += string([]byte{' ', "0123456789ABCDEF"[head>>4], "0123456789ABCDEF"[flags]})
			c.write(append([]byte{head | flags}, mqtttest.Wire(body)...))
			c.expectClosed()
		}
	}
	for flags := byte(1); flags < 16; flags++ { // of CONNECT
		c := dial(t, v311)
		c.write(append([]byte{0x10 | flags}, bytesOf("[('MQTT') 04 02 003C ('%s')]", own("c"))...))
		c.expectClosed()
	}
}

// TestFlagsOfTheServer: what the server sends has the fixed flags, too.
func TestFlagsOfTheServer_v311_MQTT_2_2_2_1(t *testing.T) {
	t.Parallel()
	c := connect(t, v311)
	want := func(head byte) {
		t.Helper()
		c.next()
		if c.frame[0] != head {
			t.Fatalf("got the packet % X, want the first byte %02X", c.frame, head)
		}
	}
	topic := own("a")
	c.send("82 [0001 ('%s') 02]", topic)
	want(0x90)
	pub := connect(t, v311)
	pub.publish(topic, "x", 2)
	want(0x34)
	m := c.frame[len(c.frame)-3 : len(c.frame)-1]
	c.write(append([]byte{0x50, 2}, m...))
	want(0x62)
	c.write(append([]byte{0x70, 2}, m...))
	c.send("A2 [0002 ('%s')]", topic)
	want(0xB0)
	c.send("32 [('%s') 0003]", topic)
	want(0x40)
	c.send("34 [('%s') 0004]", topic)
	want(0x50)
	c.send("6202 0004")
	want(0x70)
	c.send("C000")
	want(0xD0)
}

func TestPacketTypesOfTheServer_v311_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		cutOff(t, v, "2002 0000", "90 [0001 00]", "B002 0001", "D000", "0000", "F000", "F0 [00]")
	}
}

func TestPacketIDZero_v311_MQTT_2_3_1_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		cutOff(t, v, "32 [('a') 0000 'x']", "34 [('a') 0000 'x']", "82 [0000 ('a') 00]", "A2 [0000 ('a')]",
			"4002 0000", "5002 0000", "6202 0000", "7002 0000")
	}
}

// TestWrongLength: packets with too few or too many bytes.
func TestWrongLength_v311_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		cutOff(t, v, "4000", "4001 00", "4003 0001 00", "5001 00", "5003 0001 00", "6200", "6203 0001 00", "7001 00", "7004 0001 00 00",
			"8200", "8202 0001", "8204 0001 0001", "82 [0001 ('a')]", "82 [0001 0003 'a' 00]", "A200", "A202 0001", "A2 [0001 0003 'a']", "A2 [0001 ('a') 00]",
			"C001 00", "E001 00", "E002 00 00", "3000", "3001 00", "3003 0002 'a'", "32 [('a')]", "32 [('a') 01]", "34 [('a')]")
	}
	cutOffConnect(t, "1000", "1002 0004", "10 [('MQTT')]", "10 [('MQTT') 04]", "10 [('MQTT') 04 02]", "10 [('MQTT') 04 02 003C]", "10 [('MQTT') 04 02 003C ('a') 00]")
}

// TestRemainingLength: at most four bytes, and nothing is allocated for what is only announced.
func TestRemainingLength_v311_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		cutOff(t, v, "30 FFFFFFFF7F", "30 FFFFFFFF", "C0 8080808000", "30 8080808001", "30 FFFFFF7F 0001 'a'")
	}
	cutOffConnect(t, "10 FFFFFFFF7F", "10 FFFFFFFF", "10 FFFFFF7F ('MQTT')")
	// A length in more bytes than it needs is a length.
	c := connect(t, v311)
	topic := own("a")
	c.subscribe(topic, 0)
	body := bytesOf("('%s') 'x'", topic)
	c.write(append([]byte{0x30, byte(len(body)) | 0x80, 0x80, 0}, body...))
	c.payloads("x")
}

func TestQoS3_v311_MQTT_3_3_1_4(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		cutOff(t, v, "36 [('a') 0001 'x']", "37 [('a') 0001 'x']", "3E [('a') 0001 'x']")
	}
}

func TestDupWithQoS0_v311_MQTT_3_3_1_2(t *testing.T) {
	t.Parallel()
	cutOff(t, v311, "38 [('a') 'x']", "39 [('a') 'x']")
}

func TestTopicNames_v311_MQTT_3_3_2_1_MQTT_3_3_2_2_MQTT_4_7_1_1_MQTT_4_7_3_1_MQTT_4_7_3_2_MQTT_1_5_3_1_MQTT_1_5_3_2(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		cutOff(t, v, "30 [() 'x']", "32 [() 0001 'x']", "30 [('#') 'x']", "30 [('+') 'x']", "30 [('a/+/b') 'x']", "30 [('a/#') 'x']", "30 [('a+') 'x']", "30 [('a#b') 'x']",
			"30 [('a' 00 'b') 'x']", "30 [(00) 'x']")
	}
	for _, s := range []string{"EDA080", "EDBFBF", "C080", "C3", "FF", "F4908080"} {
		cutOff(t, v311, "30 [("+s+") 'x']", "30 [('a/' "+s+" '/b') 'x']")
	}
}

func TestFilterStrings_v311_MQTT_3_8_3_1_MQTT_3_10_3_1_MQTT_4_7_3_1_MQTT_4_7_3_2_MQTT_1_5_3_1_MQTT_1_5_3_2(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"EDA080", "C080", "C3", "FF", "F4908080", "00", "'a' 00"} {
		cutOff(t, v311, "82 [0001 ("+s+") 00]", "82 [0001 ('good') 00 ("+s+") 00]", "A2 [0001 ("+s+")]", "A2 [0001 ('good') ("+s+")]")
	}
	cutOff(t, v311, "82 [0001 () 00]", "A2 [0001 ()]")
}

// TestSubscribeForm: at least one filter, and reserved bits that are 0.
func TestSubscribeForm_v311_MQTT_3_8_3_3_MQTT_3_8_3_4_MQTT_3_10_3_2(t *testing.T) {
	t.Parallel()
	cutOff(t, v311, "8202 0001", "A202 0001", "82 [0001 ('a') 03]", "82 [0001 ('a') 04]", "82 [0001 ('a') 08]", "82 [0001 ('a') 10]", "82 [0001 ('a') 20]",
		"82 [0001 ('a') 40]", "82 [0001 ('a') 80]", "82 [0001 ('a') FF]", "82 [0001 ('a') 01 ('b') 03]", "82 [0001 ('a') 01 ('b')]")
}

// TestWildcardPlaces: a filter with a misplaced wildcard is refused, one way or the other, and matches nothing.
func TestWildcardPlaces_v311_MQTT_4_7_1_2_MQTT_4_7_1_3(t *testing.T) {
	t.Parallel()
	for _, f := range []string{"a#", "#/a", "a/#/b", "a/b#", "##", "+a", "a+", "a/+b", "a/b+/c", "++", "a/++", "#+", "+#"} {
		c := connect(t, v311)
		c.id += " " + f
		c.send("82 [0001 ('%s') 01]", f)
		if p, err := c.receive(); err == nil {
			if a, ok := p.(*mqtt.Suback); !ok || len(a.Codes) != 1 || a.Codes[0] != mqtt.UnspecifiedError {
				t.Errorf("%s: got %+v, want 0x80 or the end", f, p)
			}
		} else {
			c.wasEnd(err)
		}
	}
}

// TestLongTopic: what is longer than the broker takes ends the connection or is refused; nobody else notices.
func TestLongTopic_v311_MQTT_4_7_3_3(t *testing.T) {
	t.Parallel()
	other := connect(t, v311)
	long := strings.Repeat("x", 65535)
	c := connect(t, v311)
	c.write(bytesOf("32 [('%s') 0001 'x']", long))
	c.expectEnd()
	c = connect(t, v311)
	c.write(bytesOf("82 [0001 ('%s') 01]", long))
	if p, err := c.receive(); err == nil {
		if a, ok := p.(*mqtt.Suback); !ok || a.Codes[0] != mqtt.UnspecifiedError {
			t.Errorf("SUBSCRIBE with 65,535 bytes: %+v", p)
		}
	}
	other.quiet()
}

// TestByteOrderMark: U+FEFF is a character like others.
func TestByteOrderMarkStays_v311_MQTT_1_5_3_3(t *testing.T) {
	t.Parallel()
	c := connect(t, v311)
	topic := own("a")
	c.send("82 [0001 (EFBBBF '%s') 00]", topic)
	c.exactly("90 03 0001 00")
	c.send("30 [('%s') 'without'] 30 [(EFBBBF '%s') EFBBBF 'with']", topic, topic)
	c.exactly("30 [(EFBBBF '%s') EFBBBF 'with']", topic)
}

// TestPacketsAfterDisconnect: the server closes, and does nothing of what follows.
func TestNothingAfterDisconnect_v311_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub := connect(t, v311)
	sub.subscribe(topic, 0)
	c := connect(t, v311)
	c.send("E000 30 [('%s') 'x'] C000", topic)
	c.expectClosed()
	sub.quiet()
}

// TestUnexpectedAcknowledgements: what nobody asked for changes nothing. PUBREL of an unknown message is answered, so that
// its sender can forget it.
func TestUnexpectedAcknowledgements_v311_MQTT_4_3_3_2(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v)
		c.send("4002 0007 7002 0007 6202 0009")
		c.exactly("70 02 0009")
		c.quiet()
	}
}
