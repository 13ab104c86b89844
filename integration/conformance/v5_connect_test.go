package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// TestFirstPacketIsConnect: nothing else is answered, as there is no version to answer in.
func TestFirstPacketIsConnect_v5_MQTT_3_1_0_1_MQTT_3_14_0_1(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"20 [00 00 []]", "30 [('a') []]", "32 [('a') 0001 []]", "40 [0001]", "50 [0001]", "62 [0001]", "70 [0001]",
		"82 [0001 [] ('a') 00]", "90 [0001 [] 00]", "A2 [0001 [] ('a')]", "B0 [0001 [] 00]", "C0 []", "D0 []", "E0 []", "F0 [18 [15 ('M')]]", "00 []"} {
		c := dial(t, v5)
		c.id = p
		c.send("%s", p)
		c.expectClosed()
	}
}

func TestSecondConnect_v5_MQTT_3_1_0_2(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	c.put(&mqtt.Connect{ClientID: c.id, CleanStart: true, RequestProblemInfo: true})
	c.expectDisconnect(mqtt.ProtocolError)
	c = dial(t, v5)
	one := mqtttest.Wire(fmt.Sprintf("10 [('MQTT') 05 02 0000 [] ('%s')]", own("a")))
	c.write(append(one, one...)) // in one write
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.Success {
		t.Errorf("CONNACK %s", a.Code)
	}
	c.expectDisconnect(mqtt.ProtocolError)
}

func TestProtocolName_v5_MQTT_3_1_2_1(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "MQT", "mqtt", "MQTTX", "HTTP", "MQIsdp"} {
		c := dial(t, v5)
		c.id = name
		c.send("10 [('%s') 05 02 0000 [] ('a')]", name)
		if p, err := c.receive(); err == nil {
			if a, ok := p.(*mqtt.Connack); !ok || a.Code != mqtt.UnsupportedProtocolVersion {
				t.Errorf("%q: got %+v", name, p)
			}
			c.expectClosed()
		}
	}
}

func TestProtocolVersion_v5_MQTT_3_1_2_2(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{6, 7, 0x7F} {
		c := dial(t, v5)
		c.send("10 [('MQTT') %02X 02 0000 [] ('a')]", level)
		if a := expect[*mqtt.Connack](c); a.Code != mqtt.UnsupportedProtocolVersion {
			t.Errorf("level %d: CONNACK %s", level, a.Code)
		}
		c.expectClosed()
	}
}

func TestReservedConnectFlag_v5_MQTT_3_1_2_3(t *testing.T) {
	t.Parallel()
	brokenConnect(t, mqtt.MalformedPacket, "10 [('MQTT') 05 03 0000 [] ('a')]", "10 [('MQTT') 05 01 0000 [] ('a')]")
}

func TestWillFlags_v5_MQTT_3_1_2_9_MQTT_3_1_2_11_MQTT_3_1_2_12_MQTT_3_1_2_13(t *testing.T) {
	t.Parallel()
	brokenConnect(t, mqtt.MalformedPacket,
		"10 [('MQTT') 05 06 0000 [] ('a')]",                // no will at all
		"10 [('MQTT') 05 06 0000 [] ('a') []]",             // no topic
		"10 [('MQTT') 05 06 0000 [] ('a') [] ('w')]",       // no payload
		"10 [('MQTT') 05 06 0000 [] ('a') ('w') ('x')]",    // no properties
		"10 [('MQTT') 05 0A 0000 [] ('a')]",                // Will QoS 1 without a will
		"10 [('MQTT') 05 12 0000 [] ('a')]",                // Will QoS 2 without a will
		"10 [('MQTT') 05 1E 0000 [] ('a') [] ('w') ('x')]", // Will QoS 3
		"10 [('MQTT') 05 22 0000 [] ('a')]",                // Will Retain without a will
		"10 [('MQTT') 05 02 0000 [] ('a') [] ('w') ('x')]", // a will without the flag
	)
}

