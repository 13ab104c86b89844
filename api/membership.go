package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Membership changes who is in the cluster. A refusal by a guard is a GuardError.
type Membership interface {
	DrainNode(ctx context.Context, id string, dryRun bool) (client.Operation, error)
	UndrainNode(ctx context.Context, id string) error
	// RemoveNode takes a node out for good; with names the one that takes over, "" for any.
	RemoveNode(ctx context.Context, id, with string, dryRun bool) (client.Operation, error)
	SafeToStop(ctx context.Context, id string) (client.SafeToStop, error)
	Rebalance(ctx context.Context, dryRun bool) (client.Operation, error)
	TransferLeader(ctx context.Context, group uint32, to string) error
	// Operations are all that are known, newest first.
	Operations() []client.Operation
	CancelOperation(ctx context.Context, id string) (client.Operation, error)
	Tokens() []client.JoinToken
	CreateToken(ctx context.Context, uses uint32, ttl time.Duration) (client.JoinToken, error)
	RevokeToken(ctx context.Context, id string) error
}

// GuardError is a refusal: 409 with a code that says why.
type GuardError struct {
	Code, Detail string
	Status       int
}

// Error implements error.
func (e *GuardError) Error() string { return e.Detail }

// problem is what a client is told.
func (e *GuardError) problem() *problem {
	p := newProblem(e.Status, e.Code, e.Detail)
	if e.Code == client.CodeOperationInProgress {
		p.RetryAfterMS = retryAfter.Milliseconds()
	}
	return p
}

// accepted is the answer to what goes on after it.
type accepted struct {
	Location string `header:"Location"`
	Body     client.Operation
}

type nodeChange struct {
	ID     string `path:"id" doc:"Node id"`
	DryRun bool   `query:"dry_run" doc:"Check and answer, change nothing"`
}

type nodeReplace struct {
	ID     string `path:"id" doc:"Node that leaves"`
	With   string `path:"with" doc:"Node that takes over"`
	DryRun bool   `query:"dry_run" doc:"Check and answer, change nothing"`
}

type byID struct {
	ID string `path:"id"`
}

type groupTransfer struct {
	ID   uint32 `path:"id" doc:"Group"`
	Body struct {
		To string `json:"to" doc:"Node that should lead; empty: the most advanced one"`
	}
}

type plan struct {
	DryRun bool `query:"dry_run" doc:"Show the steps only"`
}

type tokenInput struct{ Body client.NewJoinToken }

func (s *Server) memberRoutes(a huma.API) {
	change(s, a, "drain-node", http.MethodPost, "/nodes/{id}/drain", "Send a node's clients and leaderships away; it stays a member",
		func(ctx context.Context, in *nodeChange) (client.Operation, error) {
			return s.opt.Node.DrainNode(ctx, in.ID, in.DryRun)
		})
	change(s, a, "remove-node", http.MethodDelete, "/nodes/{id}", "Take a node out for good, alive or dead",
		func(ctx context.Context, in *nodeChange) (client.Operation, error) {
			return s.opt.Node.RemoveNode(ctx, in.ID, "", in.DryRun)
		})
	change(s, a, "replace-node", http.MethodPost, "/nodes/{id}/replace/{with}", "Take a node out, and let another have its replicas",
		func(ctx context.Context, in *nodeReplace) (client.Operation, error) {
			return s.opt.Node.RemoveNode(ctx, in.ID, in.With, in.DryRun)
		})
	change(s, a, "rebalance", http.MethodPost, "/rebalance", "What the placement is on its way to; it gets there by itself",
		func(ctx context.Context, in *plan) (client.Operation, error) {
			return s.opt.Node.Rebalance(ctx, in.DryRun)
		})

	verb := func(id, method, path, summary string, errs ...int) huma.Operation {
		op := operation(id, path, summary, append(errs, 404, 409)...)
		op.Method = method
		return op
	}
	answer(s, a, verb("undrain-node", http.MethodPost, "/nodes/{id}/undrain", "Let a drained node serve again"),
		func(ctx context.Context, in *byID) (Done, error) {
			return Done{}, s.opt.Node.UndrainNode(ctx, in.ID)
		})
	answer(s, a, operation("safe-to-stop", "/nodes/{id}/safe-to-stop", "Whether a node can be stopped without harm", 404),
		func(ctx context.Context, in *byID) (client.SafeToStop, error) {
			return s.opt.Node.SafeToStop(ctx, in.ID)
		})
	answer(s, a, verb("transfer-group", http.MethodPost, "/groups/{id}/transfer", "Hand a group's leadership over"),
		func(ctx context.Context, in *groupTransfer) (Done, error) {
			return Done{}, s.opt.Node.TransferLeader(ctx, in.ID, in.Body.To)
		})
	answer(s, a, operation("list-operations", "/operations", "Operations, newest first"),
		func(ctx context.Context, in *ListParams) (client.List[client.Operation], error) {
			if err := s.synced(ctx, in.Consistency); err != nil {
				return client.List[client.Operation]{}, err
			}
			return slicePage("operations", filled(s.opt.Node.Operations()), &in.PageParams)
		})
	answer(s, a, operation("get-operation", "/operations/{id}", "One operation", 404), s.operation)
	answer(s, a, verb("cancel-operation", http.MethodDelete, "/operations/{id}", "Stop an operation where that is still possible"),
		func(ctx context.Context, in *byID) (client.Operation, error) {
			return s.opt.Node.CancelOperation(ctx, in.ID)
		})
	answer(s, a, operation("list-join-tokens", "/join-tokens", "Join tokens, without their secrets"),
		func(ctx context.Context, in *ListParams) (client.List[client.JoinToken], error) {
			if err := s.synced(ctx, in.Consistency); err != nil {
				return client.List[client.JoinToken]{}, err
			}
			return slicePage("join-tokens", filled(s.opt.Node.Tokens()), &in.PageParams)
		})
	answer(s, a, verb("create-join-token", http.MethodPost, "/join-tokens", "Make a join token; its secret is shown this once", 422),
		func(ctx context.Context, in *tokenInput) (client.JoinToken, error) {
			return s.opt.Node.CreateToken(ctx, in.Body.Uses, time.Duration(in.Body.TTLSeconds)*time.Second)
		})
	answer(s, a, verb("revoke-join-token", http.MethodDelete, "/join-tokens/{id}", "Take a join token back"),
		func(ctx context.Context, in *byID) (Done, error) {
			return Done{}, s.opt.Node.RevokeToken(ctx, in.ID)
		})
}

// change registers what is answered with 202 and goes on.
func change[I any](s *Server, a huma.API, id, method, path, summary string, fn func(context.Context, *I) (client.Operation, error)) {
	op := operation(id, path, summary, 404, 409, 422)
	op.Method, op.DefaultStatus = method, http.StatusAccepted
	huma.Register(a, op, func(ctx context.Context, in *I) (*accepted, error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		out, err := fn(ctx, in)
		if err != nil {
			return nil, s.problemFor(id, err)
		}
		res := &accepted{Body: out}
		if out.ID != "" {
			res.Location = client.One(client.PathOperations, out.ID)
		}
		return res, nil
	})
}

func (s *Server) operation(ctx context.Context, in *oneInput) (client.Operation, error) {
	if err := s.synced(ctx, in.Consistency); err != nil {
		return client.Operation{}, err
	}
	for _, o := range s.opt.Node.Operations() {
		if o.ID == in.ID {
			return o, nil
		}
	}
	return client.Operation{}, fmt.Errorf("operation %s: %w", in.ID, ErrNotFound)
}
