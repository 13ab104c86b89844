package mqtt_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

type badPacket struct {
	name     string
	packet   mqtt.Packet
	versions []mqtt.Version
	want     error
}

func allVersions() []mqtt.Version { return []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} }
func oldVersions() []mqtt.Version { return []mqtt.Version{mqtt.V31, mqtt.V311} }
func only5() []mqtt.Version       { return []mqtt.Version{mqtt.V5} }

type foreign struct{}

func (foreign) Type() mqtt.Type { return 0 }

func badPackets() []badPacket {
	invalid, cannot := mqtt.ErrInvalidPacket, mqtt.ErrNotRepresentable
	long := strings.Repeat("x", 65536)
	filter := func(f mqtt.SubscribeFilter) mqtt.Packet {
		return &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{f}}
	}
	topic := []byte("a")
	return []badPacket{
		// What older versions cannot say: a refusal must never look like success.
		{"negative PUBACK", &mqtt.Puback{PacketID: 1, Code: mqtt.QuotaExceeded}, oldVersions(), cannot},
		{"negative PUBREC", &mqtt.Pubrec{PacketID: 1, Code: mqtt.NotAuthorized}, oldVersions(), cannot},
		{"negative PUBREL", &mqtt.Pubrel{PacketID: 1, Code: mqtt.PacketIdentifierNotFound}, oldVersions(), cannot},
		{"negative PUBCOMP", &mqtt.Pubcomp{PacketID: 1, Code: mqtt.PacketIdentifierNotFound}, oldVersions(), cannot},
		{"DISCONNECT with a reason", &mqtt.Disconnect{Code: mqtt.SessionTakenOver}, oldVersions(), cannot},
		{"AUTH", &mqtt.Auth{}, oldVersions(), cannot},
		{"alias without topic", &mqtt.Publish{TopicAlias: 1}, oldVersions(), cannot},
		{"no local", filter(mqtt.SubscribeFilter{Filter: "a", NoLocal: true}), oldVersions(), cannot},
		{"retain as published", filter(mqtt.SubscribeFilter{Filter: "a", RetainAsPublished: true}), oldVersions(), cannot},
		{"retain handling", filter(mqtt.SubscribeFilter{Filter: "a", RetainHandling: 1}), oldVersions(), cannot},
		{"password only", &mqtt.Connect{CleanStart: true, ClientID: "c", HasPassword: true}, oldVersions(), cannot},

		{"CONNECT of another version", &mqtt.Connect{Version: 9, ClientID: "c"}, allVersions(), invalid},
		{"CONNECT empty client id", &mqtt.Connect{}, oldVersions(), invalid},
		{"CONNECT long client id", &mqtt.Connect{ClientID: long}, allVersions(), invalid},
		{"CONNECT client id NUL", &mqtt.Connect{ClientID: "\x00"}, allVersions(), invalid},
		{"CONNECT long password", &mqtt.Connect{ClientID: "c", HasUsername: true, HasPassword: true, Password: []byte(long)}, allVersions(), invalid},
		{"CONNECT will QoS", &mqtt.Connect{ClientID: "c", Will: &mqtt.Will{Topic: "w", QoS: 3}}, allVersions(), invalid},
		{"CONNECT will topic", &mqtt.Connect{ClientID: "c", Will: &mqtt.Will{Topic: "w/#"}}, allVersions(), invalid},
		{"CONNECT will without topic", &mqtt.Connect{ClientID: "c", Will: &mqtt.Will{}}, allVersions(), invalid},
		{"CONNECT authentication data only", &mqtt.Connect{ClientID: "c", AuthData: []byte{}}, only5(), invalid},
		{"CONNECT user property", &mqtt.Connect{ClientID: "c", UserProps: []mqtt.UserProperty{{Key: "\xff"}}}, only5(), invalid},
		{"CONNACK session present", &mqtt.Connack{SessionPresent: true, Code: mqtt.NotAuthorized}, allVersions(), invalid},
		{"CONNACK code", &mqtt.Connack{Code: mqtt.SessionTakenOver}, only5(), invalid},
		{"CONNACK maximum QoS", &mqtt.Connack{HasMaximumQoS: true, MaximumQoS: 2}, only5(), invalid},
		{"PUBLISH QoS 3", &mqtt.Publish{QoS: 3, PacketID: 1, Topic: topic}, allVersions(), invalid},
		{"PUBLISH without packet id", &mqtt.Publish{QoS: 1, Topic: topic}, allVersions(), invalid},
		{"PUBLISH DUP", &mqtt.Publish{Dup: true, Topic: topic}, allVersions(), invalid},
		{"PUBLISH without topic", &mqtt.Publish{}, allVersions(), invalid},
		{"PUBLISH wildcard", &mqtt.Publish{Topic: []byte("a/+")}, allVersions(), invalid},
		{"PUBLISH wildcard and alias", &mqtt.Publish{Topic: []byte("#"), TopicAlias: 1}, only5(), invalid},
		{"PUBLISH long topic", &mqtt.Publish{Topic: []byte(long)}, allVersions(), invalid},
		{"PUBLISH subscription identifier", &mqtt.Publish{Topic: topic, SubscriptionIDs: []uint32{0}}, only5(), invalid},
		{"PUBLISH large subscription identifier", &mqtt.Publish{Topic: topic, SubscriptionIDs: []uint32{mqtt.MaxRemaining + 1}}, only5(), invalid},
		{"PUBACK packet id", &mqtt.Puback{}, allVersions(), invalid},
		{"PUBACK code", &mqtt.Puback{PacketID: 1, Code: mqtt.GrantedQoS1}, allVersions(), invalid},
		{"PUBREL code", &mqtt.Pubrel{PacketID: 1, Code: mqtt.NoMatchingSubscribers}, allVersions(), invalid},
		{"SUBSCRIBE packet id", &mqtt.Subscribe{Filters: []mqtt.SubscribeFilter{{Filter: "a"}}}, allVersions(), invalid},
		{"SUBSCRIBE without filters", &mqtt.Subscribe{PacketID: 1}, allVersions(), invalid},
		{"SUBSCRIBE empty filter", filter(mqtt.SubscribeFilter{}), allVersions(), invalid},
		{"SUBSCRIBE QoS", filter(mqtt.SubscribeFilter{Filter: "a", QoS: 3}), allVersions(), invalid},
		{"SUBSCRIBE retain handling", filter(mqtt.SubscribeFilter{Filter: "a", RetainHandling: 3}), only5(), invalid},
		{"SUBSCRIBE no local on a share", filter(mqtt.SubscribeFilter{Filter: "$share/g/a", NoLocal: true}), only5(), invalid},
		{"SUBSCRIBE subscription identifier", &mqtt.Subscribe{PacketID: 1, SubscriptionID: mqtt.MaxRemaining + 1,
			Filters: []mqtt.SubscribeFilter{{Filter: "a"}}}, only5(), invalid},
		{"SUBACK without codes", &mqtt.Suback{PacketID: 1}, allVersions(), invalid},
		{"SUBACK code", &mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{3}}, allVersions(), invalid},
		{"UNSUBSCRIBE without filters", &mqtt.Unsubscribe{PacketID: 1}, allVersions(), invalid},
		{"UNSUBSCRIBE empty filter", &mqtt.Unsubscribe{PacketID: 1, Filters: []string{""}}, allVersions(), invalid},
		{"UNSUBACK packet id", &mqtt.Unsuback{Codes: []mqtt.ReasonCode{0}}, allVersions(), invalid},
		{"UNSUBACK without codes", &mqtt.Unsuback{PacketID: 1}, only5(), invalid},
		{"UNSUBACK code", &mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{1}}, only5(), invalid},
		{"DISCONNECT code", &mqtt.Disconnect{Code: mqtt.Banned}, allVersions(), invalid},
		{"DISCONNECT reason string", &mqtt.Disconnect{ReasonString: "\x00"}, only5(), invalid},
		{"AUTH without method", &mqtt.Auth{Code: mqtt.ContinueAuthentication}, only5(), invalid},
		{"AUTH code", &mqtt.Auth{Code: mqtt.NotAuthorized, AuthMethod: "M"}, only5(), invalid},
		{"foreign packet", foreign{}, allVersions(), invalid},
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, c := range badPackets() {
		for _, v := range c.versions {
			t.Run(v.String()+"/"+c.name, func(t *testing.T) {
				dst := append(make([]byte, 0, 64), "before"...)
				got, err := mqtt.Append(dst, v, c.packet)
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if string(got) != "before" {
					t.Errorf("dst became %q", got)
				}
			})
		}
	}
	for _, v := range []mqtt.Version{0, 2, 6, 0x84} {
		if _, err := mqtt.Append(nil, v, &mqtt.Pingreq{}); !errors.Is(err, mqtt.ErrInvalidPacket) {
			t.Errorf("version %d: got %v", v, err)
		}
	}
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	payload := make([]byte, mqtt.MaxRemaining-2)
	if _, err := mqtt.Append(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("a"), Payload: payload}); !errors.Is(err, mqtt.ErrInvalidPacket) {
		t.Errorf("got %v, want ErrInvalidPacket", err)
	}
	if n := mqtt.PublishSize(mqtt.V311, &mqtt.Publish{Topic: []byte("a"), Payload: payload[1:]}); n != mqtt.MaxRemaining+5 {
		t.Errorf("largest packet has %d bytes, want %d", n, mqtt.MaxRemaining+5)
	}
}