func TestUserNameAndPasswordFlags_v5_MQTT_3_1_2_16_MQTT_3_1_2_17_MQTT_3_1_2_18_MQTT_3_1_2_19(t *testing.T) {
	t.Parallel()
	brokenConnect(t, mqtt.MalformedPacket,
		"10 [('MQTT') 05 02 0000 [] ('a') ('user')]",
		"10 [('MQTT') 05 82 0000 [] ('a')]",
		"10 [('MQTT') 05 82 0000 [] ('a') ('user') ('password')]",
		"10 [('MQTT') 05 C2 0000 [] ('a') ('user')]",
		"10 [('MQTT') 05 42 0000 [] ('a')]",
		"10 [('MQTT') 05 42 0000 [] ('a') ('user') ('password')]",
	)
	// MQTT 5 allows a password without a user name.
	connect(t, v5, func(s *setup) { s.HasPassword, s.Password = true, []byte("token") })
}

// TestOrderOfPayload: a CONNECT with every field; each must land where it belongs.
func TestOrderOfPayload_v5_MQTT_3_1_3_1(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := connect(t, v5, on(guarded(t)), alice)
	sub.subscribe(topic, 1)
	c := dial(t, v5, on(guarded(t)))
	c.send("10 [('MQTT') 05 CE 0000 [] ('%s') [03 ('text')] ('%s') ('gone') ('alice') ('secret')]", own("c"), topic)
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.Success {
		t.Fatalf("CONNACK %s", a.Code)
	}
	c.abort()
	m := sub.message()
	props, err := mqtt.ParseMessageProps(m.Props)
	if err != nil || string(m.Payload) != "gone" || m.QoS != 1 || props.ContentType != "text" {
		t.Errorf("the will is %+v (%v)", m, err)
	}
}

func TestClientIDIsFirst_v5_MQTT_3_1_3_3(t *testing.T) {
	t.Parallel()
	brokenConnect(t, mqtt.MalformedPacket, "10 [('MQTT') 05 02 0000 []]", "10 [('MQTT') 05 02 0000 [] 00]", "10 [('MQTT') 05 02 0000 [] 0005 'abc']")
}

func TestClientIDNamesTheSession_v5_MQTT_3_1_3_2(t *testing.T) {
	t.Parallel()
	one, two := own("a"), own("b")
	c := connect(t, v5, as(one), durable)
	c.subscribe(own("x"), 1)
	c.disconnect()
	if c = connect(t, v5, as(two), durable); c.ack.SessionPresent {
		t.Error("another client id has the session")
	}
	if c = connect(t, v5, as(strings.ToUpper(one)), durable); c.ack.SessionPresent {
		t.Error("client ids are compared without case")
	}
	if c = connect(t, v5, as(one), durable); !c.ack.SessionPresent {
		t.Error("the session is gone")
	}
}

func TestClientIDsThatMustBeAllowed_v5_MQTT_3_1_3_5(t *testing.T) {
	t.Parallel()
	const all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, id := range []string{"0", "z", all[:23], all[23:46], all[39:]} {
		connect(t, v5, as(id))
	}
	connect(t, v5, as(strings.Repeat("longer than they must allow ", 9)))
}

func TestEmptyClientID_v5_MQTT_3_1_3_6_MQTT_3_1_3_7_MQTT_3_2_2_16(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 3 {
		c := connect(t, v5, as(""))
		if c.ack.AssignedClientID == "" || seen[c.ack.AssignedClientID] {
			t.Fatalf("assigned client id %q", c.ack.AssignedClientID)
		}
		seen[c.ack.AssignedClientID] = true
	}
	// Also with Clean Start 0; the assigned id is as good as any other.
	c := connect(t, v5, as(""), durable)
	topic := own("a")
	c.subscribe(topic, 1)
	c.disconnect()
	if again := connect(t, v5, as(c.id), durable); !again.ack.SessionPresent || again.ack.AssignedClientID != "" {
		t.Errorf("back as %s: session present %v, assigned %q", c.id, again.ack.SessionPresent, again.ack.AssignedClientID)
	}
	if c := connect(t, v5); c.ack.AssignedClientID != "" {
		t.Error("a client that has an id gets another")
	}
}

