package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestPublishQoS0ReachesAllVersions(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			p := r.open(mqtt.V5, "p")
			s := r.open(v, "s")
			s.Subscribe(t, 2, "a/#")
			p.MustSend(t, pub("a/b", "hello", 0, 0))
			m := s.ExpectPublish(t, "a/b", "hello")
			if m.QoS != 0 || m.Retain || m.Dup || m.PacketID != 0 {
				t.Errorf("%+v", m)
			}
		})
	})
}

func TestPubackCodes_v5_3_4_2_1(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			p := r.open(v, "p")
			p.MustSend(t, pub("nobody", "x", 1, 7))
			ack := expect[*mqtt.Puback](r, p)
			want := mqtt.NoMatchingSubscribers
			if v != mqtt.V5 {
				want = mqtt.Success
			}
			if ack.PacketID != 7 || ack.Code != want {
				t.Errorf("PUBACK %d %s", ack.PacketID, ack.Code)
			}
			s, _ := r.durable(mqtt.V5, "s")
			s.Subscribe(t, 1, "somebody")
			p.MustSend(t, pub("somebody", "x", 1, 8))
			if ack := expect[*mqtt.Puback](r, p); ack.PacketID != 8 || ack.Code != mqtt.Success {
				t.Errorf("PUBACK %d %s", ack.PacketID, ack.Code)
			}
		})
	})
}

// The acknowledgement waits for the commit, and nothing else does.
func TestNoPubackBeforeCommit(t *testing.T) {
	run(t, func(r *rig) {
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		p := r.open(mqtt.V5, "p")
		p.MustSend(t, pub("t", "x", 1, 1), pub("t", "x", 2, 2), &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, p)
		p.ExpectNothing(t, time.Second)
		r.cl.ReleaseAll()
		expect[*mqtt.Puback](r, p)
		expect[*mqtt.Pubrec](r, p)
	})
}

// Acknowledgements leave in the order of the packets, in whatever order the
// backend completes.
func TestAckOrder_v5_MQTT_4_6_0_2_MQTT_4_6_0_3(t *testing.T) {
	run(t, func(r *rig) {
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		p := r.open(mqtt.V5, "p")
		for i := range 6 {
			p.MustSend(t, pub("t", "x", byte(1+i%2), uint16(i+1)))
		}
		settle()
		for _, i := range []int{5, 3, 1, 2, 0} { // of 0..5, then 4 is left at place 0
			r.cl.Release(min(i, len(r.cl.Held())-1))
			settle()
		}
		r.cl.ReleaseAll()
		for i := range 6 {
			pkt, err := p.Recv()
			if err != nil {
				t.Fatal(err)
			}
			pid := uint16(0)
			switch a := pkt.(type) {
			case *mqtt.Puback:
				pid = a.PacketID
			case *mqtt.Pubrec:
				pid = a.PacketID
			}
			if pid != uint16(i+1) {
				t.Errorf("acknowledgement %d is for packet %d", i+1, pid)
			}
		}
	})
}

func TestPublishOutcomes(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		versions(t, func(t *testing.T, v mqtt.Version) {
			run(t, func(r *rig) {
				p := r.open(v, "p")
				r.cl.Set(func(f *sessiontest.Faults) { f.Refuse = mqtt.QuotaExceeded })
				p.MustSend(t, pub("t", "x", qos, 1))
				switch {
				case v != mqtt.V5:
					p.ExpectClosed(t) // there is no negative acknowledgement
				case qos == 1:
					if a := expect[*mqtt.Puback](r, p); a.Code != mqtt.QuotaExceeded {
						t.Errorf("PUBACK %s", a.Code)
					}
				default:
					if a := expect[*mqtt.Pubrec](r, p); a.Code != mqtt.QuotaExceeded {
						t.Errorf("PUBREC %s", a.Code)
					}
				}
				// Not committed: no acknowledgement, and the connection ends.
				r.cl.Set(func(f *sessiontest.Faults) { f.Refuse = 0 })
				p = r.open(v, "p")
				r.cl.Set(func(f *sessiontest.Faults) { f.Unavailable = true })
				p.MustSend(t, pub("t", "x", qos, 1))
				if v == mqtt.V5 {
					p.ExpectDisconnect(t, mqtt.ServerBusy)
				} else {
					p.ExpectClosed(t)
				}
			})
		})
	}
}

