package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// fakeKeys are the API keys and the audit log of a fakeNode.
type fakeKeys struct {
	mu      sync.Mutex
	keys    []client.APIKey
	hashes  map[string][]byte
	unsure  bool // the node cannot rule out that there are keys
	alone   bool // there is no majority
	audited []client.AuditEntry
}

func (f *fakeKeys) APIKey(id string) (KeyRecord, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.keys {
		if k.ID == id {
			role, _ := ParseRole(k.Role)
			rec := KeyRecord{ID: k.ID, Name: k.Name, Hash: f.hashes[id], Role: role, Scopes: k.Scopes}
			if k.ExpiresAt != nil {
				rec.ExpiresAt = *k.ExpiresAt
			}
			return rec, true
		}
	}
	return KeyRecord{}, false
}

func (f *fakeKeys) APIKeysInUse() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unsure || len(f.keys) > 0
}

func (f *fakeKeys) APIKeys() []client.APIKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.keys)
}

func (f *fakeKeys) CreateAPIKey(_ context.Context, want client.NewAPIKey, by string) (client.APIKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := client.APIKey{
		ID: fmt.Sprintf("%012x", len(f.keys)+1), Name: want.Name, Role: want.Role, Scopes: want.Scopes, CreatedBy: by,
		CreatedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	if want.TTLSeconds > 0 {
		at := k.CreatedAt.Add(time.Duration(want.TTLSeconds) * time.Second)
		k.ExpiresAt = &at
	}
	for _, have := range f.keys {
		if have.Name == k.Name {
			return client.APIKey{}, fmt.Errorf("the name is taken: %w", ErrConflict)
		}
	}
	secret := "flk_" + k.ID + "_" + "0123456789012345678901234567890123456789012"
	sum := sha256.Sum256([]byte(secret))
	if f.hashes == nil {
		f.hashes = map[string][]byte{}
	}
	f.keys, f.hashes[k.ID] = append(f.keys, k), sum[:]
	k.Key = secret
	return k, nil
}

func (f *fakeKeys) DropAPIKey(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.keys)
	f.keys = slices.DeleteFunc(f.keys, func(k client.APIKey) bool { return k.ID == id })
	if len(f.keys) == n {
		return fmt.Errorf("API key %q: %w", id, ErrNotFound)
	}
	return nil
}

func (f *fakeKeys) RecordAudit(e client.AuditEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.ID = fmt.Sprintf("%04d", len(f.audited)+1)
	f.audited = append(f.audited, e)
}

func (f *fakeKeys) AuditLog(_ context.Context, q Query) (Page[client.AuditEntry], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	page := Page[client.AuditEntry]{Count: -1}
	for _, e := range slices.Backward(f.audited) {
		if q.After != "" && e.ID >= q.After {
			continue
		}
		if len(page.Items) == q.Limit {
			page.Next = page.Items[q.Limit-1].ID
			break
		}
		page.Items = append(page.Items, e)
	}
	return page, nil
}

func (f *fakeKeys) Synced(context.Context) error {
	if f.alone {
		return ErrNoLeader
	}
	return nil
}

func (f *fakeKeys) Staleness() time.Duration { return 1500 * time.Millisecond }

func (f *fakeKeys) Positions() map[uint32]uint64 { return map[uint32]uint64{0: 1204, 2: 77} }
