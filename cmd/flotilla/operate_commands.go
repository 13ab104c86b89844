package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// yesFlag is on what asks on a terminal.
func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}
}

func (a *app) kickCommand() *cli.Command {
	return &cli.Command{
		Name: "kick", Usage: "close the connection of a client, wherever it is", ArgsUsage: "ID",
		Flags: append(commonFlags(),
			&cli.StringFlag{Name: "reason-code", Value: "0x98", Usage: "`CODE` of the DISCONNECT that MQTT 5 clients get"},
			&cli.StringSliceFlag{Name: "filter", Usage: "instead of ID: all clients that are `FIELD=VALUE`; may be repeated"},
			&cli.StringFlag{Name: "rate", Value: "100/s", Usage: "with --filter: how many a second, a `RATE`"},
			&cli.BoolFlag{Name: "dry-run", Usage: "with --filter: count them, disconnect nobody"},
			yesFlag(),
			&cli.BoolFlag{Name: "wait", Usage: "with --filter: wait until it is done"},
			&cli.StringFlag{Name: "wait-timeout", Value: "30m", Usage: "stop waiting after this `TIME`; what was begun goes on"}),
		Description: "Its session stays, and its will is published. Clients usually connect again at once. With --filter it is an operation\nof the node that was asked: it can be cancelled, and ends with that node. Who connects after the call is left alone.\n\n  flotilla client kick dev-7\n  flotilla client kick dev-7 --reason-code 0x9c\n  flotilla client kick --filter node=n2 --filter transport=ws --rate 50/s --wait",
		Action: a.call(0, 1, func(ctx context.Context, ad *admin) error {
			if done, err := ad.kickMany(ctx); done {
				return err
			}
			code, err := strconv.ParseUint(ad.c.String("reason-code"), 0, 8)
			if err != nil || code < 0x80 || code > 0xa2 {
				return usagef("--reason-code %s: want a code of DISCONNECT from 0x80 to 0xa2", ad.c.String("reason-code"))
			}
			id := ad.c.Args().First()
			q := url.Values{"reason_code": {strconv.FormatUint(code, 10)}}
			raw, err := ad.api.Raw(ctx, http.MethodDelete, client.One(client.PathClients, id), q, nil)
			return ad.changed(raw, err, "client/"+id+" kicked")
		}),
	}
}

// changed prints the result of a change: the body for programs, a line for people.
func (ad *admin) changed(raw []byte, err error, line string) error {
	if err != nil {
		return err
	}
	if (ad.format == "json" || ad.format == "yaml") && len(raw) > 0 {
		return ad.printRaw(raw)
	}
	return ad.said(line)
}

func (a *app) sessionChanges() []*cli.Command {
	return []*cli.Command{
		{
			Name: "inbox", Usage: "print what waits for a session, the oldest first", ArgsUsage: "ID",
			Flags:       append(commonFlags(), &cli.IntFlag{Name: "peek", Value: 10, Usage: "at most `N` messages, up to 1000"}, &cli.BoolFlag{Name: "no-headers", Usage: "print no titles"}),
			Description: "Nothing is taken out.\n\n  flotilla session inbox dev-7 --peek 3\n  flotilla session inbox dev-7 -o json",
			Action:      a.call(1, 1, a.inbox),
		},
		{
			Name: "rm", Usage: "end a session for good and disconnect its client", ArgsUsage: "ID", Flags: append(commonFlags(), yesFlag()),
			Description: "What waits for it is dropped, its subscriptions go, its will is published.\n\n  flotilla session rm dev-7",
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
				id := ad.c.Args().First()
				if err := ad.confirm(fmt.Sprintf("End session %s and drop what waits for it?", id)); err != nil {
					return err
				}
				raw, err := ad.api.Raw(ctx, http.MethodDelete, client.One(client.PathSessions, id), nil, nil)
				return ad.changed(raw, err, "session/"+id+" removed")
			}),
		},
	}
}

