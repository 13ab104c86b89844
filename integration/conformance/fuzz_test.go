package conformance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// stream writes a random stream of packets of a client that has connected: valid ones, valid ones out of place, and damaged ones.
type stream struct {
	r     *rand.Rand
	v     mqtt.Version
	topic string
	b     []byte
}

func (s *stream) id() uint16 { return uint16(1 + s.r.IntN(5)) }

func (s *stream) packet() mqtt.Packet {
	id, qos := s.id(), byte(s.r.IntN(3))
	switch s.r.IntN(10) {
	case 0:
		return &mqtt.Subscribe{PacketID: id, Filters: []mqtt.SubscribeFilter{{Filter: s.filter(), QoS: qos}}}
	case 1:
		return &mqtt.Unsubscribe{PacketID: id, Filters: []string{s.filter()}}
	case 2:
		return &mqtt.Puback{PacketID: id}
	case 3:
		return &mqtt.Pubrec{PacketID: id}
	case 4:
		return &mqtt.Pubrel{PacketID: id}
	case 5:
		return &mqtt.Pubcomp{PacketID: id}
	case 6:
		return &mqtt.Pingreq{}
	}
	p := &mqtt.Publish{Topic: []byte(s.topic), QoS: qos, Retain: s.r.IntN(4) == 0, Payload: make([]byte, s.r.IntN(40))}
	if qos > 0 {
		p.PacketID, p.Dup = id, s.r.IntN(3) == 0
	}
	if s.v == v5 && s.r.IntN(3) == 0 {
		p.TopicAlias = uint16(1 + s.r.IntN(40))
	}
	return p
}

func (s *stream) filter() string {
	return []string{s.topic, s.topic + "/#", "+/" + s.topic, "$share/f/" + s.topic, s.topic + "#"}[s.r.IntN(5)]
}

// write appends n packets; about one in damage is damaged.
func (s *stream) write(n, damage int) {
	for range n {
		from := len(s.b)
		var err error
		if s.b, err = mqtt.Append(s.b, s.v, s.packet()); err != nil {
			continue
		}
		if s.r.IntN(damage) == 0 {
			switch at := from + s.r.IntN(len(s.b)-from); s.r.IntN(3) {
			case 0:
				s.b[at] ^= 1 << s.r.IntN(8)
			case 1:
				s.b = s.b[:at]
			default:
				s.b = append(s.b, byte(s.r.IntN(256)))
			}
		}
	}
}

// survive sends a stream to the broker: each answer must be a valid packet, and another client must notice nothing.
func survive(t *testing.T, v mqtt.Version, id string, b []byte, opts ...func(*setup)) {
	t.Helper()
	c := connect(t, v, append(opts, as(id))...)
	go func() {
		_, _ = c.nc.Write(b)
		if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite()
		}
	}()
	c.expectEnd()
}

// streams is how many random streams TestRandomStreams sends, unless FLOTILLA_STREAMS says another number.
const streams = 60

// TestRandomStreams: many short lives of a few sessions, which collide with each other.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	other := connect(t, v5)
	topic := own("fuzz")
	base := own("f")
	n := uint64(streams)
	if v, err := strconv.ParseUint(os.Getenv("FLOTILLA_STREAMS"), 10, 64); err == nil {
		n = v
	}
	for seed := range n {
		s := &stream{r: rand.New(rand.NewPCG(seed, 1)), v: []mqtt.Version{v31, v311, v5}[seed%3], topic: base}
		s.write(30, 25)
		opts := []func(*setup){}
		if seed%2 == 0 {
			opts = append(opts, durable)
		}
		survive(t, s.v, fmt.Sprint("fuzz", seed%7), s.b, opts...)
	}
	other.subscribe(topic, 2)
	connect(t, v5).publish(topic, "alive", 2)
	other.payloads("alive")
	other.quiet()
}

// FuzzStream sends whatever the fuzzer makes up behind a CONNECT.
func FuzzStream(f *testing.F) {
	for seed := range uint64(6) {
		s := &stream{r: rand.New(rand.NewPCG(seed, 2)), v: []mqtt.Version{v31, v311, v5}[seed%3], topic: "fz"}
		s.write(10, 50)
		f.Add(byte(s.v), s.b)
	}
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		survive(t, mqtt.Version(3+version%3), own("fz")[:3]+"z", b)
	})
}
