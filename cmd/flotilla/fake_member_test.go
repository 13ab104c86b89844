package main

import (
	"context"
	"time"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
)

// The membership of a paperNode is one operation on n3, and a node that guards protect: n1.

func (paperNode) DrainNode(_ context.Context, id string, dryRun bool) (client.Operation, error) {
	return fakeOperation("drain", id, "", dryRun)
}

func (paperNode) UndrainNode(_ context.Context, id string) error {
	_, err := fakeOperation("undrain", id, "", false)
	return err
}

func (paperNode) RemoveNode(_ context.Context, id, with string, dryRun bool) (client.Operation, error) {
	return fakeOperation("remove", id, with, dryRun)
}

func (paperNode) SafeToStop(_ context.Context, id string) (client.SafeToStop, error) {
	if id == "n1" {
		return client.SafeToStop{Reasons: []string{"group 1 would have 1 caught-up replicas of 3"}}, nil
	}
	return client.SafeToStop{Safe: true, Reasons: []string{}}, nil
}

func (paperNode) Rebalance(context.Context, bool) (client.Operation, error) {
	return client.Operation{Kind: "rebalance", State: client.OperationDone, Progress: "replicas are where they should be"}, nil
}

func (paperNode) TransferLeader(_ context.Context, group uint32, _ string) error {
	if group > 1 {
		return &api.GuardError{Code: client.CodeNotFound, Status: 404, Detail: "there is no such group"}
	}
	return nil
}

func (paperNode) Operations() []client.Operation {
	op, _ := fakeOperation("remove", "n3", "", false)
	return []client.Operation{op}
}

func (paperNode) CancelOperation(_ context.Context, id string) (client.Operation, error) {
	return client.Operation{ID: id, State: client.OperationCancelled}, nil
}

func (paperNode) Tokens() []client.JoinToken { return []client.JoinToken{{ID: "t-1", Uses: 3}} }

func (paperNode) CreateToken(_ context.Context, uses uint32, ttl time.Duration) (client.JoinToken, error) {
	return client.JoinToken{ID: "t-2", Token: "flotilla-" + ttl.String(), Uses: uses}, nil
}

func (paperNode) RevokeToken(context.Context, string) error { return nil }

func fakeOperation(kind, node, with string, dryRun bool) (client.Operation, error) {
	switch node {
	case "n1":
		return client.Operation{}, &api.GuardError{Code: client.CodeQuorumAtRisk, Status: 409, Detail: "without node n1 there is no healthy majority in group 1"}
	case "n9":
		return client.Operation{}, &api.GuardError{Code: client.CodeNotFound, Status: 404, Detail: "there is no node n9 in this cluster"}
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	op := client.Operation{ID: "op-1", Kind: kind, Node: node, With: with, State: client.OperationDone, Progress: "the node is out of the cluster", Done: 5, Total: 5, StartedAt: at, UpdatedAt: at}
	if dryRun {
		op.ID, op.State, op.Warnings = "", "", []string{"2 nodes are left for 3 replicas"}
	}
	return op, nil
}
