package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

func TestMalformedPublish_v5_MQTT_3_3_1_2_MQTT_3_3_1_4_MQTT_4_13_1_1(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.MalformedPacket, "36 [('a') 0001 []]", "3E [('a') 0001 []]", "38 [('a') []]", "39 [('a') []]", // QoS 3, DUP with QoS 0
		"30 [('a')]", "32 [('a') 00]", "32 [('a') 0001]", "30 [('a') 05 01]", "30 [('a') 7F]",
		"30 [('a') [00 00]]", "30 [('a') [11 00000001]]", "30 [('a') [18 00000001]]", "30 [('a') [1F ('x')]]", "30 [('a') [2B 00]]",
		"30 [('a') [02 0000]]", "30 [('a') [03 0005 'x']]", "30 [('a') [23]]")
	broken(t, mqtt.ProtocolError, "30 [('a') [01 02]]", "30 [('a') [01 00 01 00]]", "30 [('a') [02 00000001 02 00000001]]", "30 [('a') [03 () 03 ()]]",
		"30 [('a') [08 ('r') 08 ('r')]]", "30 [('a') [09 () 09 ()]]", "30 [('a') [23 0001 23 0001]]", "30 [() []]")
}

func TestSubscriptionIdentifierFromClient_v5_MQTT_3_3_4_6(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.ProtocolError, "30 [('a') [0B 01]]", "32 [('a') 0001 [0B 01]]", "30 [('a') [0B 00]]")
}

func TestTopicNameWithWildcard_v5_MQTT_3_3_2_2_MQTT_4_7_0_1(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.TopicNameInvalid, "30 [('a/#') []]", "30 [('+') []]", "32 [('a/+/b') 0001 []]", "34 [('#') 0001 []]", "30 [('a+') []]", "30 [('a#b') []]")
}

func TestResponseTopicWithWildcard_v5_MQTT_3_3_2_14(t *testing.T) {
	t.Parallel()
	broken(t, mqtt.TopicNameInvalid, "30 [('a') [08 ('r/#')]]", "32 [('a') 0001 [08 ('+/r')]]")
}

func TestTopicNameMatchesTheFilter_v5_MQTT_3_3_2_3(t *testing.T) {
	t.Parallel()
	base := own("m")
	sub, pub := connect(t, v5), connect(t, v5)
	sub.subscribe(base+"/+/x/#", 1)
	for _, topic := range []string{"/1/x", "/2/y/x", "/x", "/3/x/y", "/4/x/", "//x", "/5/X", "/6/x/a/b/c", "/7"} {
		pub.publish(base+topic, topic, 1)
	}
	for _, want := range []string{"/1/x", "/3/x/y", "/4/x/", "//x", "/6/x/a/b/c"} {
		if m := sub.message(); string(m.Topic) != base+want || string(m.Payload) != want {
			t.Errorf("got %q on %s, want %s", m.Payload, m.Topic, want)
		}
	}
	sub.quiet()
}

// TestPropertiesTravel: every property that belongs to a message reaches subscribers unchanged and in order: live with
// every QoS, from the inbox, from the store of retained messages, and between nodes.
func TestPropertiesTravel_v5_MQTT_3_3_2_4_MQTT_3_3_2_15_MQTT_3_3_2_16_MQTT_3_3_2_17_MQTT_3_3_2_18_MQTT_3_3_2_20(t *testing.T) {
	t.Parallel()
	sent := mqtt.MessageProps{
		PayloadIsUTF8: true, ContentType: "text/plain; charset=ütf", ResponseTopic: "answers/to me", Correlation: []byte{0, 255, 1},
		UserProperties: []mqtt.UserProperty{{Key: "z", Value: "1"}, {Key: "a", Value: "2"}, {Key: "z", Value: "3"}, {Key: "", Value: ""}, {Key: "z", Value: "1"}},
	}
	props, err := sent.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	topic := own("p")
	live, away, pub := connect(t, v5), connect(t, v5, durable), connect(t, v5)
	live.subscribe(topic, 2)
	away.subscribe(topic, 2)
	away.abort()
	for qos := byte(0); qos <= 2; qos++ {
		pub.publish(topic, "ü", qos, func(p *mqtt.Publish) { p.Props, p.Retain = props, qos == 2 })
		if m := live.message(); !bytes.Equal(m.Props, props) || string(m.Payload) != "ü" {
			t.Errorf("QoS %d: % X, want % X", qos, m.Props, props)
		}
	}
	away = connect(t, v5, as(away.id), durable)
	late := watch(t, topic, 2)
	for name, c := range map[string]*client{"inbox": away, "retained": late} {
		if m := c.message(); !bytes.Equal(m.Props, props) {
			t.Errorf("%s: % X, want % X", name, m.Props, props)
		}
	}
	// An indicator of 0 and empty values are properties, too.
	raw := mqtttest.Wire("01 00 03 () 09 () 26 () ()")
	pub.publish(topic, "x", 1, func(p *mqtt.Publish) { p.Props = raw })
	if m := live.message(); !bytes.Equal(m.Props, raw) {
		t.Errorf("got % X, want % X", m.Props, raw)
	}
}

