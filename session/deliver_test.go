package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// The effective QoS is the lower one of publish and grant (I7).
func TestEffectiveQoS_v5_MQTT_3_8_4_8(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			p := r.open(mqtt.V5, "p")
			pid := uint16(0)
			for grant := range byte(3) {
				s := r.client(v, fmt.Sprint("s", grant), durable)
				s.Subscribe(t, grant, "t")
				for qos := range byte(3) {
					if qos > 0 {
						pid++
					}
					p.MustSend(t, pub("t", "x", qos, pid*uint16(min(qos, 1))))
					if qos == 2 {
						p.MustSend(t, &mqtt.Pubrel{PacketID: pid})
					}
					m := s.ExpectPublish(t, "t", "x")
					if m.QoS != min(grant, qos) {
						t.Errorf("published %d, granted %d: got %d", qos, grant, m.QoS)
					}
					if local := m.PacketID >= 32768; m.QoS > 0 && local == durable {
						t.Errorf("packet id %d of a session with durable=%v", m.PacketID, durable)
					}
				}
				s.Close()
			}
		})
	})
}

// Overlapping subscriptions give one copy with the highest QoS and all ids.
func TestOverlappingSubscriptions_v5_MQTT_3_3_4_3(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			s := r.client(v, "s", durable)
			other := r.client(v, "other", durable)
			other.Subscribe(t, 0, "a/b", "a/+", "#")
			for i, f := range []string{"a/b", "a/+", "#"} {
				sub := &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: f, QoS: byte(i)}}}
				if v == mqtt.V5 && i > 0 {
					sub.SubscriptionID = uint32(10 * i)
				}
				s.MustSend(t, sub)
				expect[*mqtt.Suback](r, s)
			}
			p := r.open(mqtt.V5, "p")
			for qos := range byte(3) {
				p.MustSend(t, pub("a/b", "x", qos, uint16(qos)))
				if qos == 2 {
					p.MustSend(t, &mqtt.Pubrel{PacketID: 2})
				}
				m := s.ExpectPublish(t, "a/b", "x")
				slices.Sort(m.SubscriptionIDs)
				if m.QoS != qos || v == mqtt.V5 && !slices.Equal(m.SubscriptionIDs, []uint32{10, 20}) {
					t.Errorf("QoS %d: got %d, ids %v", qos, m.QoS, m.SubscriptionIDs)
				}
			}
			s.ExpectNothing(t, time.Second)
			for range 3 {
				other.ExpectPublish(t, "a/b", "x")
			}
			other.ExpectNothing(t, time.Second)
		})
	})
}

func TestNoLocal_v5_MQTT_3_8_3_3(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		if v != mqtt.V5 {
			t.Skip("no such option")
		}
		run(t, func(r *rig) {
			c, other := r.client(v, "c", durable), r.open(v, "other")
			c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "t", QoS: 1, NoLocal: true}}})
			expect[*mqtt.Suback](r, c)
			for qos := range byte(2) {
				c.MustSend(t, pub("t", "own", qos, uint16(qos)))
			}
			expect[*mqtt.Puback](r, c)
			other.MustSend(t, pub("t", "theirs", 0, 0), pub("t", "theirs", 1, 1))
			c.ExpectPublish(t, "t", "theirs")
			c.ExpectPublish(t, "t", "theirs")
			c.ExpectNothing(t, time.Second)
		})
	})
}

func TestRetainAsPublished_v5_MQTT_3_3_1_12_MQTT_3_3_1_13(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		for _, rap := range []bool{false, v == mqtt.V5} {
			run(t, func(r *rig) {
				s := r.client(v, "s", durable)
				s.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "t", QoS: 1, RetainAsPublished: rap}}})
				expect[*mqtt.Suback](r, s)
				settle() // nothing is retained yet
				p := r.open(mqtt.V5, "p")
				for qos := range byte(2) {
					m := pub("t", "x", qos, uint16(qos))
					m.Retain = true
					p.MustSend(t, m)
					if got := s.ExpectPublish(t, "t", "x"); got.Retain != rap {
						t.Errorf("QoS %d: retain %v, want %v", qos, got.Retain, rap)
					}
				}
			})
		}
	})
}

