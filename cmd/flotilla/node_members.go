package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
)

var _ api.Membership = (*nodeAPI)(nil)

// DrainNode implements api.Membership.
func (a *nodeAPI) DrainNode(ctx context.Context, id string, dryRun bool) (client.Operation, error) {
	op, err := a.n.DrainNode(ctx, id, dryRun)
	return client.Operation(op), memberError(err)
}

// UndrainNode implements api.Membership.
func (a *nodeAPI) UndrainNode(ctx context.Context, id string) error {
	return memberError(a.n.UndrainNode(ctx, id))
}

// RemoveNode implements api.Membership.
func (a *nodeAPI) RemoveNode(ctx context.Context, id, with string, dryRun bool) (client.Operation, error) {
	op, err := a.n.RemoveNode(ctx, id, with, dryRun)
	return client.Operation(op), memberError(err)
}

// SafeToStop implements api.Membership.
func (a *nodeAPI) SafeToStop(ctx context.Context, id string) (client.SafeToStop, error) {
	reasons, err := a.n.SafeToStop(ctx, id)
	if reasons == nil {
		reasons = []string{}
	}
	return client.SafeToStop{Safe: len(reasons) == 0, Reasons: reasons}, memberError(err)
}

// Rebalance implements api.Membership.
func (a *nodeAPI) Rebalance(ctx context.Context, dryRun bool) (client.Operation, error) {
	op, err := a.n.Rebalance(ctx, dryRun)
	return client.Operation(op), memberError(err)
}

// TransferLeader implements api.Membership.
func (a *nodeAPI) TransferLeader(ctx context.Context, group uint32, to string) error {
	return memberError(a.n.TransferLeader(ctx, group, to))
}

// Operations implements api.Membership.
func (a *nodeAPI) Operations() []client.Operation {
	return a.operations()
}

// CancelOperation implements api.Membership.
func (a *nodeAPI) CancelOperation(ctx context.Context, id string) (client.Operation, error) {
	op, err := a.n.CancelOperation(ctx, id)
	var g *cluster.GuardError
	if errors.As(err, &g) && g.Code == cluster.GuardNotFound {
		if op, ok := a.n.CancelNodeOperation(ctx, id); ok {
			return client.Operation(op), nil
		}
	}
	return client.Operation(op), memberError(err)
}

// Tokens implements api.Membership.
func (a *nodeAPI) Tokens() []client.JoinToken {
	ts := a.n.Tokens()
	out := make([]client.JoinToken, len(ts))
	for i, t := range ts {
		out[i] = client.JoinToken{ID: t.ID, Uses: t.Uses, ExpiresAt: t.ExpiresAt}
	}
	return out
}

// CreateToken implements api.Membership.
func (a *nodeAPI) CreateToken(ctx context.Context, uses uint32, ttl time.Duration) (client.JoinToken, error) {
	t, err := a.n.CreateToken(ctx, uses, ttl)
	return client.JoinToken{ID: t.ID, Token: t.Secret, Uses: t.Uses, ExpiresAt: t.ExpiresAt}, memberError(err)
}

// RevokeToken implements api.Membership.
func (a *nodeAPI) RevokeToken(ctx context.Context, id string) error {
	return memberError(a.n.RevokeToken(ctx, id))
}

// memberError turns a refusal into a problem of the same name.
func memberError(err error) error {
	var g *cluster.GuardError
	if !errors.As(err, &g) {
		return apiError(err)
	}
	status := http.StatusConflict
	switch g.Code {
	case cluster.GuardNotFound:
		status = http.StatusNotFound
	case cluster.GuardInvalid:
		status = http.StatusUnprocessableEntity
	case cluster.GuardForbidden:
		status = http.StatusForbidden
	case cluster.GuardLimit:
		status = http.StatusTooManyRequests
	}
	return &api.GuardError{Code: g.Code, Detail: g.Detail, Status: status}
}
