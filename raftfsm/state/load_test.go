package state_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

// Loading reads sessions, not messages: the time and the memory of a start do not
// depend on the backlog.
func TestLoadReadsNoMessages(t *testing.T) {
	const sessions, each = 100, 500
	st, opts := backlog(t, sessions, each)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	s := state.NewShard(7, opts)
	if err := s.Load(st); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	stats := s.Stats()
	if stats.InboxMessages != sessions*each || stats.HotMessages != 0 {
		t.Fatalf("stats %+v", stats)
	}
	perSession := int64(after.HeapAlloc-before.HeapAlloc) / sessions
	t.Logf("%d messages in %d inboxes loaded in %v, %d bytes of memory per session with one subscription", sessions*each, sessions, took, perSession)
	if perSession > 4096 {
		t.Fatalf("%d bytes per session", perSession)
	}
	if st.Reads() > 100 {
		t.Fatalf("%d reads", st.Reads())
	}
	runtime.KeepAlive(s)
}

// A backlog is drained from the store: fetched and acknowledged page by page, it
// leaves nothing behind.
func TestDrainColdBacklog(t *testing.T) {
	st, opts := backlog(t, 3, 2000)
	r := newRig(t, opts)
	r.st = st
	if err := r.s.Load(st); err != nil {
		t.Fatal(err)
	}
	r.index = r.s.Applied()
	ref := r.connect("client-000001", func(c *command.Connect) { c.ReceiveMax = 100 })
	seen := uint64(0)
	for cursor := uint64(0); ; {
		p, err := r.s.Peek(ref, cursor, 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Deliveries) == 0 {
			break
		}
		a := command.Ack{Ref: ref}
		for _, d := range p.Deliveries {
			seen++
			if d.Seq != seen {
				t.Fatalf("sequence %d, want %d", d.Seq, seen)
			}
			a.SentTo = d.Seq
			a.Done = command.AppendSeq(a.Done, d.Seq)
		}
		r.one(command.OK, command.AppendAck(nil, &a))
		cursor = p.Next
		if seen%700 == 0 {
			r.writeBack()
		}
	}
	in, _ := r.s.Session(ref.SessionKey)
	if seen != 2000 || in.InboxMessages != 0 || in.InboxBytes != 0 {
		t.Fatalf("%d seen, session %+v", seen, in)
	}
	r.writeBack()
	if n := st.Count("I"); n != 4000 {
		t.Fatalf("%d entries in the store, want those of the two others", n)
	}
	if err := state.Audit(st); err != nil {
		t.Fatal(err)
	}
}

// A session with a large cold inbox ends without being read; write-backs sweep it.
func TestEndOfAColdInboxIsSwept(t *testing.T) {
	st, opts := backlog(t, 2, 25_000)
	r := newRig(t, opts)
	r.st = st
	if err := r.s.Load(st); err != nil {
		t.Fatal(err)
	}
	r.index = r.s.Applied()
	reads := st.Reads()
	r.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: key("client-000000")}))
	if n := st.Reads() - reads; n > 2 {
		t.Fatalf("the end of a session took %d reads", n)
	}
	if got := r.s.Stats(); got.InboxMessages != 25_000 || got.Dropped.SessionEnded != 25_000 {
		t.Fatalf("stats %+v", got)
	}
	want := r.digest()
	for i := range 4 {
		r.writeBack()
		r.restart()
		if r.digest() != want {
			t.Fatalf("digest differs after sweep %d", i)
		}
		r.do()
		want = r.digest()
	}
	if n := st.Count("I"); n != 25_000 || st.Count("Z") != 0 {
		t.Fatalf("%d entries, %d sweeps left", n, st.Count("Z"))
	}
}

// I23 I24: a store that is not what was written is refused, or misread without a
// panic; never half loaded in silence.
func TestLoadCorruptStore_I24(t *testing.T) {
	r := newRig(t, state.Options{})
	for _, step := range population(nil) {
		step(r)
	}
	r.writeBack()
	rapid.Check(t, func(t *rapid.T) {
		st := r.st.Clone()
		n := rapid.IntRange(0, st.Len()-1).Draw(t, "record")
		i := 0
		var k, v []byte
		_ = st.Iterate(nil, nil, func(key, value []byte) bool {
			k, v = append([]byte(nil), key...), append([]byte(nil), value...)
			i++
			return i <= n
		})
		b := st.NewBatch()
		switch {
		case rapid.Bool().Draw(t, "truncate"):
			b.Set(k, v[:rapid.IntRange(0, len(v)).Draw(t, "length")])
		case len(v) > 0:
			v[rapid.IntRange(0, len(v)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			b.Set(k, v)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		s := state.NewShard(7, state.Options{})
		if err := s.Load(st); err != nil {
			return
		}
		if _, _, err := s.Verify(); err != nil {
			return
		}
		items, _ := s.Sessions(command.SessionKey{}, 10)
		for _, in := range items {
			_, _ = s.Fetch(command.SessionRef{SessionKey: in.Key, Epoch: in.Epoch}, 0, 10, 1<<20)
		}
		_, _ = s.Retained(state.RetainedQuery{Filter: "#", Limit: 10})
	})
}

func TestLoadRefuses(t *testing.T) {
	load := func(k, v string) error {
		st := statetest.NewMemStore()
		b := st.NewBatch()
		b.Set([]byte(k), []byte(v))
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		return state.NewShard(1, state.Options{}).Load(st)
	}
	if err := load("M", "\x02"); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("another format: %v", err)
	}
	if err := load("S\x00a", "x"); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("no meta record: %v", err)
	}
}