func TestPublishDenied(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		runCfg(t, func(c *session.Config) { c.Authorizer = denyTopic("secret") }, func(r *rig) {
			p := r.open(v, "p")
			p.MustSend(t, pub("secret", "x", 0, 0), pub("$SYS/x", "x", 0, 0), pub("secret", "x", 1, 1))
			if v == mqtt.V5 {
				if a := expect[*mqtt.Puback](r, p); a.Code != mqtt.NotAuthorized || a.ReasonString == "" {
					t.Errorf("PUBACK %+v", a)
				}
				// The alias is resolved before the right is asked for.
				p.MustSend(t, &mqtt.Publish{Topic: []byte("ok"), TopicAlias: 3}, &mqtt.Publish{Topic: []byte("secret"), TopicAlias: 3},
					&mqtt.Publish{TopicAlias: 3, QoS: 2, PacketID: 5})
				if a := expect[*mqtt.Pubrec](r, p); a.Code != mqtt.NotAuthorized {
					t.Errorf("PUBREC %s", a.Code)
				}
				p.MustSend(t, pub("ok", "x", 2, 5)) // the id is free again
				if a := expect[*mqtt.Pubrec](r, p); a.Code.Failed() {
					t.Errorf("PUBREC %s", a.Code)
				}
			} else if v == mqtt.V31 { // v31:3.3: the client is not informed
				expect[*mqtt.Puback](r, p)
				p.MustSend(t, pub("secret", "x", 2, 2))
				expect[*mqtt.Pubrec](r, p)
				p.MustSend(t, &mqtt.Pubrel{PacketID: 2})
				expect[*mqtt.Pubcomp](r, p)
			} else {
				p.ExpectClosed(t)
			}
			if n, want := r.cl.Published(), map[bool]int{true: 2, false: 0}[v == mqtt.V5]; n != want {
				t.Errorf("%d messages were published, want %d", n, want)
			}
		})
	})
}

type denyTopic string

func (d denyTopic) MayPublish(_ *session.Identity, topic []byte, _ byte, _ bool) bool {
	return string(topic) != string(d)
}
func (d denyTopic) MaySubscribe(_ *session.Identity, f string, _ byte) bool { return f != string(d) }
func (d denyTopic) MayReceive(_ *session.Identity, topic []byte) bool {
	return string(topic) != string(d)
}

// A client may have as many publishes unacknowledged as it was told, and not
// one more.
func TestReceiveMaximumInbound_v5_MQTT_3_3_4_9(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.ReceiveMaximum = 3 }, func(r *rig) {
		p := r.open(mqtt.V5, "p")
		for round := range uint16(50) { // the quota comes back each time
			r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
			b := round*3 + 1
			p.MustSend(t, pub("t", "x", 1, b), pub("t", "x", 2, b+1), pub("t", "x", 1, b+2))
			settle()
			r.cl.ReleaseAll()
			expect[*mqtt.Puback](r, p)
			expect[*mqtt.Pubrec](r, p)
			expect[*mqtt.Puback](r, p)
			p.MustSend(t, &mqtt.Pubrel{PacketID: b + 1})
			expect[*mqtt.Pubcomp](r, p)
		}
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		p.MustSend(t, pub("t", "x", 1, 1), pub("t", "x", 2, 2), pub("t", "x", 1, 3), pub("t", "x", 1, 4))
		p.ExpectDisconnect(t, mqtt.ReceiveMaximumExceeded)
		settle()
		r.cl.ReleaseAll()
	})
}

// A 3.x client knows no quota: its reader waits instead.
func TestPublishWindowSlows3x(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.PublishWindow = 4 }, func(r *rig) {
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		p := r.open(mqtt.V311, "p")
		for i := range uint16(20) {
			p.MustSend(t, pub("t", "x", 1, i+1))
		}
		settle()
		if n := len(r.cl.Held()); n != 4 {
			t.Errorf("%d publishes are under way, want 4", n)
		}
		for range 16 {
			r.cl.Release(0)
			settle()
		}
		r.cl.ReleaseAll()
		for i := range uint16(20) {
			if a := expect[*mqtt.Puback](r, p); a.PacketID != i+1 {
				t.Errorf("PUBACK %d", a.PacketID)
			}
		}
	})
}

// A full lane stops the reader, and so the publisher by TCP; it is not taken for
// silence.
func TestFullLaneBlocksReader(t *testing.T) {
	run(t, func(r *rig) {
		p := r.nodes[0].DialPipe(mqtt.V5, 256)
		p.Connect(t, &mqtt.Connect{ClientID: "p", CleanStart: true, KeepAlive: 1})
		empty := r.cl.FillLanes()
		wrote := make(chan error, 1)
		go func() {
			for range 200 {
				if err := p.Send(pub("t", "0123456789", 0, 0)); err != nil {
					wrote <- err
					return
				}
			}
			wrote <- nil
		}()
		time.Sleep(time.Minute)
		select {
		case err := <-wrote:
			t.Fatalf("the publisher was not stopped: %v", err)
		default:
		}
		empty()
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		p.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, p)
		if n := r.cl.Published(); n != 200 {
			t.Errorf("%d published", n)
		}
	})
}

