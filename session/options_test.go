package session_test

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestClientIDLength_v31_3_1(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			for id, ok := range map[string]bool{
				strings.Repeat("a", 23): true, strings.Repeat("ä", 23): true,
				strings.Repeat("a", 24): v != mqtt.V31, strings.Repeat("a", 200): v != mqtt.V31,
			} {
				c := r.dial(v)
				c.MustSend(t, &mqtt.Connect{ClientID: id, CleanStart: true})
				ack := expect[*mqtt.Connack](r, c)
				if (ack.Code == mqtt.Success) != ok || !ok && ack.Code != mqtt.ClientIdentifierNotValid {
					t.Errorf("%d bytes: %s", len(id), ack.Code)
				}
				if !ok {
					c.ExpectClosed(t)
				}
			}
		})
	})
}

func TestResponseInformation_v5_MQTT_3_1_2_28(t *testing.T) {
	run(t, func(r *rig) {
		for _, c := range []struct {
			ask  bool
			max  uint32
			want string
		}{{true, 0, "response/me/"}, {false, 0, ""}, {true, 20, ""}} {
			cl := r.dial(mqtt.V5)
			ack := cl.Connect(t, &mqtt.Connect{ClientID: "me", CleanStart: true, RequestResponseInfo: c.ask, MaximumPacketSize: c.max})
			if ack.ResponseInfo != c.want {
				t.Errorf("%+v: %q", c, ack.ResponseInfo)
			}
			cl.MustSend(t, &mqtt.Disconnect{})
			cl.ExpectClosed(t)
		}
	})
}

// What this server does not offer is announced, and refused with its code.
func TestUnavailableOptions_v5_3_2_2_3(t *testing.T) {
	change := func(c *session.Config) {
		c.WildcardAvailable, c.SubscriptionIDsAvailable, c.SharedAvailable = false, false, false
	}
	runCfg(t, change, func(r *rig) {
		c := r.dial(mqtt.V5)
		ack := c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true})
		if !ack.WildcardUnavailable || !ack.SubscriptionIDsUnavailable || !ack.SharedUnavailable {
			t.Errorf("CONNACK %+v", ack)
		}
		c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "a/+"}, {Filter: "a"}, {Filter: "$share/g/a"}}})
		got := expect[*mqtt.Suback](r, c)
		for i, want := range []mqtt.ReasonCode{mqtt.WildcardSubscriptionsNotSupported, mqtt.Success, mqtt.SharedSubscriptionsNotSupported} {
			if got.Codes[i] != want {
				t.Errorf("filter %d: %s, want %s", i, got.Codes[i], want)
			}
		}
		c.MustSend(t, &mqtt.Subscribe{PacketID: 2, SubscriptionID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "b"}}})
		c.ExpectDisconnect(t, mqtt.SubscriptionIdentifiersNotSupported)
	})
}

