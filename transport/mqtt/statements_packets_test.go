package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// property is what table 2-4 of MQTT 5 says of one identifier: a good value,
// values that are protocol errors, and where it may stand.
type property struct {
	id   byte
	good string
	bad  []string
	in   string // names of the places, and * for several times
}

// properties is the table, written down from the standard.
func properties() []property {
	flag := []string{"02", "FF"}
	return []property{
		{0x01, "01", flag, "will PUBLISH"},
		{0x02, "00000000", nil, "will PUBLISH"},
		{0x03, "('x')", nil, "will PUBLISH"},
		{0x08, "('x')", nil, "will PUBLISH"},
		{0x09, "(00FF)", nil, "will PUBLISH"},
		{0x0B, "01", []string{"00"}, "PUBLISH* SUBSCRIBE"},
		{0x11, "FFFFFFFF", nil, "CONNECT CONNACK DISCONNECT"},
		{0x12, "('x')", nil, "CONNACK"},
		{0x13, "0000", nil, "CONNACK"},
		{0x15, "('x')", nil, "CONNECT CONNACK AUTH"},
		{0x16, "(00)", nil, "CONNECT CONNACK AUTH"},
		{0x17, "00", flag, "CONNECT"},
		{0x18, "00000001", nil, "will"},
		{0x19, "01", flag, "CONNECT"},
		{0x1A, "('x')", nil, "CONNACK"},
		{0x1C, "('x')", nil, "CONNACK DISCONNECT"},
		{0x1F, "('x')", nil, "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
		{0x21, "0001", []string{"0000"}, "CONNECT CONNACK"},
		{0x22, "0000", nil, "CONNECT CONNACK"},
		{0x23, "FFFF", nil, "PUBLISH"},
		{0x24, "01", flag, "CONNACK"},
		{0x25, "01", flag, "CONNACK"},
		{0x26, "('k') ('v')", nil, "will* CONNECT* CONNACK* PUBLISH* PUBACK* PUBREC* PUBREL* PUBCOMP* SUBSCRIBE* SUBACK* UNSUBSCRIBE* UNSUBACK* DISCONNECT* AUTH*"},
		{0x27, "00000001", []string{"00000000"}, "CONNECT CONNACK"},
		{0x28, "00", flag, "CONNACK"},
		{0x29, "00", flag, "CONNACK"},
		{0x2A, "00", flag, "CONNACK"},
	}
}

// propertyPlaces are the packets that have properties. Those of authentication
// need their method.
func propertyPlaces() map[string]string {
	return map[string]string{
		"CONNECT": "10 [('MQTT') 05 02 0000 [%] ('c')]", "will": "10 [('MQTT') 05 06 0000 [] ('c') [%] ('w') ()]",
		"CONNACK": "20 [00 00 [%]]", "PUBLISH": "30 [('a') [%] 'x']", "PUBACK": "40 [0001 00 [%]]", "PUBREC": "50 [0001 00 [%]]",
		"PUBREL": "62 [0001 00 [%]]", "PUBCOMP": "70 [0001 00 [%]]", "SUBSCRIBE": "82 [0001 [%] ('a') 00]", "SUBACK": "90 [0001 [%] 00]",
		"UNSUBSCRIBE": "A2 [0001 [%] ('a')]", "UNSUBACK": "B0 [0001 [%] 00]", "DISCONNECT": "E0 [00 [%]]", "AUTH": "F0 [18 [%]]",
	}
}

// Each property in each packet: once, twice, with a bad value, cut off.
func TestPropertyTable_v5_2_2_2_2(t *testing.T) {
	known := map[byte]property{}
	for _, p := range properties() {
		known[p.id] = p
	}
	for place, wire := range propertyPlaces() {
		for id := range 256 {
			p, ok := known[byte(id)]
			where := slices.IndexFunc(strings.Fields(p.in), func(s string) bool { return strings.TrimSuffix(s, "*") == place })
			many := where >= 0 && strings.HasSuffix(strings.Fields(p.in)[where], "*")
			value := p.good
			if !ok {
				value = "01"
			}
			one := fmt.Sprintf("%02X %s", id, value)
			put := func(props string) string {
				switch {
				case place == "AUTH" && id != 0x15, id == 0x16 && (place == "CONNECT" || place == "CONNACK"):
					props = "15 ('m') " + props
				}
				return strings.Replace(wire, "%", props, 1)
			}
			if where < 0 { // unknown, or not of this packet
				refuses(t, mqtt.V5, mqtt.MalformedPacket, put(one))
				continue
			}
			takes(t, mqtt.V5, put(one))
			if many {
				takes(t, mqtt.V5, put(one+" "+one))
			} else {
				refuses(t, mqtt.V5, mqtt.ProtocolError, put(one+" "+one))
			}
			for _, bad := range p.bad {
				refuses(t, mqtt.V5, mqtt.ProtocolError, put(fmt.Sprintf("%02X %s", id, bad)))
			}
			bytes := mqtttest.Wire(one)
			for n := 1; n < len(bytes); n++ {
				refuses(t, mqtt.V5, mqtt.MalformedPacket, put(fmt.Sprintf("%X", bytes[:n])))
			}
		}
	}
}

func TestDupWithQoS0_v5_MQTT_3_3_1_2_v311_MQTT_3_3_1_2(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		refuses(t, v, mqtt.MalformedPacket, "38 [('a') 00]", "39 [('a') 00]")
		takes(t, v, "3A [('a') 0001 00]", "3C [('a') 0001 00]", "3B [('a') 0001 00]")
		if _, err := mqtt.Append(nil, v, &mqtt.Publish{Topic: []byte("a"), Dup: true}); err == nil {
			t.Errorf("%s: DUP with QoS 0 is sent", v)
		}
	}
}