func TestPropertiesTravelBetweenNodes_v5_MQTT_3_3_2_17(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	topic := own("p")
	props := mqtttest.Wire("26 ('k') ('2') 01 01 26 ('k') ('1') 08 ('r') 26 ('a') ('0')")
	sub, pub := connect(t, v5, on(nodes[0])), connect(t, v5, on(nodes[1]))
	sub.subscribe(topic, 2)
	for qos := byte(0); qos <= 2; qos++ {
		pub.publish(topic, "x", qos, func(p *mqtt.Publish) { p.Props = props })
		if m := sub.message(); !bytes.Equal(m.Props, props) {
			t.Errorf("QoS %d: % X, want % X", qos, m.Props, props)
		}
	}
}

func TestAnswersByQoS_v5_MQTT_3_3_4_1_MQTT_2_2_1_2_MQTT_2_2_1_5_MQTT_4_3_1_1(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub, pub := watch(t, topic, 2), connect(t, v5)
	pub.send("30 [('%s') [] '0']", topic)
	if m := sub.message(); m.QoS != 0 || m.Dup || m.PacketID != 0 {
		t.Errorf("QoS 0: %+v", m)
	}
	pub.quiet()
	pub.send("32 [('%s') 1234 [] '1']", topic)
	if a := expect[*mqtt.Puback](pub); a.PacketID != 0x1234 {
		t.Errorf("PUBACK %04X", a.PacketID)
	}
	pub.send("34 [('%s') FFFF [] '2']", topic)
	if a := expect[*mqtt.Pubrec](pub); a.PacketID != 0xFFFF {
		t.Errorf("PUBREC %04X", a.PacketID)
	}
	pub.send("62 [FFFF]")
	if a := expect[*mqtt.Pubcomp](pub); a.PacketID != 0xFFFF || a.Code != mqtt.Success {
		t.Errorf("PUBCOMP %+v", a)
	}
	sub.payloads("1", "2")
}

// TestNoMatchingSubscribers: the code is allowed, an error is not.
func TestNoMatchingSubscribers_v5_MQTT_3_4_2_1_MQTT_3_5_2_1_MQTT_3_7_2_1(t *testing.T) {
	t.Parallel()
	pub := connect(t, v5)
	pub.send("32 [('%s') 0001 []]", own("a"))
	if a := expect[*mqtt.Puback](pub); a.Code.Failed() {
		t.Errorf("PUBACK %s", a.Code)
	}
	pub.send("34 [('%s') 0002 []]", own("a"))
	if a := expect[*mqtt.Pubrec](pub); a.Code.Failed() {
		t.Errorf("PUBREC %s", a.Code)
	}
	pub.send("62 [0002] 62 [0002] 62 [0005]")
	for _, want := range []mqtt.ReasonCode{mqtt.Success, mqtt.PacketIdentifierNotFound, mqtt.PacketIdentifierNotFound} {
		if a := expect[*mqtt.Pubcomp](pub); a.Code != want {
			t.Errorf("PUBCOMP %s, want %s", a.Code, want)
		}
	}
}

func TestAcksOfAllForms_v5_MQTT_2_2_2_1(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub, pub := watch(t, topic, 2), connect(t, v5)
	for _, form := range []string{"40 [%04X]", "40 [%04X 00]", "40 [%04X 00 []]", "40 [%04X 10 [1F ('r') 26 ('k') ('v') 26 ('k') ('v')]]", "40 [%04X 87]"} {
		pub.publish(topic, form, 1)
		m := expect[*mqtt.Publish](sub)
		sub.send(form, m.PacketID)
		sub.quiet()
	}
	broken(t, mqtt.ProtocolError, "40 [0001 01]", "40 [0001 92]", "50 [0001 92]", "62 [0001 80]", "70 [0001 91]", "40 [0001 00 [1F () 1F ()]]")
	broken(t, mqtt.MalformedPacket, "40 [00]", "40 []", "40 [0001 00 [11 00000000]]", "40 [0001 00 [] 00]", "40 [0001 00 05]", "50 []", "62 []", "70 [01]")
}