func (a *app) inbox(ctx context.Context, ad *admin) error {
	peek := ad.c.Int("peek")
	if peek < 1 || peek > 1000 {
		return usagef("--peek %d: use 1 to 1000", peek)
	}
	id := ad.c.Args().First()
	raw, err := ad.api.Raw(ctx, http.MethodGet, client.One(client.PathSessions, id)+"/inbox", url.Values{"limit": {strconv.Itoa(peek)}}, nil)
	if err != nil {
		return err
	}
	if ad.format == "json" || ad.format == "yaml" {
		return ad.printRaw(raw)
	}
	var list client.List[json.RawMessage]
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return printList(ad, list, func(m client.InboxMessage) string { return fmt.Sprintf("message/%s/%d", id, m.Seq) },
		[]column[client.InboxMessage]{
			{"SEQ", false, func(m client.InboxMessage) string { return fmt.Sprint(m.Seq) }},
			{"TOPIC", false, func(m client.InboxMessage) string { return m.Topic }},
			{"QOS", false, func(m client.InboxMessage) string { return fmt.Sprint(m.QoS) }},
			{"STATE", false, func(m client.InboxMessage) string { return m.State }},
			{"BYTES", false, func(m client.InboxMessage) string { return fmt.Sprint(m.PayloadBytes) }},
			{"RETAIN", true, func(m client.InboxMessage) string { return fmt.Sprint(m.Retain) }},
			{"PUBLISHED", false, func(m client.InboxMessage) string { return since(m.PublishedAt) }},
			{"EXPIRES", true, func(m client.InboxMessage) string { return since(m.ExpiresAt) }},
		})
}

func (a *app) shareCommand() *cli.Command {
	flags := listFlags(
		&cli.StringFlag{Name: "name", Usage: "only shares of this `NAME`"},
		&cli.StringFlag{Name: "filter", Usage: "only shares of this very `FILTER`, without $share and name"},
	)
	params := func(c *cli.Context, q url.Values) { setQuery(c, q, "name", "filter") }
	ls := listCommand(a, "shared subscriptions", client.PathShares, flags, params,
		func(s client.Share) string { return "share/" + s.Name + "/" + s.Filter },
		[]column[client.Share]{
			{"NAME", false, func(s client.Share) string { return s.Name }},
			{"FILTER", false, func(s client.Share) string { return s.Filter }},
			{"SHARD", true, func(s client.Share) string { return fmt.Sprint(s.Shard) }},
			{"ONLINE", false, func(s client.Share) string { return fmt.Sprint(onlineMembers(s)) }},
			{"MEMBERS", false, func(s client.Share) string { return fmt.Sprint(len(s.Members)) }},
			{"QUEUE", false, func(s client.Share) string { return fmt.Sprint(s.Queue) }},
			{"BYTES", true, func(s client.Share) string { return fmt.Sprint(s.QueueBytes) }},
			{"ASSIGNED", false, func(s client.Share) string { return fmt.Sprint(s.Assigned) }},
		})
	ls.Description = "  flotilla share ls --sort queue\n  flotilla share ls --name workers -o json"
	return &cli.Command{
		Name: "share", Usage: "shared subscriptions", Category: categoryLook,
		Subcommands: []*cli.Command{ls, {
			Name: "show", Usage: "print one share with its members", ArgsUsage: "NAME",
			Flags: append(commonFlags(),
				&cli.StringFlag{Name: "filter", Usage: "its `FILTER`, if there are several of that name"},
				&cli.BoolFlag{Name: "no-headers", Usage: "print no titles"}),
			Description: "  flotilla share show workers --filter 'jobs/#'",
			Action:      a.call(1, 1, a.showShare),
		}},
	}
}

func onlineMembers(s client.Share) (n int) {
	for _, m := range s.Members {
		if m.Online {
			n++
		}
	}
	return n
}