// A client never holds more than its Receive Maximum, over many connections, and
// every message arrives once, in order (I1, I4, I18).
func TestReceiveMaximumOutbound_v5_MQTT_3_3_4_9(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		if v != mqtt.V5 {
			t.Skip("no Receive Maximum")
		}
		run(t, func(r *rig) {
			const limit, total = 5, 200
			s := r.dial(v)
			s.Connect(t, &mqtt.Connect{ClientID: "s", ReceiveMaximum: limit, HasSessionExpiry: durable, SessionExpiry: 100 * uint32(b2i(durable))})
			s.Subscribe(t, 1, "t")
			p := r.open(v, "p")
			for i := range total {
				p.MustSend(t, pub("t", sprint(i), 1, 1))
				expect[*mqtt.Puback](r, p)
			}
			var held []uint16
			for i := range total {
				m := s.ExpectPublish(t, "t", sprint(i))
				held = append(held, m.PacketID)
				if len(held) == limit {
					s.ExpectNothing(t, time.Second)
					for len(held) > i%limit { // a few at a time
						s.MustSend(t, &mqtt.Puback{PacketID: held[0]})
						held = held[1:]
					}
				}
			}
		})
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Reconnects leave the full quota, and packet ids stay what they were (I17, I18).
func TestQuotaSurvivesReconnects(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			const limit = 4
			s, _ := r.durableMax(v, "s", limit)
			s.Subscribe(t, 2, "t")
			p := r.open(mqtt.V5, "p")
			for i := range uint16(limit) {
				p.MustSend(t, pub("t", sprint(int(i)), 1+byte(i%2), i+1), &mqtt.Pubrel{PacketID: i + 1})
			}
			var ids []uint16
			for cycle := range 300 {
				for i := range limit {
					m := s.ExpectPublish(t, "t", sprint(i))
					if cycle == 0 {
						ids = append(ids, m.PacketID)
					}
					if m.PacketID != ids[i] || m.Dup != (cycle > 0) {
						t.Fatalf("cycle %d: %+v, want packet id %d", cycle, m, ids[i])
					}
				}
				s.Close()
				settle()
				s, _ = r.durableMax(v, "s", limit)
			}
		})
	})
}

func TestPacketIDsComeRound(t *testing.T) {
	run(t, func(r *rig) {
		s, _ := r.durable(mqtt.V5, "s")
		s.Subscribe(t, 1, "t")
		p := r.open(mqtt.V5, "p")
		send := func(payload string) {
			p.MustSend(t, pub("t", payload, 1, 1))
			expect[*mqtt.Puback](r, p)
		}
		send("first")
		first := s.ExpectPublish(t, "t", "first")
		r.cl.NextSeq("s", 1+32767) // the same packet id
		send("second")
		send("third")
		// The first holds its id: the others wait, in order.
		s.ExpectNothing(t, time.Second)
		s.MustSend(t, &mqtt.Puback{PacketID: first.PacketID})
		second := s.ExpectPublish(t, "t", "second")
		if second.PacketID != first.PacketID {
			t.Errorf("packet ids %d and %d", first.PacketID, second.PacketID)
		}
		s.ExpectPublish(t, "t", "third")
	})
}

// An acknowledgement that is not committed could be lost with this node, and
// then another one would send the old message under its id again (I17).
func TestPacketIDWaitsForCommitOfItsAck(t *testing.T) {
	run(t, func(r *rig) {
		s, _ := r.durable(mqtt.V5, "s")
		s.Subscribe(t, 1, "t")
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("first"), QoS: 1})
		first := s.ExpectPublish(t, "t", "first")
		r.cl.NextSeq("s", 1+32767)
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		s.MustSend(t, &mqtt.Puback{PacketID: first.PacketID})
		settle()
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("second"), QoS: 1})
		s.ExpectNothing(t, time.Second)
		r.cl.ReleaseAll()
		if second := s.ExpectPublish(t, "t", "second"); second.PacketID != first.PacketID {
			t.Errorf("packet ids %d and %d", first.PacketID, second.PacketID)
		}
	})
}

