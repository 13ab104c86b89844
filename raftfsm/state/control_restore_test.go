package state_test

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestControlRestoring walks through the phases: a restore can begin anew while it is staging, and not after.
func TestControlRestoring(t *testing.T) {
	r := newControlRig(t)
	to := func(want command.ResultCode, id string, phase command.RestorePhase) {
		t.Helper()
		r.one(want, command.AppendRestoring(nil, &command.Restoring{ID: id, Phase: phase, Backup: "b-" + id, Node: "n1"}))
	}
	to(command.Invalid, "a", command.RestoreStaging) // there is no cluster yet
	r.one(command.OK, command.AppendForm(nil, &command.Form{ClusterID: "c", Nodes: []command.Node{{ID: "n1"}}, Shards: 2, Replicas: 1}))
	to(command.Duplicate, "a", command.RestoreEnded)
	to(command.Invalid, "a", command.RestoreOpening)
	to(command.OK, "a", command.RestoreStaging)
	to(command.Duplicate, "a", command.RestoreStaging)
	to(command.Invalid, "a", command.RestoreEnded) // half of it is here
	to(command.OK, "b", command.RestoreStaging)
	to(command.Invalid, "a", command.RestoreOpening)
	to(command.OK, "b", command.RestoreOpening)
	to(command.Duplicate, "b", command.RestoreOpening)
	to(command.Invalid, "b", command.RestoreClearing)
	to(command.Invalid, "c", command.RestoreStaging)
	if err := r.c.WriteBack(); err != nil {
		t.Fatal(err)
	}
	again := state.NewControl()
	if err := again.Load(r.st); err != nil {
		t.Fatal(err)
	}
	got := again.View().Restore
	if got == nil || *got != (command.Restoring{ID: "b", Phase: command.RestoreOpening, Backup: "b-b", Node: "n1"}) {
		t.Fatalf("after a restart: %+v", got)
	}
	to(command.OK, "b", command.RestoreEnded)
	if r.c.View().Restore != nil {
		t.Fatal("it has ended")
	}
	to(command.OK, "d", command.RestoreStaging)
	to(command.OK, "d", command.RestoreClearing)
	to(command.OK, "d", command.RestoreEnded)
}

// TestControlRestoreRecords: settings and keys come back, keys of administrators first; nothing else does.
func TestControlRestoreRecords(t *testing.T) {
	r := newControlRig(t)
	hash := func(b byte) []byte { h := make([]byte, 32); h[0] = b; return h }
	r.one(command.OK, command.AppendForm(nil, &command.Form{ClusterID: "c", Nodes: []command.Node{{ID: "n1"}}, Shards: 2, Replicas: 1, Settings: []command.Setting{{Key: "inbox.overflow", Value: "drop_oldest"}}}))
	r.one(command.OK, command.AppendPutAPIKey(nil, &command.PutAPIKey{Key: command.APIKey{ID: "z", Name: "root", Hash: hash(1), Role: command.RoleAdmin}}))
	r.one(command.OK, command.AppendPutAPIKey(nil, &command.PutAPIKey{Key: command.APIKey{ID: "a", Name: "view", Hash: hash(2), Role: command.RoleViewer}}))
	r.one(command.OK, command.AppendPutToken(nil, &command.PutToken{Token: command.JoinToken{ID: "t", Hash: hash(3), Uses: 1}}))
	if err := r.c.WriteBack(); err != nil {
		t.Fatal(err)
	}
	var ranked [4][][]byte
	err := r.st.Iterate(nil, nil, func(k, v []byte) bool {
		if cmd, rank := state.ControlRestore(append([]byte{}, k...), append([]byte{}, v...)); rank > 0 {
			ranked[rank] = append(ranked[rank], cmd)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	other := newControlRig(t)
	other.one(command.OK, command.AppendForm(nil, &command.Form{ClusterID: "d", Nodes: []command.Node{{ID: "n9"}}, Shards: 2, Replicas: 1}))
	for _, list := range ranked {
		for _, cmd := range list {
			other.one(command.OK, cmd)
		}
	}
	v := other.c.View()
	if v.Settings["inbox.overflow"] != "drop_oldest" || len(v.APIKeys) != 2 || len(v.Tokens) != 0 || v.ClusterID != "d" || len(v.Nodes) != 1 {
		t.Fatalf("%+v", v)
	}
}
