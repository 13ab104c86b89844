package mqtttest

import (
	"slices"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func badPublishes() []Vector {
	topic := mqtt.TopicNameInvalid
	const props = "v5:2.2.2.2"
	out := slices.Concat(
		bad("PUBLISH empty topic", "30 [() 'x']", topic, "v31:3.3", "v311:MQTT-4.7.3-1"),
		bad("PUBLISH wildcard +", "30 [('a/+/b') 00]", topic, "v31:3.3", "v311:MQTT-3.3.2-2", "v5:MQTT-3.3.2-2"),
		bad("PUBLISH wildcard # in a long topic", "30 [('0123456789/0123456789/#') 00]", topic, "v31:3.3", "v311:MQTT-3.3.2-2", "v5:MQTT-3.3.2-2"),
		bad("PUBLISH wildcard after UTF-8", "30 [('é+') 00]", topic, "v31:3.3", "v311:MQTT-3.3.2-2", "v5:MQTT-3.3.2-2"),
		bad("PUBLISH topic NUL", "30 [('a' 00 'b') 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-2", "v5:MQTT-1.5.4-2"),
		bad("PUBLISH topic NUL in a long topic", "30 [('0123456789' 00) 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-2", "v5:MQTT-1.5.4-2"),
		bad("PUBLISH topic surrogate", "30 [('a' EDBFBF) 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-1", "v5:MQTT-1.5.4-1"),
		bad("PUBLISH topic overlong", "30 [(C080) 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-1", "v5:MQTT-1.5.4-1"),
		bad("PUBLISH topic beyond Unicode", "30 [('0123456' F4908080) 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-1", "v5:MQTT-1.5.4-1"),
		bad("PUBLISH topic cut off", "30 [0005 'abc']", malformed, "v31:2.1", "v311:MQTT-4.8.0-1", "v5:MQTT-4.13.1-1"),
		bad("PUBLISH empty", "30 []", malformed, "v31:2.1", "v311:MQTT-4.8.0-1", "v5:MQTT-4.13.1-1"),
		bad("PUBLISH packet id 0", "32 [('a') 0000 00]", protocol, "v31:2.4", "v311:MQTT-2.3.1-1", "v5:MQTT-2.2.1-3"),
		bad("PUBLISH without packet id", "34 [('a') 00]", malformed, "v31:2.1", "v311:MQTT-4.8.0-1", "v5:MQTT-4.13.1-1"),
	)
	publish := func(name, props string, code mqtt.ReasonCode, tag string) {
		out = append(out, bad5("PUBLISH "+name, "30 [('a') ["+props+"] 'x']", code, tag))
	}
	out = append(out,
		bad5("PUBLISH without properties", "30 [('a')]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("PUBLISH neither topic nor alias", "30 [() [] 'x']", protocol, "v5:3.3.2.1"),
		bad5("PUBLISH property length too large", "30 [('a') 05 00]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("PUBLISH property length not minimal", "30 [('a') 8000]", malformed, "v5:MQTT-1.5.5-1"),
	)
	publish("alias 0", "23 0000", mqtt.TopicAliasInvalid, "v5:MQTT-3.3.2-8")
	publish("alias twice", "23 0001 23 0001", protocol, props)
	publish("payload format 2", "01 02", protocol, props)
	publish("payload format twice", "01 00 01 00", protocol, props)
	publish("expiry twice", "02 00000000 02 00000000", protocol, props)
	publish("content type twice", "03 () 03 ()", protocol, props)
	publish("content type ill-formed", "03 (C3)", malformed, "v5:MQTT-1.5.4-1")
	publish("response topic twice", "08 ('a') 08 ('a')", protocol, props)
	publish("response topic wildcard", "08 ('#')", mqtt.TopicNameInvalid, "v5:MQTT-3.3.2-14")
	publish("response topic NUL", "08 (00)", malformed, "v5:MQTT-1.5.4-2")
	publish("correlation data twice", "09 () 09 ()", protocol, props)
	publish("subscription identifier 0", "0B 00", protocol, props)
	publish("subscription identifier not minimal", "0B 8100", malformed, "v5:MQTT-1.5.5-1")
	publish("subscription identifier of 5 bytes", "0B 8080808001", malformed, "v5:MQTT-1.5.5-1")
	publish("subscription identifier cut off", "0B 80", malformed, props)
	publish("foreign property", "11 00000000", malformed, props)
	publish("will delay", "18 00000000", malformed, props)
	return out
}

func badSubscriptions() []Vector {
	filter := mqtt.TopicFilterInvalid
	const props = "v5:2.2.2.2"
	out := slices.Concat(
		bad("SUBSCRIBE packet id 0", "82 [0000 ('a') 00]", protocol, "v31:2.4", "v311:MQTT-2.3.1-1", "v5:MQTT-2.2.1-3"),
		bad("SUBSCRIBE without filters", "82 [0001]", protocol, "v31:3.8", "v311:MQTT-3.8.3-3"),
		bad("SUBSCRIBE empty filter", "82 [0001 () 00]", filter, "v31:3.8", "v311:MQTT-4.7.3-1"),
		bad("SUBSCRIBE QoS 3", "82 [0001 ('a') 03]", malformed, "v31:3.8", "v311:MQTT-3-8.3-4"),
		bad("SUBSCRIBE options", "82 [0001 ('a') 04]", malformed, "v31:3.8", "v311:MQTT-3-8.3-4"),
		bad("SUBSCRIBE without QoS", "82 [0001 ('a')]", malformed, "v31:2.1", "v311:MQTT-4.8.0-1"),
		bad("SUBSCRIBE filter NUL", "82 [0001 (00) 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-2"),
		bad("SUBSCRIBE filter ill-formed", "82 [0001 ('a' FF) 00]", malformed, "v31:2.5", "v311:MQTT-1.5.3-1"),
		bad("UNSUBSCRIBE packet id 0", "A2 [0000 ('a')]", protocol, "v31:2.4", "v311:MQTT-2.3.1-1", "v5:MQTT-2.2.1-3"),
		bad("UNSUBSCRIBE without filters", "A2 [0001]", protocol, "v31:3.10", "v311:MQTT-3.10.3-2"),
		bad("UNSUBSCRIBE empty filter", "A2 [0001 ()]", filter, "v31:3.8", "v311:MQTT-4.7.3-1"),
		bad("UNSUBSCRIBE filter cut off", "A2 [0001 0005 'a']", malformed, "v31:2.1", "v311:MQTT-4.8.0-1"),
	)
	return append(out, []Vector{
		bad5("SUBSCRIBE without filters", "82 [0001 []]", protocol, "v5:MQTT-3.8.3-2"),
		bad5("SUBSCRIBE without properties", "82 [0001]", malformed, "v5:MQTT-4.13.1-1"),
		bad5("SUBSCRIBE empty filter", "82 [0001 [] () 00]", filter, "v5:MQTT-4.7.3-1"),
		bad5("SUBSCRIBE QoS 3", "82 [0001 [] ('a') 03]", protocol, "v5:3.8.3.1"),
		bad5("SUBSCRIBE retain handling 3", "82 [0001 [] ('a') 30]", protocol, "v5:3.8.3.1"),
		bad5("SUBSCRIBE reserved bit 6", "82 [0001 [] ('a') 40]", malformed, "v5:MQTT-3.8.3-5"),
		bad5("SUBSCRIBE reserved bit 7", "82 [0001 [] ('a') 00 ('b') 80]", malformed, "v5:MQTT-3.8.3-5"),
		bad5("SUBSCRIBE no local on a share", "82 [0001 [] ('$share/g/a') 04]", protocol, "v5:MQTT-3.8.3-4"),
		bad5("SUBSCRIBE filter ill-formed", "82 [0001 [] ('a' FF) 00]", malformed, "v5:MQTT-1.5.4-1"),
		bad5("SUBSCRIBE subscription identifier twice", "82 [0001 [0B 01 0B 02] ('a') 00]", protocol, props),
		bad5("SUBSCRIBE subscription identifier 0", "82 [0001 [0B 00] ('a') 00]", protocol, props),
		bad5("SUBSCRIBE reason string", "82 [0001 [1F ()] ('a') 00]", malformed, props),
		bad5("UNSUBSCRIBE without filters", "A2 [0001 []]", protocol, "v5:MQTT-3.10.3-2"),
		bad5("UNSUBSCRIBE empty filter", "A2 [0001 [] ()]", filter, "v5:MQTT-4.7.3-1"),
		bad5("UNSUBSCRIBE subscription identifier", "A2 [0001 [0B 01] ('a')]", malformed, props),
		bad5("UNSUBSCRIBE reason string", "A2 [0001 [1F ()] ('a')]", malformed, props),
	}...)
}
