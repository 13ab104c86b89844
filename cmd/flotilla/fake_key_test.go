package main

import (
	"context"
	"time"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
)

// A paperNode has the key "root" of an administrator, which nobody has to show.

func (paperNode) APIKey(string) (api.KeyRecord, bool) { return api.KeyRecord{}, false }

func (paperNode) APIKeysInUse() bool { return false }

func (paperNode) APIKeys() []client.APIKey {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []client.APIKey{
		{ID: "00000000000a", Name: "root", Role: "admin", CreatedAt: at, CreatedBy: "anonymous"},
		{ID: "00000000000b", Name: "grafana", Role: "viewer", Scopes: []string{"metrics"}, CreatedAt: at, CreatedBy: "key:root", ExpiresAt: &at},
	}
}

func (paperNode) CreateAPIKey(_ context.Context, want client.NewAPIKey, by string) (client.APIKey, error) {
	if want.Name == "root" {
		return client.APIKey{}, &api.GuardError{Code: client.CodeConflict, Status: 409, Detail: "there is an API key named root"}
	}
	k := client.APIKey{ID: "00000000000c", Name: want.Name, Key: "flk_secret", Role: want.Role, Scopes: want.Scopes, CreatedBy: by}
	if want.TTLSeconds > 0 {
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(want.TTLSeconds) * time.Second)
		k.ExpiresAt = &at
	}
	return k, nil
}

func (paperNode) DropAPIKey(_ context.Context, id string) error {
	if id == "00000000000b" {
		return nil
	}
	return api.ErrNotFound
}

func (paperNode) RecordAudit(client.AuditEntry) {}

func (paperNode) AuditLog(context.Context, api.Query) (api.Page[client.AuditEntry], error) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return api.Page[client.AuditEntry]{Count: -1, Items: []client.AuditEntry{{
		ID: "1", At: at, Node: "n1", Actor: "key:root", Role: "admin", Address: "10.0.0.9", Action: "drain-node", Method: "POST",
		Target: "/api/v1/nodes/n3/drain", Operation: "op-1", Status: 202, Result: "ok",
	}}}, nil
}

func (paperNode) Synced(context.Context) error { return nil }

func (paperNode) Staleness() time.Duration { return 0 }

func (paperNode) Positions() map[uint32]uint64 { return nil }
