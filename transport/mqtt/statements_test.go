package mqtt_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// The statements that the codec alone decides, one test each, in the order of
// the standards. A place is a packet with %, which stands for what is tried.

// decode returns what the first packet of wire is, as v.
func decode(v mqtt.Version, wire []byte) (mqtt.Packet, error) {
	return newReader(bytes.NewReader(wire), v, wire[0]).Next()
}

// refuses wants every wire to be refused with the code. For any code give 0.
func refuses(t testing.TB, v mqtt.Version, code mqtt.ReasonCode, wires ...string) {
	t.Helper()
	for _, w := range wires {
		p, err := decode(v, mqtttest.Wire(w))
		if err == nil {
			t.Errorf("%s: %s is taken as %+v", v, w, p)
			continue
		}
		if e := violation(t, err); code != 0 && e.Code != code {
			t.Errorf("%s: %s is refused with %q, want %q", v, w, e.Code, code)
		}
	}
}

// takes wants every wire to be a packet.
func takes(t testing.TB, v mqtt.Version, wires ...string) {
	t.Helper()
	for _, w := range wires {
		if _, err := decode(v, mqtttest.Wire(w)); err != nil {
			t.Errorf("%s: %s: %v", v, w, err)
		}
	}
}

// at puts what is tried into each place.
func at(places []string, what string) []string {
	out := make([]string, len(places))
	for i, p := range places {
		out[i] = strings.Replace(p, "%", what, 1)
	}
	return out
}

// connect returns a CONNECT of the version; a client of MQTT 5 has no
// properties unless the payload begins with them.
func connect(v mqtt.Version, flags byte, payload string) string {
	name, props := "MQTT", ""
	switch v {
	case mqtt.V31:
		name = "MQIsdp"
	case mqtt.V5:
		props = "[] "
	}
	return fmt.Sprintf("10 [('%s') %02X %02X 0000 %s%s]", name, byte(v), flags, props, payload)
}

// texts are the places of strings that are neither topic names nor filters.
func texts(v mqtt.Version) []string {
	out := []string{connect(v, 0x02, "(%)"), connect(v, 0x82, "('c') (%)")}
	if v != mqtt.V5 {
		return out
	}
	for _, user := range []string{"26 (%) ()", "26 () (%)"} {
		out = append(out, "10 [('MQTT') 05 02 0000 ["+user+"] ('c')]", "10 [('MQTT') 05 06 0000 [] ('c') ["+user+"] ('w') ()]",
			"30 [('a') ["+user+"]]", "40 [0001 00 ["+user+"]]", "50 [0001 00 ["+user+"]]", "62 [0001 00 ["+user+"]]", "70 [0001 00 ["+user+"]]",
			"82 [0001 ["+user+"] ('a') 00]", "A2 [0001 ["+user+"] ('a')]", "E0 [00 ["+user+"]]", "F0 [18 [15 ('m') "+user+"]]")
	}
	return append(out, "30 [('a') [03 (%)]]", "10 [('MQTT') 05 06 0000 [] ('c') [03 (%)] ('w') ()]", "10 [('MQTT') 05 02 0000 [15 ('m' %)] ('c')]",
		"F0 [18 [15 ('m' %)]]", "40 [0001 00 [1F (%)]]", "E0 [00 [1F (%)]]", "E0 [00 [1C (%)]]")
}

// names and filters are the places of topic names and topic filters.
func names(v mqtt.Version) []string {
	if v != mqtt.V5 {
		return []string{"30 [(%)]", "32 [(%) 0001]", connect(v, 0x06, "('c') (%) ()")}
	}
	return []string{"30 [(%) []]", "32 [(%) 0001 []]", "10 [('MQTT') 05 06 0000 [] ('c') [] (%) ()]", "30 [('a') [08 (%)]]",
		"10 [('MQTT') 05 06 0000 [] ('c') [08 (%)] ('w') ()]"}
}

func filters(v mqtt.Version) []string {
	if v != mqtt.V5 {
		return []string{"82 [0001 (%) 00]", "82 [0001 ('a') 00 (%) 00]", "A2 [0001 (%)]", "A2 [0001 ('a') (%)]"}
	}
	return []string{"82 [0001 [] (%) 00]", "82 [0001 [] ('a') 00 (%) 00]", "A2 [0001 [] (%)]", "A2 [0001 [] ('a') (%)]"}
}

func allStrings(v mqtt.Version) []string { return append(append(texts(v), names(v)...), filters(v)...) }