func TestRejectedClientID_v5_MQTT_3_1_3_8_MQTT_3_2_2_6_MQTT_3_2_2_7_MQTT_3_2_2_8(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a/+", "#", strings.Repeat("x", 300)} {
		refused(t, v5, mqtt.ClientIdentifierNotValid, as(id))
	}
}

func TestMalformedConnect_v5_MQTT_3_1_4_1_MQTT_4_13_1_1(t *testing.T) {
	t.Parallel()
	brokenConnect(t, mqtt.MalformedPacket,
		"10 [('MQTT') 05 02]", "10 [('MQTT') 05 02 0000]", "10 [('MQTT') 05 02 00]", "10 [('MQTT') 05 02 0000 [] ('a') 00]",
		"10 [('MQTT') 05 02 0000 05 ('a')]", "10 [('MQTT') 05 02 0000 [01 00] ('a')]", "10 [('MQTT') 05 02 0000 [FF] ('a')]",
		"10 [('MQTT') 05 02 0000 [18 00000001] ('a')]", "10 [('MQTT') 05 02 0000 [11 00] ('a')]",
		"10 [('MQTT') 05 06 0000 [] ('a') [11 00000001] ('w') ()]", "10 [('MQTT') 05 06 0000 [] ('a') [23 0001] ('w') ()]",
	)
	brokenConnect(t, mqtt.ProtocolError,
		"10 [('MQTT') 05 02 0000 [21 0000] ('a')]", "10 [('MQTT') 05 02 0000 [27 00000000] ('a')]",
		"10 [('MQTT') 05 02 0000 [19 02] ('a')]", "10 [('MQTT') 05 02 0000 [17 02] ('a')]", "10 [('MQTT') 05 02 0000 [16 (00)] ('a')]",
		"10 [('MQTT') 05 06 0000 [] ('a') [01 02] ('w') ()]",
	)
	// Two of what may be there once.
	for _, prop := range []string{"11 00000001", "21 0001", "27 00000100", "22 0001", "19 00", "17 01", "15 ('M')"} {
		brokenConnect(t, mqtt.ProtocolError, fmt.Sprintf("10 [('MQTT') 05 02 0000 [%s %s] ('a')]", prop, prop))
	}
	for _, prop := range []string{"18 00000001", "01 01", "02 00000001", "03 ('t')", "08 ('r')", "09 (00)"} {
		brokenConnect(t, mqtt.ProtocolError, fmt.Sprintf("10 [('MQTT') 05 06 0000 [] ('a') [%s %s] ('w') ()]", prop, prop))
	}
	// First bytes that are no CONNECT in order, and what is cut off, end without an answer.
	for _, p := range []string{"11 [('MQTT') 05 02 0000 [] ('a')]", "1F []", "10 FFFFFFFFFF"} {
		c := dial(t, v5)
		c.id = p
		c.send("%s", p)
		c.expectEnd()
	}
}

func TestWillTopicOfConnect(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{"a/#", "+", "a/+/b", ""} {
		c := dial(t, v5)
		c.id = "will " + topic
		c.send("10 [('MQTT') 05 06 0000 [] ('a') [] ('%s') ()]", topic)
		if a := expect[*mqtt.Connack](c); !a.Code.Failed() {
			t.Errorf("will topic %q: CONNACK %s", topic, a.Code)
		}
		c.expectClosed()
	}
}

func TestTakeover_v5_MQTT_3_1_4_3_MQTT_4_13_2_1(t *testing.T) {
	t.Parallel()
	old := connect(t, v5, durable)
	now := connect(t, v5, durable, as(old.id))
	if d := old.expectDisconnect(mqtt.SessionTakenOver); d.HasSessionExpiry {
		t.Error("DISCONNECT has a session expiry")
	}
	if !now.ack.SessionPresent {
		t.Error("session present is 0")
	}
	// Also by a client of another version, and with Clean Start.
	last := connect(t, v311, as(old.id))
	now.expectDisconnect(mqtt.SessionTakenOver)
	last.quiet()
}

