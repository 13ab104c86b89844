package integration

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// streamMaker makes the bytes of one client, from a seed: packets that are valid, valid and out of order, and broken.
type streamMaker struct {
	rng     *rand.Rand
	version mqtt.Version
	vectors map[mqtt.Version][][]byte
}

// vectorBytes are the codec's test vectors by version, the ones that must be refused included.
func vectorBytes() map[mqtt.Version][][]byte {
	list := map[mqtt.Version][][]byte{}
	for _, v := range mqtttest.Vectors() {
		list[v.Version] = append(list[v.Version], v.Bytes())
	}
	return list
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

// stream returns the writes of one connection.
func (s *streamMaker) stream() [][]byte {
	s.version = pick(s.rng, mqtt.V31, mqtt.V311, mqtt.V5, mqtt.V5)
	var writes [][]byte
	if s.rng.IntN(20) > 0 { // else: something else comes first
		writes = append(writes, s.connect())
	}
	for range s.rng.IntN(40) {
		b := s.packet()
		if s.rng.IntN(8) == 0 {
			b = s.broken(b)
		}
		writes = append(writes, b)
	}
	if s.rng.IntN(3) == 0 { // cut across the packets
		all := bytes.Join(writes, nil)
		writes = nil
		for len(all) > 0 {
			n := min(len(all), 1+s.rng.IntN(200))
			writes, all = append(writes, all[:n]), all[n:]
		}
	}
	return writes
}

func (s *streamMaker) encode(p mqtt.Packet) []byte {
	b, err := mqtt.Append(nil, s.version, p)
	if err != nil {
		return []byte{0xC0, 0} // what this version cannot say is a ping
	}
	return b
}

func (s *streamMaker) connect() []byte {
	r := s.rng
	p := &mqtt.Connect{
		Version: s.version, ClientID: fmt.Sprintf("chaos-%d", r.IntN(12)), CleanStart: r.IntN(2) == 0, KeepAlive: uint16(r.IntN(3) * 5),
		HasSessionExpiry: r.IntN(2) == 0, SessionExpiry: uint32(r.IntN(4)), ReceiveMaximum: uint16(1 + r.IntN(5)), TopicAliasMaximum: uint16(r.IntN(3)),
		MaximumPacketSize: uint32(r.IntN(2) * 200), RequestProblemInfo: r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		p.Will = &mqtt.Will{Topic: s.topic(), Payload: []byte("will"), QoS: byte(r.IntN(3)), Retain: r.IntN(4) == 0, Delay: uint32(r.IntN(3))}
	}
	if r.IntN(10) == 0 {
		p.AuthMethod, p.AuthData = "SCRAM-SHA-256", []byte("n,,n=x,r=y")
	}
	return s.encode(p)
}

func (s *streamMaker) topic() string {
	return pick(s.rng, "chaos/a", "chaos/a/b", "chaos//", "chaos/é", "chaos/"+strings.Repeat("x", s.rng.IntN(1200)), "chaos"+strings.Repeat("/", s.rng.IntN(140)), "$SYS/chaos", "/chaos")
}

func (s *streamMaker) filter() string {
	return pick(s.rng, "#", "+/+", "chaos/#", "chaos/+/b", "+/#", "$SYS/#", "$share/g/chaos/#", "$share/h/+/a", "$share//x", "$share/g", "chaos/#/x", "cha+", s.topic())
}

// id is a packet id from a few, so that they meet.
func (s *streamMaker) id() uint16 { return uint16(1 + s.rng.IntN(6)) }

func (s *streamMaker) packet() []byte {
	r := s.rng
	switch r.IntN(16) {
	case 0, 1, 2, 3:
		p := &mqtt.Publish{Topic: []byte(s.topic()), Payload: make([]byte, r.IntN(300)), QoS: byte(r.IntN(3)), Retain: r.IntN(6) == 0, Dup: r.IntN(6) == 0, PacketID: s.id()}
		if s.version == mqtt.V5 && r.IntN(3) == 0 {
			p.TopicAlias = uint16(r.IntN(40))
			if r.IntN(2) == 0 {
				p.Topic = nil
			}
			p.HasExpiry, p.Expiry = r.IntN(2) == 0, uint32(r.IntN(3))
		}
		if p.QoS == 0 {
			p.Dup = false
		}
		return s.encode(p)
	case 4, 5, 6:
		p := &mqtt.Subscribe{PacketID: s.id(), SubscriptionID: uint32(r.IntN(3))}
		for range 1 + r.IntN(4) {
			p.Filters = append(p.Filters, mqtt.SubscribeFilter{Filter: s.filter(), QoS: byte(r.IntN(3)), NoLocal: r.IntN(4) == 0, RetainAsPublished: r.IntN(2) == 0, RetainHandling: byte(r.IntN(3))})
		}
		return s.encode(p)
	case 7:
		return s.encode(&mqtt.Unsubscribe{PacketID: s.id(), Filters: []string{s.filter()}})
	case 8:
		return s.encode(&mqtt.Puback{PacketID: s.id()})
	case 9:
		return s.encode(&mqtt.Pubrec{PacketID: s.id(), Code: pick(r, mqtt.Success, mqtt.QuotaExceeded)})
	case 10:
		return s.encode(&mqtt.Pubrel{PacketID: s.id()})
	case 11:
		return s.encode(&mqtt.Pubcomp{PacketID: s.id()})
	case 12:
		return s.encode(&mqtt.Pingreq{})
	case 13:
		if r.IntN(4) > 0 {
			return s.encode(&mqtt.Pingreq{})
		}
		return s.encode(&mqtt.Disconnect{Code: pick(r, mqtt.Success, mqtt.DisconnectWithWill)})
	case 14:
		return s.encode(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "SCRAM-SHA-256"})
	default:
		return pick(r, s.vectors[s.version]...)
	}
}

