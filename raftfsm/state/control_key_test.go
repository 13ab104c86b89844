package state_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

func apiKey(id string, role command.Role, edit func(*command.APIKey)) []byte {
	k := command.APIKey{ID: id, Name: "name of " + id, Hash: bytes.Repeat([]byte(id[:1]), 32), Role: role, CreatedAt: 1, CreatedBy: "test"}
	if edit != nil {
		edit(&k)
	}
	return command.AppendPutAPIKey(nil, &command.PutAPIKey{Key: k})
}

func dropKey(id string) []byte {
	return command.AppendDropAPIKey(nil, &command.DropAPIKey{ID: id})
}

// TestAPIKeys: nobody can lock everybody out by the order in which keys come and go, and a key that is sent twice is one.
func TestAPIKeys(t *testing.T) {
	r := newControlRig(t)
	r.one(command.OK, form(1, "n1"))
	r.one(command.Invalid, apiKey("a", 0, nil))
	r.one(command.Invalid, apiKey("a", 4, nil))
	r.one(command.Invalid, apiKey("a", command.RoleAdmin, func(k *command.APIKey) { k.ID = "" }))
	r.one(command.Invalid, apiKey("a", command.RoleAdmin, func(k *command.APIKey) { k.Name = "" }))
	r.one(command.Invalid, apiKey("a", command.RoleAdmin, func(k *command.APIKey) { k.Hash = k.Hash[:31] }))
	r.one(command.Denied, apiKey("a", command.RoleOperator, nil)) // the first one must be able to make others
	r.one(command.Denied, apiKey("a", command.RoleAdmin, func(k *command.APIKey) { k.Scopes = []string{"metrics"} }))
	r.one(command.Denied, apiKey("a", command.RoleAdmin, func(k *command.APIKey) { k.ExpiresAt = 1 }))
	r.one(command.OK, apiKey("a", command.RoleAdmin, nil))
	r.one(command.OK, apiKey("a", command.RoleAdmin, nil)) // sent again after an unknown outcome
	r.one(command.Duplicate, apiKey("a", command.RoleViewer, nil))
	r.one(command.Duplicate, apiKey("b", command.RoleViewer, func(k *command.APIKey) { k.Name = "name of a" }))
	r.one(command.Duplicate, apiKey("b", command.RoleViewer, func(k *command.APIKey) { k.Hash = bytes.Repeat([]byte("a"), 32) }))
	r.one(command.OK, apiKey("b", command.RoleViewer, func(k *command.APIKey) { k.Scopes, k.ExpiresAt = []string{"metrics"}, 1<<50 }))
	r.reload()
	if n := len(r.c.View().APIKeys); n != 2 {
		t.Fatalf("%d keys, want 2", n)
	}
	r.one(command.NoMatch, dropKey("c"))
	r.one(command.Denied, dropKey("a")) // b could not make another
	r.one(command.OK, apiKey("c", command.RoleAdmin, func(k *command.APIKey) { k.ExpiresAt = int64(r.index) + 2 }))
	r.one(command.Denied, dropKey("a")) // c has expired by now
	r.one(command.OK, apiKey("d", command.RoleAdmin, nil))
	r.one(command.OK, dropKey("a"))
	r.one(command.OK, dropKey("b"))
	r.one(command.OK, dropKey("c"))
	r.reload()
	r.one(command.OK, dropKey("d")) // the last of all: the API is as it was before the first
	r.reload()
}

// TestAPIKeysAreBounded holds what every node keeps in memory.
func TestAPIKeysAreBounded(t *testing.T) {
	r := newControlRig(t)
	r.one(command.OK, form(1, "n1"))
	for i := range 1000 {
		r.one(command.OK, apiKey(fmt.Sprint(i), command.RoleAdmin, func(k *command.APIKey) { k.Hash = append(k.Hash[:28], fmt.Sprintf("%04d", i)...) }))
	}
	r.one(command.Full, apiKey("x", command.RoleAdmin, nil))
}
