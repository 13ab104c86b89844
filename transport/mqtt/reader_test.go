package mqtt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

const (
	connect31  = "10 [('MQIsdp') 03 02 003C ('c1')]"
	connect311 = "10 [('MQTT') 04 02 003C ('c1')]"
	connect5   = "10 [('MQTT') 05 02 003C [] ('c1')]"
)

// serve returns a reader on the server's side of wire.
func serve(wire string, lim mqtt.Limits) *mqtt.Reader {
	return mqtt.NewReader(bytes.NewReader(mqtttest.Wire(wire)), lim)
}

func next(t testing.TB, r *mqtt.Reader) mqtt.Packet {
	t.Helper()
	p, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func refused(t testing.TB, r *mqtt.Reader, code mqtt.ReasonCode, tag string) {
	t.Helper()
	p, err := r.Next()
	if err == nil {
		t.Fatalf("got %+v, want a refusal", p)
	}
	if e := violation(t, err); e.Code != code || e.Tag != tag {
		t.Errorf("got %q [%s], want %q [%s]", e.Code, e.Tag, code, tag)
	}
}

func TestFirstPacketMustBeConnect_v5_MQTT_3_1_0_1(t *testing.T) {
	for first := range 256 {
		if first>>4 == 1 {
			continue
		}
		r := mqtt.NewReader(bytes.NewReader([]byte{byte(first), 0}), mqtt.Limits{})
		refused(t, r, mqtt.ProtocolError, "v5:MQTT-3.1.0-1")
		if r.Version() != 0 {
			t.Errorf("version %s is known without a CONNECT", r.Version())
		}
	}
}

func TestSecondConnectIsRefused_v311_MQTT_3_1_0_2_v5_MQTT_3_1_0_2(t *testing.T) {
	for wire, tag := range map[string]string{
		connect31: "v31:3.1", connect311: "v311:MQTT-3.1.0-2", connect5: "v5:MQTT-3.1.0-2",
	} {
		r := serve(wire+wire, mqtt.Limits{})
		next(t, r)
		refused(t, r, mqtt.ProtocolError, tag)
	}
}

func TestConnectSetsVersion(t *testing.T) {
	for wire, want := range map[string]mqtt.Version{
		connect31 + "30 [('a') 'x']": mqtt.V31, connect311 + "30 [('a') 'x']": mqtt.V311, connect5 + "30 [('a') [] 'x']": mqtt.V5,
	} {
		r := serve(wire, mqtt.Limits{})
		next(t, r)
		if r.Version() != want {
			t.Errorf("got version %s, want %s", r.Version(), want)
		}
		same(t, next(t, r), &mqtt.Publish{Topic: []byte("a"), Payload: []byte("x")})
	}
}

func TestSubscriptionIdentifierFromClient_v5_MQTT_3_3_4_6(t *testing.T) {
	publish := "30 [('a') [0B 01] 'x']"
	r := serve(connect5+publish, mqtt.Limits{})
	next(t, r)
	refused(t, r, mqtt.ProtocolError, "v5:MQTT-3.3.4-6")

	client := serve(publish, mqtt.Limits{})
	client.SetVersion(mqtt.V5)
	same(t, next(t, client), &mqtt.Publish{Topic: []byte("a"), Payload: []byte("x"), SubscriptionIDs: []uint32{1}})
}

// TestPacketsDoNotInherit: what one packet had, the next does not.
func TestPacketsDoNotInherit(t *testing.T) {
	r := serve("3D [('a') 0001 [23 0001 02 00000005 0B 01 01 01] 'x']  30 [('b') []]  40 [0001 10 [1F ('w')]]  40 [0002]", mqtt.Limits{})
	r.SetVersion(mqtt.V5)
	next(t, r)
	same(t, next(t, r), &mqtt.Publish{Topic: []byte("b")})
	next(t, r)
	same(t, next(t, r), &mqtt.Puback{PacketID: 2})
}

// limitCase is a packet that keeps a limit, and one that is just beyond it.
type limitCase struct {
	name      string
	lim       mqtt.Limits
	version   mqtt.Version
	good, bad string
	code      mqtt.ReasonCode
	tag       string
}

func limitCases() []limitCase {
	return []limitCase{
		{"packet size", mqtt.Limits{MaxPacketSize: 10}, mqtt.V311, "30 [('a') '12345']", "30 [('a') '123456']", mqtt.PacketTooLarge, ""},
		{"packet size v5", mqtt.Limits{MaxPacketSize: 10}, mqtt.V5, "30 [('a') [] '1234']", "30 [('a') [] '12345']", mqtt.PacketTooLarge, "v5:MQTT-3.2.2-15"},
		{"user properties", mqtt.Limits{MaxUserProperties: 2}, mqtt.V5, "30 [('a') [26 () () 26 () ()]]", "30 [('a') [26 () () 26 () () 26 () ()]]",
			mqtt.QuotaExceeded, ""},
		{"user properties of an ack", mqtt.Limits{MaxUserProperties: 1}, mqtt.V5, "40 [0001 00 [26 () ()]]", "40 [0001 00 [26 () () 26 () ()]]",
			mqtt.QuotaExceeded, ""},
		{"property bytes", mqtt.Limits{MaxPropertyBytes: 8}, mqtt.V5, "30 [('a') [26 ('abc') ()]]", "30 [('a') [26 ('abcd') ()]]", mqtt.PacketTooLarge, ""},
		{"topic bytes", mqtt.Limits{MaxTopicBytes: 4}, mqtt.V311, "30 [('a/bc')]", "30 [('a/bcd')]", mqtt.TopicNameInvalid, ""},
		{"topic levels", mqtt.Limits{MaxTopicLevels: 3}, mqtt.V311, "30 [('a/b/c')]", "30 [('a/b//')]", mqtt.TopicNameInvalid, ""},
		{"topic levels of a long topic", mqtt.Limits{MaxTopicLevels: 3}, mqtt.V311, "30 [('aaaa/bbbb/cccc')]", "30 [('/aaaa/bbbb/cccc')]",
			mqtt.TopicNameInvalid, ""},
		{"topic levels beyond ASCII", mqtt.Limits{MaxTopicLevels: 3}, mqtt.V311, "30 [('é/b/c')]", "30 [('é/b/c/')]", mqtt.TopicNameInvalid, ""},
		{"response topic bytes", mqtt.Limits{MaxTopicBytes: 4}, mqtt.V5, "30 [('a') [08 ('a/bc')]]", "30 [('a') [08 ('a/bcd')]]", mqtt.TopicNameInvalid, ""},
		{"filter bytes", mqtt.Limits{MaxTopicBytes: 4}, mqtt.V311, "82 [0001 ('a/bc') 00]", "82 [0001 ('a/bcd') 00]", mqtt.TopicFilterInvalid, ""},
		{"filters", mqtt.Limits{MaxFilters: 2}, mqtt.V311, "82 [0001 ('a') 00 ('b') 00]", "82 [0001 ('a') 00 ('b') 00 ('c') 00]", mqtt.QuotaExceeded, ""},
		{"filters of UNSUBSCRIBE", mqtt.Limits{MaxFilters: 2}, mqtt.V5, "A2 [0001 [] ('a') ('b')]", "A2 [0001 [] ('a') ('b') ('c')]",
			mqtt.QuotaExceeded, ""},
		{"codes", mqtt.Limits{MaxFilters: 2}, mqtt.V311, "90 [0001 00 00]", "90 [0001 00 00 00]", mqtt.QuotaExceeded, ""},
		{"CONNECT size", mqtt.Limits{MaxConnectSize: 17}, 0, "10 [('MQTT') 04 02 003C ('abc')]", "10 [('MQTT') 04 02 003C ('abcd')]",
			mqtt.PacketTooLarge, "v5:MQTT-3.2.2-15"},
		{"will topic bytes", mqtt.Limits{MaxTopicBytes: 4}, 0, "10 [('MQTT') 04 06 0000 ('c') ('a/bc') ()]", "10 [('MQTT') 04 06 0000 ('c') ('a/bcd') ()]",
			mqtt.TopicNameInvalid, ""},
		{"user properties of a will", mqtt.Limits{MaxUserProperties: 1}, 0, "10 [('MQTT') 05 06 0000 [26 () ()] ('c') [26 () ()] ('w') ()]",
			"10 [('MQTT') 05 06 0000 [] ('c') [26 () () 26 () ()] ('w') ()]", mqtt.QuotaExceeded, ""},
	}
}

func TestLimits_v5_MQTT_3_2_2_15(t *testing.T) {
	for _, c := range limitCases() {
		t.Run(c.name, func(t *testing.T) {
			good, bad := serve(c.good, c.lim), serve(c.bad, c.lim)
			good.SetVersion(c.version)
			bad.SetVersion(c.version)
			next(t, good)
			refused(t, bad, c.code, c.tag)
		})
	}
}

// TestDefaultLimits pins the numbers that operators rely on.
func TestDefaultLimits(t *testing.T) {
	want := mqtt.Limits{MaxPacketSize: 1 << 20, MaxConnectSize: 64 << 10, MaxUserProperties: 64, MaxPropertyBytes: 8 << 10,
		MaxTopicBytes: 1024, MaxTopicLevels: 128, MaxFilters: 64}
	got := mqtt.DefaultLimits()
	if got.Buffers == nil {
		t.Error("no buffer pool")
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mqtt.Limits{}, "Buffers")); diff != "" {
		t.Error(diff)
	}
}

