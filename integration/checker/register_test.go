package checker

import (
	"math/rand/v2"
	"testing"

	"github.com/anishathalye/porcupine"
)

// registerOp is one operation of a random history, for porcupine: a write of a value or a read of it (0: nothing).
type registerOp struct {
	write bool
	value uint64
}

func registerModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, input, _ any) (bool, any) {
			op := input.(registerOp)
			if op.write {
				return true, op.value
			}
			return state.(uint64) == op.value, state
		},
	}
}

// randomRegister draws a history of a register that is mostly right: operations take effect at a moment between invoke and
// return; now and then a read returns an older value than it should.
func randomRegister(rng *rand.Rand) []Event {
	type effect struct {
		at int64
		e  int
	}
	var events []Event
	var effects []effect
	for i := range 4 + rng.IntN(10) {
		from := int64(1 + rng.IntN(200))
		span := int64(1 + rng.IntN(40))
		e := Event{Kind: RetainedRead, T: from*100 + int64(i), End: (from+span)*100 + int64(i), Client: "r", Conn: int32(i), Topic: "reg"}
		if rng.IntN(2) == 0 {
			e = Event{Kind: Publish, T: e.T, End: e.End, Client: "w", Topic: "reg", Seq: uint64(i + 1), QoS: 1, Retain: true}
			if rng.IntN(6) == 0 {
				e.End = 0 // nobody knows
			}
		}
		events = append(events, e)
		effects = append(effects, effect{e.T + rng.Int64N(span*100), i})
	}
	for i := range effects {
		for j := i + 1; j < len(effects); j++ {
			if effects[j].at < effects[i].at {
				effects[i], effects[j] = effects[j], effects[i]
			}
		}
	}
	values := []uint64{0}
	for _, f := range effects {
		e := &events[f.e]
		if e.Kind == Publish {
			if e.End != 0 || rng.IntN(2) == 0 {
				values = append(values, e.Seq)
			}
			continue
		}
		at := len(values) - 1
		if rng.IntN(8) == 0 {
			at = rng.IntN(len(values))
		}
		if e.Seq = values[at]; e.Seq != 0 {
			e.Publisher = "w"
		}
	}
	return events
}

// TestRegistersAgreeWithPorcupine holds the rule of I13 against a general checker, on histories that are right and wrong. A write
// of which nobody knows whether it returned may take effect at any later time, or, unread, at the very end.
func TestRegistersAgreeWithPorcupine(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	good, bad := 0, 0
	for round := range 3000 {
		events := randomRegister(rng)
		var ops []porcupine.Operation
		for i := range events {
			e := &events[i]
			end := e.End
			if end == 0 {
				end = 1 << 40
			}
			ops = append(ops, porcupine.Operation{ClientId: i, Input: registerOp{e.Kind == Publish, e.Seq}, Call: e.T, Return: end})
		}
		want := porcupine.CheckOperations(registerModel(), ops)
		r, err := Check(events)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Count["I13"] == 0; got != want {
			t.Fatalf("round %d: linearizable %v, porcupine says %v: %+v\n%s", round, got, want, events, r)
		}
		if want {
			good++
		} else {
			bad++
		}
	}
	if good < 300 || bad < 300 {
		t.Errorf("%d good and %d bad histories prove little", good, bad)
	}
}

// registerStory is a value that was retained, then another one, and a reader that lives long after.
func registerStory() *story {
	s := new(story).connect("r", 1, 10, false)
	s.add(Event{Kind: Subscribe, T: 20, End: 21, Client: "r", Conn: 1, Topic: "reg", QoS: 1, Code: 1})
	for i, at := range []int64{1, 100} {
		s.add(Event{Kind: Publish, T: at, End: at + 2, Client: "w", Conn: 1, Topic: "reg", Seq: uint64(i + 1), QoS: 1, Retain: true})
	}
	s.add(Event{Kind: RetainedRead, T: 20, End: 25, Client: "r", Conn: 1, Topic: "reg", Publisher: "w", Seq: 1})
	return s.add(Event{Kind: Closed, T: 20_000, Client: "r", Conn: 1, Err: "lost"})
}

