package state_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// I7: overlapping subscriptions give one entry, with the highest QoS and all
// identifiers; the effective QoS is the lower one.
func TestOverlappingSubscriptions_I7(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a,
		command.Subscription{Filter: "x/#", QoS: 0, ID: 9},
		command.Subscription{Filter: "x/+", QoS: 2, ID: 4, RetainAsPublished: true},
		command.Subscription{Filter: "x/1", QoS: 1, ID: 4},
		command.Subscription{Filter: "q0", QoS: 0, ID: 1},
		command.Subscription{Filter: "me", QoS: 1, NoLocal: true}))
	r.one(command.OK, pub("x/1", "p1", 2, retain))
	r.one(command.OK, pub("x/1", "p2", 1))
	r.one(command.NoMatch, pub("x/1", "p3", 0))
	r.one(command.NoMatch, pub("x/1/2", "p4", 2)) // its highest granted QoS is 0
	r.one(command.NoMatch, pub("q0", "p5", 2))
	r.one(command.NoMatch, pub("me", "p6", 1, func(m *command.Message) { m.Publisher = "a" }))
	wantInbox(t, r, a, "1 x/1=p1 q2 retain [4 9]", "2 x/1=p2 q1 [4 9]")
	r.writeBack()
	r.restart()
	wantInbox(t, r, a, "1 x/1=p1 q2 retain [4 9]", "2 x/1=p2 q1 [4 9]")
}

// I3 I4: what was perhaps sent is marked DUP on the next connection, in order.
func TestDupAndOrder_I3_I4(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*rig, command.SessionRef)
		dups int
	}{
		{"disconnect tells", func(r *rig, a command.SessionRef) { r.one(command.OK, disc(a, command.DisconnectLost, 2)) }, 2},
		{"ack told", func(r *rig, a command.SessionRef) {
			r.one(command.OK, ack(a, 3))
			r.one(command.OK, disc(a, command.DisconnectLost, 0))
		}, 3},
		{"node lost", func(r *rig, a command.SessionRef) {
			r.one(command.OK, ack(a, 1))
			r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1}))
		}, 4},
		{"takeover", func(_ *rig, _ command.SessionRef) {}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, state.Options{})
			a := r.connect("a", func(c *command.Connect) { c.ReceiveMax = 3 })
			r.one(command.OK, sub(a, filters(1, "x")...))
			for i := range 6 {
				r.one(command.OK, pub("x", fmt.Sprint("p", i), 1))
			}
			tc.end(r, a)
			a = r.connect("a")
			var want []string
			for i := range 6 {
				s := fmt.Sprintf("%d x=p%d q1", i+1, i)
				if i < tc.dups {
					s += " dup"
				}
				want = append(want, s)
			}
			wantInbox(t, r, a, want...)
		})
	}
}

// I2: outbound QoS 2 progress survives, and only the sequence is kept after PUBREC.
func TestOutboundQoS2_I2(t *testing.T) {
	for _, wb := range []bool{false, true} {
		r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
		a := r.connect("a")
		r.one(command.OK, sub(a, filters(2, "x")...))
		for i := range 4 {
			r.one(command.OK, pub("x", fmt.Sprint("p", i), 2))
		}
		if wb {
			r.writeBack()
		}
		r.one(command.OK, recv(a, 4, 2, 3))
		r.one(command.OK, ack(a, 4, 3))
		if wb {
			r.writeBack()
			r.restart()
		}
		wantInbox(t, r, a, "1 x=p0 q2", "2 received", "4 x=p3 q2")
		if in, _ := r.s.Session(a.SessionKey); in.InboxMessages != 3 || in.InboxReceived != 1 {
			t.Fatalf("session %+v", in)
		}
	}
}

// I12: expired messages are removed by a tick and counted, but for those that were
// perhaps sent: they are delivered to the end.
func TestMessageExpiry_I12_v5_MQTT_4_4_0_1(t *testing.T) {
	for _, where := range []string{"hot", "cold", "reloaded"} {
		r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
		a := r.connect("a", func(c *command.Connect) { c.ReceiveMax = 1 })
		r.one(command.OK, sub(a, filters(2, "x")...))
		r.one(command.OK, pub("x", "p0", 2, expiry(10)))
		r.one(command.OK, pub("x", "p1", 2, expiry(10)))
		r.one(command.OK, pub("x", "p2", 1, expiry(20)))
		r.one(command.OK, pub("x", "p3", 1))
		r.one(command.OK, disc(a, command.DisconnectLost, 1))
		a = r.connect("a")
		if where != "hot" {
			r.writeBack()
		}
		if where == "reloaded" {
			r.restart()
		}
		if due := r.s.NextDue(); due != r.now+10_000 {
			t.Fatalf("%s: due %d", where, due)
		}
		if d := r.fetch(a)[0]; d.ExpiresAt != r.now+10_000 {
			t.Fatalf("%s: expires at %d", where, d.ExpiresAt)
		}
		r.now += 10_000
		r.do() // time passes without a tick
		wantInbox(t, r, a, "1 x=p0 q2 dup", "2 x=p1 q2", "3 x=p2 q1", "4 x=p3 q1")
		r.one(command.OK, disc(a, command.DisconnectNormal, 1))
		r.one(command.OK, tick)
		a = r.connect("a")
		wantInbox(t, r, a, "1 x=p0 q2 dup", "3 x=p2 q1", "4 x=p3 q1")
		if st := r.s.Stats(); st.Dropped.Expired != 1 || st.InboxMessages != 3 {
			t.Fatalf("%s: stats %+v", where, st)
		}
		r.now += 10_000
		r.one(command.OK, disc(a, command.DisconnectNormal, 1))
		r.one(command.OK, tick)
		a = r.connect("a")
		wantInbox(t, r, a, "1 x=p0 q2 dup", "4 x=p3 q1")
		r.one(command.OK, ack(a, 4, 1, 4))
		if due := r.s.NextDue(); due != 0 {
			t.Fatalf("%s: due %d with nothing to do", where, due)
		}
	}
}

