package mqtt_test

import (
	"bytes"
	"testing"

	paho3 "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

func TestAgreesWithPaho3OnVectors(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		if v.Version != mqtt.V5 && !v.DecodeOnly {
			t.Run(v.String(), func(t *testing.T) { agreeWithPaho3(t, v.Version, v.Packet) })
		}
	}
}

func TestAgreesWithPaho3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom([]mqtt.Version{mqtt.V31, mqtt.V311}).Draw(t, "version")
		agreeWithPaho3(t, v, gen{t, v}.packet())
	})
}

func agreeWithPaho3(t tester, v mqtt.Version, p mqtt.Packet) {
	t.Helper()
	wire, err := mqtt.Append(nil, v, p)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := paho3.ReadPacket(bytes.NewReader(wire))
	if err != nil {
		t.Fatalf("paho refuses % X: %v", wire, err)
	}
	want := toPaho3(t, v, p)
	ignore := cmpopts.IgnoreFields(paho3.FixedHeader{}, "RemainingLength")
	if diff := cmp.Diff(want, theirs, cmpopts.EquateEmpty(), ignore); diff != "" {
		t.Fatalf("paho decodes what we encode differently (-want +got):\n%s", diff)
	}
	var buf bytes.Buffer
	if err := want.Write(&buf); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(wire, buf.Bytes()) {
		t.Fatalf("we encode % X, paho % X", wire, buf.Bytes())
	}
	r := newReader(&buf, v, wire[0])
	ours, err := r.Next()
	if err != nil {
		t.Fatalf("we refuse what paho sends: %v", err)
	}
	if diff := cmp.Diff(p, ours, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("we decode what paho encodes differently (-want +got):\n%s", diff)
	}
}

func toPaho3(t tester, v mqtt.Version, p mqtt.Packet) paho3.ControlPacket {
	cp := paho3.NewControlPacket(byte(p.Type()))
	switch p := p.(type) {
	case *mqtt.Connect:
		out := cp.(*paho3.ConnectPacket)
		out.ProtocolName, out.ProtocolVersion = "MQTT", byte(v)
		if v == mqtt.V31 {
			out.ProtocolName = "MQIsdp"
		}
		out.CleanSession, out.Keepalive, out.ClientIdentifier = p.CleanStart, p.KeepAlive, p.ClientID
		out.UsernameFlag, out.Username, out.PasswordFlag, out.Password = p.HasUsername, p.Username, p.HasPassword, p.Password
		if w := p.Will; w != nil {
			out.WillFlag, out.WillTopic, out.WillMessage, out.WillQos, out.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retain
		}
	case *mqtt.Connack:
		out := cp.(*paho3.ConnackPacket)
		rc, ok := p.Code.ReturnCode()
		if !ok {
			t.Fatalf("no return code for %s", p.Code)
		}
		out.SessionPresent, out.ReturnCode = p.SessionPresent, rc
	case *mqtt.Publish:
		out := cp.(*paho3.PublishPacket)
		out.Dup, out.Qos, out.Retain = p.Dup, p.QoS, p.Retain
		out.TopicName, out.MessageID, out.Payload = string(p.Topic), p.PacketID, p.Payload
	case *mqtt.Puback:
		cp.(*paho3.PubackPacket).MessageID = p.PacketID
	case *mqtt.Pubrec:
		cp.(*paho3.PubrecPacket).MessageID = p.PacketID
	case *mqtt.Pubrel:
		cp.(*paho3.PubrelPacket).MessageID = p.PacketID
	case *mqtt.Pubcomp:
		cp.(*paho3.PubcompPacket).MessageID = p.PacketID
	case *mqtt.Subscribe:
		out := cp.(*paho3.SubscribePacket)
		out.MessageID = p.PacketID
		for _, f := range p.Filters {
			out.Topics, out.Qoss = append(out.Topics, f.Filter), append(out.Qoss, f.QoS)
		}
	case *mqtt.Suback:
		out := cp.(*paho3.SubackPacket)
		out.MessageID, out.ReturnCodes = p.PacketID, pahoCodes(p.Codes)
	case *mqtt.Unsubscribe:
		out := cp.(*paho3.UnsubscribePacket)
		out.MessageID, out.Topics = p.PacketID, p.Filters
	case *mqtt.Unsuback:
		cp.(*paho3.UnsubackPacket).MessageID = p.PacketID
	}
	return cp
}