func TestMessageExpiryRemaining_v5_MQTT_3_3_2_6(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			s := r.dial(v)
			s.Connect(t, &mqtt.Connect{ClientID: "s", ReceiveMaximum: 1, CleanStart: !durable,
				HasSessionExpiry: durable && v == mqtt.V5, SessionExpiry: uint32(b2i(durable && v == mqtt.V5)) * 3600})
			s.Subscribe(t, 1, "t")
			p := r.open(mqtt.V5, "p")
			for i, expiry := range []uint32{0, 100, 10} {
				m := pub("t", sprint(i), 1, 1)
				m.HasExpiry, m.Expiry = expiry > 0, expiry
				p.MustSend(t, m)
				expect[*mqtt.Puback](r, p)
			}
			if v != mqtt.V5 { // without a Receive Maximum all of them are sent at once
				return
			}
			m := s.ExpectPublish(t, "t", sprint(0))
			time.Sleep(30500 * time.Millisecond)
			s.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
			m = s.ExpectPublish(t, "t", sprint(1))
			if !m.HasExpiry || m.Expiry != 70 {
				t.Errorf("expiry %d, want 70", m.Expiry)
			}
			s.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
			s.ExpectNothing(t, time.Second) // the third has expired (I12)
			if in, _ := r.cl.Session("s"); len(in.Inbox) != 0 {
				t.Errorf("inbox %v", in.Inbox)
			}
		})
	})
}

func TestClientMaximumPacketSize_v5_MQTT_3_1_2_24_MQTT_3_1_2_25(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		if v != mqtt.V5 {
			t.Skip("no such limit")
		}
		run(t, func(r *rig) {
			s := r.dial(v)
			s.Connect(t, &mqtt.Connect{ClientID: "s", MaximumPacketSize: 100, HasSessionExpiry: durable, SessionExpiry: uint32(b2i(durable)) * 100})
			s.Subscribe(t, 1, "t")
			p := r.open(v, "p")
			big := make([]byte, 200)
			for qos := range byte(2) {
				p.MustSend(t, pub("t", string(big), qos, uint16(qos)))
			}
			p.MustSend(t, pub("t", "small", 1, 2))
			s.ExpectPublish(t, "t", "small")
			if in, _ := r.cl.Session("s"); durable && len(in.Inbox) != 1 {
				t.Errorf("inbox %v: what is too large must leave it", in.Inbox)
			}
		})
	})
}

func TestTopicAliasOutbound_v5_MQTT_3_1_2_26_MQTT_3_1_2_27(t *testing.T) {
	run(t, func(r *rig) {
		p := r.open(mqtt.V5, "p")
		for _, limit := range []uint16{0, 2, 100} {
			s := r.dial(mqtt.V5)
			s.Connect(t, &mqtt.Connect{ClientID: "s", CleanStart: true, TopicAliasMaximum: limit})
			s.Subscribe(t, 1, "#")
			known := map[uint16]string{}
			saved := 0
			for i := range 300 {
				topic := fmt.Sprintf("topic/%d", i%3)
				p.MustSend(t, pub(topic, "x", 0, 0))
				m := expect[*mqtt.Publish](r, s)
				if m.TopicAlias > min(limit, 32) {
					t.Fatalf("alias %d above the maximum %d", m.TopicAlias, limit)
				}
				if len(m.Topic) > 0 {
					known[m.TopicAlias] = string(m.Topic)
				} else {
					saved++
					m.Topic = []byte(known[m.TopicAlias])
				}
				if string(m.Topic) != topic {
					t.Fatalf("message %d is for %q, want %q", i, m.Topic, topic)
				}
			}
			if (saved > 0) != (limit > 0) {
				t.Errorf("maximum %d: %d topics were left out", limit, saved)
			}
			s.Close()
		}
	})
}