func TestNoQoS3_v5_MQTT_3_3_1_4_v311_MQTT_3_3_1_4(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		refuses(t, v, mqtt.MalformedPacket, "36 [('a') 0001 00]", "37 [('a') 0001 00]", "3E [('a') 0001 00]", "3F [('a') 0001 00]")
		if _, err := mqtt.Append(nil, v, &mqtt.Publish{Topic: []byte("a"), QoS: 3, PacketID: 1}); err == nil {
			t.Errorf("%s: QoS 3 is sent", v)
		}
	}
}

func TestTopicNames_v5_MQTT_3_3_2_1_MQTT_3_3_2_2_MQTT_3_3_2_14_MQTT_4_7_0_1_v311_MQTT_3_3_2_1_MQTT_3_3_2_2_MQTT_4_7_1_1(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for _, s := range []string{"'+'", "'#'", "'a/+/b'", "'a/#'", "'a+'", "'0123456789abcdef/+'", "'é#'", "'0123456+'", "'01234567#'"} {
			refuses(t, v, mqtt.TopicNameInvalid, at(names(v), s)...)
		}
		for _, s := range []string{"'/'", "'//'", "' '", "'a b'", "'$SYS/x'", "'$share/g/x'", "'é'", "'*'", "'a/'", "'\"'", "'\\'"} {
			takes(t, v, at(names(v), s)...)
		}
		testIllFormed(t, v, names(v))
	}
}

func TestTopicsAreNotEmpty_v5_MQTT_4_7_3_1_v311_MQTT_4_7_3_1(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		refuses(t, v, 0, at(names(v), "")...)
		refuses(t, v, mqtt.TopicFilterInvalid, at(filters(v), "")...)
	}
	refuses(t, mqtt.V5, mqtt.ProtocolError, "30 [() []]", "32 [() 0001 []]") // neither a topic nor an alias
	takes(t, mqtt.V5, "30 [() [23 0001]]", "30 [('a') [23 0001]]")
}

// The length field carries 65,535 bytes, and so may the limit.
func TestLongestTopics_v5_MQTT_4_7_3_3_v311_MQTT_4_7_3_3(t *testing.T) {
	lim := mqtt.Limits{MaxTopicBytes: 65535}
	long := strings.Repeat("x", 65535)
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		p := &mqtt.Publish{Topic: []byte(long)}
		s := &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: long}}}
		for _, packet := range []mqtt.Packet{p, s} {
			r := mqtt.NewReader(strings.NewReader(string(encode(t, v, packet))), lim)
			r.SetVersion(v)
			if _, err := r.Next(); err != nil {
				t.Errorf("%s: %s: %v", v, packet.Type(), err)
			}
		}
		p.Topic = append(p.Topic, 'x')
		s.Filters[0].Filter += "x"
		for _, packet := range []mqtt.Packet{p, s} {
			if _, err := mqtt.Append(nil, v, packet); err == nil {
				t.Errorf("%s: %s with 65,536 bytes is sent", v, packet.Type())
			}
		}
	}
}

func TestTopicAliasIsNotZero_v5_MQTT_3_3_2_8(t *testing.T) {
	refuses(t, mqtt.V5, mqtt.TopicAliasInvalid, "30 [('a') [23 0000]]", "30 [() [23 0000]]")
	takes(t, mqtt.V5, "30 [('a') [23 0001]]", "30 [('a') [23 FFFF]]")
}