func TestSetMaxPacketSize(t *testing.T) {
	r := serve("C0 []  30 [('a') 'x']", mqtt.Limits{})
	r.SetVersion(mqtt.V311)
	next(t, r)
	r.SetMaxPacketSize(5)
	refused(t, r, mqtt.PacketTooLarge, "")
}

// stallReader delivers data in pieces and fails once between two pieces.
type stallReader struct {
	pieces [][]byte
	failed bool
}

func (s *stallReader) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	if !s.failed {
		s.failed = true
		return 0, os.ErrDeadlineExceeded
	}
	s.failed = false
	n := copy(b, s.pieces[0])
	s.pieces = s.pieces[1:]
	return n, nil
}

// TestTimeoutLosesNothing: after an error of the source Next goes on.
func TestTimeoutLosesNothing(t *testing.T) {
	wire := mqtttest.Wire("30 [('a/b') 'hello']")
	var pieces [][]byte
	for _, b := range wire {
		pieces = append(pieces, []byte{b})
	}
	r := mqtt.NewReader(&stallReader{pieces: pieces}, mqtt.Limits{})
	r.SetVersion(mqtt.V311)
	for range wire {
		if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a timeout", err)
		}
	}
	same(t, next(t, r), &mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("hello")})
}

func TestReaderReportsSourceErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, src := range []io.Reader{
		iotest.ErrReader(broken),
		io.MultiReader(bytes.NewReader([]byte{0x10, 5}), iotest.ErrReader(broken)),
	} {
		if _, err := mqtt.NewReader(src, mqtt.Limits{}).Next(); !errors.Is(err, broken) {
			t.Errorf("got %v, want the error of the source", err)
		}
	}
	if _, err := mqtt.NewReader(idleReader{}, mqtt.Limits{}).Next(); err != io.ErrNoProgress {
		t.Errorf("got %v from a source that never progresses, want io.ErrNoProgress", err)
	}
	data := mqtt.NewReader(iotest.DataErrReader(bytes.NewReader(mqtttest.Wire(connect311))), mqtt.Limits{})
	next(t, data)
	if _, err := data.Next(); err != io.EOF {
		t.Errorf("got %v after data that came with io.EOF, want io.EOF", err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestBufferedAndReady(t *testing.T) {
	ping := "C0 []"
	wire := mqtttest.Wire(ping + ping + "30 [('a') 'x']")
	r := mqtt.NewReader(bytes.NewReader(wire[:len(wire)-1]), mqtt.Limits{})
	r.SetVersion(mqtt.V311)
	if r.Ready() || r.Buffered() != 0 {
		t.Fatalf("Ready %v, Buffered %d before the first read", r.Ready(), r.Buffered())
	}
	next(t, r)
	if !r.Ready() || r.Buffered() != len(wire)-3 {
		t.Fatalf("Ready %v, Buffered %d; want true, %d", r.Ready(), r.Buffered(), len(wire)-3)
	}
	next(t, r)
	if r.Ready() || r.Buffered() != 5 {
		t.Fatalf("Ready %v, Buffered %d within a packet; want false, 5", r.Ready(), r.Buffered())
	}
	bad := serve("C0 [] 00 []", mqtt.Limits{})
	bad.SetVersion(mqtt.V311)
	next(t, bad)
	if !bad.Ready() {
		t.Error("not Ready, though Next fails without reading")
	}
	refused(t, bad, mqtt.MalformedPacket, "v311:2.2.1")
	if !bad.Ready() {
		t.Error("not Ready, though Next fails again")
	}
}

// TestIdleReaderIsSmall holds the memory of an idle connection.
func TestIdleReaderIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(mqtt.Reader{}); n > 1024 {
		t.Errorf("a Reader has %d bytes, want 1,024 at most", n)
	} else {
		t.Logf("a Reader has %d bytes", n)
	}
}

// sizeReader notes how large a buffer each Read is given.
type sizeReader struct {
	src   io.Reader
	sizes []int
}

func (s *sizeReader) Read(b []byte) (int, error) {
	s.sizes = append(s.sizes, len(b))
	return s.src.Read(b)
}

// TestBufferFollowsTheData: a declared length buys no memory, the buffer never
// exceeds twice what has arrived, and after a large packet it is given back.
func TestBufferFollowsTheData(t *testing.T) {
	declared := binary.AppendUvarint([]byte{0x30}, 1<<20-10)
	src := &sizeReader{src: iotest.HalfReader(io.MultiReader(bytes.NewReader(declared), iotest.ErrReader(os.ErrDeadlineExceeded)))}
	r := mqtt.NewReader(src, mqtt.Limits{})
	r.SetVersion(mqtt.V311)
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	for _, n := range src.sizes {
		if n > 512 {
			t.Errorf("a declared length made room for %d bytes", n)
		}
	}

	large, err := mqtt.Append(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("a"), Payload: make([]byte, 1<<20-100)})
	if err != nil {
		t.Fatal(err)
	}
	stream := append(large, mqtttest.Wire("30 [('a') 'x']")...)
	src = &sizeReader{src: io.MultiReader(bytes.NewReader(stream), iotest.ErrReader(os.ErrDeadlineExceeded))}
	r = mqtt.NewReader(src, mqtt.DefaultLimits())
	r.SetVersion(mqtt.V311)
	if p := next(t, r).(*mqtt.Publish); len(p.Payload) != 1<<20-100 {
		t.Fatalf("payload of %d bytes", len(p.Payload))
	}
	have := 0
	for _, n := range src.sizes {
		if room := max(2*have, 16<<10); have+n > room {
			t.Errorf("with %d bytes there was room for %d more, want a buffer of %d at most", have, n, room)
		}
		have += n
	}
	next(t, r)
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if n := src.sizes[len(src.sizes)-1]; n != 512 {
		t.Errorf("waits with a buffer of %d bytes, want 512", n)
	}
}