// TestOldVersionsDropProperties: what does not change the meaning is dropped.
func TestOldVersionsDropProperties(t *testing.T) {
	users := []mqtt.UserProperty{{Key: "k", Value: "v"}}
	for _, v := range oldVersions() {
		encodesAs(t, v, &mqtt.Publish{Topic: []byte("a"), TopicAlias: 1, HasExpiry: true, Props: []byte{1, 1}, SubscriptionIDs: []uint32{1}}, "30 [('a')]")
		encodesAs(t, v, &mqtt.Puback{PacketID: 1, Code: mqtt.NoMatchingSubscribers, ReasonString: "x", UserProps: users}, "40 [0001]")
		encodesAs(t, v, &mqtt.Suback{PacketID: 1, Codes: []mqtt.ReasonCode{2, mqtt.NotAuthorized}, ReasonString: "x"}, "90 [0001 02 80]")
		encodesAs(t, v, &mqtt.Unsuback{PacketID: 1, Codes: []mqtt.ReasonCode{mqtt.NoSubscriptionExisted}, UserProps: users}, "B0 [0001]")
		encodesAs(t, v, &mqtt.Connack{AssignedClientID: "x", TopicAliasMaximum: 3, Code: mqtt.ServerBusy}, "20 [00 03]")
		encodesAs(t, v, &mqtt.Subscribe{PacketID: 1, SubscriptionID: 4, UserProps: users, Filters: []mqtt.SubscribeFilter{{Filter: "a"}}},
			"82 [0001 ('a') 00]")
		encodesAs(t, v, &mqtt.Disconnect{ReasonString: "x"}, "E0 []")
	}
}