// I29: the overflow policies, each drop counted.
func TestOverflow_I29(t *testing.T) {
	fill := func(policy command.Overflow) (*rig, command.SessionRef) {
		r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1, Settings: command.ShardSettings{InboxMaxMessages: 4, InboxOverflow: policy}})
		a := r.connect("a", func(c *command.Connect) { c.ReceiveMax = 2 })
		r.one(command.OK, sub(a, filters(1, "x")...))
		for i := range 3 {
			r.one(command.OK, pub("x", fmt.Sprint("p", i), 1))
		}
		if len(r.fx.Full) != 0 || r.s.IsFull(a.SessionKey) {
			t.Fatal("full too early")
		}
		r.one(command.OK, pub("x", "p3", 1))
		if d := cmp.Diff([]state.FullChange{{Key: a.SessionKey, Full: true}}, r.fx.Full); d != "" {
			t.Fatal(d)
		}
		return r, a
	}

	r, a := fill(command.OverflowRefuse)
	if k, refuses := r.s.Refuses("", []byte("x"), "p"); !refuses || k != a.SessionKey {
		t.Fatal("a publish is not refused beforehand")
	}
	if _, refuses := r.s.Refuses("", []byte("y"), "p"); refuses {
		t.Fatal("another topic is refused")
	}
	r.one(command.OK, pub("x", "p4", 1)) // was under way: stored
	wantInbox(t, r, a, "1 x=p0 q1", "2 x=p1 q1", "3 x=p2 q1", "4 x=p3 q1", "5 x=p4 q1")
	r.writeBack()
	r.restart()
	if d := cmp.Diff([]command.SessionKey{a.SessionKey}, r.s.FullSessions()); d != "" {
		t.Fatal(d)
	}
	r.one(command.OK, ack(a, 5, 1, 2))
	if d := cmp.Diff([]state.FullChange{{Key: a.SessionKey}}, r.fx.Full); d != "" {
		t.Fatal(d)
	}
	if _, refuses := r.s.Refuses("", []byte("x"), "p"); refuses || r.s.Stats().Dropped != (state.Dropped{}) {
		t.Fatal("still refused, or something dropped")
	}

	r, a = fill(command.OverflowDropOldest)
	r.writeBack() // the oldest are cold
	r.one(command.OK, pub("x", "p4", 1))
	// The first two were perhaps sent: they are not the oldest that wait.
	wantInbox(t, r, a, "1 x=p0 q1", "2 x=p1 q1", "4 x=p3 q1", "5 x=p4 q1")
	if st := r.s.Stats(); st.Dropped.InboxFull != 1 {
		t.Fatalf("stats %+v", st)
	}

	r, a = fill(command.OverflowEndSession)
	r.one(command.OK, pub("x", "p4", 1))
	if _, ok := r.s.Session(a.SessionKey); ok || len(r.fx.Ended) != 1 || len(r.fx.Kicks) != 1 || r.fx.Kicks[0].Reason != state.KickOverflow {
		t.Fatalf("not ended: %+v", r.fx)
	}
	if st := r.s.Stats(); st.Dropped.SessionEnded != 5 || st.InboxMessages != 0 || st.FullSessions != 0 {
		t.Fatalf("stats %+v", st)
	}
}

