package state_test

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/google/go-cmp/cmp"
)

func admit(id string, hash []byte) []byte {
	return command.AppendAdmit(nil, &command.Admit{Node: command.Node{ID: id, ClusterAddr: id + ":7400", Roles: []string{"store"}}, TokenHash: hash})
}

func token(id, hash string, uses uint32, expiresAt int64) []byte {
	return command.AppendPutToken(nil, &command.PutToken{Token: command.JoinToken{ID: id, Hash: []byte(hash), Uses: uses, ExpiresAt: expiresAt}})
}

func operation(id string, st command.OperationState) []byte {
	return command.AppendPutOperation(nil, &command.PutOperation{Operation: command.Operation{ID: id, Kind: "remove", Node: "n1", State: st}})
}

// reload writes the machine back, loads it again, and compares.
func (r *controlRig) reload() {
	r.t.Helper()
	want := *r.c.View()
	_, digest := r.c.Digest()
	if err := r.c.WriteBack(); err != nil {
		r.t.Fatal(err)
	}
	r.restart()
	got := *r.c.View()
	got.Clock = want.Clock
	if d := cmp.Diff(want, got); d != "" {
		r.t.Fatalf("after a restart (-want +got):\n%s", d)
	}
	if _, d := r.c.Digest(); d != digest {
		r.t.Fatal("digest differs after a restart")
	}
}

// TestAdmission: who joins needs a token that has not expired and not been used up, and an id of its own (I25, I31).
func TestAdmission(t *testing.T) {
	r := newControlRig(t)
	r.one(command.Invalid, admit("n4", nil)) // not formed
	r.one(command.OK, form(2, "n1", "n2"))
	r.one(command.Denied, admit("n4", []byte("secret")))
	r.one(command.Invalid, token("", "secret", 1, 0))
	r.one(command.Invalid, token("t1", "", 1, 0))
	r.one(command.Invalid, token("t1", "secret", 0, 0))
	r.one(command.OK, token("t1", "secret", 2, 0))
	r.one(command.Duplicate, token("t1", "other", 2, 0))
	r.one(command.Duplicate, token("t2", "secret", 2, 0)) // which one would it be
	r.one(command.OK, token("old", "expired", 9, 1))
	r.one(command.Denied, admit("n4", []byte("expired")))
	r.one(command.OK, admit("n4", []byte("secret")))
	r.one(command.Duplicate, admit("n4", []byte("secret"))) // it crashed before it could note its admission
	r.one(command.Denied, admit("n4", []byte("guess")))
	r.one(command.OK, admit("n5", []byte("secret")))
	r.one(command.Denied, admit("n6", []byte("secret"))) // used up
	r.reload()
	r.one(command.OK, up("n4", 1))
	r.one(command.Invalid, admit("n4", nil)) // its disk was lost: another id
	r.one(command.Invalid, admit("n1", nil)) // a founder that never came up
	r.one(command.OK, command.AppendDropToken(nil, &command.DropToken{ID: "t1"}))
	r.one(command.NoMatch, command.AppendDropToken(nil, &command.DropToken{ID: "t1"}))
	r.one(command.OK, nodeState("n5", command.NodeRemoved))
	r.one(command.Invalid, admit("n5", nil))
	r.reload()
}

// TestTokensAreForgottenWhenTheyExpire bounds what is kept.
func TestTokensAreForgottenWhenTheyExpire(t *testing.T) {
	r := newControlRig(t)
	r.one(command.OK, form(1, "n1"))
	for i := range 5 {
		r.one(command.OK, token(fmt.Sprint(i), fmt.Sprint("h", i), 1, 1))
	}
	if n := len(r.c.View().Tokens); n != 1 {
		t.Errorf("%d tokens are kept, all but the last had expired when it came", n)
	}
}

// TestFounding: only the first placement lets replicas begin a group together.
func TestFounding(t *testing.T) {
	r := newControlRig(t)
	founding := func(shard uint32, nodes ...string) []byte {
		return command.AppendPlace(nil, &command.Place{Shard: shard, Replicas: nodes, Founding: true})
	}
	r.do(form(3, "n1", "n2", "n3"), founding(1, "n1", "n2"), founding(2, "n2"))
	r.reload()
	want := map[uint32]bool{1: true, 2: true}
	if d := cmp.Diff(want, r.c.View().Founding); d != "" {
		t.Fatal(d)
	}
	r.one(command.OK, founding(1, "n1", "n2", "n3")) // too late to be the first
	r.one(command.OK, place(2, "n2"))                // no change
	r.one(command.OK, place(3, "n3"))
	r.reload()
	if d := cmp.Diff(map[uint32]bool{2: true}, r.c.View().Founding); d != "" {
		t.Fatal(d)
	}
}

// TestOperations: one at a time, and the oldest that have ended are forgotten.
func TestOperations(t *testing.T) {
	r := newControlRig(t)
	r.one(command.Invalid, operation("", command.OperationRunning))
	r.one(command.Invalid, operation("x", 0))
	r.one(command.OK, operation("op-000", command.OperationRunning))
	r.one(command.Full, operation("op-001", command.OperationRunning))
	r.one(command.OK, operation("op-000", command.OperationRunning)) // progress
	for i := 1; i < 120; i++ {
		r.one(command.OK, operation(fmt.Sprintf("op-%03d", i), command.OperationDone))
	}
	r.reload()
	v := r.c.View()
	if len(v.Operations) != 100 {
		t.Errorf("%d operations are kept", len(v.Operations))
	}
	if run, ok := v.Running(); !ok || run.ID != "op-000" {
		t.Errorf("the running operation was forgotten: %+v", run)
	}
	if _, ok := v.Operation("op-119"); !ok {
		t.Error("the newest is gone")
	}
}
