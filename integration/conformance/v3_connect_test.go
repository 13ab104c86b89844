package conformance

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// olds are the versions before MQTT 5.
func olds() []mqtt.Version { return []mqtt.Version{v31, v311} }

// bytesOf returns what a format stands for in the notation of mqtttest.Wire.
func bytesOf(format string, args ...any) []byte { return mqtttest.Wire(fmt.Sprintf(format, args...)) }

// exactly wants the next packet to be these bytes.
func (c *client) exactly(format string, args ...any) {
	c.t.Helper()
	c.next()
	if want := bytesOf(format, args...); !bytes.Equal(c.frame, want) {
		c.t.Fatalf("%s: got % X, want % X", c.id, c.frame, want)
	}
}

// cutOff sends packets, each on a connection of its own, which must end without an answer.
func cutOff(t *testing.T, v mqtt.Version, packets ...string) {
	t.Helper()
	for _, p := range packets {
		c := connect(t, v)
		c.id += " " + p
		c.send("%s", p)
		c.expectClosed()
	}
}

// cutOffConnect sends first packets, each on a connection of its own, which must end without CONNACK.
func cutOffConnect(t *testing.T, packets ...string) {
	t.Helper()
	for _, p := range packets {
		c := dial(t, v311)
		c.id = p
		c.send("%s", p)
		c.expectClosed()
	}
}

// answeredConnect sends a first packet and wants that CONNACK, and the end.
func answeredConnect(t *testing.T, code byte, packets ...string) {
	t.Helper()
	for _, p := range packets {
		c := dial(t, v311)
		c.id = p
		c.send("%s", p)
		c.exactly("20 02 00 %02X", code)
		c.expectClosed()
	}
}

func TestAcceptedConnect_v311_MQTT_3_1_4_4_MQTT_3_2_0_1_MQTT_3_2_2_1_MQTT_3_2_2_3(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"10 [('MQTT') 04 02 003C ('%s')]", "10 [('MQTT') 04 00 003C ('%s')]", "10 [('MQIsdp') 03 02 003C ('%s')]"} {
		c := dial(t, v311)
		// What follows CONNECT at once is answered behind CONNACK.
		c.send(first+" C000 82 [0001 ('x/%s') 01] C000", own("c"), own("a"))
		c.exactly("20 02 00 00")
		c.exactly("D0 00")
		c.exactly("90 03 0001 01")
		c.exactly("D0 00")
	}
}

// TestFirstPacket: a server knows no version to answer another packet in.
func TestFirstPacketIsConnect_v311_MQTT_3_1_0_1(t *testing.T) {
	t.Parallel()
	cutOffConnect(t, "2002 0000", "30 [('a')]", "32 [('a') 0001]", "4002 0001", "5002 0001", "6202 0001", "7002 0001", "82 [0001 ('a') 00]",
		"90 [0001 00]", "A2 [0001 ('a')]", "B002 0001", "C000", "D000", "E000", "F000", "0000",
		"30 [('a')] 10 [('MQTT') 04 02 003C ('late')]")
}

func TestSecondConnect_v311_MQTT_3_1_0_2(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v)
		c.put(&mqtt.Connect{ClientID: c.id, CleanStart: true})
		c.expectClosed()
	}
	c := dial(t, v311)
	one := bytesOf("10 [('MQTT') 04 02 003C ('%s')]", own("c"))
	c.write(append(one, one...)) // in one write
	c.exactly("20 02 00 00")
	c.expectClosed()
}

func TestProtocolName_v311_MQTT_3_1_2_1(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "MQT", "mqtt", "MQTTX", "MQIsdpX", "MQISDP", "HTTP"} {
		cutOffConnect(t, fmt.Sprintf("10 [('%s') 04 02 003C ('a')]", name), fmt.Sprintf("10 [('%s') 03 02 003C ('a')]", name))
	}
}

func TestProtocolLevel_v311_MQTT_3_1_2_2(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{0, 1, 2, 3, 0x83, 0x84, 0xFF} {
		answeredConnect(t, 1, fmt.Sprintf("10 [('MQTT') %02X 02 003C ('a')]", level))
	}
	for _, level := range []byte{0, 1, 2, 4, 5, 6, 0x83} { // the name of MQTT 3.1 goes with level 3
		answeredConnect(t, 1, fmt.Sprintf("10 [('MQIsdp') %02X 02 003C ('a')]", level))
	}
}

func TestReservedConnectFlag_v311_MQTT_3_1_2_3_MQTT_3_1_4_1(t *testing.T) {
	t.Parallel()
	cutOffConnect(t, "10 [('MQTT') 04 03 003C ('a')]", "10 [('MQTT') 04 01 003C ('a')]")
}

