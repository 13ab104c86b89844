package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

var (
	_ api.KeyStore   = (*nodeAPI)(nil)
	_ api.KeyAdmin   = (*nodeAPI)(nil)
	_ api.Auditor    = (*nodeAPI)(nil)
	_ api.Consistent = (*nodeAPI)(nil)
)

// APIKey implements api.KeyStore.
func (a *nodeAPI) APIKey(id string) (api.KeyRecord, bool) {
	k, ok := a.n.APIKey(id)
	if !ok {
		return api.KeyRecord{}, false
	}
	rec := api.KeyRecord{ID: k.ID, Name: k.Name, Hash: k.Hash, Scopes: k.Scopes}
	rec.Role, _ = api.ParseRole(k.Role.String()) // none for a role of a later version
	if k.ExpiresAt != 0 {
		rec.ExpiresAt = time.UnixMilli(k.ExpiresAt)
	}
	return rec, true
}

// APIKeysInUse implements api.KeyStore.
func (a *nodeAPI) APIKeysInUse() bool { return a.n.APIKeysInUse() }

// APIKeys implements api.KeyAdmin.
func (a *nodeAPI) APIKeys() []client.APIKey {
	var out []client.APIKey
	for _, k := range a.n.APIKeys() {
		out = append(out, keyOf(k))
	}
	slices.SortFunc(out, func(a, b client.APIKey) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func keyOf(k *command.APIKey) client.APIKey {
	out := client.APIKey{
		ID: k.ID, Name: k.Name, Role: k.Role.String(), Scopes: slices.Clone(k.Scopes), CreatedBy: k.CreatedBy, CreatedAt: time.UnixMilli(k.CreatedAt).UTC(),
	}
	if k.ExpiresAt != 0 {
		at := time.UnixMilli(k.ExpiresAt).UTC()
		out.ExpiresAt = &at
	}
	return out
}

// CreateAPIKey implements api.KeyAdmin.
func (a *nodeAPI) CreateAPIKey(ctx context.Context, want client.NewAPIKey, by string) (client.APIKey, error) {
	id, err := client.NewKeyID()
	if err != nil {
		return client.APIKey{}, err
	}
	secret, err := client.NewKey(id)
	if err != nil {
		return client.APIKey{}, err
	}
	k := command.APIKey{ID: id, Name: want.Name, Scopes: want.Scopes, CreatedBy: by}
	for _, r := range []command.Role{command.RoleViewer, command.RoleOperator, command.RoleAdmin} {
		if r.String() == want.Role {
			k.Role = r
		}
	}
	k, err = a.n.CreateAPIKey(ctx, k, secret, time.Duration(want.TTLSeconds)*time.Second)
	if err != nil {
		return client.APIKey{}, memberError(err)
	}
	out := keyOf(&k)
	out.Key = secret
	return out, nil
}

// DropAPIKey implements api.KeyAdmin.
func (a *nodeAPI) DropAPIKey(ctx context.Context, id string) error {
	return memberError(a.n.DropAPIKey(ctx, id))
}

// RecordAudit implements api.Auditor.
func (a *nodeAPI) RecordAudit(e client.AuditEntry) { a.n.RecordAudit(cluster.AuditEntry(e)) }

// AuditLog implements api.Auditor.
func (a *nodeAPI) AuditLog(ctx context.Context, q api.Query) (api.Page[client.AuditEntry], error) {
	items, next, err := a.n.AuditLog(ctx, cluster.ListOptions{After: q.After, Limit: q.Limit, Stale: q.Stale})
	page := api.Page[client.AuditEntry]{Next: next, Count: -1}
	for _, e := range items {
		page.Items = append(page.Items, client.AuditEntry(e))
	}
	return page, apiError(err)
}

// Synced implements api.Consistent.
func (a *nodeAPI) Synced(ctx context.Context) error { return apiError(a.n.Synced(ctx)) }

// Staleness implements api.Consistent.
func (a *nodeAPI) Staleness() time.Duration { return a.n.Staleness() }

// Positions implements api.Consistent.
func (a *nodeAPI) Positions() map[uint32]uint64 { return a.n.Positions() }
