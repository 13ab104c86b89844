package command

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestBytesOfOneSmallPublish holds what replication costs beside the message itself.
func TestBytesOfOneSmallPublish(t *testing.T) {
	m := Message{Topic: []byte("plant/7/temperature"), Payload: []byte("21.5"), QoS: 1, PublishedAt: 1_700_000_000_123, Publisher: "sensor-7"}
	content := len(m.Topic) + len(m.Payload) + len(m.Publisher)
	b := AppendPublish(nil, &Publish{Message: m.Append(nil), Flags: ToInboxes})
	if len(b)-content > 23 {
		t.Fatalf("a small PUBLISH is %d bytes, %d more than its content", len(b), len(b)-content)
	}
	t.Logf("a small PUBLISH is %d bytes, %d of content", len(b), content)
}

func drawMessage(t *rapid.T) Message {
	m := Message{
		Topic: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "topic"), Payload: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
		Props: rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "props"), QoS: byte(rapid.IntRange(0, 2).Draw(t, "qos")),
		Retain: rapid.Bool().Draw(t, "retain"), HasExpiry: rapid.Bool().Draw(t, "has expiry"),
		PublishedAt: rapid.Int64().Draw(t, "at"), Publisher: rapid.String().Draw(t, "publisher"),
	}
	if m.HasExpiry {
		m.Expiry = rapid.Uint32().Draw(t, "expiry")
	}
	return m
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		b := m.Append(nil)
		if len(b) != m.Size() {
			t.Fatalf("size %d, encoded %d", m.Size(), len(b))
		}
		got, err := DecodeMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got, cmp.Transformer("nil", func(b []byte) string { return string(b) })); d != "" {
			t.Fatal(d)
		}
		p := Publish{Tenant: "t", Message: b, Flags: ToInboxes, Origin: OriginKey{Shard: rapid.Uint32().Draw(t, "shard"), Seq: 5}}
		if p.Origin.Shard == 0 {
			p.Origin, p.Epoch = OriginKey{}, rapid.Uint64().Draw(t, "epoch")
		}
		cmds := AppendPublish(nil, &p)
		if n, err := CountCommands(cmds); n != 1 || err != nil {
			t.Fatalf("framing: %d, %v", n, err)
		}
		it := Iter{b: cmds}
		var c Command
		_, _ = it.Next(&c)
		var back Publish
		if err := back.Decode(c.Payload); err != nil || !cmp.Equal(p, back) {
			t.Fatalf("publish %+v, %v", back, err)
		}
	})
}

func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []Range
		at := uint64(0)
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			from := at + rapid.Uint64Range(1, 1<<40).Draw(t, "gap")
			to := from + rapid.Uint64Range(0, 1<<20).Draw(t, "length")
			want = append(want, Range{from, to})
			at = to
		}
		b := AppendAck(nil, &Ack{Done: want})
		it := Iter{b: b}
		var c Command
		_, _ = it.Next(&c)
		var got Ack
		if err := got.Decode(c.Payload); err != nil {
			t.Fatal(err)
		}
		if len(want) != len(got.Done) || len(want) > 0 && !cmp.Equal(want, got.Done) {
			t.Fatalf("%v became %v", want, got.Done)
		}
	})
	for name, pairs := range map[string][]byte{
		"zero":    {0x2a, 2, 0, 0},
		"overlap": {0x2a, 4, 1, 5, 0, 1},
		"odd":     {0x2a, 1, 1},
		"wrap":    append([]byte{0x2a, 11, 2}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	} {
		var a Ack
		if err := a.Decode(pairs); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, a.Done, err)
		}
	}
	var rs []Range
	for _, seq := range []uint64{1, 2, 3, 7, 8, 10} {
		rs = AppendSeq(rs, seq)
	}
	if d := cmp.Diff([]Range{{1, 3}, {7, 8}, {10, 10}}, rs); d != "" {
		t.Fatal(d)
	}
}

