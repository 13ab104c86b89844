package mqtttest

import (
	"slices"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func subscriptions() []Vector {
	old := []mqtt.Version{mqtt.V31, mqtt.V311}
	out := slices.Concat(
		each(Vector{Name: "SUBSCRIBE", Wire: "82 [0001 ('a/+') 00 ('#') 02 ('c') 01]",
			Packet: &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "a/+"}, {Filter: "#", QoS: 2}, {Filter: "c", QoS: 1}}}}, old...),
		each(Vector{Name: "SUBACK", Wire: "90 [0001 00 01 02 80]",
			Packet: &mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{mqtt.GrantedQoS0, mqtt.GrantedQoS1, mqtt.GrantedQoS2, mqtt.UnspecifiedError}}}, old...),
		each(Vector{Name: "UNSUBSCRIBE", Wire: "A2 [0001 ('a/+') ('#')]",
			Packet: &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a/+", "#"}}}, old...),
		each(Vector{Name: "UNSUBACK", Wire: "B0 [0001]", Packet: &mqtt.Unsuback{PacketID: 1}}, old...),
	)
	return append(out, []Vector{
		{Name: "SUBSCRIBE DUP", Version: mqtt.V31, DecodeOnly: true, Wire: "8A [0001 ('a') 00]",
			Packet: &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "a"}}}},
		{Name: "UNSUBSCRIBE DUP", Version: mqtt.V31, DecodeOnly: true, Wire: "AA [0001 ('a')]",
			Packet: &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a"}}},
		{Name: "SUBSCRIBE", Version: mqtt.V5, Wire: "82 [0001 [] ('a/+') 00]",
			Packet: &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "a/+"}}}},
		{Name: "SUBSCRIBE all options", Version: mqtt.V5,
			Wire: "82 [00FF [0B FFFFFF7F 26 ('k') ('v')] ('a') 2E ('b') 15 ('$share/g/c') 08]",
			Packet: &mqtt.Subscribe{PacketID: 255, SubscriptionID: mqtt.MaxRemaining, UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}},
				Filters: []mqtt.SubscribeFilter{
					{Filter: "a", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
					{Filter: "b", QoS: 1, NoLocal: true, RetainHandling: 1},
					{Filter: "$share/g/c", RetainAsPublished: true},
				}}},
		{Name: "SUBACK", Version: mqtt.V5, Wire: "90 [0001 [1F ('why') 26 ('k') ('v')] 00 01 02 80 83 87 8F 91 97 9E A1 A2]",
			Packet: &mqtt.Suback{PacketID: 1, ReasonString: "why", UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}},
				Codes: []mqtt.ReasonCode{0, 1, 2, mqtt.UnspecifiedError, mqtt.ImplementationSpecificError, mqtt.NotAuthorized,
					mqtt.TopicFilterInvalid, mqtt.PacketIdentifierInUse, mqtt.QuotaExceeded, mqtt.SharedSubscriptionsNotSupported,
					mqtt.SubscriptionIdentifiersNotSupported, mqtt.WildcardSubscriptionsNotSupported}}},
		{Name: "UNSUBSCRIBE", Version: mqtt.V5, Wire: "A2 [0001 [26 ('k') ('v')] ('a/+')]",
			Packet: &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a/+"}, UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}}}},
		{Name: "UNSUBACK", Version: mqtt.V5, Wire: "B0 [0001 [] 00 11 87]",
			Packet: &mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{mqtt.Success, mqtt.NoSubscriptionExisted, mqtt.NotAuthorized}}},
		{Name: "UNSUBACK properties", Version: mqtt.V5, Wire: "B0 [0001 [1F ('why') 26 ('k') ('v')] 00]",
			Packet: &mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{mqtt.Success}, ReasonString: "why",
				UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}}}},
	}...)
}

func others() []Vector {
	out := slices.Concat(
		each(Vector{Name: "PINGREQ", Wire: "C0 []", Packet: &mqtt.Pingreq{}}, mqtt.V31, mqtt.V311, mqtt.V5),
		each(Vector{Name: "PINGRESP", Wire: "D0 []", Packet: &mqtt.Pingresp{}}, mqtt.V31, mqtt.V311, mqtt.V5),
		each(Vector{Name: "DISCONNECT", Wire: "E0 []", Packet: &mqtt.Disconnect{}}, mqtt.V31, mqtt.V311, mqtt.V5),
	)
	return append(out, []Vector{
		{Name: "DISCONNECT code", Version: mqtt.V5, Wire: "E0 [8E]", Packet: &mqtt.Disconnect{Code: mqtt.SessionTakenOver}},
		{Name: "DISCONNECT code and empty properties", Version: mqtt.V5, DecodeOnly: true, Wire: "E0 [04 []]",
			Packet: &mqtt.Disconnect{Code: mqtt.DisconnectWithWill}},
		{Name: "DISCONNECT all properties", Version: mqtt.V5,
			Wire: "E0 [00 [11 00000000 1F ('why') 1C ('other') 26 ('k') ('v')]]",
			Packet: &mqtt.Disconnect{HasSessionExpiry: true, ReasonString: "why", ServerReference: "other",
				UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}}}},
		{Name: "AUTH bare", Version: mqtt.V5, Wire: "F0 []", Packet: &mqtt.Auth{}},
		{Name: "AUTH", Version: mqtt.V5, Wire: "F0 [18 [15 ('M') 16 (00) 1F ('why') 26 ('k') ('v')]]",
			Packet: &mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "M", AuthData: []byte{0}, ReasonString: "why",
				UserProps: []mqtt.UserProperty{{Key: "k", Value: "v"}}}},
		{Name: "AUTH again", Version: mqtt.V5, Wire: "F0 [19 [15 ('M')]]", Packet: &mqtt.Auth{Code: mqtt.ReAuthenticate, AuthMethod: "M"}},
	}...)
}
