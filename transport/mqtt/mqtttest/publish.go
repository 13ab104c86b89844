package mqtttest

import (
	"slices"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func publishes() []Vector {
	all := []mqtt.Version{mqtt.V31, mqtt.V311}
	return append(slices.Concat(
		each(Vector{Name: "PUBLISH QoS 0", Wire: "30 [('a/b') 'hello']",
			Packet: &mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("hello")}}, all...),
		each(Vector{Name: "PUBLISH retain without payload", Wire: "31 [('a/b')]",
			Packet: &mqtt.Publish{Retain: true, Topic: []byte("a/b")}}, all...),
		each(Vector{Name: "PUBLISH QoS 1 DUP", Wire: "3A [('a/b') 000A 00]",
			Packet: &mqtt.Publish{Dup: true, QoS: 1, PacketID: 10, Topic: []byte("a/b"), Payload: []byte{0}}}, all...),
		each(Vector{Name: "PUBLISH all flags", Wire: "3D [('/') FFFF 'x']",
			Packet: &mqtt.Publish{Dup: true, Retain: true, QoS: 2, PacketID: 65535, Topic: []byte("/"), Payload: []byte("x")}}, all...),
		each(Vector{Name: "PUBLISH topic of all lengths of UTF-8", Wire: "30 [('$aé€𝄞/long enough for words/é')]",
			Packet: &mqtt.Publish{Topic: []byte("$aé€𝄞/long enough for words/é")}}, all...),
	), publishes5()...)
}

func publishes5() []Vector {
	travelling := "01 01 03 ('application/json') 08 ('re/ply') 09 (00FF) 26 ('trace') ('1') 26 ('trace') ('2')"
	return []Vector{
		{Name: "PUBLISH DUP with QoS 0", Version: mqtt.V31, DecodeOnly: true, Wire: "38 [('a')]", Packet: &mqtt.Publish{Topic: []byte("a")}},
		{Name: "PUBLISH padded remaining length", Version: mqtt.V311, DecodeOnly: true, Wire: "30 83808000 0001 'a'",
			Packet: &mqtt.Publish{Topic: []byte("a")}},
		{Name: "PUBLISH QoS 0", Version: mqtt.V5, Wire: "30 [('a/b') [] 'hello']",
			Packet: &mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("hello")}},
		{Name: "PUBLISH QoS 2 DUP retain", Version: mqtt.V5, Wire: "3D [('a/b') 0001 []]",
			Packet: &mqtt.Publish{Dup: true, Retain: true, QoS: 2, PacketID: 1, Topic: []byte("a/b")}},
		{Name: "PUBLISH alias only", Version: mqtt.V5, Wire: "32 [() 0001 [23 0001] 'x']",
			Packet: &mqtt.Publish{QoS: 1, PacketID: 1, TopicAlias: 1, Payload: []byte("x")}},
		{Name: "PUBLISH alias set", Version: mqtt.V5, Wire: "30 [('a') [23 FFFF] 'x']",
			Packet: &mqtt.Publish{Topic: []byte("a"), TopicAlias: 65535, Payload: []byte("x")}},
		{Name: "PUBLISH travelling properties", Version: mqtt.V5, Wire: "30 [('a') [" + travelling + "] 'x']",
			Packet: &mqtt.Publish{Topic: []byte("a"), Payload: []byte("x"), Props: Wire(travelling)}},
		{Name: "PUBLISH all properties", Version: mqtt.V5,
			Wire: "34 [('a') 0007 [23 0002 02 0000000A 0B 01 0B 8001 0B FFFFFF7F " + travelling + "] 'x']",
			Packet: &mqtt.Publish{QoS: 2, PacketID: 7, Topic: []byte("a"), Payload: []byte("x"), TopicAlias: 2, HasExpiry: true, Expiry: 10,
				SubscriptionIDs: []uint32{1, 128, mqtt.MaxRemaining}, Props: Wire(travelling)}},
		{Name: "PUBLISH properties interleaved", Version: mqtt.V5, DecodeOnly: true,
			Wire: "30 [('a') [03 ('t') 02 00000000 26 ('k') ('v') 0B 05 01 00 23 0003 26 () ()] 'x']",
			Packet: &mqtt.Publish{Topic: []byte("a"), Payload: []byte("x"), TopicAlias: 3, HasExpiry: true, SubscriptionIDs: []uint32{5},
				Props: Wire("03 ('t') 26 ('k') ('v') 01 00 26 () ()")}},
		{Name: "PUBLISH long property section", Version: mqtt.V5,
			Wire: "30 [('a') [26 ('k') ('0123456789012345678901234567890123456789012345678901234567890123456789" +
				"0123456789012345678901234567890123456789012345678901234567890123456789')] 'x']",
			Packet: &mqtt.Publish{Topic: []byte("a"), Payload: []byte("x"), Props: Wire("26 ('k') ('0123456789012345678901234567890123456789" +
				"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789')")}},
	}
}

