package session_test

import (
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func both(t *testing.T, fn func(t *testing.T, v mqtt.Version, durable bool)) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		t.Run("transient", func(t *testing.T) { fn(t, v, false) })
		t.Run("durable", func(t *testing.T) { fn(t, v, true) })
	})
}

func (r *rig) client(v mqtt.Version, id string, durable bool) *sessiontest.Client {
	r.Helper()
	if durable {
		c, _ := r.durable(v, id)
		return c
	}
	return r.open(v, id)
}

func TestQoS2InboundOnce_v5_MQTT_4_3_3_10(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			s := r.client(v, "s", true)
			s.Subscribe(t, 2, "t")
			p := r.client(v, "p", durable)
			m := pub("t", "x", 2, 5)
			p.MustSend(t, m)
			expect[*mqtt.Pubrec](r, p)
			m.Dup = true
			p.MustSend(t, m) // the PUBREC was lost
			if a := expect[*mqtt.Pubrec](r, p); a.PacketID != 5 || a.Code.Failed() {
				t.Errorf("PUBREC %+v", a)
			}
			p.MustSend(t, &mqtt.Pubrel{PacketID: 5})
			if a := expect[*mqtt.Pubcomp](r, p); a.Code != mqtt.Success {
				t.Errorf("PUBCOMP %s", a.Code)
			}
			p.MustSend(t, &mqtt.Pubrel{PacketID: 5}) // the PUBCOMP was lost: v5:MQTT-4.3.3-12, I19
			a := expect[*mqtt.Pubcomp](r, p)
			if want := mqtt.PacketIdentifierNotFound; v == mqtt.V5 && a.Code != want {
				t.Errorf("PUBCOMP %s, want %s", a.Code, want)
			}
			p.MustSend(t, pub("t", "y", 2, 5)) // the id is free for another message
			expect[*mqtt.Pubrec](r, p)
			p.MustSend(t, &mqtt.Pubrel{PacketID: 5})
			expect[*mqtt.Pubcomp](r, p)
			x, y := s.ExpectPublish(t, "t", "x"), s.ExpectPublish(t, "t", "y")
			for _, m := range []*mqtt.Publish{x, y} {
				s.MustSend(t, &mqtt.Pubrec{PacketID: m.PacketID})
				expect[*mqtt.Pubrel](r, s)
				s.MustSend(t, &mqtt.Pubcomp{PacketID: m.PacketID})
			}
			s.ExpectNothing(t, sessiontest.Wait)
		})
	})
}

// A repetition that arrives while the first copy is not committed gets no answer
// of its own that could be wrong.
func TestQoS2DupWhilePending(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		run(t, func(r *rig) {
			if refuse {
				r.cl.Set(func(f *sessiontest.Faults) { f.Refuse = mqtt.QuotaExceeded })
			}
			r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
			p := r.open(mqtt.V5, "p")
			p.MustSend(t, pub("t", "x", 2, 5), pub("t", "x", 2, 5))
			settle()
			r.cl.ReleaseAll()
			a := expect[*mqtt.Pubrec](r, p)
			if a.Code.Failed() != refuse {
				t.Fatalf("PUBREC %s", a.Code)
			}
			if refuse {
				p.ExpectNothing(t, sessiontest.Wait)
			} else {
				expect[*mqtt.Pubrec](r, p)
			}
			if n := r.cl.Published(); n != map[bool]int{false: 1, true: 0}[refuse] {
				t.Errorf("published %d times", n)
			}
		})
	}
}

// The handshake of a durable publisher can be finished on another node (I2).
func TestQoS2InboundAcrossNodes(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			other := r.node(nil)
			s := r.client(mqtt.V5, "s", true)
			s.Subscribe(t, 2, "t")
			p := r.client(v, "p", true)
			p.MustSend(t, pub("t", "x", 2, 5), pub("t", "y", 2, 6))
			expect[*mqtt.Pubrec](r, p)
			expect[*mqtt.Pubrec](r, p)
			p.Close()
			s.ExpectNothing(t, sessiontest.Wait)

			p = other.Dial(v)
			p.Connect(t, &mqtt.Connect{ClientID: "p", HasSessionExpiry: v == mqtt.V5, SessionExpiry: expiry(v)})
			d := pub("t", "x", 2, 5)
			d.Dup = true
			p.MustSend(t, d, &mqtt.Pubrel{PacketID: 5}, &mqtt.Pubrel{PacketID: 6})
			expect[*mqtt.Pubrec](r, p)
			for range 2 {
				if a := expect[*mqtt.Pubcomp](r, p); a.Code != mqtt.Success {
					t.Errorf("PUBCOMP %s", a.Code)
				}
			}
			s.ExpectPublish(t, "t", "x")
			s.ExpectPublish(t, "t", "y")
			s.ExpectNothing(t, sessiontest.Wait)
			if in, _ := r.cl.Session("p"); len(in.Awaiting) != 0 {
				t.Errorf("awaiting %v", in.Awaiting)
			}
		})
	})
}

