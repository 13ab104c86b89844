package mqtt_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	mochi "github.com/mochi-mqtt/server/v2/packets"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestAgreesWithMochi covers what the paho codecs leave out: wills with
// properties, several subscription identifiers, and PUBLISH of all versions.
func TestAgreesWithMochi(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := gen{t, drawVersion(t)}
		p := g.packetOf(rapid.SampledFrom([]mqtt.Type{mqtt.TypeConnect, mqtt.TypePublish}).Draw(t, "type"))
		switch p := p.(type) {
		case *mqtt.Connect: // mochi sends the expiry of a will only if it is not 0
			p.Will = g.will()
			p.Will.HasExpiry = p.Will.Expiry != 0
		case *mqtt.Publish:
			p.HasExpiry = p.Expiry != 0
		}
		agreeWithMochi(t, g.v, p)
	})
}

func agreeWithMochi(t *rapid.T, v mqtt.Version, p mqtt.Packet) {
	wire, err := mqtt.Append(nil, v, p)
	if err != nil {
		t.Fatal(err)
	}
	want := toMochi(t, v, p)
	theirs := mochi.Packet{ProtocolVersion: byte(v), FixedHeader: mochi.FixedHeader{Type: byte(p.Type())}}
	if err := theirs.FixedHeader.Decode(wire[0]); err != nil {
		t.Fatal(err)
	}
	n, used, err := mochi.DecodeLength(bytes.NewBuffer(wire[1:]))
	if err != nil || 1+used+n != len(wire) {
		t.Fatalf("remaining length %d (%v) of % X", n, err, wire)
	}
	decode, encode := theirs.PublishDecode, want.PublishEncode
	if p.Type() == mqtt.TypeConnect {
		decode, encode = theirs.ConnectDecode, want.ConnectEncode
	}
	if err := decode(wire[1+used:]); err != nil {
		t.Fatalf("mochi refuses % X: %v", wire, err)
	}
	if diff := cmp.Diff(want, &theirs, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(mochi.Packet{}, "Mods")); diff != "" {
		t.Fatalf("mochi decodes what we encode differently (-want +got):\n%s", diff)
	}
	var buf bytes.Buffer
	if err := encode(&buf); err != nil {
		t.Fatal(err)
	}
	ours, err := newReader(&buf, v, wire[0]).Next()
	if err != nil {
		t.Fatalf("we refuse what mochi sends: %v", err)
	}
	if diff := cmp.Diff(normal(t, p), normal(t, ours), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("we decode what mochi encodes differently (-want +got):\n%s", diff)
	}
}

func toMochi(t tester, v mqtt.Version, p mqtt.Packet) *mochi.Packet {
	out := &mochi.Packet{ProtocolVersion: byte(v), FixedHeader: mochi.FixedHeader{Type: byte(p.Type())}, Mods: mochi.Mods{AllowResponseInfo: true}}
	switch p := p.(type) {
	case *mqtt.Publish:
		out.FixedHeader.Qos, out.FixedHeader.Dup, out.FixedHeader.Retain = p.QoS, p.Dup, p.Retain
		out.TopicName, out.PacketID, out.Payload = string(p.Topic), p.PacketID, p.Payload
		out.Properties = mochi.Properties{TopicAlias: p.TopicAlias, TopicAliasFlag: p.TopicAlias > 0, MessageExpiryInterval: p.Expiry}
		for _, id := range p.SubscriptionIDs {
			out.Properties.SubscriptionIdentifier = append(out.Properties.SubscriptionIdentifier, int(id))
		}
		mochiMessage(t, &out.Properties, p.Props)
	case *mqtt.Connect:
		out.Connect = mochi.ConnectParams{ProtocolName: []byte("MQTT"), Clean: p.CleanStart, Keepalive: p.KeepAlive, ClientIdentifier: p.ClientID,
			UsernameFlag: p.HasUsername, Username: []byte(p.Username), PasswordFlag: p.HasPassword, Password: p.Password,
			WillFlag: true, WillTopic: p.Will.Topic, WillPayload: p.Will.Payload, WillQos: p.Will.QoS, WillRetain: p.Will.Retain,
			WillProperties: mochi.Properties{WillDelayInterval: p.Will.Delay, MessageExpiryInterval: p.Will.Expiry}}
		if v == mqtt.V31 {
			out.Connect.ProtocolName = []byte("MQIsdp")
		}
		mochiMessage(t, &out.Connect.WillProperties, p.Will.Props)
		if v != mqtt.V5 {
			break
		}
		out.Properties = mochi.Properties{SessionExpiryInterval: p.SessionExpiry, SessionExpiryIntervalFlag: p.HasSessionExpiry,
			TopicAliasMaximum: p.TopicAliasMaximum, MaximumPacketSize: p.MaximumPacketSize, RequestResponseInfo: flag(p.RequestResponseInfo),
			RequestProblemInfoFlag: !p.RequestProblemInfo, AuthenticationMethod: p.AuthMethod, AuthenticationData: p.AuthData}
		if p.ReceiveMaximum != 65535 {
			out.Properties.ReceiveMaximum = p.ReceiveMaximum
		}
		for _, u := range p.UserProps {
			out.Properties.User = append(out.Properties.User, mochi.UserProperty{Key: u.Key, Val: u.Value})
		}
	}
	return out
}

func mochiMessage(t tester, to *mochi.Properties, props []byte) {
	err := mqtt.ReadProps(props, func(p mqtt.Property) bool {
		switch p.ID {
		case mqtt.PropPayloadFormat:
			to.PayloadFormat, to.PayloadFormatFlag = byte(p.Num), true
		case mqtt.PropContentType:
			to.ContentType = string(p.Value)
		case mqtt.PropResponseTopic:
			to.ResponseTopic = string(p.Value)
		case mqtt.PropCorrelationData:
			to.CorrelationData = bytes.Clone(p.Value)
		case mqtt.PropUser:
			to.User = append(to.User, mochi.UserProperty{Key: string(p.Key), Val: string(p.Value)})
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}
