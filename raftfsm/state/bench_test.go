package state_test

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

const benchBatch = 256 // commands per entry

// benchShard has 1,000 durable sessions with a filter of their own each.
func benchShard(b *testing.B, sessions int) (*rig, []command.SessionRef) {
	b.Helper()
	r := newRig(b, state.Options{})
	refs := make([]command.SessionRef, sessions)
	for i := range refs {
		refs[i] = r.connect(fmt.Sprintf("client-%06d", i), func(c *command.Connect) { c.ReceiveMax = 1000 })
		r.do(sub(refs[i], filters(1, fmt.Sprintf("device/%06d/+", i))...))
	}
	r.log = nil
	return r, refs
}

// benchEntry builds an entry of commands as lanes would.
func benchEntry(seq uint64, cmds []byte) []byte {
	return command.BuildEntry(nil, &command.Header{Time: 2_000_000, Proposal: seq, Leader: "n1"},
		command.AppendBatch(nil, &command.BatchHeader{Node: "n1", Incarnation: 1, Seq: seq, AckedSeq: seq - 1}, cmds))
}

// BenchmarkPublishAck applies entries of publishes to one inbox each, and entries
// of acks for them; it reports both per command. Nothing reaches the store.
func BenchmarkPublishAck(b *testing.B) {
	r, refs := benchShard(b, 1000)
	payload := make([]byte, 256)
	var pubs, acks [][]byte
	seq := uint64(0)
	next := make([]uint64, len(refs))
	for n := 0; n < b.N; n += benchBatch {
		var p, a []byte
		for i := range benchBatch {
			who := (n + i*7) % len(refs)
			m := command.Message{Topic: fmt.Appendf(nil, "device/%06d/temperature", who), Payload: payload, QoS: 1, Publisher: "publisher-0001", PublishedAt: 1_700_000_000_000}
			p = command.AppendPublish(p, &command.Publish{Message: m.Append(nil), Flags: command.ToInboxes})
			next[who]++
			a = command.AppendAck(a, &command.Ack{Ref: refs[who], SentTo: next[who], Done: []command.Range{{From: next[who], To: next[who]}}})
		}
		seq++
		pubs = append(pubs, benchEntry(2*seq-1, p))
		acks = append(acks, benchEntry(2*seq, a))
	}
	b.ReportAllocs()
	b.ResetTimer()
	began := cpuTime(b)
	for i := range pubs {
		for _, e := range [][]byte{pubs[i], acks[i]} {
			r.index++
			if _, _, err := r.s.Apply(r.index, e); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
}

// BenchmarkPublish applies publishes to one inbox each; the store takes over what
// is dirty now and then, as the backlog grows.
func BenchmarkPublish(b *testing.B) {
	r, refs := benchShard(b, 1000)
	payload := make([]byte, 256)
	entries := make([][]byte, 0, b.N/benchBatch+1)
	for n := 0; n < b.N; n += benchBatch {
		var p []byte
		for i := range benchBatch {
			m := command.Message{Topic: fmt.Appendf(nil, "device/%06d/temperature", (n+i*7)%len(refs)), Payload: payload, QoS: 1, Publisher: "publisher-0001", PublishedAt: 1_700_000_000_000}
			p = command.AppendPublish(p, &command.Publish{Message: m.Append(nil), Flags: command.ToInboxes})
		}
		entries = append(entries, benchEntry(uint64(len(entries)+1), p))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, e := range entries {
		r.index++
		if _, _, err := r.s.Apply(r.index, e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAck applies acks of 16 entries each and reports per acknowledged entry.
func BenchmarkAck(b *testing.B) {
	r, refs := benchShard(b, 100)
	var acks [][]byte
	var sent uint64
	for n := 0; n < b.N; {
		var p, a []byte
		for i := range refs {
			for range 16 {
				p = append(p, pub(fmt.Sprintf("device/%06d/t", i), "payload of a message", 1)...)
			}
			a = command.AppendAck(a, &command.Ack{Ref: refs[i], SentTo: sent + 16, Done: []command.Range{{From: sent + 1, To: sent + 16}}})
			n += 16
		}
		sent += 16
		r.index++
		if _, _, err := r.s.Apply(r.index, command.BuildEntry(nil, &command.Header{Time: 2_000_000}, command.AppendBatch(nil, &command.BatchHeader{}, p))); err != nil {
			b.Fatal(err)
		}
		acks = append(acks, a)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, a := range acks {
		r.index++
		e := command.BuildEntry(nil, &command.Header{Time: 2_000_000}, command.AppendBatch(nil, &command.BatchHeader{}, a))
		if _, _, err := r.s.Apply(r.index, e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFanOut applies publishes that 1,000 inboxes match, and reports per inbox.
func BenchmarkFanOut(b *testing.B) {
	r := newRig(b, state.Options{})
	for i := range 1000 {
		r.do(sub(r.connect(fmt.Sprintf("c%d", i)), filters(1, "all/#")...))
	}
	r.log = nil
	payload := string(make([]byte, 1024))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 1000 {
		r.index++
		e := command.BuildEntry(nil, &command.Header{Time: 2_000_000}, command.AppendBatch(nil, &command.BatchHeader{}, pub("all/x", payload, 1)))
		if _, _, err := r.s.Apply(r.index, e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFetchHot fetches pages of ten hot entries and reports per entry.
func BenchmarkFetchHot(b *testing.B) {
	r, refs := benchShard(b, 1)
	for range 1000 {
		r.do(pub("device/000000/t", "payload of a message", 1))
	}
	b.ReportAllocs()
	b.ResetTimer()
	cursor := uint64(0)
	for n := 0; n < b.N; n += 10 {
		p, err := r.s.Fetch(refs[0], cursor, 10, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		cursor = p.Next
		if !p.More {
			cursor = 0
		}
	}
}

// BenchmarkLoad loads a shard with 200,000 queued messages in 1,000 inboxes.
func BenchmarkLoad(b *testing.B) {
	st, opts := backlog(b, 1000, 200)
	b.ResetTimer()
	for range b.N {
		s := state.NewShard(7, opts)
		if err := s.Load(st); err != nil {
			b.Fatal(err)
		}
		if s.Stats().InboxMessages != 200_000 {
			b.Fatal("messages are missing")
		}
	}
}

// backlog is the store of a shard with offline sessions and queued messages.
func backlog(t tester, sessions, each int) (*statetest.MemStore, state.Options) {
	r := newRig(t, state.Options{})
	for i := range sessions {
		ref := r.connect(fmt.Sprintf("client-%06d", i))
		r.do(sub(ref, filters(1, fmt.Sprintf("d/%d", i))...), disc(ref, command.DisconnectNormal, 0))
	}
	for range each {
		var cmds []byte
		for i := range sessions {
			cmds = append(cmds, pub(fmt.Sprintf("d/%d", i), "payload of a message", 1)...)
		}
		r.entry(command.AppendBatch(nil, &command.BatchHeader{}, cmds))
		r.log = nil
		if r.s.DirtyBytes() > 8<<20 {
			r.writeBack()
		}
	}
	r.writeBack()
	return r.st, r.opts
}
