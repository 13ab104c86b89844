package session_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// script makes steps out of bytes: each takes what it needs from the front.
type script struct{ b []byte }

func (s *script) more() bool { return len(s.b) > 0 }

func (s *script) n(limit int) int {
	if len(s.b) == 0 {
		return 0
	}
	v := int(s.b[0]) % limit
	s.b = s.b[1:]
	return v
}

func (s *script) pid() uint16 {
	return [...]uint16{1, 2, 3, 7, 32768, 32769, 65535, 32767}[s.n(8)]
}

func (s *script) topic() []byte {
	return []byte([...]string{"a", "a/b", "r/1", "$SYS/x", "a/b/c", "", "a/+", "x"}[s.n(8)])
}

func (s *script) filter() string {
	return [...]string{"a", "a/#", "+", "#", "$share/g/a", "$share/g/#", "$share//a", "r/#", "a/+/c", "$share/h/r/+"}[s.n(10)]
}

// packet is well formed as a rule, and arrives at any time.
func (s *script) packet(v mqtt.Version) mqtt.Packet {
	ack := mqtt.Puback{PacketID: s.pid()}
	if v == mqtt.V5 && s.n(4) == 0 {
		ack.Code = mqtt.UnspecifiedError
	}
	switch s.n(12) {
	case 0, 1, 2:
		p := &mqtt.Publish{Topic: s.topic(), QoS: byte(s.n(3)), Payload: make([]byte, s.n(256)), Retain: s.n(4) == 0, Dup: s.n(4) == 0}
		if p.QoS > 0 {
			p.PacketID = ack.PacketID
		} else {
			p.Dup = false
		}
		if v == mqtt.V5 {
			p.TopicAlias = uint16(s.n(5))
			p.HasExpiry, p.Expiry = s.n(4) == 0, uint32(s.n(3))
		}
		return p
	case 3, 4:
		p := &mqtt.Subscribe{PacketID: ack.PacketID}
		for range 1 + s.n(3) {
			f := mqtt.SubscribeFilter{Filter: s.filter(), QoS: byte(s.n(3))}
			if v == mqtt.V5 {
				f.RetainHandling, f.RetainAsPublished = byte(s.n(3)), s.n(2) == 0
				f.NoLocal = s.n(8) == 0
				p.SubscriptionID = uint32(s.n(3))
			}
			p.Filters = append(p.Filters, f)
		}
		return p
	case 5:
		return &mqtt.Unsubscribe{PacketID: ack.PacketID, Filters: []string{s.filter()}}
	case 6:
		return &ack
	case 7:
		return (*mqtt.Pubrec)(&ack)
	case 8:
		return (*mqtt.Pubcomp)(&ack)
	case 9:
		return &mqtt.Pubrel{PacketID: ack.PacketID}
	case 10:
		return &mqtt.Auth{Code: mqtt.ReAuthenticate, AuthMethod: "x"}
	}
	return &mqtt.Pingreq{}
}

// FuzzPackets sends any packets in any order to a live connection, while the
// cluster holds back, publishes, kicks and the client comes back. The server
// never panics or wedges, keeps the client's Receive Maximum, leaks nothing, and
// leaves another client alone.
func FuzzPackets(f *testing.F) {
	f.Add(byte(5), true, []byte("\x00\x03\x01\x00\x01\x09\x02\x00\x00\x08\x00\x00\x01\x01\x08\x01\x06"))
	f.Add(byte(4), false, []byte("\x03\x04\x04\x04\x01\x05\x00\x00\x01\x01\x01\x07\x00\x08"))
	f.Add(byte(3), true, []byte("\x01\x01\x02\x02\x03\x05\x08\x0d\x15\x22\x37\x59\x90\xe9"))
	f.Fuzz(func(t *testing.T, v byte, durable bool, raw []byte) {
		if len(raw) > 400 {
			return
		}
		version := [...]mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}[int(v)%3]
		synctest.Test(t, func(t *testing.T) { playScript(t, version, durable, &script{raw}) })
	})
}

