package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/router"
)

var _ api.Observer = (*nodeAPI)(nil)

// eventStream shows a stream of the cluster to package api.
type eventStream struct{ s *cluster.EventStream }

// OpenEvents implements api.EventStreamer.
func (a *nodeAPI) OpenEvents(ctx context.Context, q client.EventQuery) (api.EventStream, error) {
	s, err := a.n.OpenEvents(ctx, cluster.EventQuery{Types: q.Types, Client: q.Client, After: q.After})
	switch {
	case errors.Is(err, cluster.ErrTooMany):
		return nil, &namedError{err, api.ErrLimitExceeded}
	case err != nil:
		return nil, memberError(err)
	}
	return &eventStream{s}, nil
}

// Next implements api.EventStream.
func (e *eventStream) Next(ctx context.Context) ([]client.Event, string, error) {
	list, id, err := e.s.Next(ctx)
	out := make([]client.Event, len(list))
	for i := range list {
		out[i] = wireEvent(&list[i])
	}
	return out, id, err
}

// Close implements api.EventStream.
func (e *eventStream) Close() { e.s.Close() }

func wireEvent(e *cluster.Event) client.Event {
	return client.Event{
		ID: e.ID, Type: e.Type, At: e.At.UTC(), Node: e.Node, Message: e.Message, Client: e.Client, User: e.User, Peer: e.Peer,
		Listener: e.Listener, Group: e.Group, Term: e.Term, Operation: e.Operation, Reason: e.Reason, Data: e.Data,
	}
}

// ExplainTopic implements api.Observer.
func (a *nodeAPI) ExplainTopic(ctx context.Context, topic string) (client.TopicExplanation, error) {
	e, err := a.n.ExplainTopic(ctx, topic)
	out := client.TopicExplanation{
		Topic: e.Topic, Node: e.Node, Filters: []client.ExplainedFilter{}, Shards: []client.ExplainedShard{}, Nodes: e.Nodes,
		Shares: []client.ExplainedShare{}, Durable: e.Durable, Limits: e.Limits, Refused: e.Refused,
	}
	for _, f := range e.Filters {
		out.Filters = append(out.Filters, client.ExplainedFilter(f))
	}
	for _, s := range e.Shards {
		out.Shards = append(out.Shards, client.ExplainedShard(s))
	}
	for _, s := range e.Shares {
		out.Shares = append(out.Shares, client.ExplainedShare(s))
	}
	if k := e.Keeps; k != nil {
		out.Keeps = &client.ExplainedRetained{Shard: k.Shard, Retained: client.Retained(k.RetainedStatus)}
	}
	return out, memberError(err)
}

// ExplainClient implements api.Observer.
func (a *nodeAPI) ExplainClient(ctx context.Context, id string) (client.ClientExplanation, error) {
	e, err := a.n.ExplainClient(ctx, id)
	out := client.ClientExplanation{
		ClientID: e.ClientID, Shard: e.Shard, Leader: e.Leader, Replicas: e.Replicas, Full: e.Full, Room: e.Room, Replays: e.Replays, Reasons: e.Reasons,
	}
	if e.Session != nil {
		s := sessionOf(*e.Session)
		out.Session = &s
	}
	if e.Client != nil {
		c := clientOf(*e.Client)
		out.Client = &c
	}
	if e.Last != nil {
		last := wireEvent(e.Last)
		out.Last = &last
	}
	return out, memberError(err)
}

// Settings implements api.Observer.
func (a *nodeAPI) Settings() []client.Setting { return settingsOf(a.n.ClusterSettings()) }

func settingsOf(list []cluster.SettingStatus) []client.Setting {
	out := make([]client.Setting, len(list))
	for i, s := range list {
		out[i] = client.Setting(s)
	}
	return out
}

// ChangeSettings implements api.Observer.
func (a *nodeAPI) ChangeSettings(ctx context.Context, values map[string]string, dryRun bool) ([]client.Setting, error) {
	changed, err := a.n.ChangeSettings(ctx, values, dryRun)
	return settingsOf(changed), memberError(err)
}

// Loggers implements api.Observer.
func (a *nodeAPI) Loggers(ctx context.Context, node string) ([]client.Logger, error) {
	list, err := a.n.LoggerList(ctx, node)
	return loggersOf(list), memberError(err)
}

func loggersOf(list []cluster.LoggerStatus) []client.Logger {
	out := make([]client.Logger, len(list))
	for i, l := range list {
		out[i] = client.Logger(l)
	}
	return out
}

// SetLogger implements api.Observer.
func (a *nodeAPI) SetLogger(ctx context.Context, node, name, level string) ([]client.Logger, error) {
	list, err := a.n.SetLogger(ctx, node, name, level)
	return loggersOf(list), memberError(err)
}

// Listeners implements api.Observer.
func (a *nodeAPI) Listeners(ctx context.Context) ([]client.Listener, error) {
	list, err := a.n.ListenerList(ctx)
	out := make([]client.Listener, len(list))
	for i, l := range list {
		out[i] = client.Listener(l)
	}
	return out, memberError(err)
}

// PauseListener implements api.Observer.
func (a *nodeAPI) PauseListener(ctx context.Context, node, name string, pause bool) (client.Listener, error) {
	l, err := a.n.PauseListener(ctx, node, name, pause)
	return client.Listener(l), memberError(err)
}

// defaultKickReason is "administrative action".
const defaultKickReason = 0x98

// KickClients implements api.Observer.
func (a *nodeAPI) KickClients(ctx context.Context, req client.KickClients, dryRun bool) (client.Operation, error) {
	code := byte(req.ReasonCode)
	if code == 0 {
		code = defaultKickReason
	}
	op, err := a.n.KickClients(ctx, cluster.KickRequest{Filter: req.Filter, Rate: req.Rate, Reason: code, DryRun: dryRun})
	return client.Operation(op), memberError(err)
}

// operations are those of the control group and those of single nodes, newest first.
func (a *nodeAPI) operations() []client.Operation {
	var out []client.Operation
	for _, o := range append(a.n.Operations(), a.n.NodeOperations(context.Background())...) {
		out = append(out, client.Operation(o))
	}
	slices.SortStableFunc(out, func(x, y client.Operation) int { return strings.Compare(y.ID, x.ID) })
	return out
}

// checkTopic and checkFilter judge by the settings as they are now.
func (a *nodeAPI) checkTopic(topic string) error {
	l := a.n.Limits()
	return router.CheckTopic([]byte(topic), l.MaxTopicBytes, l.MaxTopicLevels)
}

func (a *nodeAPI) checkFilter(filter string) error {
	l := a.n.Limits()
	return router.CheckFilter(filter, l.MaxTopicBytes, l.MaxTopicLevels)
}
