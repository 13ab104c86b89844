package session_test

import (
	"encoding/hex"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// A malformed packet closes its own connection with the right code, and no other.
func TestMalformedPacketsCloseTheirConnection(t *testing.T) {
	for _, tc := range []struct {
		name string
		raw  string // hex
		code mqtt.ReasonCode
	}{
		{"reserved type 0", "0000", mqtt.MalformedPacket},
		{"CONNACK from a client", "2003000000", mqtt.ProtocolError},
		{"SUBACK from a client", "900400010000", mqtt.ProtocolError},
		{"UNSUBACK from a client", "b00400010000", mqtt.ProtocolError},
		{"PINGRESP from a client", "d000", mqtt.ProtocolError},
		{"QoS 3", "360600017400010000", mqtt.MalformedPacket},
		{"packet id 0 MQTT-2.2.1-3", "32060001740000" + "00", mqtt.ProtocolError},
		{"topic with wildcard MQTT-3.3.2-2", "30050001230000", mqtt.TopicNameInvalid},
		{"topic with NUL", "3005000200610000", mqtt.MalformedPacket},
		{"empty topic, no alias", "3003000000", mqtt.ProtocolError},
		{"SUBSCRIBE without filter MQTT-3.8.3-2", "8203000100", mqtt.ProtocolError},
		{"SUBSCRIBE with wrong flags MQTT-3.8.1-1", "80070001000001610000", mqtt.MalformedPacket},
		{"PUBREL with wrong flags MQTT-3.6.1-1", "60020001", mqtt.MalformedPacket},
		{"five byte length", "30ffffffff7f", mqtt.MalformedPacket},
		{"larger than announced", "30ffffff7f", mqtt.PacketTooLarge},
		{"AUTH without a method at CONNECT", "f006180415000161", mqtt.ProtocolError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, func(r *rig) {
				a, b := r.open(mqtt.V5, "a"), r.open(mqtt.V5, "b")
				raw, err := hex.DecodeString(tc.raw)
				if err != nil {
					t.Fatal(err)
				}
				if err := a.SendRaw(raw); err != nil {
					t.Fatal(err)
				}
				d := expect[*mqtt.Disconnect](r, a) // v5:MQTT-4.13.1-1
				if d.Code != tc.code {
					t.Errorf("DISCONNECT %s (%s), want %s", d.Code, d.ReasonString, tc.code)
				}
				a.ExpectClosed(t)
				b.MustSend(t, &mqtt.Pingreq{})
				expect[*mqtt.Pingresp](r, b)
			})
		})
	}
}

// Whatever bytes come, alone or behind a CONNECT, the server neither wedges nor
// leaks, and another connection goes on.
func TestRandomBytesNeverWedge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.SampledFrom([]mqtt.Version{0, mqtt.V31, mqtt.V311, mqtt.V5}).Draw(rt, "version")
		raw := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "bytes")
		cut := rapid.IntRange(0, 5).Draw(rt, "cut")
		feed(t, v, raw, cut)
	})
}

func FuzzRandomBytes(f *testing.F) {
	f.Add(byte(5), []byte("\x32\x06\x00\x01t\x00\x01\x00"))
	f.Add(byte(4), []byte("\x82\x06\x00\x01\x00\x01#\x02\x34\x05\x00\x01t\x00\x01\x62\x02\x00\x01"))
	f.Add(byte(0), []byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a"))
	f.Fuzz(func(t *testing.T, v byte, raw []byte) {
		if v != 0 && (v < 3 || v > 5) {
			v = 5
		}
		feed(t, mqtt.Version(v), raw, 3)
	})
}

// feed sends raw to a fresh server, behind a CONNECT unless v is 0, in pieces of
// cut bytes (0: at once).
func feed(t *testing.T, v mqtt.Version, raw []byte, cut int) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, cl: sessiontest.New()}
		r.node(func(c *session.Config) { c.OutboxBytes = 4096 })
		defer r.stop()
		other := r.open(mqtt.V5, "other")
		c := r.dial(max(v, mqtt.V31))
		if v != 0 {
			c.Connect(t, &mqtt.Connect{ClientID: "c", KeepAlive: 5})
		}
		for len(raw) > 0 {
			n := len(raw)
			if cut > 0 {
				n = min(n, cut)
			}
			if c.SendRaw(raw[:n]) != nil {
				break
			}
			raw = raw[n:]
			if cut > 0 {
				synctest.Wait()
			}
		}
		for { // until it is closed: by a violation, the keep-alive or the deadline
			if _, err := c.RecvWithin(time.Minute); err != nil {
				break
			}
		}
		c.Close() // a CONNECT among the bytes may have asked for no keep-alive
		other.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, other)
		time.Sleep(15 * time.Second)
		if st := r.nodes[0].Server.Stats(); st.Connections != 1 || st.Pending != 0 {
			t.Errorf("left over: %+v", st)
		}
	})
}