func TestTopicAliasInbound_v5_3_3_2_3_4(t *testing.T) {
	run(t, func(r *rig) {
		s := r.open(mqtt.V5, "s")
		s.Subscribe(t, 0, "#")
		p := r.open(mqtt.V5, "p")
		p.MustSend(t, &mqtt.Publish{Topic: []byte("one"), TopicAlias: 1, Payload: []byte("1")},
			&mqtt.Publish{TopicAlias: 1, Payload: []byte("2")},
			&mqtt.Publish{Topic: []byte("two"), TopicAlias: 1, Payload: []byte("3")},
			&mqtt.Publish{TopicAlias: 1, Payload: []byte("4")})
		s.ExpectPublish(t, "one", "1")
		s.ExpectPublish(t, "one", "2")
		s.ExpectPublish(t, "two", "3")
		s.ExpectPublish(t, "two", "4")
		for alias, code := range map[uint16]mqtt.ReasonCode{33: mqtt.TopicAliasInvalid, 2: mqtt.ProtocolError} { // v5:MQTT-3.3.2-9
			p := r.open(mqtt.V5, "q")
			p.MustSend(t, &mqtt.Publish{TopicAlias: alias})
			p.ExpectDisconnect(t, code)
		}
	})
}

func TestMaxQoSAndRetainAvailable(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.MaxQoS, c.RetainAvailable = 1, false }, func(r *rig) {
		c := r.dial(mqtt.V5)
		ack := c.Connect(t, &mqtt.Connect{ClientID: "a", CleanStart: true})
		if !ack.HasMaximumQoS || ack.MaximumQoS != 1 || !ack.RetainUnavailable {
			t.Errorf("CONNACK %+v", ack)
		}
		c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "t", QoS: 2}}})
		if s := expect[*mqtt.Suback](r, c); s.Codes[0] != mqtt.GrantedQoS1 { // v5:MQTT-3.2.2-10
			t.Errorf("SUBACK %s", s.Codes[0])
		}
		c.MustSend(t, pub("t", "x", 2, 1))
		c.ExpectDisconnect(t, mqtt.QoSNotSupported) // v5:MQTT-3.2.2-11
		c = r.open(mqtt.V5, "a")
		c.MustSend(t, &mqtt.Publish{Topic: []byte("t"), Retain: true})
		c.ExpectDisconnect(t, mqtt.RetainNotSupported)
		for _, w := range []struct {
			will mqtt.Will
			code mqtt.ReasonCode
		}{{mqtt.Will{Topic: "w", QoS: 2}, mqtt.QoSNotSupported}, {mqtt.Will{Topic: "w", Retain: true}, mqtt.RetainNotSupported}} {
			c = r.dial(mqtt.V5)
			c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "a", CleanStart: true, Will: &w.will})
			if ack := expect[*mqtt.Connack](r, c); ack.Code != w.code { // v5:MQTT-3.2.2-12, -13
				t.Errorf("CONNACK %s, want %s", ack.Code, w.code)
			}
		}
	})
}

// The properties of a message travel unchanged and in order (I7).
func TestPropertiesTravelUnchanged_v5_MQTT_3_3_2_17(t *testing.T) {
	props := mqtt.MessageProps{
		PayloadIsUTF8: true, ContentType: "text/plain", ResponseTopic: "re/ply", Correlation: []byte{1, 2, 3},
		UserProperties: []mqtt.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
	}
	wire, err := props.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, qos := range []byte{0, 1} {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("qos%d durable=%v", qos, durable), func(t *testing.T) {
				run(t, func(r *rig) {
					var s *sessiontest.Client
					if durable {
						s, _ = r.durable(mqtt.V5, "s")
					} else {
						s = r.open(mqtt.V5, "s")
					}
					s.MustSend(t, &mqtt.Subscribe{PacketID: 1, SubscriptionID: 77, Filters: []mqtt.SubscribeFilter{{Filter: "t", QoS: qos}}})
					expect[*mqtt.Suback](r, s)
					p := r.open(mqtt.V5, "p")
					m := pub("t", "x", qos, uint16(qos))
					m.Props, m.HasExpiry, m.Expiry = wire, true, 60
					p.MustSend(t, m)
					got := s.ExpectPublish(t, "t", "x")
					if d := cmp.Diff(wire, got.Props); d != "" {
						t.Errorf("properties:\n%s", d)
					}
					if !got.HasExpiry || got.Expiry != 60 {
						t.Errorf("expiry %v %d", got.HasExpiry, got.Expiry)
					}
					if len(got.SubscriptionIDs) != 1 || got.SubscriptionIDs[0] != 77 {
						t.Errorf("subscription ids %v", got.SubscriptionIDs)
					}
				})
			})
		}
	}
}