// A payload that is said to be text has to be.
func TestPayloadFormat_v5_3_3_2_3_2(t *testing.T) {
	props, err := (&mqtt.MessageProps{PayloadIsUTF8: true, ContentType: "text"}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := (&mqtt.MessageProps{ContentType: "\x01\x01"}).Append(nil)
	run(t, func(r *rig) {
		r.open(mqtt.V5, "s").Subscribe(t, 1, "t")
		c := r.open(mqtt.V5, "c")
		send := func(qos byte, pid uint16, payload string, props []byte) {
			p := pub("t", payload, qos, pid)
			p.Props = props
			c.MustSend(t, p)
		}
		send(1, 1, "\xff", props)
		if a := expect[*mqtt.Puback](r, c); a.Code != mqtt.PayloadFormatInvalid {
			t.Errorf("PUBACK %s", a.Code)
		}
		send(2, 2, "\xff", props)
		if a := expect[*mqtt.Pubrec](r, c); a.Code != mqtt.PayloadFormatInvalid {
			t.Errorf("PUBREC %s", a.Code)
		}
		send(1, 3, "fine", props)
		if a := expect[*mqtt.Puback](r, c); a.Code != mqtt.Success {
			t.Errorf("PUBACK %s", a.Code)
		}
		if other != nil {
			send(1, 4, "\xff", other)
			if a := expect[*mqtt.Puback](r, c); a.Code != mqtt.Success {
				t.Errorf("PUBACK %s", a.Code)
			}
		}
		if n := r.cl.Published(); n < 1 {
			t.Errorf("%d messages were published", n)
		}
		send(0, 0, "\xff", props)
		c.ExpectDisconnect(t, mqtt.PayloadFormatInvalid)
		w := r.dial(mqtt.V5)
		w.MustSend(t, &mqtt.Connect{ClientID: "w", CleanStart: true, Will: &mqtt.Will{Topic: "t", Payload: []byte("\xff"), Props: props}})
		if ack := expect[*mqtt.Connack](r, w); ack.Code != mqtt.PayloadFormatInvalid {
			t.Errorf("CONNACK %s", ack.Code)
		}
		w.ExpectClosed(t)
	})
}

// A drain names where to go, if there is somewhere.
func TestServerReference_v5_4_11(t *testing.T) {
	to := ""
	runCfg(t, func(c *session.Config) { c.Redirect = func() string { return to } }, func(r *rig) {
		to = "other.example:1883"
		c, old := r.open(mqtt.V5, "c"), r.open(mqtt.V311, "old")
		drained := make(chan error, 1)
		go func() { drained <- r.nodes[0].Server.Drain(context.Background(), 100) }()
		d := expect[*mqtt.Disconnect](r, c)
		if d.Code != mqtt.UseAnotherServer || d.ServerReference != to {
			t.Errorf("DISCONNECT %+v", d)
		}
		old.ExpectClosed(t)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		late := r.dial(mqtt.V5)
		late.MustSend(t, &mqtt.Connect{ClientID: "late", CleanStart: true})
		if ack := expect[*mqtt.Connack](r, late); ack.Code != mqtt.UseAnotherServer || ack.ServerReference != to {
			t.Errorf("CONNACK %+v", ack)
		}
		late.ExpectClosed(t)
		late = r.dial(mqtt.V311)
		late.MustSend(t, &mqtt.Connect{ClientID: "late", CleanStart: true})
		if p, err := late.Recv(); err == nil && p.(*mqtt.Connack).Code == mqtt.Success {
			t.Errorf("a drained node accepts %+v", p)
		}
		to = ""
		late = r.dial(mqtt.V5)
		late.MustSend(t, &mqtt.Connect{ClientID: "late", CleanStart: true})
		if ack := expect[*mqtt.Connack](r, late); ack.Code != mqtt.ServerUnavailable || ack.ServerReference != "" {
			t.Errorf("CONNACK %+v", ack)
		}
	})
}

func TestUnsubscribeInvalidFilter(t *testing.T) {
	run(t, func(r *rig) {
		c := r.open(mqtt.V5, "c")
		c.Subscribe(t, 0, "a")
		c.MustSend(t, &mqtt.Unsubscribe{PacketID: 3, Filters: []string{"$share//a", "a", "b"}})
		got := expect[*mqtt.Unsuback](r, c)
		for i, want := range []mqtt.ReasonCode{mqtt.TopicFilterInvalid, mqtt.Success, mqtt.NoSubscriptionExisted} {
			if got.Codes[i] != want {
				t.Errorf("filter %d: %s, want %s", i, got.Codes[i], want)
			}
		}
	})
}

// What is under way is counted while it is, in both directions.
func TestInflightGauges(t *testing.T) {
	run(t, func(r *rig) {
		reg := prometheus.NewRegistry()
		r.reg = reg
		n := r.node(nil)
		r.nodes[0], r.nodes[1] = n, r.nodes[0]
		gauge := func(in, out float64) {
			t.Helper()
			settle()
			if got := labelled(t, reg, "flotilla_inflight_messages"); got["in"] != in || got["out"] != out {
				t.Errorf("inflight %v, want in %v, out %v", got, in, out)
			}
		}
		s := r.open(mqtt.V5, "s")
		s.Subscribe(t, 1, "t")
		d, _ := r.durable(mqtt.V5, "d")
		d.Subscribe(t, 2, "t")
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		p := r.open(mqtt.V5, "p")
		p.MustSend(t, pub("t", "x", 1, 1), pub("t", "x", 2, 2))
		gauge(2, 4)
		r.cl.ReleaseAll()
		gauge(1, 4) // the QoS 2 one ends with PUBCOMP
		m := expect[*mqtt.Publish](r, s)
		s.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		gauge(1, 3)
		if st := r.nodes[0].Server.Stats(); st.Inflight != 3 {
			t.Errorf("stats %+v", st)
		}
		s.Close()
		d.Close()
		p.Close()
		gauge(0, 0)
	})
}

// No answer to CONNECT is larger than the client accepts, and one that cannot be
// smaller is not sent.
func TestConnackFits_v5_MQTT_3_2_2_19_MQTT_3_1_2_24(t *testing.T) {
	run(t, func(r *rig) {
		for _, size := range []uint32{1, 4, 5, 6, 20, 60, 200} {
			for _, id := range []string{"a+b", strings.Repeat("x", 300), "fine"} {
				c := r.dial(mqtt.V5)
				c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: id, CleanStart: true, MaximumPacketSize: size})
				if p, err := c.Recv(); err == nil {
					if n := len(encode(t, mqtt.V5, p)); n > int(size) {
						t.Errorf("%q, maximum %d: CONNACK of %d bytes", id, size, n)
					}
				} else if size >= 5 && id != "fine" {
					t.Errorf("%q, maximum %d: no CONNACK", id, size)
				}
				c.Close()
				settle()
			}
		}
	})
}

// Nor is the DISCONNECT of a server.
func TestDisconnectFits_v5_MQTT_3_14_2_3(t *testing.T) {
	run(t, func(r *rig) {
		for _, size := range []uint32{20, 30, 200} {
			c := r.dial(mqtt.V5)
			c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, MaximumPacketSize: size})
			c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true})
			d := expect[*mqtt.Disconnect](r, c)
			if n := len(encode(t, mqtt.V5, d)); n > int(size) || (size == 200) != (d.ReasonString != "") {
				t.Errorf("maximum %d: DISCONNECT of %d bytes, %q", size, n, d.ReasonString)
			}
			c.ExpectClosed(t)
		}
	})
}