func TestWillFlags_v311_MQTT_3_1_2_9_MQTT_3_1_2_11_MQTT_3_1_2_13_MQTT_3_1_2_14_MQTT_3_1_2_15_MQTT_3_1_4_1(t *testing.T) {
	t.Parallel()
	cutOffConnect(t,
		"10 [('MQTT') 04 06 003C ('a')]",             // no will at all
		"10 [('MQTT') 04 06 003C ('a') ('w')]",       // no message
		"10 [('MQTT') 04 06 003C ('a') () ('x')]",    // an empty topic
		"10 [('MQTT') 04 06 003C ('a') ('w/+') ()]",  // a wildcard in the topic
		"10 [('MQTT') 04 06 003C ('a') ('w/#') ()]",  // the other
		"10 [('MQTT') 04 0A 003C ('a')]",             // Will QoS 1 without a will
		"10 [('MQTT') 04 12 003C ('a')]",             // Will QoS 2 without a will
		"10 [('MQTT') 04 1A 003C ('a')]",             // Will QoS 3 without a will
		"10 [('MQTT') 04 1E 003C ('a') ('w') ('x')]", // Will QoS 3
		"10 [('MQTT') 04 22 003C ('a')]",             // Will Retain without a will
		"10 [('MQTT') 04 02 003C ('a') ('w') ('x')]", // a will without the flag
	)
	for _, flags := range []byte{0x06, 0x0E, 0x16, 0x26, 0x2E, 0x36} {
		c := dial(t, v311)
		c.send("10 [('MQTT') 04 %02X 003C ('%s') ('%s') ()]", flags, own("c"), own("w"))
		c.exactly("20 02 00 00")
		c.put(&mqtt.Disconnect{})
		c.expectEnd()
	}
}

func TestUserNameAndPasswordFlags_v311_MQTT_3_1_2_18_MQTT_3_1_2_19_MQTT_3_1_2_20_MQTT_3_1_2_21_MQTT_3_1_2_22_MQTT_3_1_4_1(t *testing.T) {
	t.Parallel()
	cutOffConnect(t,
		"10 [('MQTT') 04 02 003C ('a') ('user')]",
		"10 [('MQTT') 04 82 003C ('a')]",
		"10 [('MQTT') 04 82 003C ('a') ('user') ('password')]",
		"10 [('MQTT') 04 C2 003C ('a') ('user')]",
		"10 [('MQTT') 04 42 003C ('a') ('password')]", // a password without a user name
		"10 [('MQTT') 04 42 003C ('a') ('user') ('password')]",
	)
	for _, fields := range []string{"82 003C ('%s') ('user')", "C2 003C ('%s') ('user') ('password')", "C2 003C ('%s') ('') (00FF)"} {
		c := dial(t, v311)
		c.send("10 [('MQTT') 04 "+fields+"]", own("c"))
		c.exactly("20 02 00 00")
	}
}

// TestOrderOfPayload: a CONNECT with every field; each must land where it belongs.
func TestOrderOfPayload_v311_MQTT_3_1_3_1_MQTT_3_1_3_3(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := connect(t, v311, on(guarded(t)), alice)
	sub.subscribe(topic, 1)
	c := dial(t, v311, on(guarded(t)))
	c.send("10 [('MQTT') 04 CE 003C ('%s') ('%s') ('gone') ('alice') ('secret')]", own("c"), topic)
	c.exactly("20 02 00 00")
	c.abort()
	if m := sub.message(); string(m.Payload) != "gone" || m.QoS != 1 || m.Retain {
		t.Errorf("the will is %+v", m)
	}
	cutOffConnect(t, "10 [('MQTT') 04 02 003C]", "10 [('MQTT') 04 02 003C 00]", "10 [('MQTT') 04 02 003C 0005 'abc']")
}

func TestClientIDs_v311_MQTT_3_1_3_5_MQTT_3_1_3_2(t *testing.T) {
	t.Parallel()
	const all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, v := range olds() {
		for i := 0; i+20 <= len(all); i += 14 {
			connect(t, v, as(fmt.Sprint(all[i:i+20], v))).quiet()
		}
		connect(t, v, as(fmt.Sprint(v)[len(fmt.Sprint(v))-1:])).quiet() // one character
	}
	connect(t, v311, as(strings.Repeat("long", 16)+own("c"))).quiet() // 3.1.1 servers may allow more, and this one does
	connect(t, v311, as("with blanks, ümlauts and 水 "+own("c"))).quiet()
}

// TestEmptyClientID: the server makes up an id of its own for each.
func TestEmptyClientID_v311_MQTT_3_1_3_6_MQTT_3_1_3_8(t *testing.T) {
	t.Parallel()
	a, b := connect(t, v311, as("")), connect(t, v311, as(""))
	a.quiet()
	b.quiet()
	answeredConnect(t, 2, "10 [('MQTT') 04 00 003C ()]", "10 [('MQTT') 04 04 003C () ('w') ('x')]")
}

