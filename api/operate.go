package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// Operator does what operators do to clients, sessions and retained messages.
type Operator interface {
	// KickClient closes the connection of a client, wherever it is, with a
	// reason code of DISCONNECT. ErrNotFound if there is none.
	KickClient(ctx context.Context, id string, reasonCode byte) (client.Kicked, error)
	// EndSession ends a session for good. ErrNotFound if there is none.
	EndSession(ctx context.Context, id string) error
	// Inbox returns up to limit messages that wait for a session, the oldest first.
	Inbox(ctx context.Context, id string, limit int) ([]client.InboxMessage, error)
	// Shares lists shared subscriptions in the order of shard, then filter.
	// Query.ID selects those of one name, Query.Filter those of one filter.
	Shares(context.Context, Query) (Page[client.Share], error)
	// RetainedMessage returns one retained message with its payload.
	RetainedMessage(ctx context.Context, topic string) (client.RetainedMessage, error)
	// DeleteRetained deletes the retained messages that match a filter, or with
	// dryRun only says which.
	DeleteRetained(ctx context.Context, filter string, dryRun bool) (client.Deleted, error)
	// Alarms are what operators should mend, of all nodes that answer.
	Alarms(context.Context) ([]client.Alarm, error)
}

type kickInput struct {
	ID         string `path:"id" maxLength:"65535"`
	ReasonCode int    `query:"reason_code" minimum:"128" maximum:"162" default:"152" doc:"Reason code of the DISCONNECT that MQTT 5 clients get; 152 (0x98) is administrative action."`
}

type inboxInput struct {
	ID    string `path:"id" maxLength:"65535"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most messages wanted, the oldest first."`
}

type shareInput struct {
	ListParams
	Name   string `query:"name" maxLength:"65535" doc:"Only shares of this name."`
	Filter string `query:"filter" maxLength:"65535" doc:"Only shares of this very filter, without $share and name."`
}

type oneShareInput struct {
	ID          string `path:"id" maxLength:"65535" doc:"Name of the share."`
	Filter      string `query:"filter" maxLength:"65535" doc:"Its filter, if there are several of that name."`
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"linearizable"`
}

type deleteRetainedInput struct {
	Filter string `query:"filter" required:"true" minLength:"1" maxLength:"65535" doc:"Topics that match it."`
	DryRun bool   `query:"dry_run" doc:"Say what would be deleted, change nothing."`
}

// empty is an answer without a body.
type empty struct{}

func (s *Server) operateRoutes(a huma.API) {
	n := s.opt.Node
	answer(s, a, deletion("kick-client", "/clients/{id}", "Close the connection of a client", 404, 422),
		func(ctx context.Context, in *kickInput) (client.Kicked, error) {
			return n.KickClient(ctx, in.ID, byte(in.ReasonCode))
		})
	end := deletion("end-session", "/sessions/{id}", "End a session and disconnect its client; what waits for it is dropped", 404)
	end.DefaultStatus = http.StatusNoContent
	huma.Register(a, end, func(ctx context.Context, in *idInput) (*empty, error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		if err := n.EndSession(ctx, in.ID); err != nil {
			return nil, s.problemFor(end.OperationID, err)
		}
		return &empty{}, nil
	})
	answer(s, a, operation("list-inbox", "/sessions/{id}/inbox", "Messages that wait for a session", 404, 422),
		func(ctx context.Context, in *inboxInput) (client.List[client.InboxMessage], error) {
			items, err := n.Inbox(ctx, in.ID, in.Limit)
			return client.List[client.InboxMessage]{Items: filled(items), Meta: client.Meta{Limit: in.Limit}}, err
		})
	answer(s, a, operation("list-shares", "/shares", "Shared subscriptions", 422),
		func(ctx context.Context, in *shareInput) (client.List[client.Share], error) {
			return list(ctx, "shares", &in.ListParams, n.Shares, func(q *Query) { q.ID, q.Filter = in.Name, in.Filter })
		})
	answer(s, a, operation("get-share", "/shares/{id}", "One shared subscription, with its members", 404, 422), s.share)
	answer(s, a, operation("get-retained", "/retained/{id}", "One retained message, with its payload", 404),
		func(ctx context.Context, in *oneInput) (client.RetainedMessage, error) {
			return n.RetainedMessage(ctx, in.ID)
		})
	answer(s, a, deletion("delete-retained", "/retained", "Delete retained messages", 422),
		func(ctx context.Context, in *deleteRetainedInput) (client.Deleted, error) {
			out, err := n.DeleteRetained(ctx, in.Filter, in.DryRun)
			out.Topics = filled(out.Topics)
			return out, err
		})
	answer(s, a, operation("list-alarms", "/alarms", "What operators should mend"),
		func(ctx context.Context, in *ListParams) (client.List[client.Alarm], error) {
			all, err := n.Alarms(ctx)
			if err != nil {
				return client.List[client.Alarm]{}, err
			}
			return slicePage("alarms", filled(all), &in.PageParams)
		})
}

func deletion(id, path, summary string, errs ...int) huma.Operation {
	op := operation(id, path, summary, errs...)
	op.Method = http.MethodDelete
	return op
}

// share finds the one share of a name.
func (s *Server) share(ctx context.Context, in *oneShareInput) (client.Share, error) {
	page, err := s.opt.Node.Shares(ctx, Query{ID: in.ID, Filter: in.Filter, Limit: 2, Stale: in.Consistency == "stale"})
	switch {
	case err != nil:
		return client.Share{}, err
	case len(page.Items) == 0:
		return client.Share{}, fmt.Errorf("share %q: %w", in.ID, ErrNotFound)
	case len(page.Items) > 1:
		return client.Share{}, fmt.Errorf("there are several shares named %q: choose one with filter=: %w", in.ID, ErrInvalid)
	}
	return page.Items[0], nil
}
