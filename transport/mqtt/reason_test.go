package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// specCodes is table 2-6 of MQTT 5, written down packet by packet.
func specCodes() map[mqtt.Type][]byte {
	acked := []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
	released := []byte{0x00, 0x92}
	return map[mqtt.Type][]byte{
		mqtt.TypeConnack: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
			0x9B, 0x9C, 0x9D, 0x9F},
		mqtt.TypePuback: acked, mqtt.TypePubrec: acked, mqtt.TypePubrel: released, mqtt.TypePubcomp: released,
		mqtt.TypeSuback:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
		mqtt.TypeUnsuback: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
		mqtt.TypeDisconnect: {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
			0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
		mqtt.TypeAuth: {0x00, 0x18, 0x19},
	}
}

func TestReasonCodesPerPacket(t *testing.T) {
	for typ := range mqtt.Type(18) {
		allowed := specCodes()[typ]
		for c := range 256 {
			if got, want := mqtt.ReasonCode(c).ValidIn(typ), slices.Contains(allowed, byte(c)); got != want {
				t.Errorf("code 0x%02X in %s: got %v, want %v", c, typ, got, want)
			}
		}
	}
}

func TestReasonCodeNames(t *testing.T) {
	seen := map[string]bool{}
	for c := range 256 {
		code := mqtt.ReasonCode(c)
		known := false
		for _, codes := range specCodes() {
			known = known || slices.Contains(codes, byte(c))
		}
		name := code.String()
		if strings.HasPrefix(name, "reason code 0x") == known || seen[name] {
			t.Errorf("0x%02X is called %q", c, name)
		}
		seen[name] = true
		if code.Failed() != (c >= 0x80) {
			t.Errorf("0x%02X: Failed is %v", c, code.Failed())
		}
	}
	if got := mqtt.ReasonCode(0xFF).String(); got != "reason code 0xFF" {
		t.Errorf("got %q", got)
	}
}

// TestReturnCodes pins what MQTT 3.1 and 3.1.1 clients are told at CONNECT.
func TestReturnCodes(t *testing.T) {
	want := map[mqtt.ReasonCode]byte{
		mqtt.Success: 0, mqtt.UnsupportedProtocolVersion: 1, mqtt.ClientIdentifierNotValid: 2, mqtt.ServerUnavailable: 3, mqtt.ServerBusy: 3,
		mqtt.ServerShuttingDown: 3, mqtt.QuotaExceeded: 3, mqtt.ConnectionRateExceeded: 3, mqtt.UseAnotherServer: 3, mqtt.ServerMoved: 3,
		mqtt.BadUserNameOrPassword: 4, mqtt.NotAuthorized: 5, mqtt.Banned: 5, mqtt.BadAuthenticationMethod: 5,
	}
	for c := range 256 {
		rc, ok := mqtt.ReasonCode(c).ReturnCode()
		if wantRC, wantOK := want[mqtt.ReasonCode(c)]; rc != wantRC || ok != wantOK {
			t.Errorf("%s: got %d, %v; want %d, %v", mqtt.ReasonCode(c), rc, ok, wantRC, wantOK)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{mqtt.V31.String(), "3.1"}, {mqtt.V311.String(), "3.1.1"}, {mqtt.V5.String(), "5.0"}, {mqtt.Version(0).String(), "unknown"},
		{mqtt.Type(0).String(), "RESERVED"}, {mqtt.Type(16).String(), "RESERVED"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for typ := mqtt.TypeConnect; typ <= mqtt.TypeAuth; typ++ {
		cp := packets.NewControlPacket(byte(typ))
		if cp.PacketType() != typ.String() {
			t.Errorf("type %d is called %s, want %s", typ, typ, cp.PacketType())
		}
	}
}

// TestPropertiesPerPacket compares the allow-lists with those of paho.golang
// for every identifier and packet. A will is not a packet type there.
func TestPropertiesPerPacket(t *testing.T) {
	wires := map[mqtt.Type]string{
		mqtt.TypeConnect: "10 [('MQTT') 05 02 0000 [%] ('c')]", mqtt.TypeConnack: "20 [00 00 [%]]", mqtt.TypePublish: "30 [('a') [%]]",
		mqtt.TypePuback: "40 [0001 00 [%]]", mqtt.TypePubrec: "50 [0001 00 [%]]", mqtt.TypePubrel: "62 [0001 00 [%]]",
		mqtt.TypePubcomp: "70 [0001 00 [%]]", mqtt.TypeSubscribe: "82 [0001 [%] ('a') 00]", mqtt.TypeSuback: "90 [0001 [%] 00]",
		mqtt.TypeUnsubscribe: "A2 [0001 [%] ('a')]", mqtt.TypeUnsuback: "B0 [0001 [%] 00]", mqtt.TypeDisconnect: "E0 [00 [%]]",
		mqtt.TypeAuth: "F0 [00 [%]]",
	}
	for typ, wire := range wires {
		for id := range 128 {
			// Without a value: what is allowed ends within a property.
			r := serve(strings.Replace(wire, "%", fmt.Sprintf("%02X", id), 1), mqtt.Limits{})
			if typ != mqtt.TypeConnect {
				r.SetVersion(mqtt.V5)
			}
			_, err := r.Next()
			refusedID := err != nil && violation(t, err).Msg == "property is unknown or not of this packet type"
			if allowed := pahoAllows(typ, byte(id)); refusedID == allowed {
				t.Errorf("property 0x%02X in %s: got %v, want allowed %v", id, typ, err, allowed)
			}
		}
	}
}

func pahoAllows(typ mqtt.Type, id byte) bool {
	if typ == mqtt.TypeConnect && slices.Contains([]byte{0x01, 0x02, 0x03, 0x08, 0x09, 0x18}, id) {
		return false // of the will
	}
	return packets.ValidateID(byte(typ), id)
}
