package state_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

func retainedTopics(t tester, s *state.Shard, filter string, page int) []string {
	t.Helper()
	var out []string
	for after := ""; ; {
		got, err := s.Retained(state.RetainedQuery{Filter: filter, After: after, Limit: page})
		if err != nil {
			t.Fatalf("retained %s: %v", filter, err)
		}
		for _, it := range got.Items {
			after = string(it.Msg.Topic)
			out = append(out, after)
		}
		if !got.More {
			return out
		}
	}
}

// The search that jumps finds what looking at every topic finds.
func TestRetainedSearch(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "a!", "ab", "", "a0", "$s", "b-", "/"[:0]})
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t, state.Options{})
		var topics []string
		for range rapid.IntRange(0, 40).Draw(t, "topics") {
			topic := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "levels"), "/")
			if topic != "" {
				topics = append(topics, topic)
				r.one(command.OK, pub(topic, "p", 0, retain))
			}
		}
		if rapid.Bool().Draw(t, "cold") {
			r.writeBack()
			r.restart()
		}
		slices.Sort(topics)
		topics = slices.Compact(topics)
		for range 5 {
			levels := rapid.SliceOfN(rapid.OneOf(level, rapid.Just("+")), 1, 4).Draw(t, "filter")
			if rapid.Bool().Draw(t, "multi") {
				levels = append(levels, "#")
			}
			filter := strings.Join(levels, "/")
			if filter == "" {
				continue
			}
			var want []string
			for _, topic := range topics {
				if router.Matches(filter, []byte(topic)) {
					want = append(want, topic)
				}
			}
			got := retainedTopics(t, r.s, filter, rapid.IntRange(1, 5).Draw(t, "page"))
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%s (-want +got):\n%s", filter, d)
			}
		}
	})
}

// I13: the last retained publish of a topic is what is read, the empty one removes it.
func TestRetainedRegister_I13(t *testing.T) {
	r := newRig(t, state.Options{Settings: command.ShardSettings{RetainedMaxMessages: 2}})
	read := func() string {
		var out []string
		page, err := r.s.Retained(state.RetainedQuery{Filter: "#", Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range page.Items {
			out = append(out, fmt.Sprintf("%s=%s", it.Msg.Topic, it.Msg.Payload))
		}
		return strings.Join(out, " ")
	}
	step := func(want string) {
		t.Helper()
		for range 2 {
			if got := read(); got != want {
				t.Fatalf("retained %q, want %q", got, want)
			}
			r.writeBack()
			r.restart()
		}
	}
	r.one(command.OK, pub("a", "1", 1, retain))
	step("a=1")
	r.one(command.NoMatch, pub("a", "not retained", 1))
	r.one(command.OK, pub("a", "2", 0, retain))
	step("a=2")
	r.one(command.OK, pub("b", "1", 1, retain, expiry(10)))
	r.one(command.Full, pub("c", "1", 1, retain))
	r.one(command.OK, pub("a", "3", 1, retain)) // no new topic
	step("a=3 b=1")
	if st := r.s.Stats(); st.Dropped.RetainedFull != 1 || st.RetainedMessages != 2 {
		t.Fatalf("stats %+v", st)
	}
	r.one(command.OK, pub("b", "2", 1, retain, expiry(20))) // the first expiry does not count any more
	r.now += 10_000
	r.one(command.OK, tick)
	step("a=3 b=2")
	r.now += 10_000
	r.do()
	step("a=3") // expired, before a tick says so
	r.one(command.OK, tick)
	if st := r.s.Stats(); st.Dropped.RetainedExpired != 1 || st.RetainedMessages != 1 {
		t.Fatalf("stats %+v", st)
	}
	r.one(command.OK, pub("a", "", 1, retain))
	r.one(command.OK, pub("a", "", 1, retain))
	step("")
	r.writeBack()
	if n := r.st.Count("R") + r.st.Count("P") + r.st.Count("C"); n != 0 {
		t.Fatalf("%d records are left", n)
	}
}

// With many retained messages, a search costs what it finds.
func TestRetainedSearchDoesNotScan(t *testing.T) {
	r := newRig(t, state.Options{})
	for i := range 200 {
		var cmds []byte
		for j := range 100 {
			cmds = append(cmds, pub(fmt.Sprintf("site/%d/device/%d", i, j), "p", 0, retain)...)
		}
		r.entry(command.AppendBatch(nil, &command.BatchHeader{}, cmds))
	}
	if got := retainedTopics(t, r.s, "site/+/device/7", 1000); len(got) != 200 {
		t.Fatalf("%d topics", len(got))
	}
	if looked := state.RetainedLooked(r.s, "", "site/+/device/7"); looked > 200*4 {
		t.Fatalf("%d topics were looked at for 200 matches among 20,000", looked)
	}
}

// A page as of a horizon leaves out what was stored behind it, a topic that had a message in front of it included.
func TestRetainedHorizon_I14(t *testing.T) {
	r := newRig(t, state.Options{})
	r.one(command.OK, pub("a", "1", 1, retain))
	r.one(command.OK, pub("b", "1", 1, retain))
	at, err := r.s.Retained(state.RetainedQuery{Filter: "#"})
	if err != nil || len(at.Items) > 0 {
		t.Fatalf("%d items, %v", len(at.Items), err)
	}
	r.one(command.OK, pub("b", "2", 1, retain))
	r.one(command.OK, pub("c", "2", 1, retain))
	for _, restart := range []func(){func() {}, r.restart, r.writeBack, r.restart} {
		restart()
		for horizon, want := range map[uint64]string{at.Horizon: "a", 0: "a b c"} {
			page, err := r.s.Retained(state.RetainedQuery{Filter: "#", Limit: 10, Horizon: horizon})
			if err != nil {
				t.Fatal(err)
			}
			var topics []string
			for i := range page.Items {
				topics = append(topics, string(page.Items[i].Msg.Topic))
			}
			if got := strings.Join(topics, " "); got != want {
				t.Errorf("as of %d: %q, want %q", horizon, got, want)
			}
			if page.Horizon <= at.Horizon {
				t.Errorf("horizon %d, was %d two messages ago", page.Horizon, at.Horizon)
			}
		}
	}
}
