package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// KeyAdmin makes API keys and takes them back.
type KeyAdmin interface {
	// APIKeys are all keys, without their secrets, in the order of their names.
	APIKeys() []client.APIKey
	// CreateAPIKey returns when the key is committed. The answer has its secret.
	CreateAPIKey(ctx context.Context, want client.NewAPIKey, by string) (client.APIKey, error)
	// DropAPIKey returns when the key is gone from the cluster; nodes that cannot
	// be reached learn of it later. ErrConflict if nobody could make keys any more.
	DropAPIKey(ctx context.Context, id string) error
}

type newKeyInput struct{ Body client.NewAPIKey }

func (s *Server) keyRoutes(a huma.API) {
	answer(s, a, operation("list-api-keys", "/apikeys", "API keys, without their secrets", 422),
		func(ctx context.Context, in *ListParams) (client.List[client.APIKey], error) {
			if err := s.synced(ctx, in.Consistency); err != nil {
				return client.List[client.APIKey]{}, err
			}
			return slicePage("apikeys", s.apiKeys(), &in.PageParams)
		})
	answer(s, a, operation("get-api-key", "/apikeys/{id}", "One API key, by its id or its name", 404),
		func(ctx context.Context, in *oneInput) (client.APIKey, error) {
			if err := s.synced(ctx, in.Consistency); err != nil {
				return client.APIKey{}, err
			}
			return s.apiKey(in.ID)
		})
	create := operation("create-api-key", "/apikeys", "Make an API key; its secret is shown this once. The first one must be an admin's, and ends access without a key", 409, 422, 429)
	create.Method = http.MethodPost
	answer(s, a, create, func(ctx context.Context, in *newKeyInput) (client.APIKey, error) {
		k, err := s.opt.Node.CreateAPIKey(ctx, in.Body, callerOf(ctx).Actor)
		k.Scopes = filled(k.Scopes)
		return k, err
	})
	answer(s, a, deletion("delete-api-key", "/apikeys/{id}", "Take an API key back, by its id or its name", 404, 409),
		func(ctx context.Context, in *byID) (Done, error) {
			// A key that this node has not heard of yet may be meant: the leader knows.
			id := in.ID
			if k, err := s.apiKey(in.ID); err == nil {
				id = k.ID
			}
			if err := s.keepsOne(ctx, id); err != nil {
				return Done{}, err
			}
			return Done{}, s.opt.Node.DropAPIKey(ctx, id)
		})
}

// apiKeys are the keys with what this node knows of their use.
func (s *Server) apiKeys() []client.APIKey {
	keys := filled(s.opt.Node.APIKeys())
	for i := range keys {
		keys[i].Scopes, keys[i].LastUsedAt = filled(keys[i].Scopes), s.gate.lastUsed(keys[i].ID)
	}
	return keys
}

// apiKey finds a key by its id or its name.
func (s *Server) apiKey(id string) (client.APIKey, error) {
	keys := s.apiKeys()
	for _, k := range keys {
		if k.ID == id {
			return k, nil
		}
	}
	for _, k := range keys {
		if k.Name == id {
			return k, nil
		}
	}
	return client.APIKey{}, fmt.Errorf("API key %q: %w", id, ErrNotFound)
}

// keepsOne refuses to take the last key back where nobody could come in without
// one. On loopback without admin.auth the API is open again after it.
func (s *Server) keepsOne(ctx context.Context, id string) error {
	access := &s.opt.Access
	if access.Certificates || s.gate.bootstrap() != nil || !access.APIKeys && loopbackOf(ctx) {
		return nil
	}
	if keys := s.opt.Node.APIKeys(); len(keys) != 1 || keys[0].ID != id {
		return nil
	}
	return fmt.Errorf("it is the last key, and without one nobody could use the API here: make another first, or give the nodes an admin.bootstrap_key_file: %w", ErrConflict)
}
