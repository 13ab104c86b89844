package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// take reads n publishes, acknowledges them, and counts topics.
func take(t *testing.T, c *sessiontest.Client, n int, seen map[string]int) {
	t.Helper()
	for range n {
		m := sessiontest.Expect[*mqtt.Publish](t, c)
		if !m.Dup || seen[string(m.Topic)] == 0 {
			seen[string(m.Topic)]++
		}
		if m.QoS > 0 {
			c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		}
	}
}

// A replay to a durable session goes on where it stood, on another node as well,
// and what has an unknown outcome is neither lost nor repeated.
func TestReplayResumes(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			r.node(nil)
			const total = 1500
			for i := range total {
				r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
			}
			r.cl.Set(func(f *sessiontest.Faults) { f.LoseReplays, f.DropReplays, f.FailFetches = 3, 2, 1 })
			seen := map[string]int{}
			c, _ := r.durableMax(v, "c", 20)
			c.Subscribe(t, 1, "r/#")
			take(t, c, 700, seen)
			settle()
			if info, _ := r.cl.Session("c"); len(info.Inbox) > 400 {
				t.Errorf("%d messages are queued for a client that keeps up", len(info.Inbox))
			}
			c.Close()
			settle()
			c = r.nodes[1].Dial(v)
			ack := c.Connect(t, &mqtt.Connect{ClientID: "c", HasSessionExpiry: v == mqtt.V5, SessionExpiry: expiry(v), ReceiveMaximum: 20})
			if v != mqtt.V31 && !ack.SessionPresent {
				t.Fatal("the session is gone")
			}
			for len(seen) < total {
				take(t, c, 1, seen)
			}
			c.ExpectNothing(t, time.Second)
			for topic, n := range seen {
				if n != 1 {
					t.Errorf("%s came %d times", topic, n)
				}
			}
			if n := r.cl.Replays(); n > total/100 {
				t.Errorf("%d pages for %d messages", n, total)
			}
			if n := r.cl.Misfits(); n > 3 { // those of which it was not said that they were taken
				t.Errorf("%d pages began where the replay does not stand", n)
			}
		})
	})
}

// A client that takes nothing has no more than a page in its inbox.
func TestReplayWaitsForTheClient(t *testing.T) {
	run(t, func(r *rig) {
		for i := range 2000 {
			r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
		}
		c, _ := r.durableMax(mqtt.V5, "c", 5)
		c.Subscribe(t, 1, "r/#")
		settle()
		if info, _ := r.cl.Session("c"); len(info.Inbox) == 0 || len(info.Inbox) > 300 {
			t.Errorf("%d messages are queued", len(info.Inbox))
		}
	})
}

// Copies of effective QoS 0 never enter the inbox, and one subscription's replay
// does not keep another one waiting.
func TestReplayMixesQoSAndFilters(t *testing.T) {
	run(t, func(r *rig) {
		for i := range 600 {
			r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", byte(i%2)))
			r.cl.Publish(retain(fmt.Sprintf("s/%06d", i), "x", 1))
		}
		seen := map[string]int{}
		c, _ := r.durableMax(mqtt.V5, "c", 20)
		c.Subscribe(t, 1, "r/#")
		c.MustSend(t, &mqtt.Subscribe{PacketID: 5, Filters: []mqtt.SubscribeFilter{{Filter: "s/+"}}})
		c.Until(t, func(p mqtt.Packet) bool { return p.Type() == mqtt.TypeSuback })
		take(t, c, 1200, seen)
		if len(seen) != 1200 {
			t.Errorf("%d topics", len(seen))
		}
		c.ExpectNothing(t, time.Second)
	})
}

// A subscription that is repeated while its replay runs gets all of it again,
// whatever the pump was doing; UNSUBSCRIBE ends it.
func TestReplayRestarts(t *testing.T) {
	run(t, func(r *rig) {
		const total = 600
		for i := range total {
			r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
		}
		seen := map[string]int{}
		c, _ := r.durableMax(mqtt.V5, "c", 20)
		c.Subscribe(t, 1, "r/#")
		take(t, c, 300, seen)
		c.MustSend(t, &mqtt.Subscribe{PacketID: 7, Filters: []mqtt.SubscribeFilter{{Filter: "r/#", QoS: 1}}})
		again := map[string]int{}
		acked := false
		for len(again) < total {
			switch p := c.MustRecv(t).(type) {
			case *mqtt.Suback:
				acked = true
			case *mqtt.Publish:
				if acked {
					again[string(p.Topic)]++
				}
				c.MustSend(t, &mqtt.Puback{PacketID: p.PacketID})
			}
		}
		drainPublishes(t, c)
		c.MustSend(t, &mqtt.Subscribe{PacketID: 8, Filters: []mqtt.SubscribeFilter{{Filter: "r/#", QoS: 1}}})
		expect[*mqtt.Suback](r, c)
		c.MustSend(t, &mqtt.Unsubscribe{PacketID: 9, Filters: []string{"r/#"}})
		if n := len(drainPublishes(t, c)); n > 300 {
			t.Errorf("%d messages after UNSUBSCRIBE", n)
		}
	})
}

