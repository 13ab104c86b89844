package session_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// drain acknowledges what comes until nothing does, and returns the payloads.
func drainPublishes(t *testing.T, c interface {
	RecvWithin(time.Duration) (mqtt.Packet, error)
	Send(...mqtt.Packet) error
}) (got []string) {
	t.Helper()
	for {
		p, err := c.RecvWithin(time.Second)
		if err != nil {
			return got
		}
		switch m := p.(type) {
		case *mqtt.Publish:
			got = append(got, string(m.Payload))
			switch m.QoS {
			case 1:
				err = c.Send(&mqtt.Puback{PacketID: m.PacketID})
			case 2:
				err = c.Send(&mqtt.Pubrec{PacketID: m.PacketID})
			}
		case *mqtt.Pubrel:
			err = c.Send(&mqtt.Pubcomp{PacketID: m.PacketID})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Members of every version and kind share what is published, each message goes
// to one of them, and what one has not acknowledged at its end to another.
func TestShare_v5_MQTT_4_8_2_4_MQTT_4_8_2_5(t *testing.T) {
	run(t, func(r *rig) {
		a := r.open(mqtt.V5, "a")
		b := r.client(mqtt.V311, "b", true)
		for _, c := range []interface {
			MustSend(testing.TB, ...mqtt.Packet)
		}{a, b} {
			c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "$share/g/t/+", QoS: 2}}})
		}
		for _, ack := range []*mqtt.Suback{expect[*mqtt.Suback](r, a), expect[*mqtt.Suback](r, b)} {
			if ack.Codes[0] != mqtt.GrantedQoS2 {
				t.Fatalf("SUBACK %s", ack.Codes[0])
			}
		}
		silent := r.open(mqtt.V5, "silent")
		silent.Subscribe(t, 1, "$share/g/t/+")
		p := r.open(mqtt.V5, "p")
		const n = 30
		for i := range n {
			p.MustSend(t, pub("t/x", sprint(i), byte(1+i%2), uint16(i+1)))
			if i%2 == 0 {
				expect[*mqtt.Puback](r, p)
			} else {
				expect[*mqtt.Pubrec](r, p)
				p.MustSend(t, &mqtt.Pubrel{PacketID: uint16(i + 1)})
				expect[*mqtt.Pubcomp](r, p)
			}
		}
		settle()
		silent.Close() // it has seen some and acknowledged none
		settle()
		seen := map[string]int{}
		gotA, gotB := drainPublishes(t, a), drainPublishes(t, b)
		for _, s := range append(gotA, gotB...) {
			seen[s]++
		}
		for i := range n {
			if seen[sprint(i)] != 1 {
				t.Errorf("message %d was seen %d times", i, seen[sprint(i)])
			}
		}
		if len(gotA) == 0 || len(gotB) == 0 {
			t.Errorf("%d and %d messages", len(gotA), len(gotB))
		}
	})
}

func TestShareNoLocal_v5_MQTT_3_8_3_4(t *testing.T) {
	run(t, func(r *rig) {
		c := r.open(mqtt.V5, "c")
		// The codec does not say such a thing.
		b := encode(t, mqtt.V5, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "$share/g/t"}}})
		b[len(b)-1] |= 4
		if err := c.SendRaw(b); err != nil {
			t.Fatal(err)
		}
		c.ExpectDisconnect(t, mqtt.ProtocolError)
	})
}

func TestShareCodes(t *testing.T) {
	change := func(c *session.Config) { c.Authorizer = denyTopic("secret") }
	runCfg(t, change, func(r *rig) {
		r.cl.Publish(retain("t", "kept", 1))
		c := r.open(mqtt.V5, "c")
		s := &mqtt.Subscribe{PacketID: 1}
		// v5:MQTT-4.8.2-1, v5:MQTT-4.8.2-2, and access is asked for the inner filter
		filters := []string{"$share/g/t", "$share/g/secret", "$share//t", "$share/g", "$share/+/t", "$share/g/", "$share/g/$share/h/t"}
		for _, f := range filters {
			s.Filters = append(s.Filters, mqtt.SubscribeFilter{Filter: f, QoS: 1})
		}
		want := []mqtt.ReasonCode{mqtt.GrantedQoS1, mqtt.NotAuthorized, mqtt.TopicFilterInvalid, mqtt.TopicFilterInvalid,
			mqtt.TopicFilterInvalid, mqtt.TopicFilterInvalid, mqtt.TopicFilterInvalid}
		c.MustSend(t, s)
		ack := expect[*mqtt.Suback](r, c)
		for i := range want {
			if ack.Codes[i] != want[i] {
				t.Errorf("%q: %s, want %s", filters[i], ack.Codes[i], want[i])
			}
		}
		c.ExpectNothing(t, time.Second) // no retained message for a share
	})
}

