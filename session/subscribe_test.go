package session_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestSubackCodesPerVersion(t *testing.T) {
	change := func(c *session.Config) {
		c.Authorizer, c.MaxSubscriptions, c.SharedAvailable = denyTopic("secret"), 4, false
	}
	versions(t, func(t *testing.T, v mqtt.Version) {
		runCfg(t, change, func(r *rig) {
			r.cl.Set(func(f *sessiontest.Faults) { f.DenyFilter = "refused/by/cluster" })
			c := r.open(v, "c")
			filters := []struct {
				filter string
				v5     mqtt.ReasonCode
			}{
				{"ok", mqtt.GrantedQoS1}, {"secret", mqtt.NotAuthorized}, {"$share/g/x", mqtt.SharedSubscriptionsNotSupported},
				{"a/#/b", mqtt.TopicFilterInvalid}, {"refused/by/cluster", mqtt.NotAuthorized}, {"+/x", mqtt.GrantedQoS1},
				{"three", mqtt.GrantedQoS1}, {"five", mqtt.QuotaExceeded}, {"ok", mqtt.GrantedQoS1},
			}
			// The codec refuses a malformed filter already; only valid ones get here.
			s := &mqtt.Subscribe{PacketID: 1}
			var want []mqtt.ReasonCode
			for _, f := range filters {
				if f.v5 == mqtt.TopicFilterInvalid {
					continue
				}
				s.Filters = append(s.Filters, mqtt.SubscribeFilter{Filter: f.filter, QoS: 1})
				switch {
				case v == mqtt.V31: // it has no failure
					f.v5 = mqtt.GrantedQoS1
				case v == mqtt.V311 && f.v5.Failed():
					f.v5 = mqtt.UnspecifiedError
				}
				want = append(want, f.v5)
			}
			c.MustSend(t, s)
			ack := expect[*mqtt.Suback](r, c)
			for i := range want {
				if ack.Codes[i] != want[i] { // v5:MQTT-3.8.4-5, -6
					t.Errorf("%q: %s, want %s", s.Filters[i].Filter, ack.Codes[i], want[i])
				}
			}
			for topic, n := range map[string]int{"ok": 1, "a/x": 1, "three": 1, "refused/by/cluster": 0, "secret": 0, "five": 0} {
				if got := r.nodes[0].Server.Deliver("", &command.Message{Topic: []byte(topic)}); got != n {
					t.Errorf("%q reaches %d sessions, want %d", topic, got, n)
				}
			}
		})
	})
}

func TestUnsubscribe_v5_MQTT_3_10_4_4(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			c := r.client(v, "c", durable)
			c.Subscribe(t, 1, "a", "b")
			c.MustSend(t, &mqtt.Unsubscribe{PacketID: 3, Filters: []string{"a", "never"}})
			ack := expect[*mqtt.Unsuback](r, c)
			if v == mqtt.V5 && (ack.Codes[0] != mqtt.Success || ack.Codes[1] != mqtt.NoSubscriptionExisted) {
				t.Errorf("UNSUBACK %v", ack.Codes)
			}
			p := r.open(mqtt.V5, "p")
			p.MustSend(t, pub("a", "x", 0, 0), pub("a", "x", 1, 1), pub("b", "y", 1, 2))
			c.ExpectPublish(t, "b", "y") // I6
			c.ExpectNothing(t, time.Second)
		})
	})
}

func TestSubscribeNotCommittedCloses(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		for _, un := range []bool{false, true} {
			run(t, func(r *rig) {
				c := r.open(v, "c")
				c.Subscribe(t, 0, "t")
				r.cl.Set(func(f *sessiontest.Faults) { f.Hang = true })
				if un {
					c.MustSend(t, &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"t"}})
				} else {
					c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "t"}}})
				}
				c.ExpectNothing(t, 14*time.Second)
				if v == mqtt.V5 {
					c.ExpectDisconnect(t, mqtt.ServerBusy)
				} else {
					c.ExpectClosed(t)
				}
			})
		}
	})
}

func TestNoLocalOnShare_v5_MQTT_3_8_3_4(t *testing.T) {
	run(t, func(r *rig) {
		c := r.open(mqtt.V5, "c")
		raw, err := mqtt.Append(nil, mqtt.V5, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "$share/g/t"}}})
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-1] |= 4
		if err := c.SendRaw(raw); err != nil {
			t.Fatal(err)
		}
		c.ExpectDisconnect(t, mqtt.ProtocolError)
	})
}

