package mqtttest

import (
	"fmt"
	"slices"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	malformed = mqtt.MalformedPacket
	protocol  = mqtt.ProtocolError
)

// bad builds the same refusal for several versions; the tags stand in the order
// 3.1, 3.1.1, 5.0, and an empty one leaves the version out.
func bad(name, wire string, code mqtt.ReasonCode, tags ...string) []Vector {
	var out []Vector
	for i, tag := range tags {
		if tag != "" {
			out = append(out, Vector{Name: name, Version: mqtt.V31 + mqtt.Version(i), Wire: wire, Code: code, Tag: tag})
		}
	}
	return out
}

func bad5(name, wire string, code mqtt.ReasonCode, tag string) Vector {
	return Vector{Name: name, Version: mqtt.V5, Wire: wire, Code: code, Tag: tag}
}

func bad311(name, wire string, code mqtt.ReasonCode, tag string) Vector {
	return Vector{Name: name, Version: mqtt.V311, Wire: wire, Code: code, Tag: tag}
}

func bad31(name, wire string, code mqtt.ReasonCode, tag string) Vector {
	return Vector{Name: name, Version: mqtt.V31, Wire: wire, Code: code, Tag: tag}
}

func badHeaders() []Vector {
	out := slices.Concat(
		bad("type 0", "00 []", malformed, "v31:2.1", "v311:2.2.1", "v5:2.1.2"),
		bad("remaining length of 5 bytes", "30 8080808001", malformed, "v31:2.1", "v311:2.2.3", "v5:1.5.5"),
		bad("PUBLISH QoS 3", "36 [('a') 0001 00]", malformed, "v31:2.1", "v311:MQTT-3.3.1-4", "v5:MQTT-3.3.1-4"),
		bad("PUBLISH DUP with QoS 0", "38 [('a') 00]", malformed, "", "v311:MQTT-3.3.1-2", "v5:MQTT-3.3.1-2"),
		bad("AUTH", "F0 []", malformed, "v31:2.1", "v311:2.2.1"),
		bad("SUBSCRIBE flags 0000", "80 [0001 ('a') 00]", malformed, "v31:2.6", "v311:MQTT-3.8.1-1", "v5:MQTT-3.8.1-1"),
		bad("SUBSCRIBE flags 1010", "8A [0001 ('a') 00]", malformed, "", "v311:MQTT-3.8.1-1", "v5:MQTT-3.8.1-1"),
		bad("UNSUBSCRIBE flags 0000", "A0 [0001 ('a')]", malformed, "v31:2.6", "v311:MQTT-3.10.1-1", "v5:MQTT-3.10.1-1"),
		bad("PUBREL flags 0000", "60 [0001]", malformed, "v31:2.6", "v311:MQTT-3.6.1-1", "v5:MQTT-3.6.1-1"),
		bad("PUBREL flags 0011", "63 [0001]", malformed, "v31:2.6", "v311:MQTT-3.6.1-1", "v5:MQTT-3.6.1-1"),
		bad("DISCONNECT flags", "E1 []", malformed, "v31:2.6", "v311:MQTT-3.14.1-1", "v5:MQTT-3.14.1-1"),
	)
	out = append(out,
		bad5("AUTH flags", "F1 []", malformed, "v5:MQTT-3.15.1-1"),
		bad5("remaining length not minimal", "C0 8000", malformed, "v5:MQTT-1.5.5-1"),
	)
	for _, t := range []mqtt.Type{mqtt.TypeConnack, mqtt.TypePuback, mqtt.TypePubrec, mqtt.TypePubcomp, mqtt.TypeSuback,
		mqtt.TypeUnsuback, mqtt.TypePingreq, mqtt.TypePingresp} {
		for flags := byte(1); flags < 16; flags++ {
			first := fmt.Sprintf("%02X", byte(t)<<4|flags)
			out = append(out, bad(t.String()+" first byte "+first, first+" []", malformed, "v31:2.6", "v311:MQTT-2.2.2-2", "v5:MQTT-2.1.3-1")...)
		}
	}
	return out
}

