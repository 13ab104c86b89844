package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func (a *app) eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "print what happens in the cluster, as it happens", Category: categoryLook,
		Flags: append(commonFlags(),
			&cli.StringSliceFlag{Name: "type", Usage: "only this `TYPE`, such as node.down, or kind, such as node; may be repeated"},
			&cli.StringFlag{Name: "client", Usage: "only what concerns this client `ID`"},
			&cli.StringFlag{Name: "after", Usage: "go on behind the event with this `ID`"},
			&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Usage: "end after `N` events"}),
		Description: "Nodes, leaders, replicas, alarms, operations, settings, clients, sessions. A stream that breaks goes on where it was,\nat the next endpoint that answers; a line lost says what cannot be had any more.\n\n" +
			"  flotilla events --type node --type raft\n  flotilla events --client dev-7 -o json\n  flotilla events -n 1 --type operation.done",
		Action: a.call(0, 0, a.events),
	}
}

func (a *app) events(ctx context.Context, ad *admin) error {
	count := ad.c.Int("count")
	if count < 0 {
		return usagef("--count %d: use a number from 0", count)
	}
	q := client.EventQuery{Types: ad.c.StringSlice("type"), Client: ad.c.String("client"), After: ad.c.String("after")}
	printed := 0
	broken := func(err error) {
		if !ad.c.Bool("quiet") {
			fmt.Fprintf(a.errOut, "flotilla: %v: trying again\n", err)
		}
	}
	err := ad.api.Events(ctx, q, broken, func(e client.Event) error {
		if err := ad.printEvent(&e); err != nil {
			return err
		}
		if printed++; printed == count {
			return client.ErrEndOfEvents
		}
		return nil
	})
	if err == nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (ad *admin) printEvent(e *client.Event) error {
	var line string
	switch ad.format {
	case "json":
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode the event: %w", err)
		}
		line = string(raw)
	case "yaml":
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode the event: %w", err)
		}
		fmt.Fprintln(ad.app.out, "---")
		return ad.printRaw(raw)
	case "name":
		line = e.Type
	default:
		line = eventLine(e, ad.format == "wide")
	}
	_, err := fmt.Fprintln(ad.app.out, line)
	return err
}

// eventLine is an event for people. wide has its id, too.
func eventLine(e *client.Event, wide bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-20s %-6s", e.At.Local().Format("15:04:05.000"), e.Type, dash(e.Node))
	put := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
	}
	if e.Group != nil {
		put("group", fmt.Sprint(*e.Group))
	}
	if e.Term > 0 {
		put("term", fmt.Sprint(e.Term))
	}
	put("client", e.Client)
	put("user", e.User)
	put("peer", e.Peer)
	put("listener", e.Listener)
	put("op", e.Operation)
	put("reason", quoted(e.Reason))
	for _, k := range slices.Sorted(maps.Keys(e.Data)) {
		put(k, quoted(fmt.Sprint(e.Data[k])))
	}
	put("msg", quoted(e.Message))
	if wide {
		put("id", e.ID)
	}
	return strings.TrimRight(b.String(), " ")
}

// quoted makes one word of a value.
func quoted(s string) string {
	if strings.ContainsAny(s, " \t\n\"") {
		return fmt.Sprintf("%q", s)
	}
	return s
}