// Long parts are moved to make room for their length; nested ones, too.
func TestLongParts(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 16383, 16384, 1 << 21} {
		s := Subscribe{Ref: SessionRef{Epoch: 1}, Subs: []Subscription{{Filter: string(bytes.Repeat([]byte("f"), n)), QoS: 1}, {Filter: "g"}}}
		it := Iter{b: AppendSubscribe([]byte{}, &s)}
		var c Command
		if ok, err := it.Next(&c); !ok || err != nil {
			t.Fatal(err)
		}
		var got Subscribe
		if err := got.Decode(c.Payload); err != nil || !cmp.Equal(s, got) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestWrongWireTypesAreMalformed(t *testing.T) {
	// A known field as another type than its own.
	var p Publish
	if err := p.Decode([]byte{0x08, 1}); !errors.Is(err, ErrMalformed) {
		t.Errorf("tenant as a number: %v", err)
	}
	var c Connect
	if err := c.Decode([]byte{0x40, 0x80, 0x80, 0x04}); !errors.Is(err, ErrMalformed) {
		t.Errorf("receive maximum of 65536: %v", err)
	}
	var m Message
	if err := m.Decode([]byte{0x20, 3}); !errors.Is(err, ErrMalformed) {
		t.Errorf("QoS 3: %v", err)
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	m := fullMessage()
	var cmds []byte
	for range 10 {
		cmds = AppendPublish(cmds, &Publish{Tenant: "acme", Message: m.Append(nil), Flags: ToInboxes})
		cmds = AppendAck(cmds, &Ack{Ref: SessionRef{Epoch: 1}, Done: []Range{{1, 5}, {7, 9}}})
	}
	e := BuildEntry(nil, &Header{Time: 1}, AppendBatch(nil, &BatchHeader{Node: "n1", Seq: 1}, cmds))
	var p Publish
	var a Ack
	var msg Message
	n := testing.AllocsPerRun(100, func() {
		entry, _ := DecodeEntry(e)
		var b Batch
		for {
			if ok, _ := entry.Next(&b); !ok {
				break
			}
			it := b.Commands()
			var c Command
			for {
				if ok, _ := it.Next(&c); !ok {
					break
				}
				if c.Kind == KindAck {
					_ = a.Decode(c.Payload)
					continue
				}
				_ = p.Decode(c.Payload)
				_ = msg.Decode(p.Message)
			}
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzDecode feeds bytes to every decoder: none may panic, nor allocate more than the
// bytes justify.
func FuzzDecode(f *testing.F) {
	var cmds []byte
	for _, s := range samples() {
		f.Add(s.bytes)
		cmds = append(cmds, s.bytes...)
	}
	f.Add(BuildEntry(nil, &Header{Time: 1}, AppendBatch(nil, &BatchHeader{Node: "n"}, cmds)))
	f.Add(EncodeResults(nil, sampleResults()))
	f.Add([]byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	all := samples()
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		decodeAll(all, b)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<16+uint64(len(b))*2000 {
			t.Fatalf("%d bytes allocated for %d bytes of input", used, len(b))
		}
	})
}

func decodeAll(all []sample, b []byte) {
	for _, s := range all {
		_, _ = s.decode(b)
	}
	_, _ = DecodeMessage(b)
	_, _ = DecodeSubscription(b)
	_, _ = DecodeResults(b, 100)
	var br BatchResult
	_ = br.Decode(b)
	_, _ = DecodeBatch(b)
	it := Iter{b: b}
	var c Command
	for {
		if ok, err := it.Next(&c); !ok || err != nil {
			break
		}
	}
	e, err := DecodeEntry(b)
	var batch Batch
	for err == nil {
		var ok bool
		if ok, err = e.Next(&batch); !ok {
			break
		}
		_, _ = CountCommands(batch.commands)
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	m := Message{Topic: []byte("plant/7/temperature"), Payload: make([]byte, 256), QoS: 1, PublishedAt: 1_700_000_000_123, Publisher: "sensor-7"}
	it := Iter{b: AppendPublish(nil, &Publish{Message: m.Append(nil), Flags: ToInboxes})}
	var c Command
	_, _ = it.Next(&c)
	var p Publish
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Decode(c.Payload)
		_ = m.Decode(p.Message)
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	m := Message{Topic: []byte("plant/7/temperature"), Payload: make([]byte, 256), QoS: 1, PublishedAt: 1_700_000_000_123, Publisher: "sensor-7"}
	body := m.Append(nil)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendPublish(buf[:0], &Publish{Message: body, Flags: ToInboxes})
	}
}
