package state_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func batch(node string, inc, seq, acked uint64, cmds ...[]byte) []byte {
	return command.AppendBatch(nil, &command.BatchHeader{Node: node, Incarnation: inc, Seq: seq, AckedSeq: acked}, bytes.Join(cmds, nil))
}

func (r *rig) lane(want command.ResultCode, b []byte) command.BatchResult {
	r.t.Helper()
	res := r.entry(b)[0]
	if res.Code != want {
		r.t.Fatalf("batch %s/%d/%d: %v, want %v", res.Node, res.Incarnation, res.Seq, res.Code, want)
	}
	return res
}

// A batch that is sent again changes nothing and gets the same answer, also after
// a restart (I2 I3; mutation: lane sequence not deduplicated).
func TestLaneRepeat(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x")...))
	first := r.lane(command.OK, batch("n1", 3, 1, 0, pub("x", "p", 1), pub("nobody", "p", 1)))
	for range 2 {
		again := r.lane(command.OK, batch("n1", 3, 1, 0, pub("x", "p", 1), pub("nobody", "p", 1)))
		if !bytes.Equal(first.Results, again.Results) || len(first.Results) == 0 {
			t.Fatalf("results %x, then %x", first.Results, again.Results)
		}
		if n := len(r.fetch(a)); n != 1 {
			t.Fatalf("%d messages after a repeat", n)
		}
		r.writeBack()
		r.restart()
	}
}

// Repeated connects get the same epoch: lanes make them idempotent (I9).
func TestLaneRepeatedConnect(t *testing.T) {
	r := newRig(t, state.Options{})
	b := batch("n1", 3, 1, 0, conn("a"))
	first, second := r.lane(command.OK, b), r.lane(command.OK, b)
	if !bytes.Equal(first.Results, second.Results) || len(r.fx.Kicks) > 0 {
		t.Fatalf("a repeated connect took the session over: %x, %x", first.Results, second.Results)
	}
}

func TestLaneOrder(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x")...))
	p := pub("x", "p", 1)
	r.lane(command.Gap, batch("n1", 3, 2, 0, p)) // the first batch of an incarnation is 1
	r.lane(command.OK, batch("n1", 3, 1, 0, p))
	r.lane(command.Gap, batch("n1", 3, 3, 0, p))
	r.lane(command.OK, batch("n1", 3, 2, 0, p))
	r.lane(command.Gap, batch("n1", 4, 2, 0, p))
	r.lane(command.OK, batch("n1", 3, 3, 2, p)) // the gap of 4 did not begin it
	r.lane(command.ResultsGone, batch("n1", 3, 2, 2, p))
	r.lane(command.OK, batch("n1", 4, 1, 0, p))
	r.lane(command.StaleIncarnation, batch("n1", 3, 4, 0, p))
	r.lane(command.OK, batch("n2", 1, 1, 0, p)) // lanes of other nodes are their own
	if n := len(r.fetch(a)); n != 5 {
		t.Fatalf("%d messages, want 5", n)
	}
}

// A node that was lost cannot speak any more, whenever its batches come (I9).
func TestLaneOfLostNode(t *testing.T) {
	r := newRig(t, state.Options{})
	r.lane(command.OK, batch("n1", 3, 1, 0, conn("a")))
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 3}))
	for range 2 {
		r.lane(command.StaleIncarnation, batch("n1", 3, 2, 0, conn("b")))
		r.lane(command.StaleIncarnation, batch("n1", 3, 1, 0, conn("a")))
		r.writeBack()
		r.restart()
	}
	r.lane(command.OK, batch("n1", 4, 1, 0, conn("b")))
	// The loss of a node that never spoke holds as well.
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n9", Incarnation: 7}))
	r.writeBack()
	r.restart()
	r.lane(command.StaleIncarnation, batch("n9", 7, 1, 0, conn("b")))
}

func TestLaneKeepsResultsBounded(t *testing.T) {
	r := newRig(t, state.Options{})
	for seq := uint64(1); seq <= 100; seq++ {
		r.lane(command.OK, batch("n1", 3, seq, 0, pub("x", "p", 1)))
	}
	r.lane(command.ResultsGone, batch("n1", 3, 36, 0, pub("x", "p", 1)))
	r.lane(command.OK, batch("n1", 3, 37, 0, pub("x", "p", 1)))
}

