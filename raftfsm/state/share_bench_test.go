package state_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// cpuTime is what the process has used: it says more than the clock where others share the machine.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkShare takes messages all the way through a share of eight members, in
// entries of 256 commands: published, assigned, delivered into inboxes, acknowledged in
// another order than given, settled, and reported as done. Waiting is how many the members
// hold at a time. One machine plays both the share's shard and that of the members.
func BenchmarkShare(b *testing.B) {
	for _, waiting := range []int{256, 1024} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) { benchShare(b, waiting) })
	}
}

func benchShare(b *testing.B, waiting int) {
	r := newShareRig(b, state.Options{})
	refs := make([]command.SessionRef, 8)
	for i := range refs {
		refs[i] = r.member(fmt.Sprintf("member-%d", i), 1, func(c *command.Connect) { c.ReceiveMax = 65535 })
	}
	r.log = nil
	m := command.Message{Topic: []byte("w/temperature"), Payload: make([]byte, 256), QoS: 1, Publisher: "publisher-0001", PublishedAt: 1_700_000_000_000}
	raw := m.Append(nil)
	cmds := make([]byte, 0, 128<<10) // an entry keeps its bytes, so each gets its own
	seq := uint64(0)
	apply := func() {
		seq++
		r.index++
		if _, _, err := r.s.Apply(r.index, benchEntry(seq, cmds)); err != nil {
			b.Fatal(err)
		}
		cmds = make([]byte, 0, 128<<10)
	}
	carry := func() {
		for {
			list := r.s.Origins(r.sent, benchBatch)
			if len(list) == 0 {
				return
			}
			low := max(r.sent, 1)
			for i := range list {
				r.sent = list[i].Seq
				cmds = list[i].Command(cmds, command.OriginKey{Shard: 7, Seq: list[i].Seq, Low: low})
			}
			apply()
			cmds = command.AppendOriginDone(cmds, &command.OriginDone{Seqs: []command.Range{{From: 1, To: r.sent}}})
			apply()
		}
	}
	acked := make([]uint64, len(refs))
	b.ReportAllocs()
	b.ResetTimer()
	began := cpuTime(b)
	for n := 0; n < b.N; n += benchBatch {
		for range benchBatch {
			cmds = command.AppendPublish(cmds, &command.Publish{Message: raw, Flags: command.ToShares})
		}
		apply()
		carry()
		for i, ref := range refs {
			// What it has is known without looking: turns go round.
			got := uint64(n+benchBatch) / uint64(len(refs))
			if got >= acked[i]+uint64(waiting/len(refs)) || n+benchBatch >= b.N {
				cmds = command.AppendAck(cmds, &command.Ack{Ref: ref, SentTo: got, Done: []command.Range{{From: acked[i] + 1, To: got}}})
				acked[i] = got
			}
		}
		if len(cmds) > 0 {
			apply()
			carry()
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
	if v := r.s.Shares("", 1); v[0].Queue > uint64(waiting)+2*benchBatch {
		b.Fatalf("%d messages are left in the queue", v[0].Queue)
	}
}
