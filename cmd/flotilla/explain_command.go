package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func (a *app) explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "why and where: a topic, a client", Category: categoryLook,
		Subcommands: []*cli.Command{
			{
				Name: "topic", Usage: "where a publish to a topic goes, and why it would be refused now", ArgsUsage: "TOPIC", Flags: commonFlags(),
				Description: "  flotilla explain topic plant/7/temperature\n  flotilla explain topic plant/7/temperature -o json",
				Action:      a.call(1, 1, a.explainTopic),
			},
			{
				Name: "client", Usage: "where a client id lives, and why it is connected or not", ArgsUsage: "ID", Flags: commonFlags(),
				Description: "  flotilla explain client dev-7",
				Action:      a.call(1, 1, a.explainClient),
			},
		},
	}
}

// explained asks, and prints the answer unless a person wants to read it.
func (ad *admin) explained(ctx context.Context, kind string, out any) (done bool, err error) {
	id := ad.c.Args().First()
	raw, err := ad.api.Raw(ctx, http.MethodGet, client.One(client.PathExplain+"/"+kind, id), nil, nil)
	if err != nil {
		return true, err
	}
	if ad.format == "json" || ad.format == "yaml" || ad.format == "name" {
		return true, printOne(ad, raw, kind+"/"+id)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return true, fmt.Errorf("read the answer: %w", err)
	}
	return false, nil
}

func (a *app) explainTopic(ctx context.Context, ad *admin) error {
	var e client.TopicExplanation
	if done, err := ad.explained(ctx, "topic", &e); done {
		return err
	}
	fmt.Fprintf(a.out, "topic %s, as %s routes it\n", e.Topic, e.Node)
	if len(e.Refused) == 0 {
		fmt.Fprintln(a.out, "  a publish is taken now")
	}
	for _, r := range e.Refused {
		fmt.Fprintf(a.out, "  REFUSED: %s\n", r)
	}
	fmt.Fprintf(a.out, "  %d durable sessions, connected subscribers on %s\n", e.Durable, dash(strings.Join(e.Nodes, ",")))
	if k := e.Keeps; k != nil {
		fmt.Fprintf(a.out, "  retained: %d bytes, QoS %d, stored %s, in shard %d\n", k.PayloadBytes, k.QoS, since(k.StoredAt), k.Shard)
	} else {
		fmt.Fprintln(a.out, "  retained: nothing")
	}
	if len(e.Filters) > 0 {
		fmt.Fprintln(a.out)
		if err := printTable(ad, e.Filters, []column[client.ExplainedFilter]{
			{"FILTER", false, func(f client.ExplainedFilter) string { return f.Filter }},
			{"SHARD", false, func(f client.ExplainedFilter) string { return fmt.Sprint(f.Shard) }},
			{"DURABLE", false, func(f client.ExplainedFilter) string { return fmt.Sprint(f.Stored) }},
			{"SHARES", false, func(f client.ExplainedFilter) string { return dash(strings.Join(f.Shares, ",")) }},
			{"NODES", false, func(f client.ExplainedFilter) string { return dash(strings.Join(f.Nodes, ",")) }},
		}); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.out)
	if err := printTable(ad, e.Shards, []column[client.ExplainedShard]{
		{"SHARD", false, func(s client.ExplainedShard) string { return fmt.Sprint(s.Shard) }},
		{"LEADER", false, func(s client.ExplainedShard) string { return orDash(s.Leader) }},
		{"WHY", false, func(s client.ExplainedShard) string { return strings.Join(s.Why, ",") }},
		{"SESSIONS", false, func(s client.ExplainedShard) string { return fmt.Sprint(s.Sessions) }},
		{"CONNECTED", false, func(s client.ExplainedShard) string { return fmt.Sprint(s.Online) }},
		{"FULL", false, func(s client.ExplainedShard) string { return fmt.Sprint(s.Full) }},
		{"FIRST", false, func(s client.ExplainedShard) string { return dash(strings.Join(s.First, ",")) }},
	}); err != nil {
		return err
	}
	for _, s := range e.Shares {
		fmt.Fprintf(a.out, "\nshare %s of %s in shard %d: %d connected members on %s\n", s.Name, s.Filter, s.Shard, s.Members, dash(strings.Join(s.Nodes, ",")))
	}
	if ad.format == "wide" {
		fmt.Fprintln(a.out)
		for _, k := range slices.Sorted(maps.Keys(e.Limits)) {
			fmt.Fprintf(a.out, "%-24s %s\n", k, e.Limits[k])
		}
	}
	return nil
}

func (a *app) explainClient(ctx context.Context, ad *admin) error {
	var e client.ClientExplanation
	if done, err := ad.explained(ctx, "client", &e); done {
		return err
	}
	fmt.Fprintf(a.out, "client %s lives in shard %d: leader %s, replicas on %s\n", e.ClientID, e.Shard, orDash(e.Leader), strings.Join(e.Replicas, ","))
	for _, r := range e.Reasons {
		fmt.Fprintf(a.out, "  %s\n", r)
	}
	rows := [][]string{}
	if s := e.Session; s != nil {
		expires := "never"
		if s.ExpiryS != 1<<32-1 {
			expires = fmt.Sprintf("%ds after it disconnects", s.ExpiryS)
		}
		rows = append(rows, []string{"DURABLE", fmt.Sprint(s.Durable)}, []string{"EPOCH", fmt.Sprint(s.Epoch)}, []string{"OWNER", orDash(s.Owner)},
			[]string{"SUBSCRIPTIONS", fmt.Sprint(s.Subscriptions)}, []string{"INBOX", fmt.Sprintf("%d messages, %d bytes, full %v", s.InboxDepth, s.InboxBytes, e.Full)},
			[]string{"INFLIGHT", fmt.Sprint(s.Inflight)}, []string{"EXPIRES", expires})
	}
	if c := e.Client; c != nil {
		rows = append(rows, []string{"CONNECTION", fmt.Sprintf("%s, %s from %s, MQTT %s", c.Node, c.Transport, c.Peer, c.MQTTVersion)}, []string{"ROOM", fmt.Sprint(e.Room)})
	}
	if len(e.Replays) > 0 {
		rows = append(rows, []string{"REPLAYS", strings.Join(e.Replays, ",")})
	}
	if e.Last != nil {
		rows = append(rows, []string{"LAST", eventLine(e.Last, false)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(a.out)
	}
	return writeRows(a.out, rows)
}
