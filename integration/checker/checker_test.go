package checker

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = int64(time.Millisecond)

// story is a small history in which everything is well: publisher p, durable subscriber s, three messages, a reconnect.
type story struct{ events []Event }

func (s *story) add(e Event) *story {
	e.T *= ms
	e.End *= ms
	s.events = append(s.events, e)
	return s
}

func (s *story) connect(client string, conn int32, at int64, present bool) *story {
	return s.add(Event{Kind: Connect, T: at, End: at + 1, Client: client, Conn: conn, Node: "n1", Expiry: 3600, Present: present})
}

func (s *story) publish(seq uint64, qos byte, at int64) *story {
	return s.add(Event{Kind: Publish, T: at, End: at + 2, Client: "p", Conn: 1, Topic: "a/b", Seq: seq, QoS: qos})
}

// again lets the publisher send a message once more.
func (s *story) again(seq uint64, conn int32, at int64) *story {
	return s.add(Event{Kind: Resent, T: at, Client: "p", Conn: conn, Topic: "a/b", Seq: seq})
}

// unanswered has two messages that were sent and not acknowledged, and the publisher's next connection.
func unanswered() *story {
	return begun().
		add(Event{Kind: Publish, T: 10, End: 40, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1}).
		add(Event{Kind: Publish, T: 11, End: 40, Client: "p", Conn: 1, Topic: "a/b", Seq: 2, QoS: 1}).connect("p", 2, 20, true)
}

func (s *story) deliver(seq uint64, qos byte, conn int32, id uint16, dup bool, at int64) *story {
	return s.add(Event{Kind: Deliver, T: at, Client: "s", Conn: conn, Publisher: "p", Topic: "a/b", Seq: seq, QoS: qos, PacketID: id, Dup: dup})
}

func (s *story) ack(seq uint64, conn int32, id uint16, at int64) *story {
	return s.add(Event{Kind: Acked, T: at, Client: "s", Conn: conn, Publisher: "p", Topic: "a/b", Seq: seq, PacketID: id})
}

func (s *story) subscribe(conn int32, filter string, at int64) *story {
	return s.add(Event{Kind: Subscribe, T: at, End: at + 2, Client: "s", Conn: conn, Topic: filter, QoS: 2, Code: 2})
}

func (s *story) drained(conn int32, at int64) *story {
	return s.add(Event{Kind: Drained, T: at, Client: "s", Conn: conn})
}

// begun has both clients connected and s subscribed.
func begun() *story {
	return new(story).connect("p", 1, 1, false).connect("s", 1, 2, false).subscribe(1, "a/#", 5)
}

// finished adds a reconnect of s (its first connection ends at 100) and the drain.
func (s *story) reconnect(at int64) *story {
	return s.add(Event{Kind: Closed, T: at, Client: "s", Conn: 1, Err: "lost"}).connect("s", 2, at+5, true)
}

