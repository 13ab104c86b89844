package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Clients implements api.ClientLister for the clients of all nodes.
func (a *nodeAPI) Clients(ctx context.Context, q api.Query) (api.Page[client.ClientInfo], error) {
	page := api.Page[client.ClientInfo]{Count: -1}
	if q.ID != "" {
		c, ok, err := a.n.ClientOf(ctx, q.ID)
		if ok {
			page.Items = []client.ClientInfo{clientOf(c)}
		}
		return page, apiError(err)
	}
	items, next, err := a.n.ClientList(ctx, cluster.ListOptions{After: q.After, Limit: q.Limit, Stale: q.Stale})
	for _, c := range items {
		page.Items = append(page.Items, clientOf(c))
	}
	page.Next = next
	return page, apiError(err)
}

func clientOf(c cluster.ClientStatus) client.ClientInfo {
	return client.ClientInfo{
		ClientID: c.ClientID, Node: c.Node, Username: c.Username, Peer: c.Peer, Transport: c.Transport,
		MQTTVersion: strings.TrimSuffix(c.Version.String(), ".0"), CleanStart: c.CleanStart,
		KeepaliveS: int(c.KeepAliveS), ConnectedAt: c.ConnectedAt.UTC(),
	}
}

// KickClient implements api.Operator.
func (a *nodeAPI) KickClient(ctx context.Context, id string, code byte) (client.Kicked, error) {
	node, ok, err := a.n.KickClient(ctx, id, code)
	if err != nil {
		return client.Kicked{}, apiError(err)
	}
	if !ok {
		return client.Kicked{}, fmt.Errorf("client %q: %w", id, api.ErrNotFound)
	}
	return client.Kicked{ClientID: id, Node: node}, nil
}

// EndSession implements api.Operator.
func (a *nodeAPI) EndSession(ctx context.Context, id string) error {
	ok, err := a.n.EndSession(ctx, id)
	if err == nil && !ok {
		return fmt.Errorf("session %q: %w", id, api.ErrNotFound)
	}
	return apiError(err)
}

// Inbox implements api.Operator.
func (a *nodeAPI) Inbox(ctx context.Context, id string, limit int) ([]client.InboxMessage, error) {
	items, ok, err := a.n.SessionInbox(ctx, id, limit)
	if err != nil {
		return nil, apiError(err)
	}
	if !ok {
		return nil, fmt.Errorf("session %q: %w", id, api.ErrNotFound)
	}
	out := make([]client.InboxMessage, 0, len(items))
	for _, m := range items {
		out = append(out, client.InboxMessage{
			Seq: m.Seq, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, State: m.State, PayloadBytes: len(m.Payload),
			PayloadBase64: base64.StdEncoding.EncodeToString(m.Payload), PublishedAt: m.PublishedAt, ExpiresAt: m.ExpiresAt,
		})
	}
	return out, nil
}

// Shares implements api.Operator. The cluster has no index of names: pages are
// read until there are enough that match.
func (a *nodeAPI) Shares(ctx context.Context, q api.Query) (api.Page[client.Share], error) {
	page := api.Page[client.Share]{Count: -1}
	if err := a.caughtUp(q); err != nil {
		return page, err
	}
	after := q.After
	for {
		items, next, err := a.n.Shares(ctx, after, q.Limit-len(page.Items))
		if err != nil {
			return page, apiError(err)
		}
		for i := range items {
			if (q.ID == "" || items[i].Name == q.ID) && (q.Filter == "" || items[i].Filter == q.Filter) {
				page.Items = append(page.Items, shareOf(&items[i]))
			}
		}
		if next == "" || len(page.Items) == q.Limit {
			page.Next = next
			return page, nil
		}
		after = next
	}
}

func shareOf(s *cluster.ShareStatus) client.Share {
	out := client.Share{Name: s.Name, Filter: s.Filter, Shard: s.Shard, Queue: s.Queue, QueueBytes: s.Bytes, Assigned: s.Pending, Members: []client.ShareMember{}}
	for _, m := range s.Members {
		out.Members = append(out.Members, client.ShareMember(m))
	}
	return out
}

// RetainedMessage implements api.Operator.
func (a *nodeAPI) RetainedMessage(ctx context.Context, topic string) (client.RetainedMessage, error) {
	var out client.RetainedMessage
	if err := a.checkTopic(topic); err != nil {
		return out, fmt.Errorf("topic %q: %w: %w", topic, err, api.ErrInvalid)
	}
	m, st, ok, err := a.n.RetainedGet(ctx, topic)
	if err != nil {
		return out, apiError(err)
	}
	if !ok {
		return out, fmt.Errorf("retained message %q: %w", topic, api.ErrNotFound)
	}
	out.Retained, out.PayloadBase64 = client.Retained(st), base64.StdEncoding.EncodeToString(m.Payload)
	props, err := mqtt.ParseMessageProps(m.Props)
	if err != nil {
		return out, fmt.Errorf("properties of %q: %w", topic, err)
	}
	out.Properties = client.Properties{
		ContentType: props.ContentType, ResponseTopic: props.ResponseTopic, PayloadIsUTF8: props.PayloadIsUTF8,
		CorrelationBase64: base64.StdEncoding.EncodeToString(props.Correlation),
	}
	for _, u := range props.UserProperties {
		if out.Properties.User == nil {
			out.Properties.User = map[string]string{}
		}
		out.Properties.User[u.Key] = u.Value
	}
	return out, nil
}

const (
	// deletePage is how many retained messages are read at a time.
	deletePage = 500
	// deletedMost is how many topics the answer names.
	deletedMost = 1000
)

// DeleteRetained implements api.Operator. A message is deleted as clients do it,
// by an empty one, so that subscribers learn of it.
func (a *nodeAPI) DeleteRetained(ctx context.Context, filter string, dryRun bool) (client.Deleted, error) {
	out := client.Deleted{DryRun: dryRun}
	if err := a.checkFilter(filter); err != nil {
		return out, fmt.Errorf("filter %q: %w: %w", filter, err, api.ErrInvalid)
	}
	for after := ""; ; {
		items, next, err := a.n.RetainedList(ctx, filter, after, deletePage)
		if err != nil {
			return out, apiError(err)
		}
		for _, r := range items {
			if !dryRun {
				if err := a.deleteOne(ctx, r.Topic); err != nil {
					return out, fmt.Errorf("%d are deleted, %q is not: %w", out.Count, r.Topic, err)
				}
			}
			out.Count++
			if len(out.Topics) < deletedMost {
				out.Topics = append(out.Topics, r.Topic)
			}
		}
		if next == "" {
			return out, nil
		}
		after = next
	}
}

func (a *nodeAPI) deleteOne(ctx context.Context, topic string) error {
	code, err := a.n.PublishMessage(ctx, cluster.NewMessage{Topic: topic, QoS: 1, Retain: true})
	if err != nil {
		return apiError(err)
	}
	if rc := mqtt.ReasonCode(code); rc.Failed() {
		return a.refusal(rc)
	}
	return nil
}

// Alarms implements api.Operator.
func (a *nodeAPI) Alarms(ctx context.Context) ([]client.Alarm, error) {
	var out []client.Alarm
	for _, n := range a.n.Status(ctx).Nodes {
		for _, al := range n.Alarms {
			out = append(out, client.Alarm(al))
		}
	}
	return out, nil
}