// A small Receive Maximum does not make a read of every shard per message.
func TestReplayReadsPages(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		if v != mqtt.V5 {
			return
		}
		run(t, func(r *rig) {
			for i := range 2000 {
				r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
			}
			c := r.dial(v)
			c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, ReceiveMaximum: 3, HasSessionExpiry: durable, SessionExpiry: uint32(b2i(durable)) * 60})
			before := r.cl.Fetches()
			c.Subscribe(t, 1, "r/#")
			take(t, c, 2000, map[string]int{})
			if n := r.cl.Fetches() - before; !durable && n > 30 {
				t.Errorf("%d reads of retained messages", n)
			}
		})
	})
}

// What is published once SUBACK is there comes once, live, however late the retained messages are read.
func TestReplayEndsAtSuback_v5_MQTT_3_3_1_12_v311_MQTT_3_3_1_9(t *testing.T) {
	for _, filters := range [][]mqtt.SubscribeFilter{{{Filter: "r/#", QoS: 1}}, {{Filter: "r/#", QoS: 1}, {Filter: "r/+", QoS: 1}}} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d filters, clean %v", len(filters), clean), func(t *testing.T) {
				run(t, func(r *rig) {
					const total = 40
					for i := range total {
						r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
					}
					c := r.dial(mqtt.V5)
					c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: clean, HasSessionExpiry: !clean, SessionExpiry: 3600, ReceiveMaximum: 2})
					release := func() {}
					if len(filters) > 1 || !clean {
						release = r.cl.HoldReads() // else the first page comes before SUBACK
					}
					c.MustSend(t, &mqtt.Subscribe{PacketID: 9, Filters: filters})
					expect[*mqtt.Suback](r, c)
					r.cl.Publish(retain("r/late", "new", 1))
					release()
					late, others := 0, 0
					for {
						p, err := c.RecvWithin(time.Second)
						if err != nil {
							break
						}
						m := p.(*mqtt.Publish)
						c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
						if string(m.Topic) != "r/late" {
							others++
						} else if late++; m.Retain {
							t.Error("a message that was published behind SUBACK came as a retained one")
						}
					}
					if late != 1 || others != len(filters)*total {
						t.Errorf("%d of the late message, %d of the others", late, others)
					}
				})
			})
		}
	}
}

// readsTwo is a client whose first page, of r/a and r/b with the payload "old", is read and held.
func (r *rig) readsTwo() (c *sessiontest.Client, release func()) {
	r.cl.Publish(retain("r/a", "old", 1))
	r.cl.Publish(retain("r/b", "old", 1))
	c = r.dial(mqtt.V5)
	c.Connect(r.T, &mqtt.Connect{ClientID: "c", CleanStart: true})
	release = r.cl.HoldPages()
	c.MustSend(r.T, &mqtt.Subscribe{PacketID: 9, Filters: []mqtt.SubscribeFilter{{Filter: "r/+", QoS: 1}}})
	return c, release
}

// A page that was read while a newer message came live is read again: the newer one is the retained message.
func TestReplayIsOvertakenWhileReading(t *testing.T) {
	run(t, func(r *rig) {
		c, release := r.readsTwo()
		settle()
		r.cl.Publish(retain("r/a", "new", 1))
		c.ExpectPublish(t, "r/a", "new")
		release()
		expect[*mqtt.Suback](r, c)
		for _, kept := range [][2]string{{"r/a", "new"}, {"r/b", "old"}} {
			if m := c.ExpectPublish(t, kept[0], kept[1]); !m.Retain {
				t.Errorf("%s came with RETAIN 0", m.Topic)
			}
		}
		c.ExpectNothing(t, time.Second)
	})
}