// illFormed are the classes of bytes that are not UTF-8, surrogates among them.
func illFormed() []string {
	out := []string{"80", "BF", "C0AF", "C080", "C1BF", "C3", "E08080", "E09FBF", "E282", "F0808080", "F08FBFBF", "F0908D", "F4908080", "F5808080",
		"F888808080", "FE", "FF", "C328", "E228A1", "FEFF", "FFFE"}
	for _, r := range []int{0xD800, 0xDB7F, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF} { // each of them encoded like a character
		out = append(out, fmt.Sprintf("%02X%02X%02X", 0xE0|r>>12, 0x80|r>>6&0x3F, 0x80|r&0x3F))
	}
	return append(out, "EDA081EDB080") // a pair of them, as in CESU-8
}

func testIllFormed(t *testing.T, v mqtt.Version, places []string) {
	t.Helper()
	for _, bytes := range illFormed() {
		refuses(t, v, mqtt.MalformedPacket, at(places, bytes)...)
		refuses(t, v, mqtt.MalformedPacket, at(places, "'abcdefghij' "+bytes)...)
	}
	for _, good := range []string{"C280", "DFBF", "E0A080", "ED9FBF", "EE8080", "EFBFBF", "F0908080", "F48FBFBF", "EFBFBE", "01", "1F", "7F", "C29F"} {
		takes(t, v, at(places, "'x' "+good)...)
	}
}

func TestIllFormedStrings_v5_MQTT_1_5_4_1_v311_MQTT_1_5_3_1_v31_2_5(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		testIllFormed(t, v, allStrings(v))
	}
}

func TestNullCharacter_v5_MQTT_1_5_4_2_MQTT_4_7_3_2_v311_MQTT_1_5_3_2_MQTT_4_7_3_2_v31_2_5(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for _, s := range []string{"00", "'a' 00", "00 'abcdefghijkl'", "'abcdefghijkl' 00", "'é' 00"} {
			refuses(t, v, mqtt.MalformedPacket, at(allStrings(v), s)...)
		}
	}
}

func TestByteOrderMarkIsACharacter_v5_MQTT_1_5_4_3_v311_MQTT_1_5_3_3(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		takes(t, v, at(allStrings(v), "EFBBBF")...)
		p, err := decode(v, mqtttest.Wire(at(filters(v), "EFBBBF 'a' EFBBBF")[0]))
		if err != nil || p.(*mqtt.Subscribe).Filters[0].Filter != "\ufeffa\ufeff" {
			t.Errorf("%s: %+v, %v", v, p, err)
		}
	}
}

func TestStringPairs_v5_MQTT_1_5_7_1(t *testing.T) {
	pairs := texts(mqtt.V5)[2:]
	testIllFormed(t, mqtt.V5, pairs)
	refuses(t, mqtt.V5, mqtt.MalformedPacket, "30 [('a') [26 ('k')]]", "30 [('a') [26 ('k') 0002 'v']]")
}

func TestVariableByteIntegerIsMinimal_v5_MQTT_1_5_5_1(t *testing.T) {
	refuses(t, mqtt.V5, mqtt.MalformedPacket,
		"C0 8000", "C0 808000", "C0 80808000", "30 8500 ('a') 00 00", "30 [('a') 8000]", "30 [('a') 808000]", "82 [0001 [0B 8100] ('a') 00]",
		"82 [0001 [0B 80808000] ('a') 00]", "10 9000 ('MQTT') 05 02 0000 00 ('abc')", "C0 8080808001", "C0 FFFFFFFF")
	takes(t, mqtt.V5, "C0 00", "82 [0001 [0B 01] ('a') 00]", "82 [0001 [0B FFFFFF7F] ('a') 00]", "82 [0001 [0B 8001] ('a') 00]")
	refuses(t, mqtt.V311, mqtt.MalformedPacket, "C0 8080808001", "C0 FFFFFFFF01")
}

// Every first byte of every version: only the listed flags are taken.
func TestReservedFlags_v5_MQTT_2_1_3_1_MQTT_3_6_1_1_MQTT_3_8_1_1_MQTT_3_10_1_1_MQTT_3_14_1_1_MQTT_3_15_1_1_v311_MQTT_2_2_2_1_MQTT_2_2_2_2_MQTT_3_6_1_1_MQTT_3_8_1_1_MQTT_3_10_1_1_MQTT_3_14_1_1(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for b := range 256 {
			typ, flags := mqtt.Type(b>>4), b&15
			var good bool
			switch typ {
			case 0:
			case mqtt.TypePublish:
				continue // its flags are not reserved
			case mqtt.TypePubrel, mqtt.TypeSubscribe, mqtt.TypeUnsubscribe:
				good = flags == 2 || v == mqtt.V31 && flags == 10
			case mqtt.TypeAuth:
				good = flags == 0 && v == mqtt.V5
			default:
				good = flags == 0
			}
			r := newReader(bytes.NewReader([]byte{byte(b)}), v, 0)
			_, err := r.Next()
			if _, refused := err.(*mqtt.Error); refused == good {
				t.Errorf("%s: first byte %02X: %v", v, b, err)
			} else if refused && err.(*mqtt.Error).Code != mqtt.MalformedPacket {
				t.Errorf("%s: first byte %02X: %v", v, b, err)
			}
		}
	}
}