// Large messages are not copied per receiver; they must arrive all the same.
func TestLargeMessagesToMany(t *testing.T) {
	run(t, func(r *rig) {
		var subs []*sessiontest.Client
		for i := range 10 {
			s := r.nodes[0].DialPipe([]mqtt.Version{mqtt.V311, mqtt.V5}[i%2], 2<<20)
			s.Connect(t, &mqtt.Connect{ClientID: fmt.Sprint("s", i), CleanStart: true})
			s.Subscribe(t, byte(i%3), "#")
			subs = append(subs, s)
		}
		p := r.nodes[0].DialPipe(mqtt.V5, 2<<20)
		p.Connect(t, &mqtt.Connect{ClientID: "p", CleanStart: true})
		for i, size := range []int{5000, 10, 300_000, 20, 4096, 30} {
			body := make([]byte, size)
			for k := range body {
				body[k] = byte(k + i)
			}
			p.MustSend(t, pub("t", string(body), byte(i%2), uint16(i*(i%2))))
		}
		for _, s := range subs {
			for i, size := range []int{5000, 10, 300_000, 20, 4096, 30} {
				m := expect[*mqtt.Publish](r, s)
				if len(m.Payload) != size || m.Payload[size-1] != byte(size-1+i) {
					t.Fatalf("message %d: %d bytes", i, len(m.Payload))
				}
			}
		}
	})
}

// A shared packet that waits in an outbox is not overwritten by the next one.
func TestLargeMessagesWaitUnharmed(t *testing.T) {
	run(t, func(r *rig) {
		s := r.nodes[0].DialPipe(mqtt.V5, 256)
		s.Connect(t, &mqtt.Connect{ClientID: "s", CleanStart: true})
		s.Subscribe(t, 0, "t")
		body := func(i int) string { return strings.Repeat(string(rune('a'+i)), 5000) }
		for i := range 10 {
			r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte(body(i))})
		}
		for i := range 10 {
			s.ExpectPublish(t, "t", body(i))
		}
	})
}

// A client that does not read loses QoS 0 messages, which are counted, and
// nothing else; others get all.
func TestSlowConsumerQoS0(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.OutboxBytes = 8 << 10 }, func(r *rig) {
		slow := r.nodes[0].DialPipe(mqtt.V5, 512)
		slow.Connect(t, &mqtt.Connect{ClientID: "slow", CleanStart: true})
		slow.Subscribe(t, 0, "t")
		quick := r.open(mqtt.V5, "quick")
		quick.Subscribe(t, 0, "t")
		p := r.open(mqtt.V5, "p")
		for i := range 500 {
			p.MustSend(t, pub("t", fmt.Sprintf("%0100d", i), 0, 0))
			quick.ExpectPublish(t, "t", fmt.Sprintf("%0100d", i))
		}
		got, last := 0, -1
		for {
			m, err := slow.RecvWithin(time.Second)
			if err != nil {
				break
			}
			var i int
			_, _ = fmt.Sscanf(string(m.(*mqtt.Publish).Payload), "%d", &i)
			if i <= last {
				t.Fatalf("message %d behind %d", i, last)
			}
			got, last = got+1, i
		}
		if got < 50 || got > 200 {
			t.Errorf("got %d of 500", got)
		}
		slow.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, slow)
	})
}

// A client that takes nothing is disconnected, and its durable messages wait.
func TestSlowConsumerIsDisconnected(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		runCfg(t, func(c *session.Config) { c.QueueMessages, c.OutboxBytes = 100, 8<<10 }, func(r *rig) {
			slow := r.nodes[0].DialPipe(v, 512)
			slow.Connect(t, &mqtt.Connect{ClientID: "slow", CleanStart: !durable, HasSessionExpiry: durable && v == mqtt.V5,
				SessionExpiry: uint32(b2i(durable && v == mqtt.V5)) * 3600})
			slow.Subscribe(t, 1, "t")
			p := r.open(mqtt.V5, "p")
			for i := range 150 {
				p.MustSend(t, pub("t", fmt.Sprintf("%0200d", i), 1, 1))
				expect[*mqtt.Puback](r, p)
			}
			time.Sleep(61 * time.Second) // write_timeout, after what fitted into the pipe
			settle()
			if n := r.nodes[0].Server.Stats().Connections; n != 1 {
				t.Errorf("%d connections", n)
			}
			in, ok := r.cl.Session("slow")
			if ok != durable || durable && len(in.Inbox) != 150 {
				t.Errorf("session %v, inbox %d", ok, len(in.Inbox))
			}
			slow.Close()
		})
	})
}

