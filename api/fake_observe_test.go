package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// fakeObserver is the part of a node that lets operators see. events is what a stream
// brings, page after page; nil pages wait for the heartbeat.
type fakeObserver struct {
	events  [][]client.Event
	asked   *client.EventQuery
	changed map[string]string
}

func (f *fakeObserver) OpenEvents(_ context.Context, q client.EventQuery) (EventStream, error) {
	if f.asked != nil {
		*f.asked = q
	}
	if q.Client == "busy" {
		return nil, fmt.Errorf("too many streams: %w", ErrLimitExceeded)
	}
	if q.After == "nonsense" {
		return nil, &GuardError{Code: client.CodeInvalid, Status: 422, Detail: "the id is not one of an event"}
	}
	return &fakeStream{pages: f.events}, nil
}

type fakeStream struct {
	pages [][]client.Event
	n     int
}

func (s *fakeStream) Next(context.Context) ([]client.Event, string, error) {
	if s.n == len(s.pages) {
		return nil, "", errors.New("the end")
	}
	s.n++
	return s.pages[s.n-1], fmt.Sprintf("at-%d", s.n), nil
}

func (s *fakeStream) Close() {}

func (f *fakeObserver) ExplainTopic(_ context.Context, topic string) (client.TopicExplanation, error) {
	return client.TopicExplanation{Topic: topic}, nil
}

func (f *fakeObserver) ExplainClient(_ context.Context, id string) (client.ClientExplanation, error) {
	return client.ClientExplanation{ClientID: id}, nil
}

func (f *fakeObserver) Settings() []client.Setting {
	return []client.Setting{{Key: "mqtt.max_qos", Value: "2", Kind: "number", Changes: "new_connections"}}
}

func (f *fakeObserver) ChangeSettings(_ context.Context, values map[string]string, dryRun bool) ([]client.Setting, error) {
	var out []client.Setting
	for k, v := range values {
		if k == "shards" {
			return nil, &GuardError{Code: client.CodeConflict, Status: 409, Detail: "shards cannot be changed"}
		}
		out = append(out, client.Setting{Key: k, Value: v})
		if !dryRun && f.changed != nil {
			f.changed[k] = v
		}
	}
	return out, nil
}

func (f *fakeObserver) Loggers(context.Context, string) ([]client.Logger, error) {
	return []client.Logger{{Node: "n1", Level: "info"}}, nil
}

func (f *fakeObserver) SetLogger(_ context.Context, node, name, level string) ([]client.Logger, error) {
	return []client.Logger{{Node: node, Name: name, Level: level}}, nil
}

func (f *fakeObserver) Listeners(context.Context) ([]client.Listener, error) {
	return []client.Listener{{Node: "n1", Name: "mqtt"}}, nil
}

func (f *fakeObserver) PauseListener(_ context.Context, node, name string, pause bool) (client.Listener, error) {
	if name == "none" {
		return client.Listener{}, &GuardError{Code: client.CodeNotFound, Status: 404, Detail: "there is no listener none on node " + node}
	}
	return client.Listener{Node: node, Name: name, Paused: pause, Accepting: !pause}, nil
}

func (f *fakeObserver) KickClients(_ context.Context, req client.KickClients, dryRun bool) (client.Operation, error) {
	return client.Operation{ID: "op-9", Kind: "kick", State: client.OperationRunning, Total: uint32(len(req.Filter))}, nil
}
