package checker

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const pool = "$share/pool/a/#"

// as lets another client do what the last event was about.
func (s *story) as(client string) *story {
	s.events[len(s.events)-1].Client = client
	return s
}

// member connects a durable member of the pool that grants a QoS.
func (s *story) member(client string, qos byte, at int64) *story {
	s.connect(client, 1, at, false)
	return s.add(Event{Kind: Subscribe, T: at + 2, End: at + 4, Client: client, Conn: 1, Topic: pool, QoS: qos, Code: qos})
}

// takes lets a member receive and acknowledge a message.
func (s *story) takes(client string, seq uint64, qos byte, conn int32, at int64) *story {
	return s.gets(client, seq, qos, conn, at).ack(seq, conn, uint16(seq), at+1).as(client)
}

func (s *story) gets(client string, seq uint64, qos byte, conn int32, at int64) *story {
	return s.deliver(seq, qos, conn, uint16(seq), false, at).as(client)
}

func (s *story) leaves(client string, at int64) *story {
	return s.add(Event{Kind: Closed, T: at, Client: client, Conn: 1, Err: "lost"})
}

func (s *story) rests(client string, conn int32, at int64) *story {
	return s.drained(conn, at).as(client)
}

// pooled has a publisher and two durable members, m1 and m2.
func pooled(qos byte) *story {
	return new(story).connect("p", 1, 1, false).member("m1", qos, 2).member("m2", qos, 3)
}

// steady lets the share work off a message a second between two times.
func (s *story) steady(from, to int64, seq uint64) *story {
	for at := from; at < to; at += 1000 {
		s.publish(seq, 1, at).takes("m1", seq, 1, 1, at+5)
		seq++
	}
	return s
}

func TestGoodShares(t *testing.T) {
	for name, s := range map[string]*story{
		"each to one":             pooled(2).publish(1, 2, 10).publish(2, 1, 12).takes("m1", 1, 2, 1, 14).takes("m2", 2, 1, 1, 15).rests("m1", 1, 50).rests("m2", 1, 50),
		"out of order":            pooled(1).publish(1, 1, 10).publish(2, 1, 12).takes("m1", 2, 1, 1, 16).takes("m1", 1, 1, 1, 18).rests("m1", 1, 50).rests("m2", 1, 50),
		"published before a join": new(story).connect("p", 1, 1, false).member("m1", 1, 2).publish(1, 1, 10).member("m2", 1, 20).takes("m2", 1, 1, 1, 30).rests("m1", 1, 50).rests("m2", 1, 50),
		"unfinished QoS 1 goes to another": pooled(1).publish(1, 1, 10).gets("m1", 1, 1, 1, 14).leaves("m1", 20).takes("m2", 1, 1, 1, 30).
			connect("m1", 2, 40, true).rests("m1", 2, 60).rests("m2", 1, 60),
		"QoS 2 waits for its member": pooled(2).publish(1, 2, 10).gets("m1", 1, 2, 1, 14).leaves("m1", 20).connect("m1", 2, 40, true).
			deliver(1, 2, 2, 1, true, 44).as("m1").ack(1, 2, 1, 46).as("m1").rests("m1", 2, 60).rests("m2", 1, 60),
		"nobody was a member": new(story).connect("p", 1, 1, false).publish(1, 1, 2).member("m1", 1, 20).rests("m1", 1, 50),
		"two shares and a client of its own": pooled(1).
			add(Event{Kind: Subscribe, T: 7, End: 8, Client: "m2", Conn: 1, Topic: "$share/other/a/b", QoS: 1, Code: 1}).
			connect("s", 1, 6, false).subscribe(1, "a/#", 8).publish(1, 1, 12).takes("m2", 1, 1, 1, 15).takes("s", 1, 1, 1, 15).
			rests("m1", 1, 50).rests("m2", 1, 50).drained(1, 50),
		"perhaps sent with QoS 2 to a session that ended": pooled(2).
			add(Event{Kind: Connect, T: 4, End: 5, Client: "t", Conn: 1}).add(Event{Kind: Subscribe, T: 6, End: 7, Client: "t", Conn: 1, Topic: pool, QoS: 2, Code: 2}).
			publish(1, 2, 10).leaves("t", 20).rests("m1", 1, 50).rests("m2", 1, 50),
		"nobody was connected": pooled(1).publish(1, 1, 10).takes("m1", 1, 1, 1, 14).leaves("m1", 20).leaves("m2", 20).publish(2, 1, 30).
			connect("m1", 2, 60_000, true).takes("m1", 2, 1, 2, 60_010).rests("m1", 2, 60_100),
		"a copy with QoS 1 is held up":                            lent(2).gets("t", 1, 1, 1, 40).leaves("t", 41).rests("m1", 1, 50).rests("m2", 1, 50),
		"a copy with QoS 1 is held up beyond a fence":             lent(1).fenced("m1", 22).gets("t", 1, 1, 1, 40).leaves("t", 41).rests("m1", 1, 50).rests("m2", 1, 50),
		"a message waits for a member that is away, others go on": pooled(1).publish(1, 1, 10).steady(1000, 30_000, 2).takes("m2", 1, 1, 1, 29_900).rests("m1", 1, 40_000).rests("m2", 1, 40_000),
	} {
		t.Run(name, func(t *testing.T) {
			if r := check(t, s); !r.OK() {
				t.Errorf("violations in a good history: %s", r)
			}
		})
	}
}