func check(t *testing.T, s *story) *Report {
	t.Helper()
	r, err := Check(s.events)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGoodHistories(t *testing.T) {
	overlap := begun()
	overlap.subscribe(1, "a/b", 8) // an overlapping subscription, and one that is renewed
	overlap.subscribe(1, "a/#", 9)

	for name, s := range map[string]*story{
		"plain": begun().publish(1, 1, 10).deliver(1, 1, 1, 1, false, 11).ack(1, 1, 1, 12).drained(1, 50),
		"redelivered after a reconnect": begun().publish(1, 1, 10).publish(2, 1, 11).
			deliver(1, 1, 1, 1, false, 12).deliver(2, 1, 1, 2, false, 13).reconnect(20).
			deliver(1, 1, 2, 1, true, 30).deliver(2, 1, 2, 2, true, 31).drained(2, 50),
		"QoS 2 retransmitted": begun().publish(1, 2, 10).deliver(1, 2, 1, 1, false, 12).reconnect(20).
			deliver(1, 2, 2, 1, true, 30).ack(1, 2, 1, 33).drained(2, 50),
		"sent again by the publisher": begun().
			add(Event{Kind: Publish, T: 10, End: 40, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1}).
			deliver(1, 1, 1, 1, false, 12).connect("p", 2, 20, true).
			add(Event{Kind: Resent, T: 22, Client: "p", Conn: 2, Topic: "a/b", Seq: 1}).deliver(1, 1, 1, 2, false, 30).drained(1, 50),
		"sent again the other way round": unanswered().again(2, 2, 21).again(1, 2, 22).deliver(2, 1, 1, 1, false, 24).deliver(1, 1, 1, 2, false, 25).drained(1, 50),
		"sent again the other way round, on two connections": unanswered().again(2, 2, 21).connect("p", 3, 22, true).again(1, 3, 24).
			deliver(2, 1, 1, 1, false, 25).deliver(1, 1, 1, 2, false, 26).drained(1, 50),
		"a newer one before the one that is sent again": begun().
			add(Event{Kind: Publish, T: 10, End: 40, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1}).connect("p", 2, 20, true).
			add(Event{Kind: Publish, T: 21, End: 40, Client: "p", Conn: 2, Topic: "a/b", Seq: 2, QoS: 1}).
			add(Event{Kind: Resent, T: 22, Client: "p", Conn: 2, Topic: "a/b", Seq: 1}).
			deliver(2, 1, 1, 1, false, 24).deliver(1, 1, 1, 2, false, 25).drained(1, 50),
		"QoS 2 twice after a PUBLISH that followed its PUBREL": begun().publish(1, 2, 10).add(Event{Kind: Resent, T: 20, Client: "p", Conn: 2, Topic: "a/b", Seq: 1, Err: "after PUBREL"}).
			deliver(1, 2, 1, 1, false, 12).ack(1, 1, 1, 13).deliver(1, 2, 1, 2, false, 24).drained(1, 50),
		"unknown outcome, arrived": begun().
			add(Event{Kind: Publish, T: 10, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1}).deliver(1, 1, 1, 1, false, 12).drained(1, 50),
		"unknown outcome, lost": begun().
			add(Event{Kind: Publish, T: 10, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1}).drained(1, 50),
		"published while SUBSCRIBE was under way": begun().publish(1, 1, 6).drained(1, 50),
		"published while UNSUBSCRIBE was under way": begun().
			add(Event{Kind: Unsubscribe, T: 10, End: 20, Client: "s", Conn: 1, Topic: "a/#"}).
			publish(1, 1, 12).deliver(1, 1, 1, 1, false, 13).publish(2, 1, 13).drained(1, 50),
		"QoS 0 lost":            begun().publish(1, 0, 10).drained(1, 50),
		"subscription replaced": overlap.publish(1, 1, 9).deliver(1, 1, 1, 1, false, 12).drained(1, 50),
		"packet id used again":  begun().publish(1, 1, 10).publish(2, 1, 11).deliver(1, 1, 1, 1, false, 12).ack(1, 1, 1, 13).deliver(2, 1, 1, 1, false, 14).drained(1, 50),
		"retained copy beside live": begun().add(Event{Kind: Publish, T: 3, End: 7, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1, Retain: true}).
			deliver(1, 1, 1, 1, false, 8).
			add(Event{Kind: Deliver, T: 9, Client: "s", Conn: 1, Publisher: "p", Topic: "a/b", Seq: 1, QoS: 1, PacketID: 40000, Retain: true}).drained(1, 50),
		"duplicate after a fault": begun().add(Event{Kind: Fault, T: 9, Node: "n1", Err: "kill"}).publish(1, 1, 10).
			deliver(1, 1, 1, 1, false, 12).deliver(1, 1, 1, 2, false, 14).drained(1, 50),
		"transient session ends with its connection": new(story).connect("p", 1, 1, false).
			add(Event{Kind: Connect, T: 2, End: 3, Client: "s", Conn: 1}).subscribe(1, "a/#", 5).
			add(Event{Kind: Closed, T: 20, Client: "s", Conn: 1, Err: "lost"}).publish(1, 1, 10).
			add(Event{Kind: Connect, T: 30, End: 31, Client: "s", Conn: 2}).drained(2, 50),
		"clean start leaves no trace": begun().reconnect(20).add(Event{Kind: Connect, T: 30, End: 31, Client: "s", Conn: 3, Clean: true, Expiry: 3600}).
			publish(1, 1, 40).drained(3, 50),
		"may have expired": begun().add(Event{Kind: Closed, T: 20, Client: "s", Conn: 1}).publish(1, 1, 30_000_000).
			connect("s", 2, 40_000_000, false).drained(2, 40_000_100),
		"a CONNECT without an answer": begun().add(Event{Kind: Closed, T: 20, Client: "s", Conn: 1, Err: "lost"}).
			add(Event{Kind: Connect, T: 21, Client: "s", Conn: 2, Expiry: 3600}).connect("s", 3, 30, true).drained(3, 50),
	} {
		t.Run(name, func(t *testing.T) {
			if r := check(t, s); !r.OK() {
				t.Errorf("violations in a good history: %s", r)
			}
		})
	}
}

// Each planted history breaks one rule, and the report must name that rule and no other.
func TestPlantedViolations(t *testing.T) {
	refusedPublish := Event{Kind: Publish, T: 10, End: 12, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1, Code: 0x97}
	unsubscribed := Event{Kind: Unsubscribe, T: 6 + 2, End: 9, Client: "s", Conn: 1, Topic: "a/#"}
	for _, c := range []struct {
		name, rule string
		s          *story
	}{
		{"acked and lost", "I1", begun().publish(1, 1, 10).publish(2, 1, 20).deliver(2, 1, 1, 1, false, 21).drained(1, 50)},
		{"acked with no matching subscriber and lost", "I1", begun().add(Event{Kind: Publish, T: 10, End: 12, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1, Code: 0x10}).drained(1, 50)},
		{"lost while the session was offline", "I1", begun().add(Event{Kind: Closed, T: 9, Client: "s", Conn: 1, Err: "lost"}).publish(1, 1, 10).connect("s", 2, 20, true).drained(2, 50)},
		{"lost by a transient session that drained", "I1", new(story).connect("p", 1, 1, false).add(Event{Kind: Connect, T: 2, End: 3, Client: "s", Conn: 1}).subscribe(1, "a/#", 5).publish(1, 1, 10).drained(1, 50)},
		{"lost when a renewed subscription replaced the old one", "I1", begun().subscribe(1, "a/#", 10).publish(1, 1, 11).drained(1, 50)},
		{"QoS 2 twice", "I2", begun().publish(1, 2, 10).deliver(1, 2, 1, 1, false, 12).deliver(1, 2, 1, 2, false, 14).drained(1, 50)},
		{"QoS 2 with DUP under another id", "I2", begun().publish(1, 2, 10).deliver(1, 2, 1, 1, false, 12).reconnect(20).deliver(1, 2, 2, 2, true, 30).drained(2, 50)},
		{"QoS 2 after the handshake", "I2", begun().publish(1, 2, 10).deliver(1, 2, 1, 1, false, 12).ack(1, 1, 1, 14).reconnect(20).deliver(1, 2, 2, 1, true, 30).drained(2, 50)},
		{"QoS 1 twice for no reason", "I3", begun().publish(1, 1, 10).deliver(1, 1, 1, 1, false, 12).deliver(1, 1, 1, 2, false, 14).drained(1, 50)},
		{"QoS 1 twice because the publisher reconnected and sent nothing again", "I3", begun().publish(1, 1, 10).connect("p", 2, 11, true).
			deliver(1, 1, 1, 1, false, 12).deliver(1, 1, 1, 2, false, 14).drained(1, 50)},
		{"QoS 2 twice because the publisher sent it again", "I2", begun().publish(1, 2, 10).add(Event{Kind: Resent, T: 11, Client: "p", Conn: 2, Topic: "a/b", Seq: 1}).
			deliver(1, 2, 1, 1, false, 12).deliver(1, 2, 1, 2, false, 14).drained(1, 50)},
		{"retransmitted within a connection", "I3", begun().publish(1, 1, 10).deliver(1, 1, 1, 1, false, 12).deliver(1, 1, 1, 1, true, 14).drained(1, 50)},
		{"first receptions swapped", "I4", begun().publish(1, 1, 10).publish(2, 1, 11).deliver(2, 1, 1, 1, false, 13).deliver(1, 1, 1, 2, false, 14).drained(1, 50)},
		{"swapped, and sent again in order", "I4", unanswered().again(1, 2, 21).again(2, 2, 22).deliver(2, 1, 1, 1, false, 24).deliver(1, 1, 1, 2, false, 25).drained(1, 50)},
		{"swapped, sent again in order, and the first one once more", "I4", unanswered().again(1, 2, 21).again(2, 2, 22).connect("p", 3, 23, true).again(1, 3, 25).
			deliver(2, 1, 1, 1, false, 26).deliver(1, 1, 1, 2, false, 27).drained(1, 50)},
		{"swapped, and each sent again on a connection of its own, in order", "I4", unanswered().again(1, 2, 21).connect("p", 3, 22, true).again(2, 3, 24).
			deliver(2, 1, 1, 1, false, 26).deliver(1, 1, 1, 2, false, 27).drained(1, 50)},
		{"swapped, and a newer one sent after the one that is sent again", "I4", begun().
			add(Event{Kind: Publish, T: 10, End: 40, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1}).connect("p", 2, 20, true).
			add(Event{Kind: Resent, T: 21, Client: "p", Conn: 2, Topic: "a/b", Seq: 1}).
			add(Event{Kind: Publish, T: 22, End: 40, Client: "p", Conn: 2, Topic: "a/b", Seq: 2, QoS: 1}).
			deliver(2, 1, 1, 1, false, 24).deliver(1, 1, 1, 2, false, 25).drained(1, 50)},
		{"redelivery swapped", "I4", begun().publish(1, 1, 10).publish(2, 1, 11).deliver(1, 1, 1, 1, false, 13).deliver(2, 1, 1, 2, false, 14).reconnect(20).
			deliver(2, 1, 2, 2, true, 30).deliver(1, 1, 2, 1, true, 31).drained(2, 50)},
		{"after UNSUBACK", "I6", begun().add(unsubscribed).publish(1, 1, 10).deliver(1, 1, 1, 1, false, 13).drained(1, 50)},
		{"never published", "I7", begun().deliver(7, 1, 1, 1, false, 13).drained(1, 50)},
		{"not one of ours", "I7", begun().add(Event{Kind: Deliver, T: 10, Client: "s", Conn: 1, Topic: "a/b", Err: "hash"}).drained(1, 50)},
		{"before it was published", "I7", begun().deliver(1, 1, 1, 1, false, 8).publish(1, 1, 10).drained(1, 50)},
		{"refused and delivered", "I7", begun().add(refusedPublish).deliver(1, 1, 1, 1, false, 13).drained(1, 50)},
		{"no subscription", "I7", new(story).connect("p", 1, 1, false).connect("s", 1, 2, false).subscribe(1, "c/#", 4).publish(1, 1, 10).deliver(1, 1, 1, 1, false, 13).drained(1, 50)},
		{"wrong QoS", "I7", begun().publish(1, 1, 10).deliver(1, 2, 1, 1, false, 13).drained(1, 50)},
		{"retain flag from nowhere", "I7", begun().publish(1, 1, 10).deliver(1, 1, 1, 1, false, 12).
			add(Event{Kind: Deliver, T: 13, Client: "s", Conn: 1, Publisher: "p", Topic: "a/b", Seq: 1, QoS: 1, PacketID: 9, Retain: true}).drained(1, 50)},
		{"properties changed", "I7", begun().add(Event{Kind: Publish, T: 10, End: 12, Client: "p", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1, Props: "x"}).
			add(Event{Kind: Deliver, T: 13, Client: "s", Conn: 1, Publisher: "p", Topic: "a/b", Seq: 1, QoS: 1, PacketID: 9, Props: "y"}).drained(1, 50)},
		{"acked before a fence and sent again", "I8", begun().publish(1, 1, 10).deliver(1, 1, 1, 1, false, 12).ack(1, 1, 1, 13).subscribe(1, "fence", 14).reconnect(20).
			deliver(1, 1, 2, 1, true, 30).drained(2, 50)},
		{"session lost", "I10", begun().add(Event{Kind: Closed, T: 10, Client: "s", Conn: 1}).connect("s", 2, 20, false).drained(2, 50)},
		{"session from nowhere", "I10", new(story).connect("s", 1, 2, true)},
		{"session after a clean start", "I10", begun().add(Event{Kind: Connect, T: 20, End: 21, Client: "s", Conn: 2, Clean: true, Expiry: 9, Present: true}).drained(2, 50)},
		{"transient session kept", "I10", new(story).add(Event{Kind: Connect, T: 2, End: 3, Client: "s", Conn: 1}).add(Event{Kind: Closed, T: 4, Client: "s", Conn: 1}).
			add(Event{Kind: Connect, T: 6, End: 7, Client: "s", Conn: 2, Present: true})},
		{"packet id of a message in flight", "I17", begun().publish(1, 1, 10).publish(2, 1, 11).publish(3, 1, 12).deliver(1, 1, 1, 1, false, 13).ack(1, 1, 1, 14).
			deliver(2, 1, 1, 1, false, 15).deliver(3, 1, 1, 1, false, 16).drained(1, 50)},
		{"redelivered under another packet id", "I17", begun().publish(1, 1, 10).deliver(1, 1, 1, 1, false, 13).reconnect(20).deliver(1, 1, 2, 2, true, 30).drained(2, 50)},
	} {
		t.Run(c.rule+" "+c.name, func(t *testing.T) {
			r := check(t, c.s)
			if diff := cmp.Diff(map[string]int{c.rule: 1}, r.Count); diff != "" {
				t.Fatalf("violations (-want +got):\n%s\n%s", diff, r)
			}
			v := r.Violations[0]
			if len(v.Slice) == 0 || len(v.Slice) > 10 {
				t.Errorf("slice has %d events, want a few:\n%s", len(v.Slice), v)
			}
			if !slices.IsSortedFunc(v.Slice, func(a, b Event) int { return int(a.T - b.T) }) {
				t.Errorf("slice is not sorted by time:\n%s", v)
			}
			if !strings.Contains(r.String(), "VIOLATIONS") {
				t.Errorf("the report does not say so: %s", r)
			}
		})
	}
}

func TestUndrainedSessionsAreNamed(t *testing.T) {
	r := check(t, begun().publish(1, 1, 10))
	if diff := cmp.Diff([]string{"s"}, r.Undrained); diff != "" || !r.OK() {
		t.Errorf("undrained (-want +got):\n%s\n%s", diff, r)
	}
}

func TestImpossibleHistories(t *testing.T) {
	for name, s := range map[string]*story{
		"twice":         begun().publish(1, 1, 10).publish(1, 1, 11),
		"never sent":    begun().add(Event{Kind: Resent, T: 11, Client: "p", Topic: "a/b", Seq: 1}),
		"back in time":  new(story).add(Event{Kind: Publish, T: 10, End: 9, Client: "p"}),
		"unknown kinds": new(story).add(Event{Kind: "dance", T: 1}),
	} {
		if _, err := Check(s.events); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestHistoryFileRoundTrip(t *testing.T) {
	rec := NewRecorder()
	for _, e := range begun().publish(1, 2, 10).deliver(1, 2, 1, 7, true, 11).events {
		rec.Add(e)
	}
	rec.Add(Event{Kind: Fault, Node: "n1", Err: "kill"})
	var buf bytes.Buffer
	if err := Write(&buf, rec.Events()); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rec.Events(), got); diff != "" {
		t.Errorf("history after writing and reading (-want +got):\n%s", diff)
	}
	if _, err := Read(strings.NewReader(`{"k":`)); err == nil {
		t.Error("a torn history was accepted")
	}
}

func TestPayload(t *testing.T) {
	id := ID{Run: "r1", Publisher: "p-1", Topic: "a/b", Seq: 42}
	for _, size := range []int{0, 64, 256, 70000} {
		b := AppendPayload([]byte("before"), id, size)[len("before"):]
		if len(b) < size {
			t.Errorf("payload has %d bytes, want %d", len(b), size)
		}
		got, err := ParsePayload(b)
		if err != nil || got != id {
			t.Errorf("size %d: got %+v, %v", size, got, err)
		}
		for _, at := range []int{0, 4, 9, len(b) / 2, len(b) - 1} {
			bad := slices.Clone(b)
			bad[at] ^= 1
			if _, err := ParsePayload(bad); err == nil {
				t.Errorf("size %d: a flipped bit at %d was accepted", size, at)
			}
		}
	}
	for _, b := range []string{"", "F1", "F1|a|b|c|d|e|", "will"} {
		if _, err := ParsePayload([]byte(b)); err == nil {
			t.Errorf("%q was accepted", b)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/+", "a/b", true}, {"a/+", "a/b/c", false}, {"+/b", "a/b", true},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a/b", true}, {"#", "$SYS/a", false}, {"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true}, {"a", "a/b", false}, {"a/b", "a", false}, {"+", "", true}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("matches(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

func TestGaps(t *testing.T) {
	s := begun()
	for i := int64(0); i < 50; i++ {
		at := 10 + i*10
		if i >= 20 {
			at += 3000
		}
		s.publish(uint64(i+1), 1, at)
	}
	s.add(Event{Kind: Fault, T: 205, Node: "n1", Err: "kill"})
	s.add(Event{Kind: Fault, T: 5000, Node: "n1", Err: "start"})
	gaps := Gaps(s.events, func(f string) bool { return f == "kill" })
	want := []Gap{{Fault: "kill", Publisher: "p", For: 3010 * time.Millisecond}}
	if diff := cmp.Diff(want, gaps); diff != "" {
		t.Errorf("gaps (-want +got):\n%s", diff)
	}
	s.add(Event{Kind: Closed, T: 300, Client: "p", Conn: 1, Err: "lost"})
	if gaps := Gaps(s.events, func(string) bool { return true }); !gaps[0].Moved {
		t.Error("a publisher that lost its connection is not marked as moved")
	}
	if got := Quantiles(gaps); !strings.Contains(got, "p99 3.01s") {
		t.Errorf("quantiles: %s", got)
	}
}

// Linear time: a history of many events must not take long, whatever the machine.
func TestManyEvents(t *testing.T) {
	s := begun()
	const n = 100_000
	for i := range uint64(n) {
		s.publish(i+1, 1, int64(10+i)).deliver(i+1, 1, 1, uint16(i%32767+1), false, int64(12+i)).ack(i+1, 1, uint16(i%32767+1), int64(13+i))
	}
	s.drained(1, 10*n)
	start := time.Now()
	r := check(t, s)
	if !r.OK() || r.Deliveries != n || r.MustReach != n {
		t.Fatal(r)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("%d events took %v", len(s.events), d)
	}
}

func BenchmarkCheck(b *testing.B) {
	s := begun()
	for i := range uint64(20_000) {
		s.publish(i+1, 1, int64(10+i)).deliver(i+1, 1, 1, uint16(i%32767+1), false, int64(12+i)).ack(i+1, 1, uint16(i%32767+1), int64(13+i))
	}
	s.drained(1, 1_000_000)
	for b.Loop() {
		if r, err := Check(s.events); err != nil || !r.OK() {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(s.events)), "ns/event")
}

func ExampleReport() {
	var s story
	s.connect("s", 1, 2, true)
	r, _ := Check(s.events)
	fmt.Println(r.Violations[0])
	// Output:
	// I10: s connected to n1: session present is 1, and no session could exist
	//     {"k":"connect","t":2000000,"e":3000000,"c":"s","n":1,"node":"n1","present":true,"exp":3600}
}
