package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

// slowStore lets something happen between the moment that a read sees and the
// moment that its caller gets it.
type slowStore struct {
	*statetest.MemStore
	between func()
}

func (s *slowStore) Iterate(lower, upper []byte, fn func(k, v []byte) bool) error {
	type pair struct{ k, v []byte }
	var seen []pair
	err := s.MemStore.Iterate(lower, upper, func(k, v []byte) bool {
		seen = append(seen, pair{append([]byte(nil), k...), append([]byte(nil), v...)})
		return true
	})
	if f := s.between; f != nil {
		s.between = nil
		f()
	}
	for _, p := range seen {
		if !fn(p.k, p.v) {
			break
		}
	}
	return err
}

// I8 I9: whatever happens while Fetch reads the store, it returns nothing that was
// acknowledged, nothing of an old epoch, and all that is left.
func TestFetchWhileTheGroundMoves_I8(t *testing.T) {
	for _, tc := range []struct {
		name    string
		between func(r *rig, a command.SessionRef)
		want    []string
	}{
		{"acknowledged", func(r *rig, a command.SessionRef) {
			r.one(command.OK, ack(a, 4, 1, 3))
		}, []string{"2 x=p1 q2", "4 x=p3 q2", "5 x=p4 q2"}},
		{"acknowledged and written", func(r *rig, a command.SessionRef) {
			r.one(command.OK, ack(a, 4, 1, 3))
			r.writeBack()
		}, []string{"2 x=p1 q2", "4 x=p3 q2", "5 x=p4 q2"}},
		{"received", func(r *rig, a command.SessionRef) {
			r.one(command.OK, recv(a, 4, 2))
		}, []string{"1 x=p0 q2", "2 received", "3 x=p2 q2", "4 x=p3 q2", "5 x=p4 q2"}},
		{"received and written", func(r *rig, a command.SessionRef) {
			r.one(command.OK, recv(a, 4, 2))
			r.writeBack()
		}, []string{"1 x=p0 q2", "2 received", "3 x=p2 q2", "4 x=p3 q2", "5 x=p4 q2"}},
		{"all acknowledged", func(r *rig, a command.SessionRef) {
			r.one(command.OK, ack(a, 5, 1, 2, 3, 4, 5))
		}, []string{}},
		{"appended", func(r *rig, _ command.SessionRef) {
			r.one(command.OK, pub("x", "p5", 2))
		}, []string{"1 x=p0 q2", "2 x=p1 q2", "3 x=p2 q2", "4 x=p3 q2", "5 x=p4 q2", "6 x=p5 q2"}},
		{"appended and evicted", func(r *rig, _ command.SessionRef) {
			r.one(command.OK, pub("x", "p5", 2))
			r.writeBack()
		}, []string{"1 x=p0 q2", "2 x=p1 q2", "3 x=p2 q2", "4 x=p3 q2", "5 x=p4 q2", "6 x=p5 q2"}},
		{"taken over", func(r *rig, _ command.SessionRef) { r.connect("a", clean) }, nil},
		{"ended", func(r *rig, a command.SessionRef) {
			r.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: a.SessionKey}))
			r.writeBack()
			r.do()
			r.writeBack()
		}, nil},
	} {
		for _, shared := range []bool{false, true} {
			r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
			slow := &slowStore{MemStore: r.st}
			if err := r.s.Load(slow); err != nil {
				t.Fatal(err)
			}
			a := r.connect("a")
			r.one(command.OK, sub(a, filters(2, "x")...))
			if shared {
				b := r.connect("b")
				r.one(command.OK, sub(b, filters(2, "x")...))
			}
			for _, p := range []string{"p0", "p1", "p2", "p3", "p4"} {
				r.one(command.OK, pub("x", p, 2))
			}
			r.writeBack()
			if shared { // the last references are those of the reader
				b, _ := r.s.Session(key("b"))
				r.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: b.Key}))
				r.writeBack()
				r.do()
				r.writeBack()
			}
			slow.between = func() { tc.between(r, a) }
			p, err := r.s.Fetch(a, 0, 100, 1<<20)
			if tc.want == nil {
				if err == nil {
					t.Errorf("%s: %v", tc.name, shows(p.Deliveries))
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			if d := cmp.Diff(tc.want, shows(p.Deliveries)); d != "" || p.More {
				t.Errorf("%s, shared %v (-want +got):\n%s", tc.name, shared, d)
			}
		}
	}
}