func TestTakeoverAcrossNodes_v5_MQTT_3_1_4_3(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	old := connect(t, v5, on(nodes[0]), durable)
	topic := own("a")
	old.subscribe(topic, 1)
	now := connect(t, v5, on(nodes[1]), durable, as(old.id))
	old.expectDisconnect(mqtt.SessionTakenOver)
	if !now.ack.SessionPresent {
		t.Error("session present is 0")
	}
	connect(t, v5, on(nodes[2])).publish(topic, "x", 1)
	now.payloads("x")
}

// TestRejectedConnectWithData: the will, the subscription and the message that come with it have no effect.
func TestRejectedConnectWithData_v5_MQTT_3_1_4_6(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub := connect(t, v5)
	sub.subscribe(topic, 0)
	c := dial(t, v5)
	c.send("10 [('MQTT') 05 02 0000 [] ('a/+')] 30 [('%s') [] 'x']", topic)
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.ClientIdentifierNotValid {
		t.Errorf("CONNACK %s", a.Code)
	}
	c.expectClosed()
	connect(t, v5).publish(topic, "marker", 0)
	sub.payloads("marker")
}

func TestAcceptedConnect_v5_MQTT_3_1_4_5_MQTT_3_2_2_1(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	if c.frame[0] != 0x20 || c.frame[2] != 0 || c.frame[3] != 0 {
		t.Errorf("CONNACK % X", c.frame)
	}
	c = connect(t, v5, as(c.id), durable)
	c.disconnect()
	if c = connect(t, v5, as(c.id), durable); c.frame[2] != 1 || c.frame[3] != 0 {
		t.Errorf("CONNACK of a resumed session % X", c.frame)
	}
}

// TestConnackComesFirst: the packets of a client that does not wait, and messages that wait for it, come after CONNACK.
func TestConnackComesFirst_v5_MQTT_3_2_0_1_MQTT_3_2_0_2(t *testing.T) {
	t.Parallel()
	topic, id := own("a"), own("c")
	c := connect(t, v5, as(id), durable)
	c.subscribe(topic, 1)
	c.abort()
	pub := connect(t, v5)
	for range 5 {
		pub.publish(topic, "x", 1)
	}
	c = dial(t, v5)
	c.send("10 [('MQTT') 05 00 0000 [11 00001000] ('%s')] C0 [] 82 [0001 [] ('%s/b') 01] 32 [('%s') 0007 [] 'y']", id, topic, topic)
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.Success || !a.SessionPresent {
		t.Fatalf("CONNACK %+v", a)
	}
	came := map[mqtt.Type]int{}
	for came[mqtt.TypePublish] < 6 || came[mqtt.TypePuback] < 1 || came[mqtt.TypeSuback] < 1 || came[mqtt.TypePingresp] < 1 {
		came[c.next().Type()]++
	}
	if came[mqtt.TypeConnack] > 0 {
		t.Errorf("a second CONNACK: %v", came)
	}
	c.quiet()
}

func TestCleanStart_v5_MQTT_3_1_2_4_MQTT_3_1_2_5_MQTT_3_1_2_6_MQTT_3_1_4_4_MQTT_3_2_2_2_MQTT_3_2_2_3(t *testing.T) {
	t.Parallel()
	id, topic := own("c"), own("a")
	pub := connect(t, v5)
	c := connect(t, v5, as(id), durable)
	if c.ack.SessionPresent {
		t.Error("a new session is present")
	}
	c.subscribe(topic, 1)
	c.disconnect()
	pub.publish(topic, "queued", 1)
	c = connect(t, v5, as(id), durable)
	if !c.ack.SessionPresent {
		t.Error("the session is not present")
	}
	c.payloads("queued")
	pub.publish(topic, "live", 1)
	c.payloads("live")
	c.disconnect()
	pub.publish(topic, "lost", 1)
	c = connect(t, v5, as(id), durable, func(s *setup) { s.CleanStart = true })
	if c.ack.SessionPresent {
		t.Error("Clean Start 1 finds a session")
	}
	pub.publish(topic, "nobody", 1)
	c.quiet()
	c.subscribe(topic, 1)
	pub.publish(topic, "new", 1)
	c.payloads("new")
}