// fenced lets a member ask for something, and be answered.
func (s *story) fenced(client string, at int64) *story {
	return s.add(Event{Kind: Subscribe, T: at, End: at + 1, Client: client, Conn: 1, Topic: "fence", Code: 1})
}

// lent has a publisher, two durable members of a QoS, and t, a transient one with QoS 1. A fault comes, and m1 gets a message.
func lent(qos byte) *story {
	return pooled(qos).
		add(Event{Kind: Connect, T: 4, End: 5, Client: "t", Conn: 1}).add(Event{Kind: Subscribe, T: 6, End: 7, Client: "t", Conn: 1, Topic: pool, QoS: 1, Code: 1}).
		publish(1, qos, 10).add(Event{Kind: Fault, T: 12, Node: "n1", Err: "isolate"}).takes("m1", 1, qos, 1, 20)
}

func TestPlantedShareViolations(t *testing.T) {
	for name, s := range map[string]*story{
		"QoS 2 to two members":                       pooled(2).publish(1, 2, 10).takes("m1", 1, 2, 1, 14).takes("m2", 1, 2, 1, 16).rests("m1", 1, 50).rests("m2", 1, 50),
		"QoS 2 to another after its member had left": pooled(2).publish(1, 2, 10).gets("m1", 1, 2, 1, 14).leaves("m1", 20).takes("m2", 1, 2, 1, 30).connect("m1", 2, 40, true).rests("m1", 2, 60).rests("m2", 1, 60),
		"QoS 2 to two members after a fault": pooled(2).publish(1, 2, 10).add(Event{Kind: Fault, T: 12, Node: "n1", Err: "isolate"}).
			takes("m1", 1, 2, 1, 14).takes("m2", 1, 2, 1, 16).rests("m1", 1, 50).rests("m2", 1, 50),
		"QoS 2 and then to another with QoS 1, no fault": pooled(2).
			add(Event{Kind: Connect, T: 4, End: 5, Client: "t", Conn: 1}).add(Event{Kind: Subscribe, T: 6, End: 7, Client: "t", Conn: 1, Topic: pool, QoS: 1, Code: 1}).
			publish(1, 2, 10).takes("m1", 1, 2, 1, 20).gets("t", 1, 1, 1, 40).leaves("t", 41).rests("m1", 1, 50).rests("m2", 1, 50),
		"QoS 2 and then to a later connection with QoS 1": pooled(2).member("t", 1, 4).publish(1, 2, 10).takes("m1", 1, 2, 1, 20).leaves("t", 21).
			connect("t", 2, 22, true).add(Event{Kind: Fault, T: 24, Node: "n1", Err: "isolate"}).gets("t", 1, 1, 2, 40).rests("m1", 1, 50).rests("m2", 1, 50).rests("t", 2, 50),
		"QoS 2 and then to a connection that is answered": lent(2).gets("t", 1, 1, 1, 40).
			add(Event{Kind: Subscribe, T: 42, End: 43, Client: "t", Conn: 1, Topic: pool, QoS: 1, Code: 1}).leaves("t", 44).rests("m1", 1, 50).rests("m2", 1, 50),
		"QoS 2 and then to a connection that gets what is newer": lent(2).gets("t", 1, 1, 1, 40).publish(2, 1, 42).takes("t", 2, 1, 1, 45).leaves("t", 46).rests("m1", 1, 50).rests("m2", 1, 50),
		"QoS 1 to two members for no reason":                     pooled(1).publish(1, 1, 10).takes("m1", 1, 1, 1, 14).takes("m2", 1, 1, 1, 16).rests("m1", 1, 50).rests("m2", 1, 50),
		"acknowledged, fenced, and to a connection that is answered": lent(1).fenced("m1", 22).gets("t", 1, 1, 1, 40).fenced("t", 42).leaves("t", 44).
			rests("m1", 1, 50).rests("m2", 1, 50),
		"acknowledged, fenced, and to another": pooled(1).publish(1, 1, 10).takes("m1", 1, 1, 1, 14).fenced("m1", 16).
			leaves("m1", 20).takes("m2", 1, 1, 1, 30).connect("m1", 2, 40, true).rests("m1", 2, 60).rests("m2", 1, 60),
		"acknowledged and lost": pooled(1).publish(1, 1, 10).publish(2, 1, 12).takes("m1", 2, 1, 1, 14).rests("m1", 1, 50).rests("m2", 1, 50),
		"lost with a member that is gone for good": pooled(1).publish(1, 1, 10).
			add(Event{Kind: Connect, T: 11, End: 12, Client: "t", Conn: 1}).leaves("t", 20).rests("m1", 1, 50).rests("m2", 1, 50),
		"received and never finished": pooled(1).publish(1, 1, 10).publish(2, 1, 12).gets("m1", 1, 1, 1, 14).takes("m1", 2, 1, 1, 16).rests("m1", 1, 50).rests("m2", 1, 50),
		"stands still":                pooled(1).steady(1000, 10_000, 1).publish(50, 1, 10_000).publish(51, 1, 12_000).takes("m2", 50, 1, 1, 15_500).takes("m2", 51, 1, 1, 15_510).rests("m1", 1, 50_000).rests("m2", 1, 50_000),
		"stands still for longer than a fault explains": pooled(1).steady(1000, 10_000, 1).add(Event{Kind: Fault, T: 10_100, Node: "n1", Err: "kill"}).publish(50, 1, 10_200).takes("m2", 50, 1, 1, 17_800).
			rests("m1", 1, 50_000).rests("m2", 1, 50_000),
	} {
		t.Run(name, func(t *testing.T) {
			r := check(t, s)
			if diff := cmp.Diff(map[string]int{"I16": 1}, r.Count); diff != "" {
				t.Fatalf("violations (-want +got):\n%s\n%s", diff, r)
			}
			if v := r.Violations[0]; len(v.Slice) == 0 || !strings.Contains(r.String(), pool) {
				t.Errorf("the report does not show it: %s", r)
			}
		})
	}
}

