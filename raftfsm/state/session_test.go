package state_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

func at(node string, inc uint64) func(*command.Connect) {
	return func(c *command.Connect) { c.Node, c.Incarnation = node, inc }
}

func clean(c *command.Connect)     { c.CleanStart = true }
func transient(c *command.Connect) { c.ExpiryS = 0 }

func withWill(delay uint32) func(*command.Connect) {
	return func(c *command.Connect) {
		c.HasWill, c.Will = true, command.Will{Message: msg("will", "gone", 1), DelayS: delay}
	}
}

func wantInbox(t *testing.T, r *rig, ref command.SessionRef, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), shows(r.fetch(ref))); d != "" {
		t.Fatalf("inbox (-want +got):\n%s", d)
	}
}

// I9: an old epoch changes nothing, whatever it sends.
func TestOldEpochChangesNothing_I9(t *testing.T) {
	r := newRig(t, state.Options{})
	old := r.connect("a")
	r.one(command.OK, sub(old, filters(2, "x")...))
	now := r.connect("a", at("n2", 5))
	if now.Epoch <= old.Epoch {
		t.Fatalf("epoch %d after %d", now.Epoch, old.Epoch)
	}
	want := []state.Kick{{Key: old.SessionKey, Epoch: old.Epoch, Node: "n1", Incarnation: 1, Reason: state.KickTakeover}}
	if d := cmp.Diff(want, r.fx.Kicks); d != "" {
		t.Fatal(d)
	}
	r.one(command.OK, pub("x", "p", 2))
	for _, cmd := range [][]byte{
		ack(old, 1, 1), recv(old, 1, 1), disc(old, command.DisconnectNormal, 1), sub(old, filters(1, "y")...),
		command.AppendUnsubscribe(nil, &command.Unsubscribe{Ref: old, Filters: []string{"x"}}),
		command.AppendReceive(nil, &command.Receive{Ref: old, PacketID: 1, Message: msg("x", "p", 2)}),
		command.AppendRelease(nil, &command.Release{Ref: old, PacketID: 1}),
		command.AppendEndSession(nil, &command.EndSession{Key: old.SessionKey, Epoch: old.Epoch}),
	} {
		r.one(command.StaleEpoch, cmd)
	}
	wantInbox(t, r, now, "1 x=p q2")
	if in, _ := r.s.Session(now.SessionKey); !in.Connected || in.Owner.Node != "n2" || in.Subscriptions != 1 {
		t.Fatalf("session %+v", in)
	}
}

// I9: an epoch is never given twice, not even when the session ended and the
// machine restarted in between.
func TestEpochsAreNeverReused_I9(t *testing.T) {
	r := newRig(t, state.Options{})
	last := uint64(0)
	for i := range 5 {
		ref := r.connect("a", clean)
		if ref.Epoch <= last {
			t.Fatalf("epoch %d after %d", ref.Epoch, last)
		}
		last = ref.Epoch
		r.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: ref.SessionKey}))
		if i%2 == 0 {
			r.writeBack()
		}
		r.restart()
	}
}

// I10: session present only for what is there, with everything of it.
func TestSessionPresent_I10(t *testing.T) {
	r := newRig(t, state.Options{})
	res := r.one(command.OK, conn("a"))
	if res.Present || res.Index != r.index {
		t.Fatalf("first connect: %+v", res)
	}
	a := command.SessionRef{SessionKey: key("a"), Epoch: res.Epoch}
	r.one(command.OK, sub(a, command.Subscription{Filter: "x", QoS: 1, ID: 7, RetainAsPublished: true}))
	r.one(command.OK, command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 9, Message: msg("y", "p", 2)}))
	r.one(command.OK, disc(a, command.DisconnectNormal, 0))
	r.one(command.OK, pub("x", "p", 1))
	r.writeBack()
	r.restart()
	res = r.one(command.OK, conn("a"))
	want := command.Result{
		Code: command.OK, Present: true, Epoch: res.Epoch, ExpiryS: 3600, Index: r.index, AwaitingRelease: []uint16{9},
		Subs: []command.Subscription{{Filter: "x", QoS: 1, ID: 7, RetainAsPublished: true}},
	}
	if d := cmp.Diff(want, res); d != "" {
		t.Fatal(d)
	}
	wantInbox(t, r, command.SessionRef{SessionKey: key("a"), Epoch: res.Epoch}, "1 x=p q1 [7]")

	res = r.one(command.OK, conn("a", clean))
	a = command.SessionRef{SessionKey: key("a"), Epoch: res.Epoch}
	if res.Present || len(res.Subs) > 0 || len(res.AwaitingRelease) > 0 {
		t.Fatalf("clean start: %+v", res)
	}
	r.one(command.NoMatch, pub("x", "p", 1))
	wantInbox(t, r, a)
}