func TestGapWhileSubscribing(t *testing.T) {
	s := registerStory()
	for i := range s.events {
		if e := &s.events[i]; e.Kind == Publish && e.Seq == 2 {
			e.T, e.End = 20*ms+1, 30*ms // the read ends at 25
		}
	}
	wantRules(t, s, "I14")
	s.add(Event{Kind: Deliver, T: 28, Client: "r", Conn: 1, Publisher: "w", Topic: "reg", Seq: 2, QoS: 1, PacketID: 1})
	wantRules(t, s)
}

func TestGapAfterRead(t *testing.T) {
	s := registerStory()
	wantRules(t, s, "I14")
	s.add(Event{Kind: Deliver, T: 101, Client: "r", Conn: 1, Publisher: "w", Topic: "reg", Seq: 2, QoS: 1, PacketID: 1})
	wantRules(t, s)
}

func TestStaleRead(t *testing.T) {
	s := new(story)
	for i, at := range []int64{1, 100} {
		s.add(Event{Kind: Publish, T: at, End: at + 2, Client: "w", Conn: 1, Topic: "reg", Seq: uint64(i + 1), QoS: 1, Retain: true})
	}
	s.add(Event{Kind: RetainedRead, T: 50, End: 60, Client: "r", Conn: 1, Topic: "reg", Publisher: "w", Seq: 1})
	wantRules(t, s)
	wantRules(t, s.add(Event{Kind: RetainedRead, T: 150, End: 160, Client: "r", Conn: 2, Topic: "reg", Publisher: "w", Seq: 1}), "I13")
	// That the publisher had sent it twice is no excuse: its first sending may not be applied after its second was acknowledged.
	wantRules(t, s.add(Event{Kind: Resent, T: 2, Client: "w", Conn: 2, Topic: "reg", Seq: 1}), "I13")
	wantRules(t, new(story).add(Event{Kind: RetainedRead, T: 150, End: 160, Client: "r", Conn: 2, Topic: "reg", Publisher: "w", Seq: 1}), "I13")
}

// wantRules holds a history against the rules that it must break.
func wantRules(t *testing.T, s *story, rules ...string) {
	t.Helper()
	r, err := Check(s.events)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Count) != len(rules) {
		t.Fatalf("broken: %v, want %v\n%s", r.Count, rules, r)
	}
	for _, rule := range rules {
		if r.Count[rule] == 0 {
			t.Errorf("%s is not broken\n%s", rule, r)
		}
	}
}

// TestOrderOfNewSubscription: what was sent before a subscription and again after it may come behind what was sent in between; and
// each session has an order of its own.
func TestOrderOfNewSubscription(t *testing.T) {
	sent := func(early bool) *story {
		s := new(story).connect("p", 1, 1, false).connect("s", 1, 2, false)
		at := int64(50)
		if early {
			at = 10
		}
		s.subscribe(1, "a/#", at)
		for seq, at := range map[uint64]int64{1: 40, 2: 60} {
			s.add(Event{Kind: Publish, T: at, End: 100, Client: "p", Conn: 1, Topic: "a/b", Seq: seq, QoS: 1})
		}
		s.add(Event{Kind: Resent, T: 80, Client: "p", Conn: 2, Topic: "a/b", Seq: 1})
		return s.deliver(2, 1, 1, 1, false, 62).ack(2, 1, 1, 63).deliver(1, 1, 1, 2, false, 85).ack(1, 1, 2, 86)
	}
	wantRules(t, sent(false))
	wantRules(t, sent(true), "I4")
	// The subscription of an earlier session does not count.
	s := sent(true)
	s.add(Event{Kind: Closed, T: 55, Client: "s", Conn: 1, Err: "lost"})
	s.add(Event{Kind: Connect, T: 56, End: 57, Client: "s", Conn: 2, Expiry: 3600, Clean: true}).subscribe(2, "a/#", 58)
	for i := range s.events {
		if e := &s.events[i]; e.Kind == Deliver || e.Kind == Acked {
			e.Conn = 2
		}
	}
	wantRules(t, s)
}