func badConnects() []Vector {
	version, id := mqtt.UnsupportedProtocolVersion, mqtt.ClientIdentifierNotValid
	topic := mqtt.TopicNameInvalid
	return []Vector{
		bad5("CONNECT remaining length not minimal", "10 8F00 0004 'MQTT' 05 00 0000 00 0002 'c1'", malformed, "v5:MQTT-1.5.5-1"),
		bad31("CONNECT level", "10 [('MQIsdp') 04 02 0000 ('c')]", version, "v31:3.1"),
		bad31("CONNECT of a bridge", "10 [('MQIsdp') 83 02 0000 ('c')]", version, "v31:3.1"),
		bad311("CONNECT of a bridge", "10 [('MQTT') 84 02 0000 ('c')]", version, "v311:MQTT-3.1.2-2"),
		bad311("CONNECT level 3", "10 [('MQTT') 03 02 0000 ('c')]", version, "v311:MQTT-3.1.2-2"),
		bad5("CONNECT level 6", "10 [('MQTT') 06 02 0000 [] ('c')]", version, "v5:MQTT-3.1.2-2"),
		{Name: "CONNECT name", Wire: "10 [('mqtt') 04 02 0000 ('c')]", Code: version, Tag: "v5:MQTT-3.1.2-1"},
		{Name: "CONNECT name cut off", Wire: "10 [0004 'MQ']", Code: malformed, Tag: "v5:MQTT-4.13.1-1"},
		{Name: "CONNECT flags", Wire: "11 [('MQTT') 04 02 0000 ()]", Code: malformed, Tag: "v5:MQTT-2.1.3-1"},
		{Name: "CONNECT empty", Wire: "10 []", Code: malformed, Tag: "v5:MQTT-4.13.1-1"},
		{Name: "CONNECT without level", Wire: "10 [('MQTT')]", Code: malformed, Tag: "v5:MQTT-4.13.1-1"},
		bad311("CONNECT reserved flag", "10 [('MQTT') 04 03 0000 ('c')]", malformed, "v311:MQTT-3.1.2-3"),
		bad5("CONNECT reserved flag", "10 [('MQTT') 05 03 0000 [] ('c')]", malformed, "v5:MQTT-3.1.2-3"),
		bad31("CONNECT will QoS 3", "10 [('MQIsdp') 03 1C 0000 ('c') ('w') ()]", malformed, "v31:3.1"),
		bad311("CONNECT will QoS 3", "10 [('MQTT') 04 1C 0000 ('c') ('w') ()]", malformed, "v311:MQTT-3.1.2-14"),
		bad5("CONNECT will QoS 3", "10 [('MQTT') 05 1C 0000 [] ('c') [] ('w') ()]", malformed, "v5:MQTT-3.1.2-12"),
		bad311("CONNECT will QoS without will", "10 [('MQTT') 04 08 0000 ('c')]", malformed, "v311:MQTT-3.1.2-13"),
		bad5("CONNECT will QoS without will", "10 [('MQTT') 05 08 0000 [] ('c')]", malformed, "v5:MQTT-3.1.2-11"),
		bad311("CONNECT will retain without will", "10 [('MQTT') 04 20 0000 ('c')]", malformed, "v311:MQTT-3.1.2-15"),
		bad5("CONNECT will retain without will", "10 [('MQTT') 05 20 0000 [] ('c')]", malformed, "v5:MQTT-3.1.2-13"),
		bad311("CONNECT password without user name", "10 [('MQTT') 04 42 0000 ('c') ('p')]", malformed, "v311:MQTT-3.1.2-22"),
		bad31("CONNECT password without user name", "10 [('MQIsdp') 03 42 0000 ('c') ('p')]", malformed, "v31:3.1"),
		bad31("CONNECT empty client id", "10 [('MQIsdp') 03 02 0000 ()]", id, "v31:3.1"),
		bad311("CONNECT empty client id of a persistent session", "10 [('MQTT') 04 00 0000 ()]", id, "v311:MQTT-3.1.3-8"),
		bad311("CONNECT without client id", "10 [('MQTT') 04 02 0000]", malformed, "v311:MQTT-4.8.0-1"),
		bad5("CONNECT client id surrogate", "10 [('MQTT') 05 02 0000 [] (EDA080)]", malformed, "v5:MQTT-1.5.4-1"),
		bad311("CONNECT client id NUL", "10 [('MQTT') 04 02 0000 ('c' 00)]", malformed, "v311:MQTT-1.5.3-2"),
		bad311("CONNECT user name ill-formed", "10 [('MQTT') 04 82 0000 ('c') (C0AF)]", malformed, "v311:MQTT-1.5.3-1"),
		bad311("CONNECT without user name", "10 [('MQTT') 04 82 0000 ('c')]", malformed, "v311:MQTT-4.8.0-1"),
		bad5("CONNECT without password", "10 [('MQTT') 05 42 0000 [] ('c')]", malformed, "v5:MQTT-4.13.1-1"),
		bad311("CONNECT will topic empty", "10 [('MQTT') 04 06 0000 ('c') () ()]", topic, "v311:MQTT-4.7.3-1"),
		bad311("CONNECT will topic wildcard", "10 [('MQTT') 04 06 0000 ('c') ('a/#') ()]", topic, "v311:MQTT-3.3.2-2"),
		bad5("CONNECT will topic ill-formed", "10 [('MQTT') 05 06 0000 [] ('c') [] (FF) ()]", malformed, "v5:MQTT-1.5.4-1"),
		bad311("CONNECT will payload cut off", "10 [('MQTT') 04 06 0000 ('c') ('w') 0005 'x']", malformed, "v311:MQTT-4.8.0-1"),
		bad311("CONNECT trailing bytes", "10 [('MQTT') 04 02 0000 ('c') 00]", malformed, "v311:MQTT-4.8.0-1"),
		bad31("CONNECT trailing bytes", "10 [('MQIsdp') 03 02 0000 ('c') 00]", malformed, "v31:2.1"),
		bad5("CONNECT trailing bytes", "10 [('MQTT') 05 02 0000 [] ('c') 00]", malformed, "v5:MQTT-4.13.1-1"),
	}
}
