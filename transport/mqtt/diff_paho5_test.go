package mqtt_test

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// The MQTT 5 codec of paho.golang, independent of ours. It cannot do all:
//   - it knows one subscription identifier per PUBLISH;
//   - it does not send payload format, expiry and the like of a will;
//   - it does not decode a DISCONNECT without a body;
//   - it keeps no order between different properties;
//   - it drops empty strings and data.
func pahoCannot(p mqtt.Packet) (decode, encode bool) {
	switch p := p.(type) {
	case *mqtt.Publish:
		return len(p.SubscriptionIDs) > 1, len(p.SubscriptionIDs) > 1
	case *mqtt.Connect:
		w := p.Will
		return false, w != nil && (w.HasExpiry || len(w.Props) > 0)
	case *mqtt.Connack:
		return false, p.AuthData != nil && len(p.AuthData) == 0
	case *mqtt.Disconnect:
		bare := p.Code == 0 && !p.HasSessionExpiry && p.ReasonString == "" && p.ServerReference == "" && p.UserProps == nil
		return bare, false
	case *mqtt.Auth:
		return false, p.AuthMethod == ""
	}
	return false, false
}

func TestAgreesWithPaho5OnVectors(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		if v.Version == mqtt.V5 && !v.DecodeOnly {
			t.Run(v.String(), func(t *testing.T) { agreeWithPaho5(t, v.Packet) })
		}
	}
}

func TestAgreesWithPaho5(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { agreeWithPaho5(t, gen{t, mqtt.V5}.packet()) })
}

type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}

func agreeWithPaho5(t tester, p mqtt.Packet) {
	t.Helper()
	skipDecode, skipEncode := pahoCannot(p)
	want := toPaho5(t, p)
	if !skipDecode {
		wire, err := mqtt.Append(nil, mqtt.V5, p)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := packets.ReadPacket(bytes.NewReader(wire))
		if err != nil {
			t.Fatalf("paho refuses % X: %v", wire, err)
		}
		if diff := cmp.Diff(want, theirs.Content, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("paho decodes what we encode differently (-want +got):\n%s", diff)
		}
	}
	if skipEncode {
		return
	}
	var wire bytes.Buffer
	cp := packets.NewControlPacket(byte(p.Type()))
	cp.Content = want
	if cp.Type == packets.AUTH {
		cp.Flags = 0 // paho sets 1, which is malformed
	}
	if _, err := cp.WriteTo(&wire); err != nil {
		t.Fatal(err)
	}
	r := newReader(&wire, mqtt.V5, wire.Bytes()[0])
	ours, err := r.Next()
	if err != nil {
		t.Fatalf("we refuse what paho sends: %v", err)
	}
	if diff := cmp.Diff(normal(t, p), normal(t, ours), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("we decode what paho encodes differently (-want +got):\n%s", diff)
	}
}