func acks() []Vector {
	out := slices.Concat(
		each(Vector{Name: "PUBACK", Wire: "40 [000A]", Packet: &mqtt.Puback{PacketID: 10}}, mqtt.V31, mqtt.V311, mqtt.V5),
		each(Vector{Name: "PUBREC", Wire: "50 [000A]", Packet: &mqtt.Pubrec{PacketID: 10}}, mqtt.V31, mqtt.V311, mqtt.V5),
		each(Vector{Name: "PUBREL", Wire: "62 [FFFF]", Packet: &mqtt.Pubrel{PacketID: 65535}}, mqtt.V31, mqtt.V311, mqtt.V5),
		each(Vector{Name: "PUBCOMP", Wire: "70 [0001]", Packet: &mqtt.Pubcomp{PacketID: 1}}, mqtt.V31, mqtt.V311, mqtt.V5),
	)
	users := []mqtt.UserProperty{{Key: "k", Value: "v"}}
	return append(out, []Vector{
		{Name: "PUBREL DUP", Version: mqtt.V31, DecodeOnly: true, Wire: "6A [0001]", Packet: &mqtt.Pubrel{PacketID: 1}},
		{Name: "PUBACK code", Version: mqtt.V5, Wire: "40 [000A 10]", Packet: &mqtt.Puback{PacketID: 10, Code: mqtt.NoMatchingSubscribers}},
		{Name: "PUBACK success written out", Version: mqtt.V5, DecodeOnly: true, Wire: "40 [000A 00]", Packet: &mqtt.Puback{PacketID: 10}},
		{Name: "PUBACK empty properties", Version: mqtt.V5, DecodeOnly: true, Wire: "40 [000A 97 []]",
			Packet: &mqtt.Puback{PacketID: 10, Code: mqtt.QuotaExceeded}},
		{Name: "PUBACK properties", Version: mqtt.V5, Wire: "40 [000A 00 [1F ('why') 26 ('k') ('v')]]",
			Packet: &mqtt.Puback{PacketID: 10, ReasonString: "why", UserProps: users}},
		{Name: "PUBREC properties", Version: mqtt.V5, Wire: "50 [000A 83 [1F ('why')]]",
			Packet: &mqtt.Pubrec{PacketID: 10, Code: mqtt.ImplementationSpecificError, ReasonString: "why"}},
		{Name: "PUBREL code", Version: mqtt.V5, Wire: "62 [000A 92]",
			Packet: &mqtt.Pubrel{PacketID: 10, Code: mqtt.PacketIdentifierNotFound}},
		{Name: "PUBCOMP properties", Version: mqtt.V5, Wire: "70 [000A 92 [26 ('k') ('v')]]",
			Packet: &mqtt.Pubcomp{PacketID: 10, Code: mqtt.PacketIdentifierNotFound, UserProps: users}},
	}...)
}
