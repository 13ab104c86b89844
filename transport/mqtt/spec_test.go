package mqtt_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// TestSpecTagsAreProved: each tag in the code is the tag of a vector that must
// be refused, or stands in the name of a test.
func TestSpecTagsAreProved(t *testing.T) {
	proved := map[string]bool{}
	for _, v := range mqtttest.Invalid() {
		proved[testName(v.Tag)] = true
	}
	tests, code := "", map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	tag := regexp.MustCompile(`\bv(5|311|31):(MQTT-)?[0-9][0-9.-]*[0-9]`)
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, "_test.go") {
			for _, name := range regexp.MustCompile(`func (Test\w+)`).FindAllString(string(src), -1) {
				tests += name + "_\n"
			}
			continue
		}
		for _, found := range tag.FindAllString(string(src), -1) {
			if f != "doc.go" {
				code[found] = f
			}
		}
	}
	for found, f := range code {
		if name := testName(found); !proved[name] && !strings.Contains(tests, "_"+name+"_") {
			t.Errorf("%s: no test proves %s (%s)", f, found, name)
		}
	}
	t.Logf("%d tags", len(code))
}

func encode(t testing.TB, v mqtt.Version, p mqtt.Packet) []byte {
	t.Helper()
	b, err := mqtt.Append(nil, v, p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encodesAs(t testing.TB, v mqtt.Version, p mqtt.Packet, wire string) {
	t.Helper()
	if got, want := encode(t, v, p), mqtttest.Wire(wire); !bytes.Equal(got, want) {
		t.Errorf("%s in %s:\ngot  % X\nwant % X", p.Type(), v, got, want)
	}
}

func TestByteOrderMarkIsKept_v5_MQTT_1_5_4_3_v311_MQTT_1_5_3_3(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		want := &mqtt.Publish{Topic: []byte("\ufeffa"), Payload: []byte("\ufeff")}
		wire := encode(t, v, want)
		same(t, next(t, newReader(bytes.NewReader(wire), v, wire[0])), want)
	}
}

func TestUserPropertyStringsAreUTF8_v5_MQTT_1_5_7_1(t *testing.T) {
	for _, pair := range []string{"(FF) ()", "() (FF)", "(00) ()", "() (00)"} {
		r := serve("30 [('a') [26 "+pair+"]]", mqtt.Limits{})
		r.SetVersion(mqtt.V5)
		if _, err := r.Next(); violation(t, err).Code != mqtt.MalformedPacket {
			t.Errorf("%s: got %v", pair, err)
		}
	}
}

func TestNoPacketIDWithQoS0_v5_MQTT_2_2_1_2_v311_MQTT_2_3_1_5(t *testing.T) {
	p := &mqtt.Publish{Topic: []byte("a"), Payload: []byte("xy")}
	encodesAs(t, mqtt.V311, p, "30 [('a') 'xy']")
	encodesAs(t, mqtt.V5, p, "30 [('a') [] 'xy']")
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		if _, err := mqtt.Append(nil, v, &mqtt.Publish{Topic: []byte("a"), PacketID: 1}); !errors.Is(err, mqtt.ErrInvalidPacket) {
			t.Errorf("%s: got %v, want ErrInvalidPacket", v, err)
		}
		wire := encode(t, v, p)
		if got := next(t, newReader(bytes.NewReader(wire), v, wire[0])).(*mqtt.Publish); got.PacketID != 0 {
			t.Errorf("%s: packet id %d with QoS 0", v, got.PacketID)
		}
	}
}

func TestEmptyPropertiesAreSent_v5_MQTT_2_2_2_1(t *testing.T) {
	encodesAs(t, mqtt.V5, &mqtt.Publish{Topic: []byte("a")}, "30 [('a') 00]")
	encodesAs(t, mqtt.V5, &mqtt.Connack{}, "20 [00 00 00]")
	encodesAs(t, mqtt.V5, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "a"}}}, "82 [0001 00 ('a') 00]")
	encodesAs(t, mqtt.V5, &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a"}}, "A2 [0001 00 ('a')]")
	encodesAs(t, mqtt.V5, &mqtt.Connect{ClientID: "c", RequestProblemInfo: true, Will: &mqtt.Will{Topic: "w"}},
		"10 [('MQTT') 05 04 0000 00 ('c') 00 ('w') ()]")
}

// TestUserPropertiesKeepTheirOrder: in a PUBLISH and in a will, also when other
// properties stand between them.
func TestUserPropertiesKeepTheirOrder_v5_MQTT_3_3_2_18_v5_MQTT_3_1_3_10(t *testing.T) {
	kept := "26 ('b') ('1') 26 ('a') ('2') 26 ('b') ('0')"
	mixed := "26 ('b') ('1') 02 00000001 26 ('a') ('2') %s 26 ('b') ('0')"
	r := serve("30 [('t') ["+strings.ReplaceAll(mixed, "%s", "23 0001")+"]]", mqtt.Limits{})
	r.SetVersion(mqtt.V5)
	p := next(t, r).(*mqtt.Publish)
	if want := mqtttest.Wire(kept); !bytes.Equal(p.Props, want) {
		t.Errorf("PUBLISH: got % X, want % X", p.Props, want)
	}
	r = serve("10 [('MQTT') 05 06 0000 [] ('c') ["+strings.ReplaceAll(mixed, "%s", "18 00000001")+"] ('w') ()]", mqtt.Limits{})
	w := next(t, r).(*mqtt.Connect).Will
	if want := mqtttest.Wire(kept); !bytes.Equal(w.Props, want) {
		t.Errorf("will: got % X, want % X", w.Props, want)
	}
}