// fuzzed is the connection that a script plays on.
type fuzzed struct {
	*rig
	v       mqtt.Version
	durable bool
	c       *sessiontest.Client
	unacked map[uint16]bool
}

const fuzzMax = 5

func (z *fuzzed) dial() {
	z.c = z.nodes[0].Dial(z.v)
	p := &mqtt.Connect{Version: z.v, ClientID: "c", CleanStart: !z.durable, KeepAlive: 60}
	if z.v == mqtt.V5 {
		p.ReceiveMaximum, p.TopicAliasMaximum, p.MaximumPacketSize = fuzzMax, 3, 400
		p.HasSessionExpiry, p.SessionExpiry = z.durable, uint32(b2i(z.durable))*600
	}
	if err := z.c.Send(p); err != nil {
		z.Fatal(err)
	}
	z.unacked = map[uint16]bool{}
}

// read takes what is there and checks the client's own limits.
func (z *fuzzed) read() {
	for {
		p, err := z.c.RecvWithin(time.Millisecond)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *mqtt.Publish:
			if p.QoS == 0 {
				continue
			}
			if z.unacked[p.PacketID] {
				z.Errorf("packet id %d is used twice", p.PacketID)
			}
			z.unacked[p.PacketID] = true
			if z.v == mqtt.V5 && len(z.unacked) > fuzzMax {
				z.Errorf("%d messages are unacknowledged", len(z.unacked))
			}
		}
	}
}

// step plays one step.
func (z *fuzzed) step(s *script) {
	switch s.n(16) {
	case 0:
		z.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
	case 1:
		z.cl.ReleaseAll()
	case 2:
		for range 1 + s.n(20) {
			z.cl.Publish(command.Message{Topic: []byte("a/b"), Payload: make([]byte, s.n(256)*2), QoS: byte(s.n(3))})
		}
	case 3:
		for i := range 1 + s.n(20) {
			z.cl.Publish(retain(fmt.Sprint("r/", i), "x", byte(s.n(3))))
		}
	case 4:
		z.c.Close()
		settle()
		z.dial()
	case 5: // takeover
		old := z.c
		settle()
		z.dial()
		defer old.Close()
	case 6:
		time.Sleep(time.Duration(1+s.n(120)) * time.Second)
	case 7:
		z.cl.Set(func(f *sessiontest.Faults) { f.FailFetches, f.LoseReplays = s.n(3), s.n(3) })
	default:
		p := s.packet(z.v)
		switch a := p.(type) {
		case *mqtt.Puback:
			delete(z.unacked, a.PacketID)
		case *mqtt.Pubcomp:
			delete(z.unacked, a.PacketID)
		case *mqtt.Pubrec:
			if a.Code.Failed() {
				delete(z.unacked, a.PacketID)
			}
		}
		_ = z.c.Send(p) // what cannot be encoded, or the end of the connection
	}
	settle()
	z.read()
}

func playScript(t *testing.T, v mqtt.Version, durable bool, s *script) {
	z := &fuzzed{rig: &rig{T: t, cl: sessiontest.New()}, v: v, durable: durable}
	z.node(func(c *session.Config) {
		c.OutboxBytes, c.PublishWindow, c.ReceiveMaximum, c.QueueMessages = 2048, 8, 8, 50
	})
	defer z.stop()
	other := z.open(mqtt.V5, "other")
	other.Subscribe(t, 2, "private")
	z.dial()
	for s.more() {
		z.step(s)
	}
	z.cl.ReleaseAll()
	z.cl.Publish(command.Message{Topic: []byte("private"), Payload: []byte("x"), QoS: 1})
	other.ExpectPublish(t, "private", "x")
	other.MustSend(t, &mqtt.Pingreq{})
	expect[*mqtt.Pingresp](z.rig, other)
	z.c.Close()
	time.Sleep(time.Minute) // last words
	settle()
	if n := z.nodes[0].Server.Stats().Connections; n != 1 {
		t.Errorf("%d connections are left", n)
	}
}
