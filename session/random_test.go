package session_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// packetGen draws packets that are well formed and arrive at any time: whatever
// their order says about the client, the server answers or closes.
func packetGen(v mqtt.Version) *rapid.Generator[mqtt.Packet] {
	return rapid.Custom(func(rt *rapid.T) mqtt.Packet {
		pid := uint16(rapid.SampledFrom([]int{1, 2, 3, 32768, 32769}).Draw(rt, "pid"))
		filter := rapid.SampledFrom([]string{"a", "a/#", "+", "#", "$share/g/a"}).Draw(rt, "filter")
		n := rapid.IntRange(0, 99).Draw(rt, "n")
		switch rapid.IntRange(0, 8).Draw(rt, "kind") {
		case 0, 1, 2:
			p := pub([]string{"a", "a/b", "$SYS/x"}[n%3], string(make([]byte, n)), byte(n%3), pid)
			if p.QoS == 0 {
				p.PacketID = 0
			}
			p.Retain = n%5 == 0
			if v == mqtt.V5 {
				p.TopicAlias = uint16(n % 4)
				p.HasExpiry, p.Expiry = n%7 == 0, uint32(n)
			}
			return p
		case 3:
			return &mqtt.Subscribe{PacketID: pid, Filters: []mqtt.SubscribeFilter{{Filter: filter, QoS: byte(n % 3), RetainHandling: byte(b2i(v == mqtt.V5) * n % 3)}}}
		case 4:
			return &mqtt.Unsubscribe{PacketID: pid, Filters: []string{filter}}
		case 5:
			return &mqtt.Puback{PacketID: pid}
		case 6:
			return &mqtt.Pubrec{PacketID: pid}
		case 7:
			return &mqtt.Pubcomp{PacketID: pid}
		}
		return &mqtt.Pubrel{PacketID: pid}
	})
}

func TestRandomPacketsNeverWedge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.SampledFrom([]mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}).Draw(rt, "version")
		durable := rapid.Bool().Draw(rt, "durable")
		list := rapid.SliceOfN(packetGen(v), 1, 60).Draw(rt, "packets")
		hold := rapid.IntRange(0, len(list)).Draw(rt, "hold")
		var err error
		synctest.Test(t, func(t *testing.T) { err = feedPackets(t, v, durable, list, hold) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// feedPackets sends list, with completions held back from place hold on, and
// wants an answer to a last PINGREQ or a closed connection.
func feedPackets(t *testing.T, v mqtt.Version, durable bool, list []mqtt.Packet, hold int) error {
	r := &rig{T: t, cl: sessiontest.New()}
	r.node(func(c *session.Config) { c.OutboxBytes, c.PublishWindow, c.ReceiveMaximum = 1024, 8, 8 })
	defer r.stop()
	other := r.open(mqtt.V5, "other")
	other.Subscribe(t, 2, "#")
	c := r.client(v, "c", durable)
	fed := make(chan struct{})
	defer func() { <-fed }()
	go func() {
		defer close(fed)
		for i, p := range list {
			if i == hold {
				r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
			}
			if c.Send(p) != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		r.cl.ReleaseAll()
		_ = c.Send(&mqtt.Pingreq{})
	}()
	for {
		p, err := c.RecvWithin(time.Minute)
		if err != nil {
			if to, ok := err.(interface{ Timeout() bool }); ok && to.Timeout() {
				return fmt.Errorf("neither an answer nor the end")
			}
			break
		}
		if p.Type() == mqtt.TypePingresp {
			break
		}
	}
	r.cl.ReleaseAll()
	other.MustSend(t, &mqtt.Pingreq{})
	other.Until(t, func(p mqtt.Packet) bool { return p.Type() == mqtt.TypePingresp })
	c.Close()
	synctest.Wait()
	if n := r.nodes[0].Server.Stats().Connections; n != 1 {
		return fmt.Errorf("%d connections are left", n)
	}
	return nil
}

// Real sockets, real time: publishers, subscribers and takeovers at once. It is
// there for the race detector and for what a pipe does not show.
func TestOverTCP(t *testing.T) {
	cl := sessiontest.New()
	n := cl.AddNode(session.DefaultConfig(), nil, nil)
	defer cl.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accept sync.WaitGroup
	accept.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			n.Server.Serve(nc, session.Meta{Listener: "tcp", Transport: "tcp"})
		}
	})
	dial := func(v mqtt.Version, id string, durable bool) *sessiontest.Client {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			return nil
		}
		c := sessiontest.NewClient(nc, v)
		c.Connect(t, &mqtt.Connect{ClientID: id, CleanStart: !durable, HasSessionExpiry: durable && v == mqtt.V5, SessionExpiry: 60 * uint32(b2i(durable && v == mqtt.V5))})
		return c
	}
	const pubs, msgs = 4, 150
	var wg sync.WaitGroup
	subs := []*sessiontest.Client{dial(mqtt.V5, "s0", true), dial(mqtt.V311, "s1", false)}
	for i, s := range subs {
		s.Subscribe(t, 1, "t/#")
		wg.Go(func() { collect(t, i, s, pubs, msgs) })
	}
	for i := range pubs {
		wg.Go(func() {
			c := dial([]mqtt.Version{mqtt.V5, mqtt.V311}[i%2], fmt.Sprint("p", i), false)
			for k := range msgs {
				c.MustSend(t, pub(fmt.Sprint("t/", i), fmt.Sprintf("%d-%05d", i, k)+string(make([]byte, k*100)), 1, uint16(k+1)))
				sessiontest.Expect[*mqtt.Puback](t, c)
			}
			c.MustSend(t, &mqtt.Disconnect{})
		})
	}
	wg.Go(func() {
		for range 50 { // one client id, again and again
			dial(mqtt.V5, "again", true)
		}
	})
	wg.Wait()
	_ = ln.Close()
	accept.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Server.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// collect wants every message of every publisher, in order.
func collect(t *testing.T, i int, s *sessiontest.Client, pubs, msgs int) {
	next := make([]int, pubs)
	for got := 0; got < pubs*msgs; got++ {
		p, err := s.Recv()
		if err != nil {
			t.Errorf("subscriber %d, after %d messages: %v", i, got, err)
			return
		}
		m := p.(*mqtt.Publish)
		var from, k int
		_, _ = fmt.Sscanf(string(m.Payload[:7]), "%d-%d", &from, &k)
		if k != next[from] || len(m.Payload) != 7+k*100 {
			t.Errorf("subscriber %d: message %d of publisher %d, want %d", i, k, from, next[from])
			return
		}
		next[from]++
		if err := s.Send(&mqtt.Puback{PacketID: m.PacketID}); err != nil {
			t.Error(err)
		}
	}
}