// By the letter of section 4.9, each PUBCOMP gives a client a unit of quota, also
// for an id of an earlier connection.
func TestQuotaAfterResume_v5_4_9(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.ReceiveMaximum = 2 }, func(r *rig) {
		p := r.client(mqtt.V5, "p", true)
		p.MustSend(t, pub("t", "x", 2, 1), pub("t", "x", 2, 2))
		expect[*mqtt.Pubrec](r, p)
		expect[*mqtt.Pubrec](r, p)
		p.Close()
		settle()
		p = r.client(mqtt.V5, "p", true)
		p.MustSend(t, &mqtt.Pubrel{PacketID: 1}, &mqtt.Pubrel{PacketID: 2})
		settle()
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		p.MustSend(t, pub("t", "x", 1, 3), pub("t", "x", 1, 4)) // its quota is used up
		expect[*mqtt.Pubcomp](r, p)
		expect[*mqtt.Pubcomp](r, p)
		p.MustSend(t, pub("t", "x", 1, 5), pub("t", "x", 1, 6)) // and is full again
		settle()
		r.cl.ReleaseAll()
		for pid := uint16(3); pid <= 6; pid++ {
			if a := expect[*mqtt.Puback](r, p); a.PacketID != pid {
				t.Errorf("PUBACK %d, want %d", a.PacketID, pid)
			}
		}
	})
}

// A client that never got the PUBREL of a retained message still holds its id: the
// next connection begins elsewhere.
func TestLocalPacketIDsDifferPerEpoch(t *testing.T) {
	run(t, func(r *rig) {
		r.cl.Set(func(f *sessiontest.Faults) { f.NoReplay = true })
		r.cl.Publish(retain("t", "x", 2))
		seen := map[uint16]bool{}
		for range 50 {
			c := r.client(mqtt.V5, "c", true)
			c.Subscribe(t, 2, "t")
			m := c.ExpectPublish(t, "t", "x")
			if seen[m.PacketID] || m.PacketID < 32768 {
				t.Fatalf("packet id %d, used before: %v", m.PacketID, seen[m.PacketID])
			}
			seen[m.PacketID] = true
			c.MustSend(t, &mqtt.Pubrec{PacketID: m.PacketID})
			c.Close()
			settle()
		}
	})
}

// PUBREL leaves only when the PUBREC is committed, in the order of the PUBRECs.
func TestQoS2OutboundPubrelAfterCommit_v5_MQTT_4_6_0_4(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			s := r.client(v, "s", true)
			s.Subscribe(t, 2, "t")
			p := r.open(mqtt.V5, "p")
			var ids []uint16
			for i := range uint16(3) {
				p.MustSend(t, pub("t", sprint(int(i)), 2, i+1), &mqtt.Pubrel{PacketID: i + 1})
				m := s.ExpectPublish(t, "t", sprint(int(i)))
				if m.QoS != 2 {
					t.Errorf("QoS %d", m.QoS)
				}
				ids = append(ids, m.PacketID)
			}
			r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
			for _, id := range ids {
				s.MustSend(t, &mqtt.Pubrec{PacketID: id})
				settle()
			}
			s.ExpectNothing(t, sessiontest.Wait)
			for len(r.cl.Held()) > 0 {
				r.cl.Release(len(r.cl.Held()) - 1) // the last first
				settle()
			}
			for _, id := range ids {
				if a := expect[*mqtt.Pubrel](r, s); a.PacketID != id {
					t.Errorf("PUBREL %d, want %d", a.PacketID, id)
				}
			}
			r.cl.ReleaseAll()
			for _, id := range ids {
				s.MustSend(t, &mqtt.Pubcomp{PacketID: id}, &mqtt.Pubcomp{PacketID: id})
			}
			settle()
			if in, _ := r.cl.Session("s"); len(in.Inbox) != 0 {
				t.Errorf("inbox %v", in.Inbox)
			}
		})
	})
}

func TestQoS2OutboundResume_v5_MQTT_4_4_0_1(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			other := r.node(nil)
			s := r.client(v, "s", true)
			s.Subscribe(t, 2, "t")
			p := r.open(mqtt.V5, "p")
			p.MustSend(t, pub("t", "a", 2, 1), &mqtt.Pubrel{PacketID: 1}, pub("t", "b", 2, 2), &mqtt.Pubrel{PacketID: 2},
				pub("t", "c", 1, 3))
			a, b, c := s.ExpectPublish(t, "t", "a"), s.ExpectPublish(t, "t", "b"), s.ExpectPublish(t, "t", "c")
			s.MustSend(t, &mqtt.Pubrec{PacketID: a.PacketID})
			expect[*mqtt.Pubrel](r, s)
			s.Close()
			settle()
			for _, n := range []*sessiontest.Node{other, r.nodes[0]} {
				s = n.Dial(v)
				s.Connect(t, &mqtt.Connect{ClientID: "s", HasSessionExpiry: v == mqtt.V5, SessionExpiry: expiry(v)})
				if rel := expect[*mqtt.Pubrel](r, s); rel.PacketID != a.PacketID {
					t.Errorf("PUBREL %d, want %d", rel.PacketID, a.PacketID)
				}
				for want, first := range map[string]*mqtt.Publish{"b": b} {
					m := s.ExpectPublish(t, "t", want)
					if !m.Dup || m.PacketID != first.PacketID || m.QoS != 2 { // v5:MQTT-3.3.1-1
						t.Errorf("resumed %+v, first %+v", m, first)
					}
				}
				if m := s.ExpectPublish(t, "t", "c"); !m.Dup || m.PacketID != c.PacketID || m.QoS != 1 {
					t.Errorf("resumed %+v", m)
				}
				s.Close()
				settle()
			}
		})
	})
}