// QoS 0 goes to one member of this node, in turn, and to none that has left.
func TestShareQoS0(t *testing.T) {
	run(t, func(r *rig) {
		r.node(nil)
		a, b := r.open(mqtt.V5, "a"), r.client(mqtt.V311, "b", true)
		a.MustSend(t, &mqtt.Subscribe{PacketID: 1, SubscriptionID: 7, Filters: []mqtt.SubscribeFilter{{Filter: "$share/g/t", QoS: 1, RetainAsPublished: true}}})
		expect[*mqtt.Suback](r, a)
		b.Subscribe(t, 1, "$share/g/t")
		m := &command.Message{Topic: []byte("t"), Payload: []byte("x"), Retain: true}
		srv := r.nodes[0].Server
		for range 4 {
			if !srv.DeliverShare("", "g", "t", m) {
				t.Fatal("nobody is there")
			}
		}
		for range 2 {
			if p := a.ExpectPublish(t, "t", "x"); p.QoS != 0 || !p.Retain || len(p.SubscriptionIDs) != 1 || p.SubscriptionIDs[0] != 7 {
				t.Errorf("%+v", p)
			}
			if p := b.ExpectPublish(t, "t", "x"); p.Retain {
				t.Errorf("%+v", p)
			}
		}
		if n := srv.Deliver("", m); n != 0 {
			t.Errorf("%d sessions match as if they had subscribed on their own", n)
		}
		for _, k := range [][3]string{{"", "h", "t"}, {"", "g", "u"}, {"x", "g", "t"}} {
			if srv.DeliverShare(k[0], k[1], k[2], m) {
				t.Errorf("%v has a member", k)
			}
		}
		a.MustSend(t, &mqtt.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/t"}})
		if u := expect[*mqtt.Unsuback](r, a); u.Codes[0] != mqtt.Success {
			t.Errorf("UNSUBACK %s", u.Codes[0])
		}
		b.Close()
		settle()
		if srv.DeliverShare("", "g", "t", m) || r.nodes[1].Server.DeliverShare("", "g", "t", m) {
			t.Error("a member is left")
		}
		r.client(mqtt.V311, "b", true) // its membership is part of the session
		if !srv.DeliverShare("", "g", "t", m) {
			t.Error("a resumed session is no member")
		}
	})
}

// A share that was granted QoS 0 comes through the inbox and ends when it is sent.
func TestShareGrantedQoS0(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		run(t, func(r *rig) {
			c := r.client(v, "c", durable)
			c.Subscribe(t, 0, "$share/g/t")
			p := r.open(mqtt.V5, "p")
			for i := range 100 { // far above what a member may hold unacknowledged
				p.MustSend(t, pub("t", sprint(i), 1, uint16(i+1)))
				expect[*mqtt.Puback](r, p)
			}
			for i := range 100 {
				if m := c.ExpectPublish(t, "t", sprint(i)); m.QoS != 0 || m.PacketID != 0 || m.Dup {
					t.Fatalf("%+v", m)
				}
			}
			settle()
			if info, _ := r.cl.Session("c"); len(info.Inbox) != 0 || info.SentTo != 100 {
				t.Errorf("%+v", info)
			}
		})
	})
}

func TestShareMemberThatIsFullIsPassed(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.OutboxBytes = 2048 }, func(r *rig) {
		full := r.nodes[0].DialPipe(mqtt.V311, 64)
		full.Connect(t, &mqtt.Connect{ClientID: "full", CleanStart: true})
		full.Subscribe(t, 0, "$share/g/t")
		c := r.open(mqtt.V311, "c")
		c.Subscribe(t, 0, "$share/g/t")
		for i := range 50 {
			r.nodes[0].Server.DeliverShare("", "g", "t", &command.Message{Topic: []byte("t"), Payload: []byte(fmt.Sprintf("%0500d", i))})
			settle()
		}
		if n := len(drainPublishes(t, c)); n < 40 {
			t.Errorf("%d of 50 messages reach the member that reads", n)
		}
	})
}

// QoS 0 from an inbox is sent at most once, also where nobody knows whether it was.
func TestShareGrantedQoS0IsNotRepeated(t *testing.T) {
	run(t, func(r *rig) {
		c := r.client(mqtt.V5, "c", true)
		c.Subscribe(t, 0, "$share/g/t")
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true }) // the acknowledgement is not committed
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("x"), QoS: 1})
		c.ExpectPublish(t, "t", "x")
		c = r.client(mqtt.V5, "c", true) // takes over
		c.ExpectNothing(t, time.Second)
		r.cl.ReleaseAll()
		if info, _ := r.cl.Session("c"); len(info.Inbox) != 0 {
			t.Errorf("inbox %v", info.Inbox)
		}
	})
}