// TestSlowMachine: what a machine may have stood still does not count as a stall of the share, and no more than that.
func TestSlowMachine(t *testing.T) {
	s := pooled(1).steady(1000, 10_000, 1).publish(50, 1, 10_000).publish(51, 1, 12_000).takes("m2", 50, 1, 1, 15_500).takes("m2", 51, 1, 1, 15_510).
		rests("m1", 1, 50_000).rests("m2", 1, 50_000)
	for standstill, stalls := range map[time.Duration]int{0: 1, 400 * time.Millisecond: 1, 600 * time.Millisecond: 0} {
		r, err := CheckSlow(s.events, standstill)
		if err != nil || r.Count["I16"] != stalls {
			t.Errorf("a machine that stands still for %v: %d stalls, want %d, %v", standstill, r.Count["I16"], stalls, err)
		}
	}
}

func TestShareFigures(t *testing.T) {
	s := pooled(1).steady(1000, 10_000, 1).add(Event{Kind: Fault, T: 10_100, Node: "n1", Err: "kill"}).publish(50, 1, 10_200).takes("m2", 50, 1, 1, 15_202).
		rests("m1", 1, 50_000).rests("m2", 1, 50_000)
	r := check(t, s)
	if !r.OK() || r.ShareMust != 10 {
		t.Fatalf("%d promised: %s", r.ShareMust, r)
	}
	if got, want := r.Stalls[0], (Stall{Share: pool, For: 5 * time.Second, Fault: true}); got != want {
		t.Errorf("longest stall %+v, want %+v", got, want)
	}
	if !strings.Contains(r.String(), "5s (fault)") {
		t.Errorf("the report does not name it: %s", r)
	}
}