// Pages are bounded by messages and by bytes, and one message always fits.
func TestFetchBounds(t *testing.T) {
	for _, cold := range []bool{false, true} {
		r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
		a := r.connect("a")
		r.one(command.OK, sub(a, filters(1, "x")...))
		for range 5 {
			r.one(command.OK, pub("x", string(make([]byte, 1000)), 1))
		}
		if cold {
			r.writeBack()
		}
		for _, tc := range []struct{ msgs, bytes, want int }{{2, 1 << 20, 2}, {10, 2500, 2}, {10, 1, 1}, {0, 0, 1}, {10, 1 << 20, 5}} {
			p, err := r.s.Fetch(a, 2, tc.msgs, tc.bytes)
			want := min(tc.want, 4)
			if err != nil || len(p.Deliveries) != want || p.Next != 2+uint64(want) || p.More != (want < 4) || p.Floor != 1 || p.Now != r.now {
				t.Errorf("cold %v, %+v: %d deliveries, next %d, more %v, floor %d, %v", cold, tc, len(p.Deliveries), p.Next, p.More, p.Floor, err)
			}
		}
		if p, err := r.s.Fetch(a, 100, 10, 10); err != nil || len(p.Deliveries) != 0 || p.More || p.Next != 100 {
			t.Errorf("a cursor behind the end: %+v, %v", p, err)
		}
	}
}

// TestFetchStopsAtTheSendLimit: what a replica takes for surely not sent (it may be dropped, expire, or go to another
// member of a share) is not handed out before the shard has learnt how far the owner has sent.
func TestFetchStopsAtTheSendLimit(t *testing.T) {
	for _, cold := range []bool{false, true} {
		r := newRig(t, state.Options{Settings: command.ShardSettings{InboxMaxMessages: 20, InboxOverflow: command.OverflowDropOldest}, HotBytes: 1, HotOffline: 1})
		a := r.connect("a", func(c *command.Connect) { c.ReceiveMax = 3 })
		r.one(command.OK, sub(a, filters(1, "x")...))
		say := func(n int) {
			for range n {
				r.one(command.OK, pub("x", "p", 1))
			}
			if cold {
				r.writeBack()
			}
		}
		fetch := func(cursor, next uint64, clamped bool, seqs ...uint64) {
			t.Helper()
			p, err := r.s.Fetch(a, cursor, 100, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, d := range p.Deliveries {
				got = append(got, d.Seq)
			}
			if d := cmp.Diff(seqs, got); d != "" || p.Next != next || p.Clamped != clamped || p.More {
				t.Fatalf("cold %v: from %d: %v, next %d, clamped %v, more %v", cold, cursor, got, p.Next, p.Clamped, p.More)
			}
		}
		say(3)
		fetch(0, 4, false, 1, 2, 3)
		say(2)
		fetch(4, 4, true) // 4 and 5 wait
		r.one(command.OK, ack(a, 3))
		fetch(4, 6, false, 4, 5)
		say(30)               // the oldest that were surely not sent go: 7 to 21
		fetch(6, 22, true, 6) // all before 22 is sent then, or gone
		r.one(command.OK, ack(a, 21))
		fetch(22, 25, true, 22, 23, 24)
		if p, err := r.s.Peek(a, 0, 100, 1<<20); err != nil || len(p.Deliveries) != 20 {
			t.Errorf("peek shows %d, %v", len(p.Deliveries), err)
		}
	}
}