// withID are all packets with a packet identifier, at %.
func withID(v mqtt.Version) []string {
	out := []string{"40 [%]", "50 [%]", "62 [%]", "70 [%]"}
	if v == mqtt.V5 {
		return append(out, "32 [('a') % []]", "34 [('a') % []]", "82 [% [] ('a') 00]", "A2 [% [] ('a')]", "90 [% [] 00]", "B0 [% [] 00]")
	}
	return append(out, "32 [('a') %]", "34 [('a') %]", "82 [% ('a') 00]", "A2 [% ('a')]", "90 [% 00]", "B0 [%]")
}

func TestPacketIdentifiersAreNotZero_v5_MQTT_2_2_1_3_v311_MQTT_2_3_1_1_v31_2_4(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		refuses(t, v, mqtt.ProtocolError, at(withID(v), "0000")...)
		takes(t, v, at(withID(v), "0001")...)
		takes(t, v, at(withID(v), "FFFF")...)
		refuses(t, v, mqtt.MalformedPacket, "40 [01]", "62 []", "70 [00]")
	}
}

func TestNoConnectTwice_v5_MQTT_3_1_0_2_v311_MQTT_3_1_0_2(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		c := connect(v, 2, "('c')")
		r := serve(c+c, mqtt.Limits{})
		next(t, r)
		if _, err := r.Next(); violation(t, err).Code != mqtt.ProtocolError {
			t.Errorf("%s: %v", v, err)
		}
	}
}

func TestProtocolVersions_v5_MQTT_3_1_2_2_v311_MQTT_3_1_2_2(t *testing.T) {
	for level := range 256 {
		for name, good := range map[string]int{"MQIsdp": 3, "MQTT": 4} {
			wire := fmt.Sprintf("10 [('%s') %02X 02 0000 00 ('c')]", name, level)
			if level == good {
				wire = fmt.Sprintf("10 [('%s') %02X 02 0000 ('c')]", name, level)
			}
			r := serve(wire, mqtt.Limits{})
			_, err := r.Next()
			switch {
			case level == good, name == "MQTT" && level == 5:
				if err != nil || r.Version() != mqtt.Version(level) {
					t.Errorf("%s %d: %v, version %s", name, level, err, r.Version())
				}
			case violation(t, err).Code != mqtt.UnsupportedProtocolVersion || r.Version() == 0:
				t.Errorf("%s %d: %v, version %s", name, level, err, r.Version())
			}
		}
	}
}

// Every connect flags byte, with the payload that it asks for.
func TestConnectFlags_v5_MQTT_3_1_2_3_MQTT_3_1_2_9_MQTT_3_1_2_11_MQTT_3_1_2_12_MQTT_3_1_2_13_v311_MQTT_3_1_2_3_MQTT_3_1_2_9_MQTT_3_1_2_11_MQTT_3_1_2_13_MQTT_3_1_2_14_MQTT_3_1_2_15_MQTT_3_1_2_22(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for f := range 256 {
			will, qos, retain := f&4 != 0, f>>3&3, f&0x20 != 0
			user, password := f&0x80 != 0, f&0x40 != 0
			payload := "('c')"
			if will {
				if v == mqtt.V5 {
					payload += " []"
				}
				payload += " ('w') ('m')"
			}
			if user {
				payload += " ('u')"
			}
			if password {
				payload += " ('p')"
			}
			good := (f&1 == 0 || v == mqtt.V31) && qos < 3 && (will || qos == 0 && !retain) && (user || !password || v == mqtt.V5)
			p, err := decode(v, mqtttest.Wire(connect(v, byte(f), payload)))
			if !good {
				if e := violation(t, err); e.Code != mqtt.MalformedPacket {
					t.Errorf("%s: flags %02X: %v", v, f, e)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: flags %02X: %v", v, f, err)
				continue
			}
			c := p.(*mqtt.Connect)
			if c.CleanStart != (f&2 != 0) || (c.Will != nil) != will || c.HasUsername != user || c.HasPassword != password ||
				will && (int(c.Will.QoS) != qos || c.Will.Retain != retain || c.Will.Topic != "w" || string(c.Will.Payload) != "m") {
				t.Errorf("%s: flags %02X: %+v", v, f, c)
			}
		}
	}
}