// I10 I12: a session whose time is over is gone, even before a tick says so.
func TestConnectAfterExpiry_I10(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, disc(a, command.DisconnectNormal, 0))
	r.now += 3600_000
	if res := r.one(command.OK, conn("a")); res.Present {
		t.Fatal("an expired session was resumed")
	}
}

// I12: expiry counts from the committed disconnect, by the group's clock, which
// never runs back.
func TestSessionExpiry_I12(t *testing.T) {
	r := newRig(t, state.Options{Settings: command.ShardSettings{MaxSessionExpiryS: 100}})
	res := r.one(command.OK, conn("a"))
	if res.ExpiryS != 100 {
		t.Fatalf("expiry %d is not capped", res.ExpiryS)
	}
	a := command.SessionRef{SessionKey: key("a"), Epoch: res.Epoch}
	r.now += 500_000
	r.one(command.OK, tick)
	r.one(command.OK, disc(a, command.DisconnectLost, 0))
	if due := r.s.NextDue(); due != r.now+100_000 {
		t.Fatalf("due %d, want %d", due, r.now+100_000)
	}
	start := r.now
	r.now = start - 600_000 // a leader with a slow clock
	r.one(command.OK, tick)
	if r.s.Clock() != start {
		t.Fatal("the clock ran back")
	}
	r.now = start + 99_999
	r.one(command.OK, tick)
	if _, ok := r.s.Session(a.SessionKey); !ok {
		t.Fatal("expired too early")
	}
	r.now = start + 100_000
	r.one(command.OK, tick)
	if _, ok := r.s.Session(a.SessionKey); ok || len(r.fx.Ended) != 1 {
		t.Fatal("not expired")
	}
	r.one(command.UnknownSession, ack(a, 1, 1))
}

func TestTransientSessionEndsWithItsConnection(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a", transient)
	r.one(command.OK, sub(a, filters(2, "x")...))
	want := []router.RouteChange{{Filter: "x", Nodes: []router.NodeRoute{{Node: "n1", Incarnation: 1, Any: true, Transient: true}}}}
	if d := cmp.Diff(want, r.fx.Routes); d != "" {
		t.Fatal(d)
	}
	r.one(command.NoMatch, pub("x", "p", 1)) // served by forwarding
	r.one(command.OK, disc(a, command.DisconnectLost, 0))
	if d := cmp.Diff([]router.RouteChange{{Filter: "x"}}, r.fx.Routes); d != "" {
		t.Fatal(d)
	}
	if st := r.s.Stats(); st.Sessions != 0 || st.Subscriptions != 0 || st.Routes != 0 {
		t.Fatalf("left over: %+v", st)
	}
}

func TestRoutesOfADurableSession(t *testing.T) {
	r := newRig(t, state.Options{})
	node := func(n string, inc uint64, transient bool) []router.NodeRoute {
		return []router.NodeRoute{{Node: n, Incarnation: inc, Any: true, Transient: transient}}
	}
	wantRoutes := func(what string, want ...router.RouteChange) {
		t.Helper()
		if d := cmp.Diff(want, r.fx.Routes); d != "" {
			t.Fatalf("%s (-want +got):\n%s", what, d)
		}
	}
	a := r.connect("a")
	r.one(command.OK, sub(a, append(filters(1, "x"), filters(0, "z")...)...))
	wantRoutes("subscribe", router.RouteChange{Filter: "x", Durable: true, Nodes: node("n1", 1, false)},
		router.RouteChange{Filter: "z", Nodes: node("n1", 1, true)})
	b := r.connect("b")
	r.one(command.OK, sub(b, filters(2, "x")...))
	wantRoutes("the same again")
	r.one(command.OK, disc(a, command.DisconnectNormal, 0))
	wantRoutes("disconnect", router.RouteChange{Filter: "z"})
	a = r.connect("a", at("n2", 4))
	wantRoutes("elsewhere", router.RouteChange{Filter: "x", Durable: true, Nodes: append(node("n1", 1, false), node("n2", 4, false)...)},
		router.RouteChange{Filter: "z", Nodes: node("n2", 4, true)})
	// Unsubscribing and subscribing in one entry is no change.
	r.do(command.AppendUnsubscribe(nil, &command.Unsubscribe{Ref: a, Filters: []string{"z"}}), sub(a, filters(0, "z")...))
	wantRoutes("and back")
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1}))
	wantRoutes("node lost", router.RouteChange{Filter: "x", Durable: true, Nodes: node("n2", 4, false)})
	if d := cmp.Diff([]state.OwnerCount{{Node: "n2", Incarnation: 4, Sessions: 1}}, r.s.Owners()); d != "" {
		t.Fatal(d)
	}
	r.writeBack()
	r.restart()
	index, all := r.s.Routes()
	want := []router.RouteChange{{Filter: "x", Durable: true, Nodes: node("n2", 4, false)}, {Filter: "z", Nodes: node("n2", 4, true)}}
	if d := cmp.Diff(want, all); d != "" || index != r.index {
		t.Fatalf("after a restart, at %d:\n%s", index, d)
	}
}

