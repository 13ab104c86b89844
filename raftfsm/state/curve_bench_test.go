package state_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// curve are the sizes at which a cost is looked at: it should be the same at all. The large ones take
// minutes to fill: FLOTILLA_CURVES=1 go test -run '^$' -bench Curve -benchtime 100000x ./raftfsm/state
func curve(b *testing.B, run func(b *testing.B, n int)) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		if os.Getenv("FLOTILLA_CURVES") == "" && n > 10_000 {
			return
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) { run(b, n) })
	}
}

// timed applies entries that were built before, and reports CPU time per command.
func timed(b *testing.B, r *rig, entries [][]byte) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	began := cpuTime(b)
	for _, e := range entries {
		r.index++
		if _, _, err := r.s.Apply(r.index, e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
}

// publishes are entries of benchBatch publishes each, to topics that topic names.
func publishes(count int, seq *uint64, flags command.PublishFlags, topic func(i int) string) (entries [][]byte) {
	m := command.Message{Payload: make([]byte, 256), QoS: 1, Retain: flags&command.ToRetained != 0, Publisher: "publisher-0001", PublishedAt: 1_700_000_000_000}
	for n := 0; n < count; n += benchBatch {
		var cmds []byte
		for i := n; i < n+benchBatch; i++ {
			m.Topic = []byte(topic(i))
			cmds = command.AppendPublish(cmds, &command.Publish{Message: m.Append(nil), Flags: flags})
		}
		*seq++
		entries = append(entries, benchEntry(*seq, cmds))
	}
	return entries
}

// fill applies entries that nobody measures.
func fill(b *testing.B, r *rig, entries [][]byte) {
	b.Helper()
	for _, e := range entries {
		r.index++
		if _, _, err := r.s.Apply(r.index, e); err != nil {
			b.Fatal(err)
		}
		if r.s.DirtyBytes() > 64<<20 {
			if err := r.s.WriteBack(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkCurveSessions publishes to one of n sessions without connection at a time,
// each with a filter of its own.
func BenchmarkCurveSessions(b *testing.B) {
	curve(b, func(b *testing.B, n int) {
		r, _ := benchShard(b, n)
		seq := uint64(0)
		timed(b, r, publishes(b.N, &seq, command.ToInboxes, func(i int) string { return fmt.Sprintf("device/%06d/t", i*7919%n) }))
	})
}

// BenchmarkCurveRetained replaces one of n retained messages at a time.
func BenchmarkCurveRetained(b *testing.B) {
	curve(b, func(b *testing.B, n int) {
		r := newRig(b, state.Options{})
		r.log = nil
		topic := func(i int) string { return fmt.Sprintf("device/%06d/t", i*7919%n) }
		seq := uint64(0)
		fill(b, r, publishes(n, &seq, command.ToRetained, topic))
		timed(b, r, publishes(b.N, &seq, command.ToRetained, topic))
	})
}

// BenchmarkCurveDepth publishes to an inbox that holds n messages.
func BenchmarkCurveDepth(b *testing.B) {
	curve(b, func(b *testing.B, n int) {
		r, _ := benchShard(b, 1)
		topic := func(int) string { return "device/000000/t" }
		seq := uint64(0)
		fill(b, r, publishes(n, &seq, command.ToInboxes, topic))
		timed(b, r, publishes(b.N, &seq, command.ToInboxes, topic))
	})
}

// BenchmarkFanOutStored publishes to 10,000 inboxes and writes them back: bytes/op is what the
// store takes for a delivery, which holds no copy of the payload.
func BenchmarkFanOutStored(b *testing.B) {
	const inboxes = 10_000 // -benchtime 10x is enough
	r := newRig(b, state.Options{})
	for i := range inboxes {
		r.do(sub(r.connect(fmt.Sprintf("client-%06d", i)), filters(1, "all/#")...))
	}
	r.log = nil
	if err := r.s.WriteBack(); err != nil {
		b.Fatal(err)
	}
	before, seq := r.st.Bytes(), uint64(0)
	m := command.Message{Topic: []byte("all/x"), Payload: make([]byte, 4096), QoS: 1}
	for range b.N {
		seq++
		r.index++
		if _, _, err := r.s.Apply(r.index, benchEntry(seq, command.AppendPublish(nil, &command.Publish{Message: m.Append(nil), Flags: command.ToInboxes}))); err != nil {
			b.Fatal(err)
		}
		if err := r.s.WriteBack(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(r.st.Bytes()-before)/float64(b.N)/inboxes, "bytes/delivery")
}
