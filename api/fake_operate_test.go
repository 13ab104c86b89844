package api

import (
	"context"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// What operators do to a fakeNode concerns the client dev/1; everything else is
// not found.

func (f *fakeNode) KickClient(_ context.Context, id string, code byte) (client.Kicked, error) {
	f.kicked = append(f.kicked, code)
	if id != "dev/1" {
		return client.Kicked{}, ErrNotFound
	}
	return client.Kicked{ClientID: id, Node: "n1"}, f.err
}

func (f *fakeNode) EndSession(_ context.Context, id string) error {
	if id != "dev/1" {
		return ErrNotFound
	}
	return f.err
}

func (f *fakeNode) Inbox(_ context.Context, id string, limit int) ([]client.InboxMessage, error) {
	if id != "dev/1" {
		return nil, ErrNotFound
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	all := []client.InboxMessage{
		{Seq: 4, Topic: "a/b", QoS: 1, State: "sent", PayloadBytes: 1, PayloadBase64: "eA==", PublishedAt: &at},
		{Seq: 5, Topic: "a/c", QoS: 2, State: "queued", PublishedAt: &at, ExpiresAt: &at},
	}
	return all[:min(limit, len(all))], f.err
}

func (f *fakeNode) Shares(_ context.Context, q Query) (Page[client.Share], error) {
	n1 := "n1"
	page := Page[client.Share]{Count: -1}
	for _, s := range []client.Share{
		{Name: "g", Filter: "a/#", Shard: 2, Queue: 3, QueueBytes: 96, Assigned: 1, Members: []client.ShareMember{
			{ClientID: "dev/1", Online: true, Node: &n1, Room: 64, Assigned: 1, QoS: 1}, {ClientID: "dev/2", Room: 10},
		}},
		{Name: "two", Filter: "x", Members: []client.ShareMember{}}, {Name: "two", Filter: "y", Members: []client.ShareMember{}},
	} {
		if (q.ID == "" || q.ID == s.Name) && (q.Filter == "" || q.Filter == s.Filter) && len(page.Items) < q.Limit {
			page.Items = append(page.Items, s)
		}
	}
	return page, f.err
}

func (f *fakeNode) RetainedMessage(_ context.Context, topic string) (client.RetainedMessage, error) {
	for _, r := range f.retained {
		if r.Topic == topic {
			return client.RetainedMessage{Retained: r, PayloadBase64: "MjEuNQ==", Properties: client.Properties{ContentType: "text/plain"}}, f.err
		}
	}
	return client.RetainedMessage{}, ErrNotFound
}

func (f *fakeNode) DeleteRetained(_ context.Context, filter string, dryRun bool) (client.Deleted, error) {
	if filter == "none" {
		return client.Deleted{DryRun: dryRun}, f.err
	}
	return client.Deleted{DryRun: dryRun, Count: 1, Topics: []string{"a/b"}}, f.err
}

func (f *fakeNode) Alarms(context.Context) ([]client.Alarm, error) {
	return []client.Alarm{{Name: "disk_low", Node: "n1", Detail: "12 bytes are free", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}, f.err
}
