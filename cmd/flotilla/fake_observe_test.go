package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
)

// A paperNode tells of one client, one loss of a node, and that it missed three events.

func (paperNode) OpenEvents(_ context.Context, q client.EventQuery) (api.EventStream, error) {
	if len(q.Types) == 1 && q.Types[0] == "nonsense" {
		return nil, &api.GuardError{Code: client.CodeInvalid, Status: 422, Detail: `there is no event "nonsense"`}
	}
	return &paperStream{}, nil
}

type paperStream struct{ n int }

func (s *paperStream) Next(ctx context.Context) ([]client.Event, string, error) {
	if s.n++; s.n > 1 {
		return nil, "", errors.New("the end")
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []client.Event{
		{ID: "e1", Type: "client.connected", At: at, Node: "n1", Client: "dev/1", Peer: "127.0.0.1:5000"},
		{ID: "e2", Type: "lost", At: at, Node: "n1", Reason: "the node keeps no more of them", Data: map[string]any{"missed": 3}},
		{ID: "e3", Type: "node.down", At: at, Node: "n2", Data: map[string]any{"incarnation": 7}},
	}, "e3", nil
}

func (*paperStream) Close() {}

func (paperNode) ExplainTopic(_ context.Context, topic string) (client.TopicExplanation, error) {
	n1 := "n1"
	return client.TopicExplanation{
		Topic: topic, Node: "n1", Durable: 2, Nodes: []string{"n2"}, Refused: []string{"a disk is full"}, Limits: map[string]string{"mqtt.max_qos": "2"},
		Filters: []client.ExplainedFilter{{Filter: "t/#", Shard: 1, Stored: true, Shares: []string{}, Nodes: []string{"n2"}}},
		Shards:  []client.ExplainedShard{{Shard: 1, Leader: &n1, Why: []string{"inboxes", "retained"}, Sessions: 2, Online: 1, First: []string{"a", "b"}}},
		Shares:  []client.ExplainedShare{{Name: "workers", Filter: "t/#", Shard: 1, Members: 3, Nodes: []string{"n1"}}},
		Keeps:   &client.ExplainedRetained{Shard: 1, Retained: client.Retained{Topic: topic, QoS: 1, PayloadBytes: 4}},
	}, nil
}

func (paperNode) ExplainClient(_ context.Context, id string) (client.ClientExplanation, error) {
	out := client.ClientExplanation{ClientID: id, Shard: 3, Replicas: []string{"n1", "n2"}, Replays: []string{}, Reasons: []string{"there is no session with this id"}, Room: -1}
	if id == "a" {
		n1 := "n1"
		out.Leader, out.Session = &n1, &client.Session{ClientID: id, Durable: true, Epoch: 4, InboxDepth: 12}
		out.Last = &client.Event{Type: "client.disconnected", Node: "n2", Reason: "keepalive"}
		out.Reasons = []string{"not connected: client.disconnected on n2 (keepalive)"}
	}
	return out, nil
}

func (paperNode) Settings() []client.Setting {
	return []client.Setting{
		{Key: "shards", Value: "8", Kind: "number", Changes: "never", Help: "number of shards"},
		{Key: "mqtt.max_qos", Value: "2", Kind: "number", Changes: "new_connections", Help: "highest QoS of a publish"},
	}
}

func (paperNode) ChangeSettings(_ context.Context, values map[string]string, _ bool) ([]client.Setting, error) {
	for k, v := range values {
		switch {
		case k == "shards":
			return nil, &api.GuardError{Code: client.CodeConflict, Status: 409, Detail: "shards was decided when the cluster was formed"}
		case k != "mqtt.max_qos":
			return nil, &api.GuardError{Code: client.CodeInvalid, Status: 422, Detail: fmt.Sprintf("there is no setting %q", k)}
		case v == "2":
			return nil, nil
		}
		return []client.Setting{{Key: k, Value: v, Changes: "new_connections"}}, nil
	}
	return nil, nil
}

func (paperNode) Loggers(context.Context, string) ([]client.Logger, error) {
	return []client.Logger{{Node: "n1", Level: "info"}, {Node: "n1", Name: "session", Level: "debug"}}, nil
}

func (paperNode) SetLogger(_ context.Context, node, name, level string) ([]client.Logger, error) {
	if level == "loud" {
		return nil, &api.GuardError{Code: client.CodeInvalid, Status: 422, Detail: `level "loud": use debug, info, warn or error`}
	}
	return []client.Logger{{Node: "n1", Name: name, Level: level}}, nil
}

func (paperNode) Listeners(context.Context) ([]client.Listener, error) {
	return []client.Listener{{Node: "n1", Name: "mqtt", Addr: "127.0.0.1:1883", WebSocket: "/mqtt", Proxy: "off", Accepting: true, Connections: 3}}, nil
}

func (paperNode) PauseListener(_ context.Context, node, name string, pause bool) (client.Listener, error) {
	if node != "n1" || name != "mqtt" {
		return client.Listener{}, &api.GuardError{Code: client.CodeNotFound, Status: 404, Detail: fmt.Sprintf("there is no listener %s on node %s: it has mqtt", name, node)}
	}
	return client.Listener{Node: node, Name: name, Addr: "127.0.0.1:1883", Paused: pause, Accepting: !pause}, nil
}

func (paperNode) KickClients(_ context.Context, req client.KickClients, dryRun bool) (client.Operation, error) {
	if req.Filter["nothing"] != "" {
		return client.Operation{}, &api.GuardError{Code: client.CodeInvalid, Status: 422, Detail: `clients have no field "nothing"`}
	}
	op := client.Operation{ID: "op-7", Kind: "kick", State: client.OperationDone, Done: 12, Total: 12, Progress: fmt.Sprintf("12 of 12 clients were disconnected at %v a second", req.Rate)}
	if dryRun {
		op.ID, op.State, op.Done, op.Progress = "", "", 0, "12 clients match"
	}
	return op, nil
}