func TestPubrecFailureEndsDelivery_v5_MQTT_4_3_3_4(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		if v != mqtt.V5 {
			t.Skip("no reason codes")
		}
		run(t, func(r *rig) {
			s := r.client(v, "s", durable)
			s.Subscribe(t, 2, "t")
			p := r.open(v, "p")
			p.MustSend(t, pub("t", "a", 2, 1), &mqtt.Pubrel{PacketID: 1})
			m := s.ExpectPublish(t, "t", "a")
			s.MustSend(t, &mqtt.Pubrec{PacketID: m.PacketID, Code: mqtt.QuotaExceeded})
			s.ExpectNothing(t, sessiontest.Wait)
			if in, _ := r.cl.Session("s"); len(in.Inbox) != 0 {
				t.Errorf("inbox %v", in.Inbox)
			}
			// An id that was never used: the client gets its PUBREL.
			s.MustSend(t, &mqtt.Pubrec{PacketID: 4711})
			if a := expect[*mqtt.Pubrel](r, s); a.PacketID != 4711 || a.Code != mqtt.PacketIdentifierNotFound {
				t.Errorf("PUBREL %+v", a)
			}
		})
	})
}

func TestWrongAckClosesConnection(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			p := r.open(mqtt.V5, "p")
			for qos := byte(1); qos <= 2; qos++ {
				s := r.client(v, "s", durable)
				s.Subscribe(t, qos, "t")
				p.MustSend(t, pub("t", "a", qos, 1), &mqtt.Pubrel{PacketID: 1})
				m := s.ExpectPublish(t, "t", "a")
				if qos == 1 {
					s.MustSend(t, &mqtt.Pubrec{PacketID: m.PacketID})
				} else {
					s.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
				}
				if v == mqtt.V5 {
					s.ExpectDisconnect(t, mqtt.ProtocolError)
				} else {
					s.ExpectClosed(t)
				}
				settle()
				r.cl.Publish(clean)
				p.MustSend(t, &mqtt.Pingreq{}) // the others are not concerned
				for {
					if pkt, err := p.Recv(); err != nil {
						t.Fatal(err)
					} else if pkt.Type() == mqtt.TypePingresp {
						break
					}
				}
				if durable {
					c := r.dial(v)
					c.Connect(t, &mqtt.Connect{ClientID: "s", CleanStart: true})
					c.MustSend(t, &mqtt.Disconnect{})
					c.ExpectClosed(t)
				}
			}
		})
	})
}

// What was sent does not expire: it comes again under its id.
func TestSentMessagesDoNotExpire_v5_MQTT_4_3_3_7_MQTT_4_4_0_1(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		run(t, func(r *rig) {
			s, _ := r.durableMax(mqtt.V5, "s", 1)
			s.Subscribe(t, qos, "t")
			p := r.open(mqtt.V5, "p")
			for i := range 2 {
				m := pub("t", sprint(i), 1, 1)
				m.QoS, m.HasExpiry, m.Expiry = qos, true, 5
				p.MustSend(t, m)
				p.MustRecv(t)
				if qos == 2 {
					p.MustSend(t, &mqtt.Pubrel{PacketID: 1})
					p.MustRecv(t)
				}
			}
			first := s.ExpectPublish(t, "t", sprint(0))
			s.Close()
			time.Sleep(10 * time.Second)
			s, _ = r.durableMax(mqtt.V5, "s", 1)
			again := s.ExpectPublish(t, "t", sprint(0))
			if !again.Dup || again.PacketID != first.PacketID || !again.HasExpiry || again.Expiry != 0 {
				t.Errorf("QoS %d: %+v", qos, again)
			}
			if qos == 1 {
				s.MustSend(t, &mqtt.Puback{PacketID: again.PacketID})
			} else {
				s.MustSend(t, &mqtt.Pubrec{PacketID: again.PacketID})
				expect[*mqtt.Pubrel](r, s)
				s.MustSend(t, &mqtt.Pubcomp{PacketID: again.PacketID})
			}
			s.ExpectNothing(t, time.Second) // the second one was not sent
		})
	}
}
