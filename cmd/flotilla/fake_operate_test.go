package main

import (
	"context"
	"fmt"
	"time"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
)

// A paperNode knows the client a; the others are not there.

func (paperNode) KickClient(_ context.Context, id string, code byte) (client.Kicked, error) {
	if id != "a" {
		return client.Kicked{}, fmt.Errorf("client %q: %w", id, api.ErrNotFound)
	}
	return client.Kicked{ClientID: id, Node: fmt.Sprintf("n%d", code)}, nil
}

func (paperNode) EndSession(_ context.Context, id string) error {
	if id != "a" {
		return fmt.Errorf("session %q: %w", id, api.ErrNotFound)
	}
	return nil
}

func (paperNode) Inbox(_ context.Context, id string, limit int) ([]client.InboxMessage, error) {
	if id != "a" {
		return nil, fmt.Errorf("session %q: %w", id, api.ErrNotFound)
	}
	all := []client.InboxMessage{{Seq: 1, Topic: "t/1", QoS: 1, State: "sent", PayloadBytes: 4}, {Seq: 2, Topic: "t/2", QoS: 2, State: "queued"}}
	return all[:min(limit, 2)], nil
}

func (paperNode) Shares(_ context.Context, q api.Query) (api.Page[client.Share], error) {
	n1 := "n1"
	page := api.Page[client.Share]{Count: -1}
	for _, filter := range []string{"jobs/#", "logs/#"} {
		s := client.Share{Name: "workers", Filter: filter, Shard: 1, Queue: 7, Assigned: 2, Members: []client.ShareMember{
			{ClientID: "a", Online: true, Node: &n1, Room: 64, Assigned: 2, QoS: 1}, {ClientID: "b", QoS: 2},
		}}
		if (q.ID == "" || q.ID == s.Name) && (q.Filter == "" || q.Filter == filter) {
			page.Items = append(page.Items, s)
		}
	}
	return page, nil
}

func (paperNode) RetainedMessage(_ context.Context, topic string) (client.RetainedMessage, error) {
	if topic != "t/1" {
		return client.RetainedMessage{}, fmt.Errorf("retained message %q: %w", topic, api.ErrNotFound)
	}
	return client.RetainedMessage{Retained: client.Retained{Topic: topic, QoS: 1, PayloadBytes: 4}, PayloadBase64: "MjEuNQ=="}, nil
}

func (paperNode) DeleteRetained(_ context.Context, filter string, dryRun bool) (client.Deleted, error) {
	if filter == "none" {
		return client.Deleted{DryRun: dryRun}, nil
	}
	return client.Deleted{DryRun: dryRun, Count: 3, Topics: []string{"t/1", "t/2"}}, nil
}

func (paperNode) Alarms(context.Context) ([]client.Alarm, error) {
	return []client.Alarm{{Name: "disk_low", Node: "n2", Detail: "12 bytes are free", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}, nil
}