func TestMessageProperties_v5_MQTT_3_3_2_13_MQTT_3_3_2_19(t *testing.T) {
	testIllFormed(t, mqtt.V5, []string{"30 [('a') [08 (%)]]", "30 [('a') [03 (%)]]", "10 [('MQTT') 05 06 0000 [] ('c') [03 (%)] ('w') ()]"})
}

// Every reason code in every packet: only the listed ones come in, and go out.
func TestReasonCodes_v5_MQTT_3_2_2_8_MQTT_3_4_2_1_MQTT_3_5_2_1_MQTT_3_6_2_1_MQTT_3_7_2_1_MQTT_3_9_3_2_MQTT_3_11_3_2_MQTT_3_14_2_1_MQTT_3_15_2_1(t *testing.T) {
	wires := map[mqtt.Type]string{
		mqtt.TypeConnack: "20 [00 % []]", mqtt.TypePuback: "40 [0001 %]", mqtt.TypePubrec: "50 [0001 %]", mqtt.TypePubrel: "62 [0001 %]",
		mqtt.TypePubcomp: "70 [0001 %]", mqtt.TypeSuback: "90 [0001 [] %]", mqtt.TypeUnsuback: "B0 [0001 [] %]", mqtt.TypeDisconnect: "E0 [%]",
		mqtt.TypeAuth: "F0 [% [15 ('m')]]",
	}
	packets := func(c mqtt.ReasonCode) []mqtt.Packet {
		return []mqtt.Packet{
			&mqtt.Connack{Code: c}, &mqtt.Puback{PacketID: 1, Code: c}, &mqtt.Pubrec{PacketID: 1, Code: c}, &mqtt.Pubrel{PacketID: 1, Code: c},
			&mqtt.Pubcomp{PacketID: 1, Code: c}, &mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{c}},
			&mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{c}}, &mqtt.Disconnect{Code: c}, &mqtt.Auth{Code: c, AuthMethod: "m"},
		}
	}
	for c := range 256 {
		for typ, wire := range wires {
			w := strings.Replace(wire, "%", fmt.Sprintf("%02X", c), 1)
			if slices.Contains(specCodes()[typ], byte(c)) {
				takes(t, mqtt.V5, w)
			} else {
				refuses(t, mqtt.V5, mqtt.ProtocolError, w)
			}
		}
		for _, p := range packets(mqtt.ReasonCode(c)) {
			_, err := mqtt.Append(nil, mqtt.V5, p)
			if good := slices.Contains(specCodes()[p.Type()], byte(c)); (err == nil) != good {
				t.Errorf("%s with %#x: %v", p.Type(), c, err)
			}
		}
	}
}

func TestConnackFlags_v5_MQTT_3_2_2_1_MQTT_3_2_2_6_v311_MQTT_3_2_2_4(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for flags := 2; flags < 256; flags++ {
			refuses(t, v, mqtt.MalformedPacket, fmt.Sprintf("20 [%02X 00 00]", flags))
		}
		if b := encode(t, v, &mqtt.Connack{SessionPresent: true}); b[2] != 1 {
			t.Errorf("%s: % X", v, b)
		}
		if _, err := mqtt.Append(nil, v, &mqtt.Connack{SessionPresent: true, Code: mqtt.NotAuthorized}); err == nil {
			t.Errorf("%s: a refusal with a session is sent", v)
		}
	}
}

func TestSubscriptions_v5_MQTT_3_8_3_1_MQTT_3_8_3_2_MQTT_3_10_3_1_MQTT_3_10_3_2_v311_MQTT_3_8_3_1_MQTT_3_8_3_3_MQTT_3_10_3_1_MQTT_3_10_3_2(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		testIllFormed(t, v, filters(v))
	}
	refuses(t, mqtt.V5, mqtt.ProtocolError, "82 [0001 []]", "A2 [0001 []]")
	refuses(t, mqtt.V311, mqtt.ProtocolError, "82 [0001]", "A2 [0001]")
	refuses(t, mqtt.V31, mqtt.ProtocolError, "82 [0001]", "A2 [0001]")
	refuses(t, mqtt.V5, mqtt.MalformedPacket, "82 [0001 [] ('a')]", "82 [0001 [] ('a') 00 ('b')]", "82 [0001 [] ('a') 00 00]")
	refuses(t, mqtt.V311, mqtt.MalformedPacket, "82 [0001 ('a')]", "82 [0001 ('a') 00 ('b')]", "82 [0001 ('a') 00 00]")
}

