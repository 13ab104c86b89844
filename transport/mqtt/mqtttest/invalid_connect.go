package mqtttest

import "github.com/flotilla-mqtt/flotilla/transport/mqtt"

func badConnectProps() []Vector {
	connect := func(name, props string, code mqtt.ReasonCode, tag string) Vector {
		return bad5("CONNECT "+name, "10 [('MQTT') 05 02 0000 ["+props+"] ('c')]", code, tag)
	}
	will := func(name, props string, code mqtt.ReasonCode, tag string) Vector {
		return bad5("CONNECT will "+name, "10 [('MQTT') 05 06 0000 [] ('c') ["+props+"] ('w') ()]", code, tag)
	}
	const props = "v5:2.2.2.2"
	out := []Vector{
		connect("unknown property", "00 00", malformed, props),
		connect("property above the last", "2B 00", malformed, props),
		connect("property identifier of two bytes", "8B00", malformed, props),
		connect("property of PUBLISH", "23 0001", malformed, props),
		connect("property of the will", "18 00000000", malformed, props),
		connect("session expiry twice", "11 00000000 11 00000000", protocol, props),
		connect("receive maximum 0", "21 0000", protocol, props),
		connect("maximum packet size 0", "27 00000000", protocol, props),
		connect("request problem information 2", "17 02", protocol, props),
		connect("request response information 2", "19 02", protocol, props),
		connect("property cut off", "11 0000", malformed, props),
		connect("property without value", "21", malformed, props),
		connect("flag without value", "17", malformed, props),
		connect("string without length", "15 00", malformed, props),
		connect("string cut off", "15 0005 'M'", malformed, props),
		connect("string cut off by one byte", "15 0002 'M'", malformed, props),
		connect("string cut off by two bytes", "15 0003 'M'", malformed, props),
		connect("user property without value", "26 ('k')", malformed, props),
		connect("user property ill-formed", "26 ('k') (FE)", malformed, "v5:MQTT-1.5.4-1"),
		connect("user property NUL", "26 (00) ('v')", malformed, "v5:MQTT-1.5.4-2"),
		connect("authentication data without method", "16 (00)", protocol, "v5:3.1.2.11.10"),
		connect("empty authentication method", "15 ()", mqtt.BadAuthenticationMethod, "v5:4.12"),
		bad5("CONNECT property length cut off", "10 [('MQTT') 05 02 0000 80]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("CONNECT without properties", "10 [('MQTT') 05 02 0000]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("CONNECT property length too large", "10 [('MQTT') 05 02 0000 7F ('c')]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("CONNECT property length not minimal", "10 [('MQTT') 05 02 0000 8000 ('c')]", malformed, "v5:MQTT-1.5.5-1"),
		bad5("CONNECT property length of 5 bytes", "10 [('MQTT') 05 02 0000 8080808001 ('c')]", malformed, "v5:MQTT-1.5.5-1"),
		bad5("CONNECT property length above the limit", "10 [('MQTT') 05 02 0000 8140 ('c')]", mqtt.PacketTooLarge, ""),
		will("property of CONNECT", "11 00000000", malformed, props),
		will("delay twice", "18 00000000 18 00000000", protocol, props),
		will("payload format 2", "01 02", protocol, props),
		will("response topic wildcard", "08 ('a/+')", mqtt.TopicNameInvalid, "v5:MQTT-3.3.2-14"),
		will("response topic empty", "08 ()", mqtt.TopicNameInvalid, "v5:MQTT-4.7.3-1"),
		will("content type ill-formed", "03 (80)", malformed, "v5:MQTT-1.5.4-1"),
	}
	for _, id := range []string{"17 01", "19 01", "21 0001", "22 0001", "27 00000001", "15 ('M')"} {
		out = append(out, connect("property "+id[:2]+" twice", id+id, protocol, props))
	}
	out = append(out, connect("property 16 twice", "15 ('M') 16 () 16 ()", protocol, props))
	return out
}

func badAnswers() []Vector {
	const props = "v5:2.2.2.2"
	return []Vector{
		bad311("CONNACK reserved flag", "20 [02 00]", malformed, "v311:3.2.2.1"),
		bad5("CONNACK reserved flag", "20 [80 00 []]", malformed, "v5:MQTT-3.2.2-1"),
		bad311("CONNACK return code", "20 [00 06]", malformed, "v311:3.2.2.3"),
		bad31("CONNACK return code", "20 [00 80]", malformed, "v31:3.2"),
		bad311("CONNACK session present in a refusal", "20 [01 05]", protocol, "v311:MQTT-3.2.2-4"),
		bad5("CONNACK session present in a refusal", "20 [01 87 []]", protocol, "v5:MQTT-3.2.2-6"),
		bad5("CONNACK foreign code", "20 [00 01 []]", protocol, "v5:MQTT-3.2.2-8"),
		bad5("CONNACK without properties", "20 [00 00]", malformed, "v5:MQTT-4.13.1-1"),
		bad311("CONNACK cut off", "20 [00]", malformed, "v311:MQTT-4.8.0-1"),
		bad311("CONNACK trailing bytes", "20 [00 00 00]", malformed, "v311:MQTT-4.8.0-1"),
		bad5("CONNACK maximum QoS 2", "20 [00 00 [24 02]]", protocol, props),
		bad5("CONNACK retain available 2", "20 [00 00 [25 02]]", protocol, props),
		bad5("CONNACK property of PUBLISH", "20 [00 00 [01 00]]", malformed, props),
		bad5("CONNACK property twice", "20 [00 00 [13 0001 13 0001]]", protocol, props),
		bad5("SUBACK foreign code", "90 [0001 [] 03]", protocol, "v5:MQTT-3.9.3-2"),
		bad311("SUBACK code", "90 [0001 03]", malformed, "v311:MQTT-3.9.3-2"),
		bad31("SUBACK code", "90 [0001 81]", malformed, "v31:3.9"),
		bad5("SUBACK without codes", "90 [0001 []]", protocol, "v5:3.9.3"),
		bad311("SUBACK without codes", "90 [0001]", protocol, "v311:3.9.3"),
		bad311("SUBACK packet id 0", "90 [0000 00]", protocol, "v311:MQTT-2.3.1-1"),
		bad5("UNSUBACK foreign code", "B0 [0001 [] 01]", protocol, "v5:MQTT-3.11.3-2"),
		bad5("UNSUBACK without codes", "B0 [0001 []]", protocol, "v5:3.9.3"),
		bad311("UNSUBACK trailing bytes", "B0 [0001 00]", malformed, "v311:MQTT-4.8.0-1"),
		bad5("PUBACK foreign code", "40 [0001 92]", protocol, "v5:MQTT-3.4.2-1"),
		bad5("PUBREC foreign code", "50 [0001 8F]", protocol, "v5:MQTT-3.5.2-1"),
		bad5("PUBREL foreign code", "62 [0001 10]", protocol, "v5:MQTT-3.6.2-1"),
		bad5("PUBCOMP foreign code", "70 [0001 80]", protocol, "v5:MQTT-3.7.2-1"),
		bad5("PUBACK packet id 0", "40 [0000]", protocol, "v5:MQTT-2.2.1-3"),
		bad5("PUBACK reason string twice", "40 [0001 00 [1F () 1F ()]]", protocol, props),
		bad5("PUBACK foreign property", "40 [0001 00 [11 00000000]]", malformed, props),
		bad5("PUBACK cut off", "40 [00]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("PUBACK trailing bytes", "40 [0001 00 [] 00]", malformed, "v5:MQTT-4.13.1-1"),
		bad311("PUBACK trailing bytes", "40 [0001 00]", malformed, "v311:MQTT-4.8.0-1"),
		bad311("PUBREL empty", "62 []", malformed, "v311:MQTT-4.8.0-1"),
		bad311("PINGREQ with a body", "C0 [00]", malformed, "v311:MQTT-4.8.0-1"),
		bad5("PINGRESP with a body", "D0 [00]", malformed, "v5:MQTT-4.13.1-1"),
		bad311("DISCONNECT with a body", "E0 [00]", malformed, "v311:MQTT-4.8.0-1"),
		bad5("DISCONNECT foreign code", "E0 [84]", protocol, "v5:MQTT-3.14.2-1"),
		bad5("DISCONNECT foreign property", "E0 [00 [21 0001]]", malformed, props),
		bad5("DISCONNECT trailing bytes", "E0 [00 [] 00]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("AUTH foreign code", "F0 [01 [15 ('M')]]", protocol, "v5:MQTT-3.15.2-1"),
		bad5("AUTH without method", "F0 [18 []]", protocol, "v5:3.15.2.2.2"),
		bad5("AUTH without properties", "F0 [18]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("AUTH method twice", "F0 [18 [15 ('M') 15 ('M')]]", protocol, props),
	}
}