func (a *app) showShare(ctx context.Context, ad *admin) error {
	q := url.Values{}
	setQuery(ad.c, q, "filter")
	name := ad.c.Args().First()
	raw, err := ad.api.Raw(ctx, http.MethodGet, client.One(client.PathShares, name), q, nil)
	if err != nil || ad.format == "json" || ad.format == "yaml" || ad.format == "name" {
		if err != nil {
			return err
		}
		return printOne(ad, raw, "share/"+name)
	}
	var s client.Share
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	fmt.Fprintf(a.out, "share %s of %s in shard %d: %d messages wait or are with members, %d of them assigned\n\n", s.Name, s.Filter, s.Shard, s.Queue, s.Assigned)
	return printTable(ad, s.Members, []column[client.ShareMember]{
		{"CLIENT", false, func(m client.ShareMember) string { return m.ClientID }},
		{"ONLINE", false, func(m client.ShareMember) string { return fmt.Sprint(m.Online) }},
		{"NODE", false, func(m client.ShareMember) string { return orDash(m.Node) }},
		{"QOS", false, func(m client.ShareMember) string { return fmt.Sprint(m.QoS) }},
		{"ROOM", false, func(m client.ShareMember) string { return fmt.Sprint(m.Room) }},
		{"ASSIGNED", false, func(m client.ShareMember) string { return fmt.Sprint(m.Assigned) }},
	})
}

func (a *app) retainedChanges() []*cli.Command {
	return []*cli.Command{
		{
			Name: "get", Usage: "print the payload of a retained message", ArgsUsage: "TOPIC", Flags: commonFlags(),
			Description: "The payload is printed as it is, without a newline; -o json has it in base64, with everything else.\n\n  flotilla retained get plant/7/config > config.json",
			Action:      a.call(1, 1, a.retainedGet),
		},
		{
			Name: "rm", Usage: "delete the retained messages that match a filter", ArgsUsage: "FILTER",
			Flags:       append(commonFlags(), &cli.BoolFlag{Name: "dry-run", Usage: "say what would be deleted, change nothing"}, yesFlag()),
			Description: "Subscribers get an empty message for each, as when a client deletes one.\n\n  flotilla retained rm 'plant/7/#' --dry-run\n  flotilla retained rm plant/7/config",
			Action:      a.call(1, 1, a.retainedRemove),
		},
	}
}

func (a *app) retainedGet(ctx context.Context, ad *admin) error {
	topic := ad.c.Args().First()
	raw, err := ad.api.Raw(ctx, http.MethodGet, client.One(client.PathRetained, topic), nil, nil)
	if err != nil {
		return err
	}
	if ad.format == "json" || ad.format == "yaml" || ad.format == "name" {
		return printOne(ad, raw, "retained/"+topic)
	}
	var m client.RetainedMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	payload, err := base64.StdEncoding.DecodeString(m.PayloadBase64)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	_, err = a.out.Write(payload)
	return err
}

func (a *app) retainedRemove(ctx context.Context, ad *admin) error {
	filter := ad.c.Args().First()
	q := url.Values{"filter": {filter}}
	if ad.c.Bool("dry-run") {
		q.Set("dry_run", "true")
	} else if strings.ContainsAny(filter, "+#") {
		if err := ad.confirm(fmt.Sprintf("Delete all retained messages that match %s?", filter)); err != nil {
			return err
		}
	}
	raw, err := ad.api.Raw(ctx, http.MethodDelete, client.PathRetained, q, nil)
	if err != nil || ad.format == "json" || ad.format == "yaml" {
		return ad.changed(raw, err, "")
	}
	var d client.Deleted
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	word := "removed"
	if d.DryRun {
		word = "would be removed"
	}
	for _, t := range d.Topics {
		if err := ad.said("retained/" + t + " " + word); err != nil {
			return err
		}
	}
	if more := d.Count - len(d.Topics); more > 0 {
		return ad.said(fmt.Sprintf("and %d more", more))
	}
	if d.Count == 0 {
		return failf(exitNotFound, "no retained message matches %s", filter)
	}
	return nil
}

func (a *app) alarmCommand() *cli.Command {
	ls := listCommand(a, "what operators should mend", client.PathAlarms, listFlags(selectFlag()), nil,
		func(al client.Alarm) string { return "alarm/" + al.Node + "/" + al.Name },
		[]column[client.Alarm]{
			{"NODE", false, func(al client.Alarm) string { return al.Node }},
			{"ALARM", false, func(al client.Alarm) string { return al.Name }},
			{"SINCE", false, func(al client.Alarm) string { return since(&al.Since) }},
			{"DETAIL", false, func(al client.Alarm) string { return al.Detail }},
		})
	return &cli.Command{Name: "alarm", Usage: "alarms of all nodes", Category: categoryLook, Subcommands: []*cli.Command{ls}}
}