func TestAppendAck(t *testing.T) {
	for _, p := range []mqtt.Packet{&mqtt.Puback{PacketID: 258}, &mqtt.Pubrec{PacketID: 258}, &mqtt.Pubrel{PacketID: 258}, &mqtt.Pubcomp{PacketID: 258}} {
		for _, v := range allVersions() {
			if got, want := mqtt.AppendAck(nil, v, p.Type(), 258, mqtt.Success), encode(t, v, p); !bytes.Equal(got, want) {
				t.Errorf("%s in %s: got % X, want % X", p.Type(), v, got, want)
			}
		}
	}
}

// TestLongPropertySections: the length of a section takes more than one byte.
func TestLongPropertySections(t *testing.T) {
	for _, n := range []int{118, 119, 120, 121, 122, 123, 124, 125, 200, 8000} {
		want := &mqtt.Connect{Version: mqtt.V5, ClientID: "c", ReceiveMaximum: 65535, RequestProblemInfo: true,
			UserProps: []mqtt.UserProperty{{Key: "k", Value: strings.Repeat("v", n)}}}
		wire := encode(t, mqtt.V5, want)
		same(t, next(t, mqtt.NewReader(bytes.NewReader(wire), mqtt.Limits{})), want)
	}
}

func TestWritePacket(t *testing.T) {
	var buf bytes.Buffer
	if err := mqtt.WritePacket(&buf, mqtt.V311, &mqtt.Pingreq{}); err != nil || !bytes.Equal(buf.Bytes(), []byte{0xC0, 0}) {
		t.Errorf("wrote % X, %v", buf.Bytes(), err)
	}
	if err := mqtt.WritePacket(&buf, mqtt.V311, &mqtt.Auth{}); !errors.Is(err, mqtt.ErrNotRepresentable) {
		t.Errorf("got %v", err)
	}
	if err := mqtt.WritePacket(failWriter{}, mqtt.V311, &mqtt.Pingreq{}); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the error of the writer", err)
	}
}

var errBroken = errors.New("broken")

type failWriter struct{}

func (failWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestMessagePropsRefuse(t *testing.T) {
	for name, m := range map[string]mqtt.MessageProps{
		"content type":   {ContentType: "\xff"},
		"response topic": {ResponseTopic: "a/#"},
		"correlation":    {Correlation: make([]byte, 65536)},
		"user property":  {UserProperties: []mqtt.UserProperty{{Key: "\x00"}}},
	} {
		if got, err := m.Append([]byte("x")); !errors.Is(err, mqtt.ErrInvalidPacket) || string(got) != "x" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, props := range map[string][]byte{
		"of PUBLISH":  {0x23, 0, 1},
		"of the will": {0x18, 0, 0, 0, 0},
		"expiry":      {0x02, 0, 0, 0, 0},
		"twice":       {0x01, 0, 0x01, 0},
		"cut off":     {0x03, 0},
	} {
		if _, err := mqtt.ParseMessageProps(props); violation(t, err).Code < 0x80 {
			t.Errorf("%s: got %v", name, err)
		}
	}
	calls := 0
	if err := mqtt.ReadProps([]byte{0x01, 0, 0x03, 0, 0}, func(mqtt.Property) bool { calls++; return false }); err != nil || calls != 1 {
		t.Errorf("%d calls, %v; want 1 call", calls, err)
	}
}