func TestOverlappingSubscriptions_v5_MQTT_3_3_4_2_MQTT_3_3_4_3_MQTT_3_3_4_4(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		base := own("o")
		sub, pub := connect(t, v5, opts...), connect(t, v5)
		with := func(id uint32) func(*mqtt.Subscribe) { return func(s *mqtt.Subscribe) { s.SubscriptionID = id } }
		sub.subscribe(base+"/#", 0, with(1))
		sub.subscribe(base+"/+", 2, with(300000))
		sub.subscribe(base+"/a", 1)
		sub.subscribe(base+"/b", 2, with(4))
		for qos := byte(0); qos <= 2; qos++ {
			pub.publish(base+"/a", "x", qos)
			m := sub.message()
			ids := slices.Clone(m.SubscriptionIDs)
			if slices.Sort(ids); m.QoS != qos || !slices.Equal(ids, []uint32{1, 300000}) {
				t.Errorf("%s: published with %d: QoS %d, ids %v", name, qos, m.QoS, ids)
			}
			sub.quiet()
		}
		pub.publish(base+"/x/y", "x", 2)
		if m := sub.message(); m.QoS != 0 || !slices.Equal(m.SubscriptionIDs, []uint32{1}) {
			t.Errorf("%s: QoS %d, ids %v", name, m.QoS, m.SubscriptionIDs)
		}
	}
}

func TestOrder_v5_MQTT_4_6_0_5_MQTT_4_6_0_6(t *testing.T) {
	t.Parallel()
	topic := own("a")
	const n = 60 // below the server's Receive Maximum
	for qos := byte(0); qos <= 2; qos++ {
		sub, pub := watch(t, topic, qos), connect(t, v5)
		for i := range n {
			p := &mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), QoS: qos}
			if qos > 0 {
				p.PacketID = uint16(i + 1)
			}
			pub.put(p)
		}
		for i := range n {
			sub.payloads(fmt.Sprint(i))
		}
		sub.disconnect()
	}
}

// TestOrderAcrossNodes: also through the inbox, with pipelined publishes.
func TestOrderAcrossNodes_v5_MQTT_4_6_0_5_MQTT_4_6_0_2_MQTT_4_6_0_3(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	topic := own("a")
	sub, pub := connect(t, v5, on(nodes[0]), durable), connect(t, v5, on(nodes[1]))
	sub.subscribe(topic, 2)
	const n = 60 // below the server's Receive Maximum
	for qos := byte(1); qos <= 2; qos++ {
		for i := range n {
			pub.put(&mqtt.Publish{Topic: []byte(topic), Payload: fmt.Append(nil, i), QoS: qos, PacketID: uint16(i + 1)})
		}
		for i := range n {
			var got uint16
			if qos == 1 {
				got = expect[*mqtt.Puback](pub).PacketID
			} else {
				got = expect[*mqtt.Pubrec](pub).PacketID
			}
			if got != uint16(i+1) {
				t.Fatalf("QoS %d: acknowledgement %d has id %d", qos, i+1, got)
			}
		}
		for i := range n {
			sub.payloads(fmt.Sprint(i))
		}
		for i := range n * int(qos-1) {
			pub.put(&mqtt.Pubrel{PacketID: uint16(i + 1)})
			expect[*mqtt.Pubcomp](pub)
		}
	}
}

func TestPayloadsOfAllSizes(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub, pub := watch(t, topic, 1), connect(t, v5)
	for _, size := range []int{0, 1, 100, 127, 128, 16383, 16384, 65535, 65536, 1<<20 - 100} {
		payload := strings.Repeat("x", size)
		pub.publish(topic, payload, 1)
		if m := sub.message(); string(m.Payload) != payload {
			t.Errorf("%d bytes came as %d", size, len(m.Payload))
		}
	}
}

// TestBytesInPieces: packets arrive however the network cuts them.
func TestBytesInPieces_v5_MQTT_4_2_0_1(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub := watch(t, topic, 1)
	c := dial(t, v5)
	for _, b := range mqtttest.Wire(fmt.Sprintf("10 [('MQTT') 05 02 0000 [] ('%s')] 32 [('%s') 0001 [] 'slow']", own("c"), topic)) {
		c.write([]byte{b})
	}
	expect[*mqtt.Connack](c)
	expect[*mqtt.Puback](c)
	sub.payloads("slow")
	many := strings.Repeat("C000 ", 500) + fmt.Sprintf("30 [('%s') [] 'last']", topic)
	c.send("%s", many)
	for range 500 {
		expect[*mqtt.Pingresp](c)
	}
	sub.payloads("last")
}
