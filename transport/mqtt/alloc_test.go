package mqtt_test

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// loopReader delivers data for ever, as much as is asked for.
type loopReader struct {
	data []byte
	off  int
}

func (l *loopReader) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m := copy(b[n:], l.data[l.off:])
		n += m
		l.off = (l.off + m) % len(l.data)
	}
	return n, nil
}

type hotCase struct {
	name    string
	version mqtt.Version
	packet  mqtt.Packet
}

// hotCases are the packets whose way through the codec must not allocate.
func hotCases() []hotCase {
	payload := make([]byte, 256)
	topic := []byte("devices/0123456789abcdef/telemetry")
	props := mqtttest.Wire("01 01 03 ('application/json') 08 ('re/ply') 09 (00FF) 26 ('trace') ('1')")
	return []hotCase{
		{"v311 QoS 0", mqtt.V311, &mqtt.Publish{Topic: topic, Payload: payload}},
		{"v311 QoS 1", mqtt.V311, &mqtt.Publish{QoS: 1, PacketID: 7, Topic: topic, Payload: payload}},
		{"v5 QoS 0", mqtt.V5, &mqtt.Publish{Topic: topic, Payload: payload}},
		{"v5 QoS 1", mqtt.V5, &mqtt.Publish{QoS: 1, PacketID: 7, Topic: topic, Payload: payload}},
		{"v5 QoS 0 properties", mqtt.V5, &mqtt.Publish{Topic: topic, Payload: payload, TopicAlias: 3, HasExpiry: true, Expiry: 60,
			SubscriptionIDs: []uint32{1, 200}, Props: props}},
		{"v311 PUBACK", mqtt.V311, &mqtt.Puback{PacketID: 7}},
		{"v5 PUBACK", mqtt.V5, &mqtt.Puback{PacketID: 7, Code: mqtt.NoMatchingSubscribers}},
		{"v311 PINGREQ", mqtt.V311, &mqtt.Pingreq{}},
	}
}

func (c hotCase) reader(t testing.TB) *mqtt.Reader {
	t.Helper()
	wire, err := mqtt.Append(nil, c.version, c.packet)
	if err != nil {
		t.Fatal(err)
	}
	r := mqtt.NewReader(&loopReader{data: wire}, mqtt.DefaultLimits())
	r.SetVersion(c.version)
	return r
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, c := range hotCases() {
		t.Run(c.name, func(t *testing.T) {
			r := c.reader(t)
			for range 1000 { // the buffer grows to its size
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
			}
			n := testing.AllocsPerRun(1000, func() {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%v allocations per packet", n)
			}
		})
	}
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	for _, c := range hotCases() {
		t.Run(c.name, func(t *testing.T) {
			dst := make([]byte, 0, 1024)
			n := testing.AllocsPerRun(1000, func() {
				var err error
				if dst, err = mqtt.Append(dst[:0], c.version, c.packet); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("Append: %v allocations per packet", n)
			}
			p, ok := c.packet.(*mqtt.Publish)
			if !ok {
				return
			}
			if n := testing.AllocsPerRun(1000, func() { dst = mqtt.AppendPublish(dst[:0], c.version, p) }); n != 0 {
				t.Errorf("AppendPublish: %v allocations per packet", n)
			}
			dst = dst[:0:0]
			if n := testing.AllocsPerRun(1000, func() { mqtt.AppendPublish(dst, c.version, p) }); n > 2 {
				// The race detector adds one.
				t.Errorf("AppendPublish without room: %v allocations per packet, want 1", n)
			}
		})
	}
}

func TestAppendAckDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 16)
	n := testing.AllocsPerRun(1000, func() {
		dst = mqtt.AppendAck(dst[:0], mqtt.V5, mqtt.TypePubrel, 7, mqtt.Success)
	})
	if n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