// What is acknowledged before a write-back never touches the store (DESIGN 6).
func TestAcknowledgedNeverReachesTheStore(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	b := r.connect("b")
	r.one(command.OK, sub(a, filters(1, "x")...))
	r.one(command.OK, sub(b, filters(1, "x")...))
	for i := range 100 {
		r.one(command.OK, pub("x", "p", 1))
		r.one(command.OK, ack(a, uint64(i+1), uint64(i+1)))
		r.one(command.OK, ack(b, uint64(i+1), uint64(i+1)))
	}
	r.one(command.OK, pub("x", "p", 1))
	r.writeBack()
	if n := r.st.Count("I") + 2*r.st.Count("P"); n != 4 {
		t.Fatalf("%d entries, %d messages", r.st.Count("I"), r.st.Count("P"))
	}
	r.one(command.OK, ack(a, 101, 101))
	r.one(command.OK, ack(b, 101, 101))
	r.writeBack()
	if n := r.st.Count("I") + r.st.Count("P") + r.st.Count("C"); n != 0 {
		t.Fatalf("%d records are left", n)
	}
}

// A message is stored once: 1 KiB for 10,000 inboxes adds less than 3 MiB, in memory
// and in the store.
func TestPayloadStoredOnce(t *testing.T) {
	r := newRig(t, state.Options{})
	for i := range 10_000 {
		r.one(command.OK, sub(r.connect(fmt.Sprint("c", i)), filters(1, "x")...))
	}
	r.writeBack()
	before, hot := r.st.Bytes(), r.s.Stats().HotBytes
	r.one(command.OK, pub("x", string(make([]byte, 1024)), 1))
	if n := r.s.Stats().HotBytes - hot; n > 3<<20 {
		t.Fatalf("%d bytes of memory", n)
	}
	r.writeBack()
	if n := r.st.Bytes() - before; n > 3<<20 || r.st.Count("P") != 1 {
		t.Fatalf("%d bytes in the store, %d messages", n, r.st.Count("P"))
	}
}

// After a write-back nothing in memory aliases Raft entries any more.
func TestWriteBackSettles(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x")...))
	r.one(command.OK, pub("x", "p", 1))
	r.one(command.OK, command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 1, Message: msg("x", "p", 2)}))
	r.one(command.OK, command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 2, Message: msg("x", "p", 2)}))
	r.one(command.OK, command.AppendRelease(nil, &command.Release{Ref: a, PacketID: 1}))
	r.one(command.OK, pub("r", "p", 1, retain))
	r.writeBack()
	for _, e := range r.log {
		for i := range e {
			e[i] = 0xff
		}
	}
	wantInbox(t, r, a, "1 x=p q1")
	if got := r.s.Origins(0, 1); string(got[0].Message.Payload) != "p" {
		t.Fatalf("originated %+v", got)
	}
	if got, err := r.s.Retained(state.RetainedQuery{Filter: "#", Limit: 9}); err != nil || len(got.Items) != 1 || string(got.Items[0].Msg.Payload) != "p" {
		t.Fatalf("retained %+v, %v", got, err)
	}
	if subs, _ := r.s.Subscriptions(a.SessionKey); subs[0].Filter != "x" {
		t.Fatalf("subscriptions %+v", subs)
	}
	r.index++ // the log is broken: only the store counts now
	if _, got, err := r.s.Verify(); err != nil || func() bool { _, d := r.s.Digest(); return d != got }() {
		t.Fatalf("verify: %v", err)
	}
}

// The memory of clean entries keeps its budget, offline sessions keep few (I29).
func TestEviction_I29(t *testing.T) {
	r := newRig(t, state.Options{HotBytes: 100 << 10, HotOffline: 16})
	on, off := r.connect("on"), r.connect("off")
	r.one(command.OK, sub(on, filters(1, "x")...))
	r.one(command.OK, sub(off, filters(1, "x")...))
	r.one(command.OK, disc(off, command.DisconnectNormal, 0))
	for range 100 {
		r.one(command.OK, pub("x", "p", 1))
	}
	r.writeBack()
	if st := r.s.Stats(); st.HotMessages != 116 || st.InboxMessages != 200 || st.DirtyBytes != 0 {
		t.Fatalf("stats %+v", st)
	}
	for range 1000 {
		r.one(command.OK, pub("x", "p", 1))
	}
	r.writeBack()
	if st := r.s.Stats(); st.HotBytes > 100<<10 || st.InboxMessages != 2200 {
		t.Fatalf("stats %+v", st)
	}
	if got := fetchAll(t, r.s, on, 100); len(got) != 1100 || got[1099].Seq != 1100 {
		t.Fatalf("%d messages", len(got))
	}
}

// Bytes of a queued message, in memory and in the store.
func TestBytesPerQueuedMessage(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x")...))
	before := r.st.Bytes()
	body := len(msg("x", string(bytes.Repeat([]byte("p"), 200)), 1))
	for range 100 {
		r.one(command.OK, pub("x", string(bytes.Repeat([]byte("p"), 200)), 1))
	}
	r.writeBack()
	over := (r.st.Bytes()-before)/100 - body
	t.Logf("a queued message costs %d bytes beside its own %d in the store, about %d in memory while hot", over, body, r.s.Stats().HotBytes/100-int64(body))
	if over > 20 {
		t.Fatalf("%d bytes more than the message", over)
	}
}