// Messages that are routed while SUBSCRIBE waits for the other gateways must not
// fall between: the local trie knows the filter first (I5).
func TestSubscriptionIsLocalBeforeTheCluster(t *testing.T) {
	run(t, func(r *rig) {
		c := r.open(mqtt.V5, "c")
		r.cl.Set(func(f *sessiontest.Faults) { f.Hang = true })
		c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "t", QoS: 1}}})
		settle()
		if n := r.nodes[0].Server.Deliver("", &command.Message{Topic: []byte("t"), Payload: []byte("x"), QoS: 1}); n != 1 {
			t.Errorf("%d sessions matched", n)
		}
		c.ExpectPublish(t, "t", "x")
	})
}

func retain(topic, payload string, qos byte) command.Message {
	return command.Message{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, Retain: true}
}

func TestRetainHandling_v5_MQTT_3_3_1_9_MQTT_3_3_1_10_MQTT_3_3_1_11(t *testing.T) {
	run(t, func(r *rig) {
		r.cl.Publish(retain("t", "kept", 1))
		c := r.open(mqtt.V5, "c")
		sub := func(rh byte, want bool) {
			t.Helper()
			c.MustSend(t, &mqtt.Subscribe{PacketID: 1, SubscriptionID: 5, Filters: []mqtt.SubscribeFilter{{Filter: "t", QoS: 2, RetainHandling: rh}}})
			expect[*mqtt.Suback](r, c)
			if !want {
				c.ExpectNothing(t, time.Second)
				return
			}
			m := c.ExpectPublish(t, "t", "kept")
			if !m.Retain || m.QoS != 1 || len(m.SubscriptionIDs) != 1 || m.SubscriptionIDs[0] != 5 {
				t.Errorf("%+v", m)
			}
			c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		}
		sub(2, false)
		sub(1, false) // it exists
		sub(0, true)
		sub(0, true)
		c.MustSend(t, &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"t"}})
		expect[*mqtt.Unsuback](r, c)
		sub(1, true)
		sub(1, false)
	})
}

// Every retained match comes, at the subscriber's pace, with no cut.
func TestRetainedReplayIsPaced(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			const total, limit = 500, 7
			for i := range total {
				r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), sprint(i), byte(i%3)))
			}
			r.cl.Set(func(f *sessiontest.Faults) { f.FailFetches = 2 })
			c := r.dial(v)
			c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: !durable, ReceiveMaximum: limit,
				HasSessionExpiry: durable && v == mqtt.V5, SessionExpiry: 100 * uint32(b2i(durable && v == mqtt.V5))})
			c.Subscribe(t, 2, "r/#")
			inflight := map[uint16]bool{}
			seen := map[string]bool{}
			for i := range total {
				m := expect[*mqtt.Publish](r, c)
				if seen[string(m.Topic)] {
					t.Fatalf("%s comes twice", m.Topic)
				}
				seen[string(m.Topic)] = true
				var k int
				_, _ = fmt.Sscanf(string(m.Topic), "r/%06d", &k)
				if !m.Retain || m.QoS != byte(k%3) || string(m.Payload) != sprint(k) {
					t.Fatalf("%+v", m)
				}
				if m.QoS == 0 {
					continue
				}
				if inflight[m.PacketID] || v == mqtt.V5 && len(inflight) >= limit {
					t.Fatalf("message %d: packet id %d, %d in flight", i, m.PacketID, len(inflight))
				}
				inflight[m.PacketID] = true
				if m.QoS == 1 {
					c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
				} else {
					c.MustSend(t, &mqtt.Pubrec{PacketID: m.PacketID})
					c.MustSend(t, &mqtt.Pubcomp{PacketID: m.PacketID})
					// Its PUBREL is on the way; the next packet may be it.
					settleRel(r, c, m.PacketID)
				}
				delete(inflight, m.PacketID)
			}
			c.ExpectNothing(t, time.Second)
		})
	})
}

// settleRel reads until the PUBREL of a packet id. Publishes in front of it are
// put back by the client that is scripted here: it holds them.
func settleRel(r *rig, c *sessiontest.Client, pid uint16) {
	r.Helper()
	c.Until(r.T, func(p mqtt.Packet) bool {
		rel, ok := p.(*mqtt.Pubrel)
		return ok && rel.PacketID == pid
	})
}

