package mqttc

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// toy is a server that answers by a script of one function per packet.
type toy struct {
	t       testing.TB
	connack mqtt.Connack
	// answer returns what to send for a packet; nil means the polite default.
	answer func(p mqtt.Packet) ([]mqtt.Packet, bool)

	mu    sync.Mutex
	seen  []mqtt.Packet // Publish packets are clones
	conns []net.Conn
	wg    sync.WaitGroup
}

func newToy(t testing.TB) *toy {
	y := &toy{t: t}
	t.Cleanup(func() {
		y.mu.Lock()
		for _, c := range y.conns {
			_ = c.Close()
		}
		y.mu.Unlock()
		y.wg.Wait()
	})
	return y
}

// dial is Options.Dial: each call is a new connection to the toy.
func (y *toy) dial(context.Context, string) (net.Conn, error) {
	client, server := net.Pipe()
	y.mu.Lock()
	defer y.mu.Unlock()
	y.conns = append(y.conns, server)
	y.wg.Add(1)
	go y.serve(server)
	return client, nil
}

func (y *toy) serve(conn net.Conn) {
	defer y.wg.Done()
	defer conn.Close()
	r := mqtt.NewReader(conn, mqtt.DefaultLimits())
	for {
		p, err := r.Next()
		if err != nil {
			return
		}
		y.note(p)
		if _, bye := p.(*mqtt.Disconnect); bye {
			return
		}
		for _, out := range y.reply(p) {
			if err := mqtt.WritePacket(conn, r.Version(), out); err != nil {
				return
			}
		}
	}
}

func (y *toy) note(p mqtt.Packet) {
	if pub, ok := p.(*mqtt.Publish); ok {
		p = pub.Clone()
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.seen = append(y.seen, p)
}

func (y *toy) reply(p mqtt.Packet) []mqtt.Packet {
	y.mu.Lock()
	answer, connack := y.answer, y.connack
	y.mu.Unlock()
	if answer != nil {
		if out, ok := answer(p); ok {
			return out
		}
	}
	switch p := p.(type) {
	case *mqtt.Connect:
		return []mqtt.Packet{&connack}
	case *mqtt.Publish:
		switch p.QoS {
		case 1:
			return []mqtt.Packet{&mqtt.Puback{PacketID: p.PacketID}}
		case 2:
			return []mqtt.Packet{&mqtt.Pubrec{PacketID: p.PacketID}}
		}
	case *mqtt.Pubrel:
		return []mqtt.Packet{&mqtt.Pubcomp{PacketID: p.PacketID}}
	case *mqtt.Subscribe:
		codes := make([]mqtt.ReasonCode, len(p.Filters))
		for i, f := range p.Filters {
			codes[i] = mqtt.ReasonCode(f.QoS)
		}
		return []mqtt.Packet{&mqtt.Suback{PacketID: p.PacketID, Codes: codes}}
	case *mqtt.Unsubscribe:
		return []mqtt.Packet{&mqtt.Unsuback{PacketID: p.PacketID, Codes: make([]mqtt.ReasonCode, len(p.Filters))}}
	case *mqtt.Pingreq:
		return []mqtt.Packet{&mqtt.Pingresp{}}
	}
	return nil
}

// packets returns what came in of one type.
func packets[P mqtt.Packet](y *toy) []P {
	y.mu.Lock()
	defer y.mu.Unlock()
	var out []P
	for _, p := range y.seen {
		if q, ok := p.(P); ok {
			out = append(out, q)
		}
	}
	return out
}

// script changes what the toy does from now on.
func (y *toy) script(present bool, answer func(mqtt.Packet) ([]mqtt.Packet, bool)) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.connack.SessionPresent, y.answer = present, answer
}

func (y *toy) open(opt Options) *Client {
	y.t.Helper()
	opt.Dial = y.dial
	c, err := Dial(context.Background(), opt)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { _ = c.Close() })
	return c
}

func isClosed(err error) bool { return errors.Is(err, ErrClosed) }
