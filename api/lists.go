package api

import (
	"context"
	"fmt"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// ListParams is what every list takes; exported as PageParams is.
type ListParams struct {
	PageParams
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"linearizable" doc:"stale is answered by this node alone, without a majority."`
}

func (in *ListParams) query(list string) (Query, error) {
	position, ok := decodeCursor(list, in.Cursor)
	if !ok {
		return Query{}, badCursor()
	}
	return Query{After: position, Limit: in.Limit, Stale: in.Consistency == "stale"}, nil
}

func badCursor() error {
	p := newProblem(422, client.CodeInvalid, "the cursor does not belong to this list")
	p.Errors = []client.ProblemDetail{{Location: "query.cursor", Message: "use next_cursor of the page before, as it is"}}
	return p
}

type subscriptionInput struct {
	ListParams
	Client string `query:"client" maxLength:"65535" doc:"Only the subscriptions of this client id."`
	Filter string `query:"filter" maxLength:"65535" doc:"Only subscriptions with this very filter."`
	Match  string `query:"match" maxLength:"65535" doc:"Only subscriptions that match this topic."`
}

type retainedInput struct {
	ListParams
	Filter string `query:"filter" maxLength:"65535" doc:"Only topics that match this filter."`
}

type oneInput struct {
	ID string `path:"id" maxLength:"65535"`
	ObjectParams
}

func (s *Server) listRoutes(a huma.API) {
	n := s.opt.Node
	answer(s, a, operation("list-clients", "/clients", "Connected clients", 422),
		func(ctx context.Context, in *ListParams) (client.List[client.ClientInfo], error) {
			return list(ctx, "clients", in, n.Clients, nil)
		})
	answer(s, a, operation("get-client", "/clients/{id}", "One connected client", 404),
		func(ctx context.Context, in *oneInput) (client.ClientInfo, error) {
			return one(ctx, "client", in, n.Clients)
		})
	answer(s, a, operation("list-sessions", "/sessions", "Sessions", 422),
		func(ctx context.Context, in *ListParams) (client.List[client.Session], error) {
			return list(ctx, "sessions", in, n.Sessions, nil)
		})
	answer(s, a, operation("get-session", "/sessions/{id}", "One session, with its details", 404),
		func(ctx context.Context, in *oneInput) (client.Session, error) {
			return one(ctx, "session", in, n.Sessions)
		})
	answer(s, a, operation("list-subscriptions", "/subscriptions", "Subscriptions", 422),
		func(ctx context.Context, in *subscriptionInput) (client.List[client.Subscription], error) {
			return list(ctx, "subscriptions", &in.ListParams, n.Subscriptions, func(q *Query) {
				q.Client, q.Filter, q.Match = in.Client, in.Filter, in.Match
			})
		})
	answer(s, a, operation("list-retained", "/retained", "Retained messages, without payload", 422),
		func(ctx context.Context, in *retainedInput) (client.List[client.Retained], error) {
			return list(ctx, "retained", &in.ListParams, n.Retained, func(q *Query) { q.Filter = in.Filter })
		})
	s.operateRoutes(a)
}

// list asks for a page and dresses it.
func list[T any](ctx context.Context, name string, in *ListParams,
	fn func(context.Context, Query) (Page[T], error), edit func(*Query),
) (client.List[T], error) {
	q, err := in.query(name)
	if err != nil {
		return client.List[T]{}, err
	}
	if edit != nil {
		edit(&q)
	}
	page, err := fn(ctx, q)
	if err != nil {
		return client.List[T]{}, err
	}
	out := client.List[T]{Items: filled(page.Items), Meta: client.Meta{Limit: in.Limit, NextCursor: encodeCursor(name, page.Next)}}
	if page.Count >= 0 {
		out.Meta.CountHint = &page.Count
	}
	return out, nil
}

// one asks for the thing with an id.
func one[T any](ctx context.Context, kind string, in *oneInput, fn func(context.Context, Query) (Page[T], error)) (T, error) {
	var zero T
	page, err := fn(ctx, Query{ID: in.ID, Limit: 1, Stale: in.Consistency == "stale"})
	if err != nil {
		return zero, err
	}
	if len(page.Items) == 0 {
		return zero, fmt.Errorf("%s %q: %w", kind, in.ID, ErrNotFound)
	}
	return page.Items[0], nil
}

func problemSchemaType() reflect.Type { return reflect.TypeFor[client.Problem]() }

func eventField(event string) zap.Field { return zap.String("event", event) }

func opField(op string) zap.Field { return zap.String("op", op) }