// A subscriber that sees a retained version sees every later one live (I14):
// subscribe while versions are published, and look for the gap.
func TestRetainedReplayHasNoGap(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		t.Run(fmt.Sprint("qos", qos), func(t *testing.T) {
			run(t, func(r *rig) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i := range 2000 {
						r.cl.Publish(retain("reg", sprint(i), 1))
					}
				}()
				for k := range 20 {
					c := r.client(mqtt.V5, fmt.Sprint("c", k), qos == 1)
					c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "reg", QoS: qos}}})
					c.Until(t, func(p mqtt.Packet) bool { return p.Type() == mqtt.TypeSuback }) // live messages may come first
					seen := map[int]bool{}
					first := -1
					for {
						p, err := c.RecvWithin(20 * time.Millisecond)
						if err != nil {
							break
						}
						m := p.(*mqtt.Publish)
						var i int
						_, _ = fmt.Sscanf(string(m.Payload), "%d", &i)
						seen[i] = true
						if first < 0 || i < first {
							first = i
						}
						if m.QoS == 1 {
							c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
						}
					}
					for i := first; i <= first+len(seen)-1; i++ {
						if !seen[i] {
							t.Fatalf("client %d: version %d is missing; %d seen from %d on", k, i, len(seen), first)
						}
					}
					c.Close()
				}
				<-done
			})
		})
	}
}

func TestUnsubscribeStopsReplay(t *testing.T) {
	run(t, func(r *rig) {
		for i := range 50 {
			r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
		}
		c := r.dial(mqtt.V5)
		c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, ReceiveMaximum: 1})
		c.Subscribe(t, 1, "r/#")
		m := expect[*mqtt.Publish](r, c)
		c.MustSend(t, &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"r/#"}})
		expect[*mqtt.Unsuback](r, c)
		c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		c.ExpectNothing(t, time.Second)
	})
}

// Retained messages are delivered to who may read them now.
func TestRightsAtDelivery_I30(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.Authorizer = denyTopic("secret") }, func(r *rig) {
		r.cl.Publish(retain("secret", "x", 1))
		r.cl.Publish(retain("open", "y", 1))
		c := r.client(mqtt.V5, "c", true)
		c.Subscribe(t, 1, "+")
		m := c.ExpectPublish(t, "open", "y")
		c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		r.cl.Publish(command.Message{Topic: []byte("secret"), Payload: []byte("x"), QoS: 1})
		r.cl.Publish(command.Message{Topic: []byte("secret"), Payload: []byte("x")})
		c.ExpectNothing(t, time.Second)
		if in, _ := r.cl.Session("c"); len(in.Inbox) != 0 {
			t.Errorf("inbox %v", in.Inbox)
		}
	})
}

// revoked denies a filter from some moment on.
type revoked struct {
	session.AllowAll
	on *atomic.Bool
}

func (v revoked) MaySubscribe(_ *session.Identity, f string, _ byte) bool {
	return f != "secret" || !v.on.Load()
}

// A resumed session loses the subscriptions that the rules have taken back.
func TestRevokedSubscriptionsEndAtResume(t *testing.T) {
	var on atomic.Bool
	runCfg(t, func(c *session.Config) { c.Authorizer = revoked{on: &on} }, func(r *rig) {
		for i := range 300 {
			r.cl.Publish(retain(fmt.Sprint("other/", i), "x", 1))
		}
		c, _ := r.durable(mqtt.V5, "c")
		c.Subscribe(t, 1, "secret", "$share/g/secret", "open")
		c.Close()
		settle()
		on.Store(true)
		c, _ = r.durable(mqtt.V5, "c")
		for _, topic := range []string{"secret", "open"} {
			r.cl.Publish(command.Message{Topic: []byte(topic), Payload: []byte("x"), QoS: 1})
		}
		c.ExpectPublish(t, "open", "x")
		c.ExpectNothing(t, time.Second)
		if info, _ := r.cl.Session("c"); len(info.Filters) != 1 || info.Filters[0] != "open" {
			t.Errorf("filters %v", info.Filters)
		}
	})
}

// A refusal of the cluster is an answer, and the connection goes on.
func TestSubscribeRefusedByCluster(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			r.cl.Set(func(f *sessiontest.Faults) { f.RefuseSubscribe = mqtt.QuotaExceeded })
			c := r.open(v, "c")
			c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "a", QoS: 1}, {Filter: "$share/g/a", QoS: 1}}})
			want := map[mqtt.Version]mqtt.ReasonCode{mqtt.V31: mqtt.GrantedQoS1, mqtt.V311: mqtt.UnspecifiedError, mqtt.V5: mqtt.QuotaExceeded}[v]
			for i, code := range expect[*mqtt.Suback](r, c).Codes {
				if code != want {
					t.Errorf("filter %d: %s, want %s", i, code, want)
				}
			}
			if n := r.nodes[0].Server.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions", n)
			}
			c.MustSend(t, &mqtt.Pingreq{})
			expect[*mqtt.Pingresp](r, c)
		})
	})
}
