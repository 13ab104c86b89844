package state_test

import (
	"slices"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func recoverCmd(c command.Recover) []byte { return command.AppendRecover(nil, &c) }

// Whoever knew a session before a recovery can change nothing any more, and no number is given out twice.
func TestRecoverRaisesNumbers_I9(t *testing.T) {
	r := newShareRig(t, state.Options{})
	ref := r.connect("a")
	r.one(command.OK, sub(ref, filters(1, "t")...))
	r.one(command.OK, pub("t", "kept", 1))
	r.one(command.OK, recoverCmd(command.Recover{Epoch: 1 << 32, SID: 1 << 32, Origin: 1000}))
	r.restart()
	r.one(command.StaleEpoch, ack(ref, 1, 1))
	info, ok := r.s.Session(key("a"))
	if !ok || info.Epoch <= 1<<32 || info.InboxMessages != 1 {
		t.Fatalf("%+v, %v", info, ok)
	}
	again := r.connect("a")
	if again.Epoch <= info.Epoch {
		t.Fatalf("epoch %d after %d", again.Epoch, info.Epoch)
	}
	r.want(again, "kept:1")
	r.sent = 1000
	r.member("b", 1)
	if f := r.s.Facts(); f.LastOrigin <= 1000 || f.LastSID <= 1<<32 {
		t.Fatalf("%+v", f)
	}
}

// I16: what a member perhaps got is its own, the rest of the queue is for others; members without a session are gone.
func TestRecoverSettlesShares_I16(t *testing.T) {
	r := newShareRig(t, state.Options{})
	r.member("a", 1, room(1))
	r.member("b", 1, room(1))
	r.publish(1, "1", "2", "3")
	r.wantView(work + " 2/3 a:1/1 b:1/1")
	r.one(command.OK, recoverCmd(command.Recover{Gone: []command.GoneMember{{Member: key("b"), Filter: work}, {Member: key("nobody"), Filter: work}}}))
	r.wantView(work + " 1/3 a:1/1-")
	r.restart()
	r.carry()
	r.wantView(work + " 0/2 a:0/1- b:0/0-") // b's session is there after all, and says so
	f := r.s.Facts()
	if len(f.Subscribed) != 2 || len(f.Holds) != 0 || len(f.Members) != 2 {
		t.Fatalf("%+v", f)
	}
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1 << 40}))
	r.carry()
	a := r.connect("a", room(10), func(c *command.Connect) { c.Node, c.Incarnation = "n2", 1 })
	r.carry()
	r.want(a, "1:1 2:1 3:1")
}

// A member that nobody is any more takes its share with it, and a share that lost its members knows them again.
func TestRecoverOfLostSides_I16(t *testing.T) {
	r := newShareRig(t, state.Options{})
	r.member("a", 1)
	for _, why := range []string{"gone", "told anew"} {
		cmd := recoverCmd(command.Recover{Gone: []command.GoneMember{{Member: key("a"), Filter: work}}})
		r.one(command.OK, cmd)
		if got := r.s.Shares("", 1); len(got) != 0 {
			t.Fatalf("%s: %+v", why, got)
		}
		r.carry()
		r.wantView(work + " 0/0 a:0/0-")
	}
}

// A recovery leaves the survivors: the others are removed for good, also those that only others knew.
func TestRecoverControl_I25(t *testing.T) {
	c := newControlRig(t)
	c.one(command.OK, form(2, "n1", "n2", "n3"))
	c.one(command.OK, command.AppendPutToken(nil, &command.PutToken{Token: command.JoinToken{ID: "t", Hash: []byte{1}, Uses: 1}}))
	c.one(command.OK, command.AppendPutOperation(nil, &command.PutOperation{Operation: command.Operation{ID: "o1", Kind: "remove", State: command.OperationRunning}}))
	c.one(command.Invalid, command.AppendRecoverControl(nil, &command.RecoverControl{Survivors: []string{"n9"}}))
	c.one(command.Invalid, command.AppendRecoverControl(nil, &command.RecoverControl{}))
	c.one(command.OK, command.AppendRecoverControl(nil, &command.RecoverControl{
		Survivors: []string{"n3"}, Removed: []string{"n7"}, Incarnation: 5000, Reason: "recovered",
	}))
	v := c.c.View()
	for id, want := range map[string]command.NodeState{"n1": command.NodeRemoved, "n2": command.NodeRemoved, "n3": command.NodeReady, "n7": command.NodeRemoved} {
		if n := v.Nodes[id]; n == nil || n.State != want || n.Up {
			t.Errorf("%s: %+v", id, n)
		}
	}
	if len(v.Tokens) != 0 || len(v.Operations) != 1 || v.Operations[0].State != command.OperationFailed || v.Operations[0].Error != "recovered" {
		t.Errorf("%+v, %+v", v.Tokens, v.Operations)
	}
	up := c.one(command.OK, command.AppendNodeUp(nil, &command.NodeUp{Node: command.Node{ID: "n3"}}))
	if up.Incarnation <= 5000 {
		t.Errorf("incarnation %d", up.Incarnation)
	}
	c.one(command.Invalid, command.AppendNodeUp(nil, &command.NodeUp{Node: command.Node{ID: "n7"}}))
}

// Messages that are not what was stored, and inboxes that lack one, are found although digests are equal.
func TestCheckStoredFindsDamage_I20(t *testing.T) {
	build := func() *rig {
		r := newRig(t, state.Options{})
		for _, id := range []string{"a", "b"} {
			ref := r.connect(id)
			r.one(command.OK, sub(ref, filters(1, "t")...))
		}
		r.one(command.OK, pub("t", "shared by two", 1))
		r.one(command.OK, pub("t/kept", "x", 1, retain))
		r.writeBack()
		return r
	}
	check := func(r *rig) []string {
		_, damage, err := state.CheckStored(r.s.ID(), r.st)
		if err != nil {
			t.Fatal(err)
		}
		return damage
	}
	if d := check(build()); len(d) != 0 {
		t.Fatalf("nothing is damaged: %q", d)
	}
	for _, kind := range []string{"I", "P"} {
		r := build()
		var k []byte
		if err := r.st.Iterate([]byte(kind), []byte{kind[0] + 1}, func(key, _ []byte) bool { k = slices.Clone(key); return false }); err != nil || k == nil {
			t.Fatalf("no record %s: %v", kind, err)
		}
		b := r.st.NewBatch()
		b.Delete(k)
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if d := check(r); len(d) == 0 {
			t.Errorf("a record %s that is gone was not missed", kind)
		}
	}
}