// TestUnknownProtocolName: the version says in which form a refusal is sent, and
// 0 that there is none.
func TestUnknownProtocolName_v5_MQTT_3_1_2_1_v311_MQTT_3_1_2_1(t *testing.T) {
	for _, name := range []string{"", "mqtt", "MQTTX", "MQT", "MQISDP", "MQIsdp ", "MQTT\x00"} {
		for level, want := range map[string]mqtt.Version{"03": 0, "04": 0, "05": mqtt.V5, "06": mqtt.V5, "7F": mqtt.V5, "83": 0, "84": 0} {
			r := serve("10 [('"+name+"') "+level+" 02 0000 [] ('c')]", mqtt.Limits{})
			if e := violation(t, second(r.Next())); e.Code != mqtt.UnsupportedProtocolVersion || r.Version() != want {
				t.Errorf("%q, level %s: %v, version %s", name, level, e, r.Version())
			}
		}
	}
}

func second(_ mqtt.Packet, err error) error { return err }

func TestNoConnackWithoutReturnCode_v311_MQTT_3_2_2_6(t *testing.T) {
	for c := range 256 {
		code := mqtt.ReasonCode(c)
		_, known := code.ReturnCode()
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
			if _, err := mqtt.Append(nil, v, &mqtt.Connack{Code: code}); errors.Is(err, mqtt.ErrNotRepresentable) == known {
				t.Errorf("%s, %s: got %v", v, code, err)
			}
		}
	}
}

// TestWillTopicIsUTF8 also holds the rules on user names and client ids, which
// go the same way.
func TestWillTopicIsUTF8_v5_MQTT_3_1_3_11_v311_MQTT_3_1_3_10(t *testing.T) {
	refused(t, serve("10 [('MQTT') 05 06 0000 [] ('c') [] (C3) ()]", mqtt.Limits{}), mqtt.MalformedPacket, "v5:MQTT-1.5.4-1")
	refused(t, serve("10 [('MQTT') 04 06 0000 ('c') (C3) ()]", mqtt.Limits{}), mqtt.MalformedPacket, "v311:MQTT-1.5.3-1")
	refused(t, serve("10 [('MQTT') 05 82 0000 [] ('c') (C3)]", mqtt.Limits{}), mqtt.MalformedPacket, "v5:MQTT-1.5.4-1")
	refused(t, serve("10 [('MQTT') 05 02 0000 [] (C3)]", mqtt.Limits{}), mqtt.MalformedPacket, "v5:MQTT-1.5.4-1")
}

// The code may be left out, and so may the properties.
func TestShortFormsOfAcks_v5_3_4_2_1_v5_3_14_2_1_v5_3_15_2_1(t *testing.T) {
	for _, wire := range []string{"40 [0001]", "50 [0001]", "62 [0001]", "70 [0001]", "40 [0001 00]", "E0 []", "E0 [00]", "F0 []"} {
		r := serve(wire, mqtt.Limits{})
		r.SetVersion(mqtt.V5)
		next(t, r)
	}
	encodesAs(t, mqtt.V5, &mqtt.Puback{PacketID: 1}, "40 [0001]")
	encodesAs(t, mqtt.V5, &mqtt.Puback{PacketID: 1, Code: mqtt.QuotaExceeded}, "40 [0001 97]")
	encodesAs(t, mqtt.V5, &mqtt.Disconnect{}, "E0 []")
	encodesAs(t, mqtt.V5, &mqtt.Disconnect{Code: mqtt.KeepAliveTimeout}, "E0 [8D]")
}

// TestOldPacketsAreTolerated: what MQTT 3.1 leaves unused or optional.
func TestOldPacketsAreTolerated_v31_2_1(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		if v.Version == mqtt.V31 && v.DecodeOnly {
			wire := v.Bytes()
			same(t, next(t, newReader(bytes.NewReader(wire), mqtt.V31, wire[0])), v.Packet)
		}
	}
}

func TestUnusedBitsBefore311_v31_3_2_v31_3_1(t *testing.T) {
	r := serve("20 [FF 00]", mqtt.Limits{})
	r.SetVersion(mqtt.V31)
	same(t, next(t, r), &mqtt.Connack{ReceiveMaximum: 65535})
	encodesAs(t, mqtt.V31, &mqtt.Connack{SessionPresent: true}, "20 [00 00]")
}