// What the flags announce is there, and nothing else.
func TestConnectPayloadFollowsTheFlags_v5_MQTT_3_1_2_16_MQTT_3_1_2_17_MQTT_3_1_2_18_MQTT_3_1_2_19_MQTT_3_1_3_1_MQTT_3_1_3_3_v311_MQTT_3_1_2_18_MQTT_3_1_2_19_MQTT_3_1_2_20_MQTT_3_1_2_21_MQTT_3_1_3_1_MQTT_3_1_3_3(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		props := ""
		if v == mqtt.V5 {
			props = "[] "
		}
		refuses(t, v, mqtt.MalformedPacket,
			connect(v, 0x02, ""),                                            // no client id
			connect(v, 0x02, "('c') ('u')"),                                 // a user name without its flag
			connect(v, 0x82, "('c')"),                                       // a flag without the user name
			connect(v, 0x82, "('c') ('u') ('p')"),                           // a password without its flag
			connect(v, 0xC2, "('c') ('u')"),                                 // a flag without the password
			connect(v, 0x06, "('c')"),                                       // a flag without the will
			connect(v, 0x06, "('c') "+props+"('w')"),                        // half a will
			connect(v, 0x02, "('c') "+props+"('w') ('m')"),                  // a will without its flag
			connect(v, 0x86, "('c') "+props+"('w') ('m')"),                  // no user name behind the will
			connect(v, 0xC6, "('c') "+props+"('w') ('m') ('u') ('')"+" 00"), // a byte too much
		)
		p, err := decode(v, mqtttest.Wire(connect(v, 0xEE, "('id') "+props+"('topic') (00FF) ('name') (00FE)")))
		if err != nil {
			t.Fatal(err)
		}
		c := p.(*mqtt.Connect)
		if c.ClientID != "id" || c.Will.Topic != "topic" || string(c.Will.Payload) != "\x00\xff" || c.Username != "name" || string(c.Password) != "\x00\xfe" {
			t.Errorf("%s: %+v", v, c)
		}
	}
}

// In MQTT 5 a password may come alone.
func TestPasswordWithoutUserName_v5_3_1_2_9(t *testing.T) {
	p, err := decode(mqtt.V5, mqtttest.Wire(connect(mqtt.V5, 0x42, "('c') ('p')")))
	if err != nil || p.(*mqtt.Connect).HasUsername || string(p.(*mqtt.Connect).Password) != "p" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestClientIdentifiers_v5_MQTT_3_1_3_4_MQTT_3_1_3_5_MQTT_3_1_3_6_v311_MQTT_3_1_3_4_MQTT_3_1_3_5_MQTT_3_1_3_6_MQTT_3_1_3_8(t *testing.T) {
	all := "'0123456789abcdefghijklm' 'nopqrstuvwxyzABCDEFGHIJ' 'KLMNOPQRSTUVWXYZ'"
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for _, id := range strings.Fields(all) {
			takes(t, v, connect(v, 0, "("+id+")"), connect(v, 2, "("+id+")"), connect(v, 2, "("+id[:2]+"')"))
		}
		testIllFormed(t, v, texts(v)[:1])
	}
	takes(t, mqtt.V5, connect(mqtt.V5, 0, "()"), connect(mqtt.V5, 2, "()"))
	takes(t, mqtt.V311, connect(mqtt.V311, 2, "()"))
	refuses(t, mqtt.V311, mqtt.ClientIdentifierNotValid, connect(mqtt.V311, 0, "()"))
	refuses(t, mqtt.V31, mqtt.ClientIdentifierNotValid, connect(mqtt.V31, 0, "()"), connect(mqtt.V31, 2, "()"))
}

func TestWillTopicAndUserName_v5_MQTT_3_1_3_11_MQTT_3_1_3_12_v311_MQTT_3_1_3_10_MQTT_3_1_3_11(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		testIllFormed(t, v, []string{texts(v)[1], names(v)[2]})
	}
}

// A refusal knows the client's Maximum Packet Size, wherever the CONNECT goes wrong behind it.
func TestPeerMaxPacketSize_v5_MQTT_3_2_2_19(t *testing.T) {
	for _, wire := range []string{
		"10 [('MQTT') 05 02 0000 [27 00000006] ('c')]", "10 [('MQTT') 05 02 0000 [27 00000006] (FF)]", "10 [('MQTT') 05 02 0000 [27 00000006 27 00000007] ('c')]",
		"10 [('MQTT') 05 06 0000 [27 00000006] ('c') [FF] ('w') ()]",
	} {
		r := serve(wire, mqtt.Limits{})
		_, _ = r.Next()
		if r.PeerMaxPacketSize() != 6 {
			t.Errorf("%s: %d", wire, r.PeerMaxPacketSize())
		}
	}
	r := serve("10 [('MQTT') 05 02 0000 [27 00000000] ('c')]", mqtt.Limits{})
	if _, err := r.Next(); err == nil || r.PeerMaxPacketSize() != 0 {
		t.Errorf("%v, %d", err, r.PeerMaxPacketSize())
	}
}