func TestSubscribeRefusals(t *testing.T) {
	r := newRig(t, state.Options{Settings: command.ShardSettings{MaxSubscriptions: 2}})
	a := r.connect("a")
	for _, bad := range []string{"", "a/#/b", "a+", "$share/g", "$share/g+/x", "$share/g/a/#/b", "$share//x"} {
		r.one(command.Invalid, sub(a, append(filters(1, "ok"), filters(1, bad)...)...))
	}
	if st := r.s.Stats(); st.Subscriptions != 0 {
		t.Fatal("a refused command left something")
	}
	res := r.one(command.OK, sub(a, append(filters(2, "x", "y", "x"), filters(1, "z")...)...))
	if d := cmp.Diff([]byte{2, 2, 2, 0x97}, res.Codes); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff([]bool{false, false, true, false}, res.Existed); d != "" {
		t.Fatal(d)
	}
	res = r.one(command.OK, command.AppendUnsubscribe(nil, &command.Unsubscribe{Ref: a, Filters: []string{"x", "z"}}))
	if d := cmp.Diff([]byte{0, 0x11}, res.Codes); d != "" {
		t.Fatal(d)
	}
	r.one(command.NoMatch, pub("x", "p", 1)) // I6
	r.one(command.Invalid, conn("x", func(c *command.Connect) { c.Key.Tenant = "a\x00b" }))
	r.one(command.Invalid, conn(""))
}

// I15: a will fires exactly once, if and only if it has to.
func TestWill_I15(t *testing.T) {
	end := func(why command.DisconnectReason) func(*rig, command.SessionRef) {
		return func(r *rig, a command.SessionRef) { r.one(command.OK, disc(a, why, 0)) }
	}
	lost := func(r *rig, _ command.SessionRef) {
		r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1}))
	}
	again := func(edit ...func(*command.Connect)) func(*rig, command.SessionRef) {
		return func(r *rig, _ command.SessionRef) { r.connect("a", edit...) }
	}
	after := func(ms int64) func(*rig, command.SessionRef) {
		return func(r *rig, _ command.SessionRef) { r.now += ms; r.one(command.OK, tick) }
	}
	kill := func(r *rig, a command.SessionRef) {
		r.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: a.SessionKey}))
	}
	type steps []func(*rig, command.SessionRef)
	for _, tc := range []struct {
		name  string
		edit  []func(*command.Connect)
		steps steps
		want  int
	}{
		{"normal disconnect", []func(*command.Connect){withWill(0)}, steps{end(command.DisconnectNormal), after(1e7)}, 0},
		{"disconnect with will", []func(*command.Connect){withWill(0)}, steps{end(command.DisconnectWithWill)}, 1},
		{"lost connection", []func(*command.Connect){withWill(0)}, steps{end(command.DisconnectLost), after(1e7)}, 1},
		{"lost node", []func(*command.Connect){withWill(0)}, steps{lost}, 1},
		{"lost node, transient", []func(*command.Connect){withWill(60), transient}, steps{lost}, 1},
		{"before the delay", []func(*command.Connect){withWill(60)}, steps{lost, after(59_999)}, 0},
		{"after the delay", []func(*command.Connect){withWill(60)}, steps{lost, after(60_000), after(1e7)}, 1},
		{"resumed in time", []func(*command.Connect){withWill(60)}, steps{lost, after(59_999), again(), after(1e7)}, 0},
		{"resumed too late", []func(*command.Connect){withWill(60)}, steps{lost, after(60_000), again()}, 1},
		{"cleaned within the delay", []func(*command.Connect){withWill(60)}, steps{lost, again(clean)}, 1},
		{"session ends before the delay", []func(*command.Connect){withWill(60), func(c *command.Connect) { c.ExpiryS = 30 }}, steps{lost, after(30_000), after(30_000)}, 1},
		{"takeover without delay", []func(*command.Connect){withWill(0)}, steps{again()}, 1},
		{"takeover with delay", []func(*command.Connect){withWill(60)}, steps{again(), after(1e7)}, 0},
		{"takeover by a clean start", []func(*command.Connect){withWill(60)}, steps{again(clean)}, 1},
		{"takeover of a transient session", []func(*command.Connect){withWill(60), transient}, steps{again()}, 1},
		{"ended by an operator", []func(*command.Connect){withWill(60)}, steps{kill}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, state.Options{})
			a := r.connect("a", tc.edit...)
			for _, step := range tc.steps {
				step(r, a)
				r.writeBack()
				r.restart()
			}
			got := r.s.Origins(0, 10)
			if len(got) != tc.want {
				t.Fatalf("%d wills, want %d", len(got), tc.want)
			}
			if tc.want == 1 && (string(got[0].Message.Topic) != "will" || !got[0].Will || got[0].Key != a.SessionKey) {
				t.Fatalf("will %+v", got[0])
			}
		})
	}
}

