package mqtttest

import "github.com/flotilla-mqtt/flotilla/transport/mqtt"

func connects() []Vector {
	return append(connectsOld(), connects5()...)
}

func connectsOld() []Vector {
	return []Vector{
		{Name: "CONNECT minimal", Version: mqtt.V31,
			Wire:   "10 [('MQIsdp') 03 00 003C ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V31, KeepAlive: 60, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT full", Version: mqtt.V31,
			Wire: "10 [('MQIsdp') 03 EE 000A ('a client with more than 23 characters') ('will/topic') ('gone') ('user') ('secret')]",
			Packet: &mqtt.Connect{Version: mqtt.V31, CleanStart: true, KeepAlive: 10, ClientID: "a client with more than 23 characters",
				Will:        &mqtt.Will{Topic: "will/topic", Payload: []byte("gone"), QoS: 1, Retain: true},
				HasUsername: true, Username: "user", HasPassword: true, Password: []byte("secret"),
				ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT flags without user name and password", Version: mqtt.V31, DecodeOnly: true,
			Wire:   "10 [('MQIsdp') 03 C2 003C ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V31, CleanStart: true, KeepAlive: 60, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT password flag without password", Version: mqtt.V31, DecodeOnly: true,
			Wire: "10 [('MQIsdp') 03 C2 003C ('c1') ('u')]",
			Packet: &mqtt.Connect{Version: mqtt.V31, CleanStart: true, KeepAlive: 60, ClientID: "c1", HasUsername: true, Username: "u",
				ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT unused flag", Version: mqtt.V31, DecodeOnly: true,
			Wire:   "10 [('MQIsdp') 03 03 003C ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V31, CleanStart: true, KeepAlive: 60, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT empty client id", Version: mqtt.V311,
			Wire:   "10 [('MQTT') 04 02 0000 ()]",
			Packet: &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT persistent", Version: mqtt.V311,
			Wire:   "10 [('MQTT') 04 00 FFFF ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V311, KeepAlive: 65535, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT padded remaining length", Version: mqtt.V311, DecodeOnly: true,
			Wire:   "10 8E8000 0004 'MQTT' 04 00 FFFF 0002 'c1'",
			Packet: &mqtt.Connect{Version: mqtt.V311, KeepAlive: 65535, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT full", Version: mqtt.V311,
			Wire: "10 [('MQTT') 04 F6 000A ('c1') ('w') () ('jürgen') (00FF)]",
			Packet: &mqtt.Connect{Version: mqtt.V311, CleanStart: true, KeepAlive: 10, ClientID: "c1",
				Will:        &mqtt.Will{Topic: "w", QoS: 2, Retain: true},
				HasUsername: true, Username: "jürgen", HasPassword: true, Password: []byte{0, 0xFF},
				ReceiveMaximum: 65535, RequestProblemInfo: true}},
	}
}

func connects5() []Vector {
	return []Vector{
		{Name: "CONNECT minimal", Version: mqtt.V5,
			Wire:   "10 [('MQTT') 05 00 003C [] ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V5, KeepAlive: 60, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT empty client id", Version: mqtt.V5,
			Wire:   "10 [('MQTT') 05 00 003C [] ()]",
			Packet: &mqtt.Connect{Version: mqtt.V5, KeepAlive: 60, ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT password only", Version: mqtt.V5,
			Wire: "10 [('MQTT') 05 42 003C [] ('c1') ('token')]",
			Packet: &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: "c1", HasPassword: true, Password: []byte("token"),
				ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT all properties", Version: mqtt.V5,
			Wire: "10 [('MQTT') 05 02 003C [11 0000000A 21 0064 27 00010000 22 0020 19 01 17 00 15 ('SCRAM') 16 (0102) 26 ('k') ('v') 26 ('k') ()] ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: "c1",
				HasSessionExpiry: true, SessionExpiry: 10, ReceiveMaximum: 100, MaximumPacketSize: 65536, TopicAliasMaximum: 32,
				RequestResponseInfo: true, RequestProblemInfo: false, AuthMethod: "SCRAM", AuthData: []byte{1, 2},
				UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: ""}}}},
		{Name: "CONNECT defaults written out", Version: mqtt.V5, DecodeOnly: true,
			Wire: "10 [('MQTT') 05 02 003C [21 FFFF 22 0000 19 00 17 01] ('c1')]",
			Packet: &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: "c1",
				ReceiveMaximum: 65535, RequestProblemInfo: true}},
		{Name: "CONNECT will with properties", Version: mqtt.V5,
			Wire: "10 [('MQTT') 05 2E 003C [11 FFFFFFFF] ('c1') [18 00000005 02 0000000A 01 01 03 ('text/plain') 08 ('re/ply') 09 (00) 26 ('a') ('b')] ('will') ('gone')]",
			Packet: &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: "c1", HasSessionExpiry: true, SessionExpiry: 0xFFFFFFFF,
				ReceiveMaximum: 65535, RequestProblemInfo: true,
				Will: &mqtt.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, Retain: true, Delay: 5, HasExpiry: true, Expiry: 10,
					Props: Wire("01 01 03 ('text/plain') 08 ('re/ply') 09 (00) 26 ('a') ('b')")}}},
		{Name: "CONNECT will properties interleaved", Version: mqtt.V5, DecodeOnly: true,
			Wire: "10 [('MQTT') 05 06 003C [] ('c1') [03 ('t') 18 00000000 26 ('a') ('b') 02 00000000 01 00] ('will') ()]",
			Packet: &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: "c1", ReceiveMaximum: 65535, RequestProblemInfo: true,
				Will: &mqtt.Will{Topic: "will", HasExpiry: true, Props: Wire("03 ('t') 26 ('a') ('b') 01 00")}}},
		{Name: "CONNECT byte order mark kept", Version: mqtt.V5, // v5:MQTT-1.5.4-3
			Wire: "10 [('MQTT') 05 82 003C [] (EFBBBF 'c') (EFBBBF)]",
			Packet: &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: "\ufeffc", HasUsername: true, Username: "\ufeff",
				ReceiveMaximum: 65535, RequestProblemInfo: true}},
	}
}

