package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Paths of access.
const (
	PathAPIKeys = "/api/v1/apikeys"
	PathAudit   = "/api/v1/audit"
)

// ScopeMetrics is the scope of keys that read /metrics and nothing else.
const ScopeMetrics = "metrics"

// APIKey is a permission to use the admin API.
type APIKey struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Key        string     `json:"key,omitempty" doc:"The secret; only in the answer that made it."`
	Role       string     `json:"role" enum:"viewer,operator,admin"`
	Scopes     []string   `json:"scopes" nullable:"false" doc:"If there are any, they are all that the key is good for: metrics."`
	CreatedAt  time.Time  `json:"created_at"`
	CreatedBy  string     `json:"created_by"`
	ExpiresAt  *time.Time `json:"expires_at" nullable:"true"`
	LastUsedAt *time.Time `json:"last_used_at" nullable:"true" doc:"As the answering node knows, since its start."`
}

// NewAPIKey asks for a key.
type NewAPIKey struct {
	Name       string   `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9._@-]*$" doc:"What the key is for; no two keys have the same."`
	Role       string   `json:"role" enum:"viewer,operator,admin"`
	Scopes     []string `json:"scopes,omitempty" enum:"metrics" maxItems:"1" doc:"Restricts the key to these: metrics."`
	TTLSeconds int64    `json:"ttl_s,omitempty" minimum:"0" doc:"0: it does not expire."`
}

// AuditEntry is a change that somebody asked for through the API.
type AuditEntry struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Node      string    `json:"node" doc:"Node that was asked."`
	Actor     string    `json:"actor" doc:"key:NAME, cert:NAME, bootstrap or anonymous."`
	Role      string    `json:"role"`
	Address   string    `json:"address"`
	Action    string    `json:"action" doc:"Operation id of the OpenAPI document."`
	Method    string    `json:"method"`
	Target    string    `json:"target" doc:"Path and query."`
	Operation string    `json:"operation,omitempty" doc:"Id of the operation that it began."`
	Status    int       `json:"status" doc:"HTTP status of the answer."`
	Result    string    `json:"result" enum:"ok,refused,denied,failed"`
}

// keyPrefix begins every API key, so that scanners find keys that leak.
const keyPrefix = "flk_"

// NewKey makes the secret of an API key with an id: 256 random bits.
func NewKey(id string) (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return keyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(b), nil
}

// NewKeyID makes the id of a key.
func NewKeyID() (string, error) {
	b := make([]byte, 6)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make the id of a key: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// KeyID is the id in a key, "" if it is none.
func KeyID(key string) string {
	rest, ok := strings.CutPrefix(key, keyPrefix)
	id, secret, cut := strings.Cut(rest, "_")
	if !ok || !cut || len(secret) < 40 {
		return ""
	}
	return id
}

// CreateAPIKey makes a key.
func (c *Client) CreateAPIKey(ctx context.Context, k NewAPIKey) (APIKey, error) {
	return decode[APIKey](c.Raw(ctx, http.MethodPost, PathAPIKeys, nil, k))
}

// DeleteAPIKey takes a key back, by its id or its name.
func (c *Client) DeleteAPIKey(ctx context.Context, id string) error {
	_, err := c.Raw(ctx, http.MethodDelete, One(PathAPIKeys, id), nil, nil)
	return err
}