// A lane under random resends, reorderings and restarts applies each batch once, in
// order.
func TestLaneRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t, state.Options{})
		a := r.connect("a")
		r.one(command.OK, sub(a, filters(1, "x")...))
		last := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "batches") {
			seq := rapid.Uint64Range(max(1, last)-min(last, 1), last+3).Draw(t, "seq")
			b := batch("n1", 1, seq, 0, pub("x", string(rune('A'+seq)), 1))
			switch {
			case seq == last+1:
				r.lane(command.OK, b)
				last = seq
			case seq <= last && seq > 0:
				r.lane(command.OK, b)
			case seq == 0:
				r.lane(command.ResultsGone, b)
			default:
				r.lane(command.Gap, b)
			}
			switch rapid.IntRange(0, 5).Draw(t, "restart") {
			case 0:
				r.restart()
			case 1:
				r.writeBack()
			}
		}
		got := r.fetch(a)
		if uint64(len(got)) != last {
			t.Fatalf("%d messages of %d batches", len(got), last)
		}
		for i, d := range got {
			if string(d.Msg.Payload) != string(rune('A'+i+1)) {
				t.Fatalf("message %d is %q", i, d.Msg.Payload)
			}
		}
	})
}

// Entries are skipped at or below the applied index (I8 I20; mutation: applied
// entries not skipped on replay).
func TestAppliedEntriesAreSkipped(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x")...))
	r.one(command.OK, pub("x", "p", 1))
	_, want := r.s.Digest()
	for i, e := range r.log {
		res, fx, err := r.s.Apply(uint64(i+1), e)
		if res != nil || err != nil || !fx.Empty() {
			t.Fatalf("entry %d was applied again: %v, %v", i+1, res, err)
		}
	}
	if _, got := r.s.Digest(); got != want {
		t.Fatal("the digest changed")
	}
}

// What a machine cannot understand ends the process (I23): nothing is skipped.
func TestApplyFailStop(t *testing.T) {
	frame := func(cmds []byte) []byte {
		return command.BuildEntry(nil, &command.Header{Time: 1}, command.AppendBatch(nil, &command.BatchHeader{}, cmds))
	}
	unknown := []byte{200, 1, 0} // kind 100, must not be ignored
	for _, tc := range []struct {
		name  string
		entry []byte
		want  error
	}{
		{"empty", nil, command.ErrMalformed},
		{"version", []byte{9}, command.ErrVersion},
		{"unknown kind", frame(unknown), state.ErrUnknownKind},
		{"torn command", frame([]byte{2, 50, 1}), command.ErrMalformed},
		{"torn payload", frame([]byte{2, 2, 0x12, 9}), command.ErrMalformed},
		{"torn entry", frame(pub("x", "p", 1))[:9], command.ErrMalformed},
	} {
		r := newRig(t, state.Options{})
		if _, _, err := r.s.Apply(1, tc.entry); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		c := state.NewControl()
		if err := c.Load(r.st); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Apply(1, tc.entry); err == nil && tc.name != "torn payload" {
			t.Errorf("control: %s was accepted", tc.name)
		}
	}
	r := newRig(t, state.Options{})
	r.one(command.OK, command.AppendIgnorable(nil, 100, []byte("later")))
	fresh := state.NewShard(1, state.Options{})
	if _, _, err := fresh.Apply(1, frame(nil)); !errors.Is(err, state.ErrNotLoaded) {
		t.Errorf("apply before load: %v", err)
	}
}

// G8: a replica whose digest differs from the leader's ends.
func TestCheckpoint(t *testing.T) {
	r := newRig(t, state.Options{})
	point := func() []byte { c := r.s.LastCheckpoint(); return command.AppendCheckpoint(nil, &c) }
	r.one(command.OK, point())
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x")...))
	r.one(command.OK, point())
	last := r.s.LastCheckpoint()
	if last.Index != r.index || last.Digest == ([16]byte{}) {
		t.Fatalf("checkpoint %+v at %d", last, r.index)
	}
	r.writeBack()
	r.restart()
	if r.s.LastCheckpoint() != last {
		t.Fatal("the checkpoint did not survive a restart")
	}
	r.one(command.OK, point())
	last = r.s.LastCheckpoint()
	last.Digest[3]++
	e := command.BuildEntry(nil, &command.Header{}, command.AppendBatch(nil, &command.BatchHeader{}, command.AppendCheckpoint(nil, &last)))
	if _, _, err := r.s.Apply(r.index+1, e); !errors.Is(err, state.ErrDiverged) {
		t.Fatalf("another digest: %v", err)
	}
}

func TestWriteBackFailStop(t *testing.T) {
	r := newRig(t, state.Options{})
	r.connect("a")
	boom := errors.New("boom")
	r.st.FailCommits(boom)
	if err := r.s.WriteBack(); !errors.Is(err, boom) {
		t.Fatalf("write-back: %v", err)
	}
}