func connacks() []Vector {
	return []Vector{
		{Name: "CONNACK accepted", Version: mqtt.V31, Wire: "20 [00 00]", Packet: &mqtt.Connack{ReceiveMaximum: 65535}},
		{Name: "CONNACK unused byte", Version: mqtt.V31, DecodeOnly: true, Wire: "20 [FF 00]", Packet: &mqtt.Connack{ReceiveMaximum: 65535}},
		{Name: "CONNACK not authorized", Version: mqtt.V31, Wire: "20 [00 05]", Packet: &mqtt.Connack{Code: mqtt.NotAuthorized, ReceiveMaximum: 65535}},
		{Name: "CONNACK session present", Version: mqtt.V311, Wire: "20 [01 00]", Packet: &mqtt.Connack{SessionPresent: true, ReceiveMaximum: 65535}},
		{Name: "CONNACK version", Version: mqtt.V311, Wire: "20 [00 01]", Packet: &mqtt.Connack{Code: mqtt.UnsupportedProtocolVersion, ReceiveMaximum: 65535}},
		{Name: "CONNACK client id", Version: mqtt.V311, Wire: "20 [00 02]", Packet: &mqtt.Connack{Code: mqtt.ClientIdentifierNotValid, ReceiveMaximum: 65535}},
		{Name: "CONNACK unavailable", Version: mqtt.V311, Wire: "20 [00 03]", Packet: &mqtt.Connack{Code: mqtt.ServerUnavailable, ReceiveMaximum: 65535}},
		{Name: "CONNACK credentials", Version: mqtt.V311, Wire: "20 [00 04]", Packet: &mqtt.Connack{Code: mqtt.BadUserNameOrPassword, ReceiveMaximum: 65535}},
		{Name: "CONNACK accepted", Version: mqtt.V5, Wire: "20 [01 00 []]", Packet: &mqtt.Connack{SessionPresent: true, ReceiveMaximum: 65535}},
		{Name: "CONNACK refused", Version: mqtt.V5, Wire: "20 [00 8A [1F ('no')]]",
			Packet: &mqtt.Connack{Code: mqtt.Banned, ReasonString: "no", ReceiveMaximum: 65535}},
		{Name: "CONNACK all properties", Version: mqtt.V5,
			Wire: "20 [00 00 [11 0000000A 21 0040 24 01 25 00 27 00100000 12 ('auto-1') 22 0020 1F ('hi') 26 ('k') ('v') 28 00 29 00 2A 00 13 001E" +
				" 1A ('resp/') 1C ('other:1883') 15 ('M') 16 ()]]",
			Packet: &mqtt.Connack{HasSessionExpiry: true, SessionExpiry: 10, ReceiveMaximum: 64, HasMaximumQoS: true, MaximumQoS: 1,
				RetainUnavailable: true, MaximumPacketSize: 1 << 20, AssignedClientID: "auto-1", TopicAliasMaximum: 32, ReasonString: "hi",
				UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}}, WildcardUnavailable: true, SubscriptionIDsUnavailable: true,
				SharedUnavailable: true, HasServerKeepAlive: true, ServerKeepAlive: 30, ResponseInfo: "resp/", ServerReference: "other:1883",
				AuthMethod: "M", AuthData: []byte{}}},
		{Name: "CONNACK defaults written out", Version: mqtt.V5, DecodeOnly: true,
			Wire: "20 [00 00 [21 FFFF 25 01 28 01 29 01 2A 01 22 0000]]", Packet: &mqtt.Connack{ReceiveMaximum: 65535}},
	}
}