// The queue of a session without inbox is bounded: a client that stays above
// the limit is disconnected, what waited is never dropped in silence.
func TestTransientQueueIsBounded(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.QueueMessages, c.SlowTimeout = 100, time.Second }, func(r *rig) {
		s := r.dial(mqtt.V5)
		s.Connect(t, &mqtt.Connect{ClientID: "s", CleanStart: true, ReceiveMaximum: 1})
		s.Subscribe(t, 1, "t")
		for i := range 150 { // above the limit, and below it again in time
			r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte(sprint(i)), QoS: 1})
		}
		for i := range 150 {
			m := s.ExpectPublish(t, "t", sprint(i))
			s.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		}
		time.Sleep(time.Minute)
		for i := range 150 {
			r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte(sprint(i)), QoS: 1})
		}
		s.ExpectPublish(t, "t", sprint(0))
		s.ExpectNothing(t, 2*time.Second)
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("x"), QoS: 1})
		s.ExpectDisconnect(t, mqtt.QuotaExceeded)
	})
}

// Answers count, too: a client that only asks and never reads is not read.
func TestPingFloodIsBounded(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.OutboxBytes = 4096 }, func(r *rig) {
		c := r.nodes[0].DialPipe(mqtt.V5, 256)
		c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true})
		sent := make(chan error, 1)
		go func() {
			for range 10000 {
				if err := c.Send(&mqtt.Pingreq{}); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		time.Sleep(time.Second)
		if ci := r.nodes[0].Server.Clients("", "", 1); len(ci) != 1 || ci[0].OutboxBytes > 4096+2 {
			t.Errorf("%+v", ci)
		}
		for range 10000 {
			expect[*mqtt.Pingresp](r, c)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// The pump stops at a full outbox and goes on when the client has read, also if
// it acknowledges nothing.
func TestPumpFollowsOutbox(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.OutboxBytes = 4096 }, func(r *rig) {
		s := r.nodes[0].DialPipe(mqtt.V5, 512)
		s.Connect(t, &mqtt.Connect{ClientID: "s", HasSessionExpiry: true, SessionExpiry: 100})
		s.Subscribe(t, 1, "t")
		for i := range 300 {
			r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte(fmt.Sprintf("%0200d", i)), QoS: 1})
		}
		settle()
		if ci := r.nodes[0].Server.Clients("", "", 1); ci[0].OutboxBytes > 4096 {
			t.Errorf("%d bytes wait", ci[0].OutboxBytes)
		}
		for i := range 300 {
			s.ExpectPublish(t, "t", fmt.Sprintf("%0200d", i))
		}
	})
}

// A read that fails is tried again: nothing is lost.
func TestPumpRetries(t *testing.T) {
	run(t, func(r *rig) {
		s, _ := r.durable(mqtt.V5, "s")
		s.Subscribe(t, 1, "t")
		settle() // nothing is retained
		r.cl.Set(func(f *sessiontest.Faults) { f.FailFetches = 5 })
		start := time.Now()
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("x"), QoS: 1})
		s.ExpectPublish(t, "t", "x")
		if d := time.Since(start); d < 500*time.Millisecond || d > time.Second {
			t.Errorf("5 failures cost %v, want pauses of 20, 40, 80, 160 and 320 ms", d)
		}
	})
}

func TestDeliverReportsMatches(t *testing.T) {
	run(t, func(r *rig) {
		a, b := r.open(mqtt.V5, "a"), r.client(mqtt.V311, "b", true)
		a.Subscribe(t, 0, "t", "#")
		b.Subscribe(t, 1, "t")
		if n := r.nodes[0].Server.Deliver("", &command.Message{Topic: []byte("t")}); n != 2 {
			t.Errorf("%d sessions matched, want 2", n)
		}
		if n := r.nodes[0].Server.Deliver("other", &command.Message{Topic: []byte("t")}); n != 0 {
			t.Errorf("%d sessions of another tenant matched", n)
		}
	})
}

// A packet of the largest size that is on its way costs nothing of what follows.
func TestLargePacketOnItsWay(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.OutboxBytes = 64 << 10 }, func(r *rig) {
		c := r.nodes[0].DialPipe(mqtt.V5, 512)
		c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true})
		c.Subscribe(t, 0, "t")
		big := string(make([]byte, 64<<10))
		for _, payload := range []string{big, "small", "smaller"} {
			r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte(payload)})
			settle()
		}
		for _, payload := range []string{big, "small", "smaller"} {
			c.ExpectPublish(t, "t", payload)
		}
	})
}
