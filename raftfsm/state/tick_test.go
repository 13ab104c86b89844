package state_test

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// One Tick does a bounded part of what is due, and NextDue says that there is more.
func TestTickIsBounded(t *testing.T) {
	for _, cold := range []bool{false, true} {
		r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
		a := r.connect("a", func(c *command.Connect) { c.ExpiryS = command.NeverExpires })
		r.do(sub(a, filters(1, "x")...), disc(a, command.DisconnectNormal, 0))
		const n = 25_000
		for range n / 100 {
			var cmds []byte
			for range 100 {
				cmds = append(cmds, pub("x", "p", 1, expiry(10))...)
			}
			r.entry(command.AppendBatch(nil, &command.BatchHeader{}, cmds))
		}
		if cold {
			r.writeBack()
		}
		r.now += 10_000
		for left := n - 10_000; ; left -= 10_000 {
			r.one(command.OK, tick)
			if in := r.s.Stats().InboxMessages; in != uint64(max(left, 0)) {
				t.Fatalf("cold %v: %d are left, want %d", cold, in, max(left, 0))
			}
			due := r.s.NextDue()
			if left <= 0 {
				if due != 0 {
					t.Fatalf("cold %v: due %d with nothing left", cold, due)
				}
				break
			}
			if due == 0 || due > r.now {
				t.Fatalf("cold %v: due %d at %d, with %d left", cold, due, r.now, left)
			}
		}
		if d := r.s.Stats().Dropped.Expired; d != n {
			t.Fatalf("%d expired", d)
		}
	}
}

// I15: 1,000 clients with wills on a node that is lost: each fires once; with a delay,
// only those of clients that are not back in time. The pump gets them in order,
// and those that expire say what remains.
func TestManyWills_I15(t *testing.T) {
	for _, delay := range []uint32{0, 5} {
		r := newRig(t, state.Options{})
		will := func(c *command.Connect) {
			m := command.Message{Topic: []byte("will/" + c.Key.ClientID), Payload: []byte("gone"), QoS: 1, HasExpiry: true, Expiry: 60}
			c.HasWill, c.Will = true, command.Will{Message: m.Append(nil), DelayS: delay}
		}
		for i := range 1000 {
			r.connect(fmt.Sprintf("c%04d", i), will)
		}
		r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1}))
		want := 1000
		if delay > 0 {
			want = 500
			for i := range 500 {
				r.connect(fmt.Sprintf("c%04d", 2*i), func(c *command.Connect) { c.Node = "n2" })
			}
			r.now += int64(delay) * 1000
			r.one(command.OK, tick)
		}
		r.now += 20_000
		r.do()
		seen := map[string]bool{}
		after := uint64(0)
		for {
			page := r.s.Origins(after, 100)
			if len(page) == 0 {
				break
			}
			for _, o := range page {
				if o.Seq <= after || !o.Will || seen[string(o.Message.Topic)] || o.Message.Expiry != 40 {
					t.Fatalf("originated %+v", o)
				}
				seen[string(o.Message.Topic)] = true
				after = o.Seq
			}
		}
		if len(seen) != want {
			t.Fatalf("%d wills, want %d", len(seen), want)
		}
		r.one(command.OK, command.AppendOriginDone(nil, &command.OriginDone{Seqs: []command.Range{{From: 1, To: after}}}))
		if r.s.OriginLow() != after+1 || r.s.Stats().Originated != 0 {
			t.Fatal("wills are left")
		}
	}
}

// What a Tick has looked at stays as it is, hot or cold: replicas restart at
// different times (I20).
func TestTickLooksOnce_I20(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.do(sub(a, filters(1, "x")...), pub("x", "1", 1, expiry(10)), pub("x", "2", 1, expiry(20)))
	r.now += 10_000
	r.one(command.OK, tick) // the first was perhaps sent
	r.writeBack()
	r.one(command.OK, disc(a, command.DisconnectLost, 0)) // it was not
	r.now += 10_000
	r.one(command.OK, tick)
	if d := r.s.Stats().Dropped.Expired; d != 1 {
		t.Fatalf("%d expired", d)
	}
	hot := r.digest()
	r.restart()
	if r.digest() != hot {
		t.Fatal("another digest after a restart")
	}
}