// Nor is an older message sent behind newer ones if they come whenever a page is read.
func TestReplayGivesWayToABusyTopic(t *testing.T) {
	run(t, func(r *rig) {
		c, release := r.readsTwo()
		for i := range 4 {
			settle()
			said := fmt.Sprint("new ", i)
			r.cl.Publish(retain("r/a", said, 1))
			c.ExpectPublish(t, "r/a", said)
			next := r.cl.HoldPages()
			release()
			release = next
		}
		expect[*mqtt.Suback](r, c)
		c.ExpectPublish(t, "r/b", "old")
		c.ExpectNothing(t, time.Second)
		release()
	})
}

// A copy that waits to be sent must not follow the newer message that came live.
func TestReplayNeverFollowsNewer(t *testing.T) {
	run(t, func(r *rig) {
		const total = 400
		for i := range total {
			r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "old", 1))
		}
		for _, qos := range []byte{0, 1} {
			c := r.dial(mqtt.V5)
			c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, ReceiveMaximum: 2})
			c.Subscribe(t, 1, "r/#")
			settle()
			// Some are sent, some are read, some are neither.
			for i := range total {
				r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "new", qos))
			}
			last := map[string]string{}
			for {
				p, err := c.RecvWithin(time.Second)
				if err != nil {
					break
				}
				m := p.(*mqtt.Publish)
				last[string(m.Topic)] = string(m.Payload)
				if m.QoS > 0 {
					c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
				}
			}
			for i := range total {
				if got := last[fmt.Sprintf("r/%06d", i)]; got != "new" {
					t.Errorf("QoS %d: the last of topic %d is %q", qos, i, got)
				}
			}
			for i := range total {
				r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "old", 1))
			}
			drainPublishes(t, c)
			c.Close()
		}
	})
}

// What waits for the client's quota gets older, and is not sent when its time is over.
func TestReplayCountsExpiry_v5_MQTT_3_3_2_5_MQTT_3_3_2_6(t *testing.T) {
	run(t, func(r *rig) {
		for i := range 6 {
			m := retain(fmt.Sprint("r/", i), "x", 1)
			m.HasExpiry, m.Expiry, m.PublishedAt = true, 10+10*uint32(i%2), time.Now().UnixMilli()
			r.cl.Publish(m)
		}
		c := r.dial(mqtt.V5)
		c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, ReceiveMaximum: 1})
		c.Subscribe(t, 1, "r/+")
		m := c.ExpectPublish(t, "r/0", "x")
		time.Sleep(15 * time.Second)
		for _, topic := range []string{"r/1", "r/3", "r/5"} {
			c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
			m = c.ExpectPublish(t, topic, "x")
			if m.Expiry != 5 {
				t.Errorf("%s: %d s remain, want 5", topic, m.Expiry)
			}
		}
		c.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
		c.ExpectNothing(t, time.Second)
	})
}

// While a page is under way, its subscription is not replaced: the page would be
// taken for the first one of the new replay.
func TestReplayPageDoesNotMeetItsSuccessor(t *testing.T) {
	run(t, func(r *rig) {
		for i := range 100 {
			r.cl.Publish(retain(fmt.Sprintf("r/%06d", i), "x", 1))
		}
		release := r.cl.HoldReplays()
		c, _ := r.durableMax(mqtt.V5, "c", 20)
		c.Subscribe(t, 1, "r/#")
		settle()
		c.MustSend(t, &mqtt.Subscribe{PacketID: 7, Filters: []mqtt.SubscribeFilter{{Filter: "r/#", QoS: 1}}})
		c.ExpectNothing(t, time.Second)
		release()
		seen := map[string]int{}
		for len(seen) < 100 {
			if p, ok := c.MustRecv(t).(*mqtt.Publish); ok {
				seen[string(p.Topic)]++
				c.MustSend(t, &mqtt.Puback{PacketID: p.PacketID})
			}
		}
		drainPublishes(t, c)
		if n := r.cl.Misfits(); n > 0 {
			t.Errorf("%d pages began where the replay does not stand", n)
		}
		// Nor does one that waits keep its connection from ending.
		release = r.cl.HoldReplays()
		c.MustSend(t, &mqtt.Subscribe{PacketID: 8, Filters: []mqtt.SubscribeFilter{{Filter: "r/#", QoS: 1}}})
		expect[*mqtt.Suback](r, c)
		settle()
		c.MustSend(t, &mqtt.Subscribe{PacketID: 9, Filters: []mqtt.SubscribeFilter{{Filter: "r/#", QoS: 1}}})
		settle()
		c, _ = r.durableMax(mqtt.V5, "c", 20) // takes over
		release()
		take(t, c, 100, map[string]int{})
	})
}