// normal replaces Props by a form without order between properties.
func normal(t tester, p mqtt.Packet) mqtt.Packet {
	sorted := func(props []byte) []byte {
		m, err := mqtt.ParseMessageProps(props)
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	switch p := p.(type) {
	case *mqtt.Publish:
		c := p.Clone()
		c.Props = sorted(c.Props)
		return c
	case *mqtt.Connect:
		c := *p
		if p.Will != nil {
			w := *p.Will
			w.Props = sorted(w.Props)
			c.Will = &w
		}
		return &c
	}
	return p
}

// ptr returns a pointer to v if it is there.
func ptr[T any](there bool, v T) *T {
	if !there {
		return nil
	}
	return &v
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func pahoUsers(users []mqtt.UserProperty) []packets.User {
	var out []packets.User
	for _, u := range users {
		out = append(out, packets.User{Key: u.Key, Value: u.Value})
	}
	return out
}

func pahoCodes(codes []mqtt.ReasonCode) []byte {
	var out []byte
	for _, c := range codes {
		out = append(out, byte(c))
	}
	return out
}

func pahoReason(text string, users []mqtt.UserProperty) *packets.Properties {
	return &packets.Properties{ReasonString: text, User: pahoUsers(users)}
}

func pahoMessage(t tester, to *packets.Properties, props []byte) {
	err := mqtt.ReadProps(props, func(p mqtt.Property) bool {
		switch p.ID {
		case mqtt.PropPayloadFormat:
			to.PayloadFormat = ptr(true, byte(p.Num))
		case mqtt.PropContentType:
			to.ContentType = string(p.Value)
		case mqtt.PropResponseTopic:
			to.ResponseTopic = string(p.Value)
		case mqtt.PropCorrelationData:
			to.CorrelationData = bytes.Clone(p.Value)
		case mqtt.PropUser:
			to.User = append(to.User, packets.User{Key: string(p.Key), Value: string(p.Value)})
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func toPaho5(t tester, p mqtt.Packet) packets.Packet {
	switch p := p.(type) {
	case *mqtt.Connect:
		return pahoConnect(t, p)
	case *mqtt.Connack:
		return pahoConnack(p)
	case *mqtt.Publish:
		out := &packets.Publish{Topic: string(p.Topic), Payload: p.Payload, PacketID: p.PacketID, QoS: p.QoS, Duplicate: p.Dup, Retain: p.Retain,
			Properties: &packets.Properties{TopicAlias: ptr(p.TopicAlias > 0, p.TopicAlias), MessageExpiry: ptr(p.HasExpiry, p.Expiry)}}
		if len(p.SubscriptionIDs) > 0 {
			out.Properties.SubscriptionIdentifier = ptr(true, int(p.SubscriptionIDs[0]))
		}
		pahoMessage(t, out.Properties, p.Props)
		return out
	case *mqtt.Puback:
		return &packets.Puback{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: pahoReason(p.ReasonString, p.UserProps)}
	case *mqtt.Pubrec:
		return &packets.Pubrec{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: pahoReason(p.ReasonString, p.UserProps)}
	case *mqtt.Pubrel:
		return &packets.Pubrel{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: pahoReason(p.ReasonString, p.UserProps)}
	case *mqtt.Pubcomp:
		return &packets.Pubcomp{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: pahoReason(p.ReasonString, p.UserProps)}
	case *mqtt.Subscribe:
		out := &packets.Subscribe{PacketID: p.PacketID, Properties: &packets.Properties{User: pahoUsers(p.UserProps),
			SubscriptionIdentifier: ptr(p.SubscriptionID > 0, int(p.SubscriptionID))}}
		for _, f := range p.Filters {
			out.Subscriptions = append(out.Subscriptions, packets.SubOptions{Topic: f.Filter, QoS: f.QoS, NoLocal: f.NoLocal,
				RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling})
		}
		return out
	case *mqtt.Suback:
		return &packets.Suback{PacketID: p.PacketID, Reasons: pahoCodes(p.Codes), Properties: pahoReason(p.ReasonString, p.UserProps)}
	case *mqtt.Unsubscribe:
		return &packets.Unsubscribe{PacketID: p.PacketID, Topics: p.Filters, Properties: pahoReason("", p.UserProps)}
	case *mqtt.Unsuback:
		return &packets.Unsuback{PacketID: p.PacketID, Reasons: pahoCodes(p.Codes), Properties: pahoReason(p.ReasonString, p.UserProps)}
	case *mqtt.Pingreq:
		return &packets.Pingreq{}
	case *mqtt.Pingresp:
		return &packets.Pingresp{}
	case *mqtt.Disconnect:
		return &packets.Disconnect{ReasonCode: byte(p.Code), Properties: &packets.Properties{ReasonString: p.ReasonString, User: pahoUsers(p.UserProps),
			ServerReference: p.ServerReference, SessionExpiryInterval: ptr(p.HasSessionExpiry, p.SessionExpiry)}}
	case *mqtt.Auth:
		return &packets.Auth{ReasonCode: byte(p.Code), Properties: &packets.Properties{ReasonString: p.ReasonString, User: pahoUsers(p.UserProps),
			AuthMethod: p.AuthMethod, AuthData: p.AuthData}}
	}
	t.Fatalf("no conversion for %T", p)
	return nil
}

func pahoConnect(t tester, p *mqtt.Connect) *packets.Connect {
	out := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: p.CleanStart, KeepAlive: p.KeepAlive, ClientID: p.ClientID,
		UsernameFlag: p.HasUsername, Username: p.Username, PasswordFlag: p.HasPassword, Password: p.Password,
		Properties: &packets.Properties{
			SessionExpiryInterval: ptr(p.HasSessionExpiry, p.SessionExpiry),
			ReceiveMaximum:        ptr(p.ReceiveMaximum != 65535, p.ReceiveMaximum),
			MaximumPacketSize:     ptr(p.MaximumPacketSize > 0, p.MaximumPacketSize),
			TopicAliasMaximum:     ptr(p.TopicAliasMaximum > 0, p.TopicAliasMaximum),
			RequestResponseInfo:   ptr(p.RequestResponseInfo, byte(1)),
			RequestProblemInfo:    ptr(!p.RequestProblemInfo, byte(0)),
			AuthMethod:            p.AuthMethod, AuthData: p.AuthData, User: pahoUsers(p.UserProps),
		}}
	if w := p.Will; w != nil {
		out.WillFlag, out.WillTopic, out.WillMessage, out.WillQOS, out.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retain
		out.WillProperties = &packets.Properties{WillDelayInterval: ptr(w.Delay > 0, w.Delay), MessageExpiry: ptr(w.HasExpiry, w.Expiry)}
		pahoMessage(t, out.WillProperties, w.Props)
	}
	return out
}

func pahoConnack(p *mqtt.Connack) *packets.Connack {
	return &packets.Connack{SessionPresent: p.SessionPresent, ReasonCode: byte(p.Code),
		Properties: &packets.Properties{
			SessionExpiryInterval: ptr(p.HasSessionExpiry, p.SessionExpiry),
			ReceiveMaximum:        ptr(p.ReceiveMaximum != 65535, p.ReceiveMaximum),
			MaximumQOS:            ptr(p.HasMaximumQoS, p.MaximumQoS),
			RetainAvailable:       ptr(p.RetainUnavailable, flag(!p.RetainUnavailable)),
			MaximumPacketSize:     ptr(p.MaximumPacketSize > 0, p.MaximumPacketSize),
			AssignedClientID:      p.AssignedClientID,
			TopicAliasMaximum:     ptr(p.TopicAliasMaximum > 0, p.TopicAliasMaximum),
			ReasonString:          p.ReasonString, User: pahoUsers(p.UserProps),
			WildcardSubAvailable: ptr(p.WildcardUnavailable, byte(0)),
			SubIDAvailable:       ptr(p.SubscriptionIDsUnavailable, byte(0)),
			SharedSubAvailable:   ptr(p.SharedUnavailable, byte(0)),
			ServerKeepAlive:      ptr(p.HasServerKeepAlive, p.ServerKeepAlive),
			ResponseInfo:         p.ResponseInfo, ServerReference: p.ServerReference,
			AuthMethod: p.AuthMethod, AuthData: p.AuthData,
		}}
}
