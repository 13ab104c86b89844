package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func TestSmoke(t *testing.T) {
	r := newRig(t, state.Options{})
	a := r.connect("a")
	r.one(command.OK, sub(a, filters(1, "x/+")...))
	r.one(command.OK, pub("x/1", "p1", 1))
	r.one(command.OK, pub("x/2", "p2", 1))
	r.one(command.NoMatch, pub("y", "p3", 1))
	want := []string{"1 x/1=p1 q1", "2 x/2=p2 q1"}
	if d := cmp.Diff(want, shows(r.fetch(a))); d != "" {
		t.Fatal(d)
	}
	r.writeBack()
	r.restart()
	if d := cmp.Diff(want, shows(r.fetch(a))); d != "" {
		t.Fatal(d)
	}
	r.one(command.OK, ack(a, 2, 1))
	if d := cmp.Diff(want[1:], shows(r.fetch(a))); d != "" {
		t.Fatal(d)
	}
}
