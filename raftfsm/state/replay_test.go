package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func subReplay(ref command.SessionRef, subs ...command.Subscription) []byte {
	return command.AppendSubscribe(nil, &command.Subscribe{Ref: ref, Subs: subs, Replay: true})
}

func replayPage(ref command.SessionRef, filter, after, next string, last bool, msgs ...[]byte) []byte {
	return command.AppendReplay(nil, &command.Replay{Ref: ref, Filter: filter, After: after, Next: next, Last: last, Messages: msgs})
}

// A replay goes page by page into the inbox, each page once, over connections and
// restarts, until its end, its subscription's or its session's.
func TestReplay(t *testing.T) {
	r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
	a := r.connect("a")
	res := r.one(command.OK, subReplay(a,
		command.Subscription{Filter: "x/#", QoS: 1, ID: 4}, command.Subscription{Filter: "q0", QoS: 0},
		command.Subscription{Filter: "never", QoS: 1, RetainHandling: 2}, command.Subscription{Filter: "y", QoS: 2, RetainHandling: 1}))
	want := []command.PendingReplay{{Filter: "x/#"}, {Filter: "y"}}
	if d := cmp.Diff(want, res.Replays); d != "" {
		t.Fatal(d)
	}
	page := replayPage(a, "x/#", "", "x/2", false, msg("x/1", "1", 2, retain), msg("x/2", "2", 0, retain))
	r.one(command.Duplicate, replayPage(a, "x/#", "x/2", "x/3", false))
	r.one(command.Duplicate, replayPage(a, "none", "", "x/3", false))
	r.one(command.OK, page)
	if len(r.fx.Wakes) != 1 {
		t.Fatal("nobody is woken")
	}
	r.one(command.Duplicate, page)
	r.one(command.Invalid, replayPage(a, "x/#", "x/2", "x/2", false))
	wantInbox(t, r, a, "1 x/1=1 q1 retain [4]")
	r.writeBack()
	r.restart()
	r.one(command.OK, disc(a, command.DisconnectLost, 0))
	res = r.one(command.OK, conn("a"))
	a.Epoch = res.Epoch
	want = []command.PendingReplay{{Filter: "x/#", After: "x/2"}, {Filter: "y"}}
	if d := cmp.Diff(want, res.Replays); d != "" {
		t.Fatal(d)
	}
	r.one(command.StaleEpoch, page)
	r.one(command.OK, replayPage(a, "x/#", "x/2", "", true, msg("x/3", "3", 1, retain, expiry(5))))
	wantInbox(t, r, a, "1 x/1=1 q1 retain [4]", "2 x/3=3 q1 retain [4]")
	if d := r.fetch(a)[1]; d.ExpiresAt != r.now+5000 {
		t.Fatalf("expires at %d", d.ExpiresAt)
	}
	res = r.one(command.OK, subReplay(a, command.Subscription{Filter: "x/#", QoS: 1}, command.Subscription{Filter: "y", QoS: 2, RetainHandling: 1}))
	if d := cmp.Diff([]command.PendingReplay{{Filter: "x/#"}}, res.Replays); d != "" {
		t.Fatalf("subscribed again: %s", d)
	}
	r.one(command.OK, command.AppendUnsubscribe(nil, &command.Unsubscribe{Ref: a, Filters: []string{"x/#"}}))
	res = r.one(command.OK, conn("a"))
	if d := cmp.Diff([]command.PendingReplay{{Filter: "y"}}, res.Replays); d != "" {
		t.Fatalf("after UNSUBSCRIBE: %s", d)
	}
	a.Epoch = res.Epoch
	res = r.one(command.OK, subReplay(a, command.Subscription{Filter: "y", QoS: 0}))
	if len(res.Replays) != 0 || len(r.one(command.OK, conn("a")).Replays) != 0 {
		t.Fatal("a subscription with QoS 0 has a replay in the inbox")
	}
	b := r.connect("b", transient)
	if res := r.one(command.OK, subReplay(b, filters(1, "x/#")...)); len(res.Replays) != 0 {
		t.Fatal("a transient session has a replay in its inbox")
	}
	c := r.connect("c")
	if res := r.one(command.OK, sub(c, filters(1, "x/#")...)); len(res.Replays) != 0 {
		t.Fatal("a gateway that does not know replays got one")
	}
}

// The limits of what is retained.
func TestRetainedSettings(t *testing.T) {
	r := newRig(t, state.Options{Settings: command.ShardSettings{RetainedMaxPayload: 3, RetainedExpiryS: 10}})
	r.one(command.Full, pub("big", "1234", 1, retain))
	r.one(command.OK, pub("a", "123", 1, retain))
	r.one(command.OK, pub("b", "123", 1, retain, expiry(5)))
	r.writeBack()
	r.restart()
	for _, step := range []int{2, 1, 0} {
		if got := retainedTopics(t, r.s, "#", 9); len(got) != step {
			t.Fatalf("%d s on: %v", r.now, got)
		}
		r.now += 5000
		r.one(command.OK, tick)
		r.writeBack()
		r.restart()
	}
	if d := r.s.Stats().Dropped; d.RetainedExpired != 2 || d.RetainedFull != 1 {
		t.Fatalf("dropped %+v", d)
	}
}

// A client id belongs to its user, if the gateway says so.
func TestSameUser(t *testing.T) {
	r := newRig(t, state.Options{})
	user := func(name string, same bool) []byte {
		return conn("a", func(c *command.Connect) { c.Username, c.SameUser = name, same })
	}
	epoch := r.one(command.OK, user("u", true)).Epoch
	r.one(command.WrongUser, user("v", true))
	if len(r.fx.Kicks) != 0 {
		t.Fatal("a refused connection took the session over")
	}
	if in, _ := r.s.Session(key("a")); in.Epoch != epoch || !in.Connected {
		t.Fatalf("session %+v", in)
	}
	r.one(command.OK, user("u", true))
	r.one(command.OK, user("v", false))
}