// broken changes some bytes of a packet.
func (s *streamMaker) broken(b []byte) []byte {
	b = bytes.Clone(b)
	switch s.rng.IntN(5) {
	case 0:
		b[s.rng.IntN(len(b))] ^= 1 << s.rng.IntN(8)
	case 1:
		b = b[:s.rng.IntN(len(b)+1)]
	case 2:
		b[0] = byte(s.rng.Uint32())
	case 3:
		for range 1 + s.rng.IntN(20) {
			b = append(b, byte(s.rng.Uint32()))
		}
	default:
		b[s.rng.IntN(len(b))] = byte(s.rng.Uint32())
	}
	return b
}

// play sends a stream and reads what comes, with pauses of the reader's own choice, and breaks off.
func play(ctx context.Context, addr string, writes [][]byte, rng *rand.Rand) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		readToEnd(conn)
	}()
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	for _, b := range writes {
		if _, err := conn.Write(b); err != nil {
			break // the server has closed it, as it should
		}
		if rng.IntN(8) == 0 {
			pause(ctx, time.Duration(rng.IntN(5))*time.Millisecond)
		}
	}
	late := time.NewTimer(time.Duration(rng.IntN(100)) * time.Millisecond)
	defer late.Stop()
	select {
	case <-read:
	case <-late.C:
	case <-ctx.Done():
	}
	if rng.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	_ = conn.Close()
	<-read
	return nil
}

// kept are streams that once found something: testdata/streams, a file each, a write a line in hexadecimal.
func kept(t *testing.T) map[string][][]byte {
	t.Helper()
	list := map[string][][]byte{}
	files, err := filepath.Glob("testdata/streams/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			b, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if len(b) > 0 {
				list[f] = append(list[f], b)
			}
		}
	}
	return list
}

// recent remembers the last streams of the workers, for a failure.
type recent struct {
	mu      sync.Mutex
	streams [][][]byte // guarded by mu
}

func (r *recent) add(writes [][]byte) {
	const most = 200
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams = append(r.streams, writes); len(r.streams) > most {
		r.streams = r.streams[1:]
	}
}

// save writes them where the logs of the failed test are.
func (r *recent) save(t testing.TB, dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, writes := range r.streams {
		var text strings.Builder
		for _, b := range writes {
			fmt.Fprintf(&text, "%x\n", b)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("stream-%03d.hex", i)), []byte(text.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	t.Logf("the last %d streams are kept in %s; one that finds something belongs into testdata/streams", len(r.streams), dir)
}

// TestRandomStreams plays random packet streams to two nodes of a live cluster, also under a few client ids that take each other
// over: nothing panics, a pair of other clients is answered, and what a session of another client holds stays as it was.
// FLOTILLA_STREAM_SECONDS (make streams: 1800) is how long; FLOTILLA_SEED repeats the streams.
func TestRandomStreams(t *testing.T) {
	long(t)
	seed, seconds := newSeed(t), envInt(t, "FLOTILLA_STREAM_SECONDS", 6)
	load := harness.Load()
	c := harness.Start(t, harness.Options{Nodes: 3})
	offlineSession(t, c.Nodes[0], "victim", "victim/#", 1)
	const waiting = 50
	friend := connect(t, c.Nodes[2], "friend", transient)
	for i := range waiting {
		friend.publish(t, "victim/x", fmt.Sprint(i), 1)
	}
	w := watch(t, "streams", c.Nodes[2], c.Nodes[0])
	start, lines := time.Now(), c.Nodes[0].LogLines()
	last := &recent{}
	t.Cleanup(func() {
		if t.Failed() {
			last.save(t, c.Dir)
		}
	})
	for _, writes := range kept(t) {
		last.add(writes)
		if err := play(t.Context(), c.Nodes[0].MQTTAddr(), writes, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	var streams, failed atomic.Int64
	vectors := vectorBytes()
	const workers = 8
	var wg sync.WaitGroup
	for worker := range uint64(workers) {
		wg.Go(func() {
			s := &streamMaker{rng: rand.New(rand.NewPCG(seed, worker)), vectors: vectors}
			for ctx.Err() == nil {
				writes := s.stream()
				last.add(writes)
				streams.Add(1)
				if err := play(ctx, c.Nodes[worker%2].MQTTAddr(), writes, s.rng); err != nil && ctx.Err() == nil {
					failed.Add(1)
					pause(ctx, time.Second)
				}
			}
		})
	}
	wg.Wait()
	healthy(t, c)
	q := w.take(t, "random streams")
	took := time.Since(start)
	lines = c.Nodes[0].LogLines() - lines
	t.Logf("%d streams in %v, %d could not connect; ping-pong of others meanwhile %s; %d log lines of n1; memory: %s (load before %.1f)",
		streams.Load(), took.Round(time.Second), failed.Load(), q, lines, memories(c), load)
	for name, n := range c.Nodes[0].EventCounts() {
		if bound := int(linesPerSecond * (time.Since(start).Seconds() + 10)); n > bound {
			t.Errorf("%d lines %s, want at most %d", n, name, bound)
		}
	}
	if failed.Load() > streams.Load()/10 {
		t.Errorf("%d of %d streams could not connect", failed.Load(), streams.Load())
	}
	victim := connect(t, c.Nodes[1], "victim")
	if !victim.SessionPresent() {
		t.Error("the session of another client is gone")
	}
	if diff := cmp.Diff(numbers(0, waiting), victim.wait(t, waiting)); diff != "" {
		t.Errorf("messages of another client (-want +got):\n%s", diff)
	}
	c.WaitAgreement(t, patience)
}
