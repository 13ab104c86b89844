package session_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// The model: publishers and subscribers with durable sessions on two nodes, any
// of them cut off at any time, completions in any order, outages. Every publish
// is repeated until it is acknowledged. In the end every subscriber has every
// acknowledged message (I1), QoS 2 exactly once (I2), in order (I4), never with a
// packet id that is in use (I17) or above its Receive Maximum (I18), and nothing
// is left in any inbox (I27).

// step is one action of a run.
type step struct{ what, who, n int }

const (
	stepPublish = iota
	stepCut
	stepRead
	stepHold
	stepRelease
	stepOutage
	stepTakeover
	steps
)

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		list := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, steps-1).Draw(rt, "what"), rapid.IntRange(0, 3).Draw(rt, "who"), rapid.IntRange(0, 9).Draw(rt, "n")}
		}), 1, 60).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(t *testing.T) { err = model(t, list) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func model(t *testing.T, list []step) (err error) {
	r := &rig{T: t, cl: sessiontest.New()}
	r.node(func(c *session.Config) { c.ReceiveMaximum = 8 })
	r.node(func(c *session.Config) { c.ReceiveMaximum = 8 })
	defer r.stop()
	m := &modelRun{r: r}
	for i, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		m.pubs = append(m.pubs, &publisher{m: m, id: fmt.Sprint("p", i), v: v})
		m.subs = append(m.subs, &subscriber{m: m, id: fmt.Sprint("s", i), v: v, got: map[string]int{}})
	}
	for _, s := range m.subs {
		s.connect(0)
		s.c.Subscribe(t, 2, "#")
	}
	for _, s := range list {
		m.do(s)
		synctest.Wait()
	}
	return m.finish()
}

type modelRun struct {
	r    *rig
	pubs []*publisher
	subs []*subscriber
	err  error
}

func (m *modelRun) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

func (m *modelRun) do(s step) {
	p, u := m.pubs[s.who%2], m.subs[s.who%2]
	switch s.what {
	case stepPublish:
		for range s.n {
			p.publish(byte(1+s.who/2), s.n%3)
		}
	case stepCut:
		if s.who < 2 {
			p.cut()
		} else {
			u.cut()
		}
	case stepRead:
		p.read()
		u.read(s.n)
	case stepHold:
		m.r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
	case stepRelease:
		if h := len(m.r.cl.Held()); h > 0 {
			m.r.cl.Release(s.n % h)
		}
	case stepOutage:
		m.r.cl.Set(func(f *sessiontest.Faults) { f.Unavailable = s.n > 5; f.FailFetches = s.n % 3 })
	case stepTakeover:
		u.connect(s.n % 2)
	}
}