// Every options byte.
func TestSubscriptionOptions_v5_MQTT_3_8_3_4_MQTT_3_8_3_5(t *testing.T) {
	for o := range 256 {
		plain, share := fmt.Sprintf("82 [0001 [] ('a/b') %02X]", o), fmt.Sprintf("82 [0001 [] ('$share/g/a') %02X]", o)
		reserved, qos, handling := o&0xC0 != 0, o&3, o>>4&3
		switch {
		case reserved:
			refuses(t, mqtt.V5, mqtt.MalformedPacket, plain, share)
		case qos == 3 || handling == 3:
			refuses(t, mqtt.V5, mqtt.ProtocolError, plain, share)
		case o&4 != 0:
			takes(t, mqtt.V5, plain)
			refuses(t, mqtt.V5, mqtt.ProtocolError, share)
		default:
			takes(t, mqtt.V5, plain, share)
		}
		old := fmt.Sprintf("82 [0001 ('a/b') %02X]", o)
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} { // v311:MQTT-3-8.3-4
			if o < 3 {
				takes(t, v, old)
			} else {
				refuses(t, v, mqtt.MalformedPacket, old)
			}
		}
	}
}

func TestSubackCodesBefore5_v311_MQTT_3_9_3_2(t *testing.T) {
	for c := range 256 {
		wire := fmt.Sprintf("90 [0001 %02X]", c)
		if c <= 2 || c == 0x80 {
			takes(t, mqtt.V311, wire)
		} else {
			refuses(t, mqtt.V311, mqtt.MalformedPacket, wire)
		}
		code := mqtt.ReasonCode(c)
		if b, err := mqtt.Append(nil, mqtt.V311, &mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{code}}); err == nil && b[4] != byte(c) && b[4] != 0x80 {
			t.Errorf("%#x is sent as %#x", c, b[4])
		}
	}
}

// Packets without content have none, and every packet ends where it says.
func TestNothingIsLeftOver_v5_MQTT_4_13_1_1_v311_MQTT_4_8_0_1(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		refuses(t, v, mqtt.MalformedPacket, "C0 [00]", "D0 [00]", "40 [0001 00 00 00]", "70 [0001 00 00 00]", connect(v, 2, "('c') 00"))
	}
	refuses(t, mqtt.V311, mqtt.MalformedPacket, "E0 [00]", "40 [0001 00]", "B0 [0001 00]", "20 [00 00 00]")
	refuses(t, mqtt.V5, mqtt.MalformedPacket, "E0 [00 00 00]", "F0 [18 [15 ('m')] 00]", "20 [00 00]", "20 [00 00 01]")
}

// Authentication data need a method, and AUTH always has one.
func TestAuthentication_v5_4_12(t *testing.T) {
	refuses(t, mqtt.V5, mqtt.ProtocolError, "10 [('MQTT') 05 02 0000 [16 (00)] ('c')]", "F0 [18 []]", "F0 [19 [16 (00)]]")
	refuses(t, mqtt.V5, mqtt.BadAuthenticationMethod, "10 [('MQTT') 05 02 0000 [15 ()] ('c')]")
	takes(t, mqtt.V5, "F0 []", "F0 [00 [15 ('m')]]", "10 [('MQTT') 05 02 0000 [15 ('m') 16 ()] ('c')]")
}

// What must not be sent cannot be: no identifier 0, no property section left out.
func TestEncoderRefuses_v5_MQTT_2_2_1_4_MQTT_2_2_2_1_v311_MQTT_2_3_1_4(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for _, p := range []mqtt.Packet{
			&mqtt.Publish{Topic: []byte("a"), QoS: 1}, &mqtt.Publish{Topic: []byte("a"), QoS: 2}, &mqtt.Puback{}, &mqtt.Pubrec{}, &mqtt.Pubrel{},
			&mqtt.Pubcomp{}, &mqtt.Suback{Codes: []mqtt.ReasonCode{0}}, &mqtt.Unsuback{Codes: []mqtt.ReasonCode{0}},
		} {
			if b, err := mqtt.Append(nil, v, p); err == nil {
				t.Errorf("%s: %s without identifier is sent as % X", v, p.Type(), b)
			}
		}
	}
	for _, p := range []mqtt.Packet{&mqtt.Connack{}, &mqtt.Publish{Topic: []byte("a")}, &mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{0}},
		&mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{0}}} {
		wire := encode(t, mqtt.V5, p)
		if got, err := decode(mqtt.V5, wire); err != nil || !strings.Contains(fmt.Sprintf("%X", wire), "00") {
			t.Errorf("%s: % X: %+v, %v", p.Type(), wire, got, err)
		}
	}
}