// I2 I19: inbound QoS 2 of a durable session, with the handshake finished elsewhere.
func TestInboundQoS2_I2_I19(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	receive := func(ref command.SessionRef, pid uint16) []byte {
		return command.AppendReceive(nil, &command.Receive{Ref: ref, PacketID: pid, Message: msg("x", "p", 2, retain)})
	}
	release := func(ref command.SessionRef, pid uint16) []byte {
		return command.AppendRelease(nil, &command.Release{Ref: ref, PacketID: pid})
	}
	r.one(command.OK, receive(a, 5))
	r.one(command.Duplicate, receive(a, 5))
	r.one(command.UnknownPacket, release(a, 6))
	r.writeBack()
	a = r.connect("a", at("n2", 1))
	r.one(command.Duplicate, receive(a, 5))
	r.restart()
	r.one(command.OK, release(a, 5))
	if !r.fx.Origins {
		t.Fatal("nobody is told of an originated message")
	}
	r.one(command.UnknownPacket, release(a, 5))
	r.one(command.OK, receive(a, 5)) // the id is free for a new message
	r.one(command.Invalid, receive(a, 0))
	got := r.s.Origins(0, 10)
	if len(got) != 1 || got[0].Flags != command.ToInboxes|command.ToShares|command.ToRetained || got[0].Seq != 1 || r.s.OriginLow() != 1 {
		t.Fatalf("originated %+v", got)
	}
	r.writeBack()
	r.restart()
	done := command.AppendOriginDone(nil, &command.OriginDone{Seqs: []command.Range{{From: 1, To: 1}}})
	r.one(command.OK, done)
	r.one(command.OK, done)
	if len(r.s.Origins(0, 10)) != 0 || r.s.OriginLow() != 2 {
		t.Fatal("originated messages are left")
	}
	// What was acknowledged with PUBREC is not lost with its session (I1).
	r.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: a.SessionKey}))
	if got := r.s.Origins(0, 10); len(got) != 1 || got[0].Seq != 2 {
		t.Fatalf("after the session's end: %+v", got)
	}
}

// I2 I15: an origin key is applied once, also when it comes after the watermark that
// forgot it.
func TestOriginKeys_I2(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(2, "x")...))
	from := func(seq, low uint64) []byte {
		return command.AppendPublish(nil, &command.Publish{Message: msg("x", "p", 2), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 3, Seq: seq, Low: low}})
	}
	r.one(command.OK, from(1, 1))
	r.one(command.OK, from(3, 1))
	r.one(command.Duplicate, from(1, 1))
	r.writeBack()
	r.restart()
	r.one(command.Duplicate, from(3, 1))
	r.one(command.OK, from(2, 1))
	r.one(command.OK, from(5, 4))
	r.one(command.Duplicate, from(2, 1)) // a leader of yesterday, below the watermark
	r.one(command.Duplicate, from(5, 4))
	r.one(command.OK, from(4, 4))
	if n := len(r.fetch(a)); n != 5 {
		t.Fatalf("%d messages, want 5", n)
	}
}

func TestFetchErrors(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	if _, err := r.s.Fetch(command.SessionRef{SessionKey: a.SessionKey, Epoch: a.Epoch + 1}, 0, 1, 1); !errors.Is(err, state.ErrNotYet) {
		t.Fatalf("future epoch: %v", err)
	}
	r.connect("a")
	if _, err := r.s.Fetch(a, 0, 1, 1); !errors.Is(err, state.ErrStaleEpoch) {
		t.Fatalf("old epoch: %v", err)
	}
	b := r.connect("b", transient)
	if p, err := r.s.Fetch(b, 0, 1, 1); err != nil || len(p.Deliveries) != 0 || p.More {
		t.Fatalf("transient: %+v, %v", p, err)
	}
}