// TestBufferShrinksInAStream: in a stream that never pauses, one large packet
// does not leave a large buffer behind.
func TestBufferShrinksInAStream(t *testing.T) {
	var stream []byte
	for i := range 400 {
		p := &mqtt.Publish{Topic: []byte("a"), Payload: make([]byte, 1000)}
		if i == 10 {
			p.Payload = make([]byte, 500<<10)
		}
		stream, _ = mqtt.Append(stream, mqtt.V311, p)
	}
	src := &sizeReader{src: bytes.NewReader(stream)}
	r := mqtt.NewReader(src, mqtt.DefaultLimits())
	r.SetVersion(mqtt.V311)
	for range 400 {
		next(t, r)
	}
	if n := src.sizes[len(src.sizes)-1]; n > 16<<10 {
		t.Errorf("still reads into a buffer of %d bytes", n)
	}
	if n := len(src.sizes); n > len(stream)/(4<<10) {
		t.Errorf("%d reads for %d bytes", n, len(stream))
	}
}

// TestPoolIsUsedAgain: readers that share limits share buffers.
func TestPoolIsUsedAgain(t *testing.T) {
	lim := mqtt.DefaultLimits()
	stream, _ := mqtt.Append(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("a"), Payload: make([]byte, 30<<10)})
	readers := make([]*mqtt.Reader, 101)
	for i := range readers {
		readers[i] = mqtt.NewReader(bytes.NewReader(stream), lim)
		readers[i].SetVersion(mqtt.V311)
	}
	i := 0
	n := testing.AllocsPerRun(100, func() {
		next(t, readers[i])
		if _, err := readers[i].Next(); err != io.EOF { // gives the buffer back
			t.Fatal(err)
		}
		i++
	})
	// Without sharing there are 12: buffers, headers and the pool. A garbage
	// collection and the race detector take buffers out of the pool.
	if n > 4 {
		t.Errorf("%v allocations per connection", n)
	}
}
