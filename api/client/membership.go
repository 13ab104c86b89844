package client

import (
	"context"
	"net/http"
	"time"
)

// Paths of what changes the membership.
const (
	PathOperations = "/api/v1/operations"
	PathJoinTokens = "/api/v1/join-tokens"
)

// The states of an Operation.
const (
	OperationRunning   = "running"
	OperationDone      = "done"
	OperationFailed    = "failed"
	OperationCancelled = "cancelled"
)

// Operation is something that takes long: it goes on by itself, also after a change of leader.
type Operation struct {
	ID        string    `json:"id" doc:"Empty for a dry run"`
	Kind      string    `json:"kind" doc:"remove, drain, replace or rebalance"`
	Node      string    `json:"node,omitempty"`
	With      string    `json:"with,omitempty" doc:"The node that takes over"`
	State     string    `json:"state" doc:"running, done, failed or cancelled; empty for a dry run"`
	Progress  string    `json:"progress" doc:"What is being done"`
	Done      uint32    `json:"done" doc:"Steps behind it"`
	Total     uint32    `json:"total"`
	Error     string    `json:"error,omitempty"`
	StartedAt time.Time `json:"started_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Warnings  []string  `json:"warnings,omitempty" doc:"What is allowed, but makes the cluster weaker; the steps of a plan"`
}

// JoinToken is a permission to join.
type JoinToken struct {
	ID        string     `json:"id"`
	Token     string     `json:"token,omitempty" doc:"The secret; only in the answer that made it"`
	Uses      uint32     `json:"uses" doc:"How many nodes may still join with it"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// NewJoinToken asks for a join token.
type NewJoinToken struct {
	TTLSeconds int64  `json:"ttl_s" minimum:"0" doc:"0: it does not expire"`
	Uses       uint32 `json:"uses" minimum:"1" maximum:"1000"`
}

// SafeToStop says whether a node can be stopped without harm.
type SafeToStop struct {
	Safe    bool     `json:"safe"`
	Reasons []string `json:"reasons"`
}

// Drain sends a node's clients and leaderships away.
func (c *Client) Drain(ctx context.Context, node string, dryRun bool) (Operation, error) {
	return decode[Operation](c.Raw(ctx, http.MethodPost, One(PathNodes, node)+"/drain"+dry(dryRun), nil, nil))
}

// Remove takes a node out for good; with may name the one that takes over.
func (c *Client) Remove(ctx context.Context, node, with string, dryRun bool) (Operation, error) {
	path := One(PathNodes, node) + dry(dryRun)
	if with != "" {
		path = One(PathNodes, node) + "/replace/" + with + dry(dryRun)
		return decode[Operation](c.Raw(ctx, http.MethodPost, path, nil, nil))
	}
	return decode[Operation](c.Raw(ctx, http.MethodDelete, path, nil, nil))
}

// Operation asks for one operation.
func (c *Client) Operation(ctx context.Context, id string) (Operation, error) {
	return get[Operation](ctx, c, One(PathOperations, id))
}

func dry(run bool) string {
	if run {
		return "?dry_run=true"
	}
	return ""
}