func TestRejectedConnect_v311_MQTT_3_1_3_9_MQTT_3_2_2_4_MQTT_3_2_2_5_MQTT_3_1_4_5(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub := connect(t, v311)
	sub.subscribe(topic, 0)
	// What follows is not processed.
	answeredConnect(t, 2, fmt.Sprintf("10 [('MQTT') 04 00 003C ()] 30 [('%s') 'x'] C000", topic))
	answeredConnect(t, 1, fmt.Sprintf("10 [('MQTT') 03 02 003C ('a')] 30 [('%s') 'x'] C000", topic))
	sub.quiet()
	// Bad credentials and missing ones, also of a client that has a session: it stays as it is.
	site := guarded(t)
	mine := connect(t, v311, on(site), alice, durable)
	mine.disconnect()
	for _, v := range olds() {
		refused(t, v, mqtt.BadUserNameOrPassword, on(site), as(mine.id), func(s *setup) {
			s.HasUsername, s.Username, s.HasPassword, s.Password = true, "alice", true, []byte("guess")
		})
		refused(t, v, mqtt.NotAuthorized, on(site), as(mine.id))
	}
	c := dial(t, v311, on(site))
	c.send("10 [('MQTT') 04 C2 003C ('%s') ('alice') ('guess')]", own("c"))
	c.exactly("20 02 00 04")
	c.expectClosed()
	c = dial(t, v311, on(site))
	c.send("10 [('MQTT') 04 02 003C ('%s')]", own("c"))
	c.exactly("20 02 00 05")
	c.expectClosed()
	if again := connect(t, v311, on(site), alice, durable, as(mine.id)); !again.ack.SessionPresent {
		t.Error("a refused CONNECT ended the session")
	}
}

// TestConnectStrings: client id, will topic and user name are UTF-8 without surrogates and U+0000.
func TestConnectStrings_v311_MQTT_1_5_3_1_MQTT_1_5_3_2_MQTT_3_1_3_4_MQTT_3_1_3_10_MQTT_3_1_3_11_MQTT_3_1_4_1(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"EDA080", "EDBFBF", "C080", "C3", "FF", "F4908080", "00", "'a' 00 'b'"} {
		cutOffConnect(t,
			"10 [('MQTT') 04 02 003C ("+s+")]",
			"10 [('MQTT') 04 06 003C ('a') ("+s+") ('x')]",
			"10 [('MQTT') 04 82 003C ('a') ("+s+")]",
		)
	}
	// Will message and password are data.
	c := dial(t, v311)
	c.send("10 [('MQTT') 04 C6 003C ('%s') ('%s') (00FFC080) ('u') (00FFC080)]", own("c"), own("w"))
	c.exactly("20 02 00 00")
	c.put(&mqtt.Disconnect{})
	c.expectEnd()
}

// TestKeepAlive: one and a half intervals, not less, not much more; every packet counts, PINGREQ among them.
func TestKeepAlive_v311_MQTT_3_1_2_24(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			topic := own("w")
			sub := watch(t, topic, 0)
			c := connect(t, v, will(topic, "silent"), func(s *setup) { s.KeepAlive = 3 })
			for range 5 { // busy for longer than an interval and a half
				wait(t, time.Now().Add(time.Second))
				c.quiet()
			}
			begin := time.Now()
			if came := c.expectEnd(); len(came) != 0 {
				t.Errorf("%+v before the end", came[0])
			}
			if after := time.Since(begin); after < 4400*time.Millisecond || after > 4500*time.Millisecond+patience {
				t.Errorf("ended after %v, want 4.5 s", after)
			}
			sub.payloads("silent") // like a failure of the network
		})
	}
}

func TestNoKeepAlive_v311_MQTT_3_1_2_24(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v, func(s *setup) { s.KeepAlive = 0 })
		wait(t, time.Now().Add(1700*time.Millisecond))
		c.quiet()
	}
}

func TestPing_v311_MQTT_3_12_4_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v)
		c.send("C000 C000 C000")
		for range 3 {
			c.exactly("D0 00")
		}
	}
}

// TestBytesOneByOne: a packet may come in as many pieces as it has bytes.
func TestBytesOneByOne_v311_MQTT_7_1_1_1(t *testing.T) {
	t.Parallel()
	c := dial(t, v311)
	topic := own("a")
	for _, b := range bytesOf("10 [('MQTT') 04 02 003C ('%s')] 82 [0001 ('%s') 02] 34 [('%s') 0002 'x'] 6202 0002 C000", own("c"), topic, own("b")) {
		c.write([]byte{b})
	}
	c.exactly("20 02 00 00")
	c.exactly("90 03 0001 02")
	c.exactly("50 02 0002")
	for range 2 { // PINGRESP waits for no commit
		switch p := c.next().(type) {
		case *mqtt.Pingresp, *mqtt.Pubcomp:
		default:
			t.Fatalf("got %s", p.Type())
		}
	}
}