// finish heals everything and checks.
func (m *modelRun) finish() error {
	m.r.cl.Set(func(f *sessiontest.Faults) { f.Unavailable, f.FailFetches = false, 0 })
	m.r.cl.ReleaseAll()
	for range 400 {
		synctest.Wait()
		busy := false
		for _, p := range m.pubs {
			p.read()
			busy = busy || len(p.open) > 0
			if len(p.open) > 0 && p.c == nil {
				p.connect()
			}
		}
		for i, s := range m.subs {
			if s.c == nil {
				s.connect(i)
			}
			s.read(1000)
			in, _ := m.r.cl.Session(s.id)
			busy = busy || len(in.Inbox) > 0
		}
		if !busy || m.err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range m.pubs {
		if len(p.open) > 0 {
			m.fail("%s: %d publishes are never acknowledged, first %+v", p.id, len(p.open), p.open[0])
		}
		for _, s := range m.subs {
			p.check(s)
		}
	}
	for _, s := range m.subs {
		if in, _ := m.r.cl.Session(s.id); len(in.Inbox) > 0 {
			m.fail("%s: inbox is stuck at %v", s.id, in.Inbox)
		}
	}
	return m.err
}

// publisher repeats what is not acknowledged.
type publisher struct {
	m    *modelRun
	id   string
	v    mqtt.Version
	c    *sessiontest.Client
	next int
	pid  uint16
	open []*outgoing
	sent []*outgoing
}

type outgoing struct {
	name, topic string
	qos         byte
	pid         uint16
	rel         bool // PUBREC has come
}

func (p *publisher) publish(qos byte, topic int) {
	if p.c == nil {
		p.connect()
	}
	if p.c == nil || p.v == mqtt.V5 && len(p.open) >= 8 {
		return
	}
	p.next++
	p.pid = p.pid%100 + 1
	for slices.ContainsFunc(p.open, func(o *outgoing) bool { return o.pid == p.pid }) {
		p.pid = p.pid%100 + 1
	}
	o := &outgoing{name: fmt.Sprintf("%s-%d-%d-%d", p.id, topic, qos, p.next), topic: fmt.Sprint("t/", topic), qos: qos, pid: p.pid}
	p.open, p.sent = append(p.open, o), append(p.sent, o)
	p.send(o, false)
}

func (p *publisher) send(o *outgoing, dup bool) {
	var pkt mqtt.Packet = &mqtt.Publish{Topic: []byte(o.topic), Payload: []byte(o.name), QoS: o.qos, PacketID: o.pid, Dup: dup}
	if o.rel {
		pkt = &mqtt.Pubrel{PacketID: o.pid}
	}
	if p.c.Send(pkt) != nil {
		p.cut()
	}
}

func (p *publisher) cut() {
	if p.c != nil {
		p.c.Close()
		p.c = nil
		synctest.Wait()
	}
}

// connect resumes and repeats, in order.
func (p *publisher) connect() {
	p.cut()
	p.c = p.m.resume(p.id, p.v, len(p.sent)%2, 0)
	if p.c == nil {
		return
	}
	for _, o := range slices.Clone(p.open) {
		if p.c != nil {
			p.send(o, true)
		}
	}
}

// resume opens a durable session; nil if the cluster is not available.
func (m *modelRun) resume(id string, v mqtt.Version, node int, receiveMax uint16) *sessiontest.Client {
	c := m.r.nodes[node].Dial(v)
	_ = c.Send(&mqtt.Connect{Version: v, ClientID: id, HasSessionExpiry: v == mqtt.V5, SessionExpiry: expiry(v), ReceiveMaximum: receiveMax})
	if ack, err := c.Recv(); err != nil || ack.(*mqtt.Connack).Code.Failed() {
		c.Close()
		return nil
	}
	return c
}

func (p *publisher) read() {
	for p.c != nil {
		pkt, err := p.c.RecvWithin(time.Millisecond)
		if err != nil {
			if t, ok := err.(interface{ Timeout() bool }); !ok || !t.Timeout() {
				p.cut()
			}
			return
		}
		switch a := pkt.(type) {
		case *mqtt.Puback:
			p.done(a.PacketID, a.Code)
		case *mqtt.Pubcomp:
			p.done(a.PacketID, a.Code)
		case *mqtt.Pubrec:
			for _, o := range p.open {
				if o.pid == a.PacketID {
					o.rel = true
					p.send(o, false)
				}
			}
		}
	}
}

func (p *publisher) done(pid uint16, code mqtt.ReasonCode) {
	if code.Failed() && code != mqtt.PacketIdentifierNotFound {
		p.m.fail("%s: answer %s", p.id, code)
	}
	p.open = slices.DeleteFunc(p.open, func(o *outgoing) bool { return o.pid == pid })
}

// check compares what s has with what was published.
func (p *publisher) check(s *subscriber) {
	last := map[string]int{}
	for _, o := range p.sent {
		n := s.got[o.name]
		if n == 0 {
			p.m.fail("%s has lost %s", s.id, o.name)
		}
		if n > 1 && o.qos == 2 {
			p.m.fail("%s got %s %d times", s.id, o.name, n)
		}
		at := slices.Index(s.order, o.name)
		k := fmt.Sprint(o.topic, o.qos)
		if at < last[k] {
			p.m.fail("%s got %s out of order", s.id, o.name)
		}
		last[k] = at
	}
}

// subscriber acknowledges a few packets at a time.
type subscriber struct {
	m        *modelRun
	id       string
	v        mqtt.Version
	c        *sessiontest.Client
	got      map[string]int
	order    []string
	received map[uint16]string // QoS 2 ids between PUBLISH and PUBREL: they outlive connections
	inflight map[uint16]bool
}

const modelReceiveMax = 5

func (s *subscriber) cut() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
		synctest.Wait()
	}
}

func (s *subscriber) connect(node int) {
	old := s.c
	c := s.m.resume(s.id, s.v, node, modelReceiveMax)
	if c == nil {
		return
	}
	if old != nil {
		old.Close() // what it still holds is old
	}
	s.c, s.inflight = c, map[uint16]bool{}
	if s.received == nil {
		s.received = map[uint16]string{}
	}
}

func (s *subscriber) read(n int) {
	for range n {
		if s.c == nil {
			return
		}
		pkt, err := s.c.RecvWithin(time.Millisecond)
		if err != nil {
			if t, ok := err.(interface{ Timeout() bool }); !ok || !t.Timeout() {
				s.cut()
			}
			return
		}
		s.handle(pkt)
	}
}

func (s *subscriber) handle(pkt mqtt.Packet) {
	answer := func(p mqtt.Packet) {
		if s.c.Send(p) != nil {
			s.cut()
		}
	}
	switch p := pkt.(type) {
	case *mqtt.Publish:
		if s.inflight[p.PacketID] {
			s.m.fail("%s: packet id %d is in use", s.id, p.PacketID)
		}
		s.inflight[p.PacketID] = true
		if s.v == mqtt.V5 && len(s.inflight) > modelReceiveMax {
			s.m.fail("%s: %d in flight", s.id, len(s.inflight))
		}
		name := string(p.Payload)
		if p.QoS == 1 {
			s.take(name)
			delete(s.inflight, p.PacketID)
			answer(&mqtt.Puback{PacketID: p.PacketID})
			return
		}
		if was, ok := s.received[p.PacketID]; ok && was != name {
			s.m.fail("%s: packet id %d of %s is used for %s", s.id, p.PacketID, was, name)
		} else if !ok {
			s.received[p.PacketID] = name
			s.take(name)
		}
		answer(&mqtt.Pubrec{PacketID: p.PacketID})
	case *mqtt.Pubrel:
		delete(s.received, p.PacketID)
		delete(s.inflight, p.PacketID)
		answer(&mqtt.Pubcomp{PacketID: p.PacketID})
	}
}

func (s *subscriber) take(name string) {
	s.got[name]++
	s.order = append(s.order, name)
}
