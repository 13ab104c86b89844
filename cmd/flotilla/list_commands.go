package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// listCommand is the leaf "ls" of a kind of thing.
func listCommand[T any](a *app, what, path string, flags []cli.Flag, params func(*cli.Context, url.Values), name func(T) string, cols []column[T]) *cli.Command {
	return &cli.Command{
		Name: "ls", Aliases: []string{"list"}, Usage: "list " + what, Flags: flags,
		Action: a.call(0, 0, func(ctx context.Context, ad *admin) error {
			q := ad.query()
			switch path {
			case client.PathNodes, client.PathGroups, client.PathAlarms, client.PathSettings, client.PathListeners:
				q.Del("consistency") // they are always what the node knows
			}
			if params != nil {
				params(ad.c, q)
			}
			fetch := func(ctx context.Context) (client.List[json.RawMessage], error) { return ad.list(ctx, path, q) }
			if ad.c.Bool("watch") {
				return watchList(ctx, ad, fetch, name, cols)
			}
			list, err := fetch(ctx)
			if err != nil {
				return err
			}
			return printList(ad, list, name, cols)
		}),
	}
}

// showCommand is the leaf "show" of a kind of thing.
func (a *app) showCommand(kind, path string) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "print one " + kind + " with its details", ArgsUsage: "ID", Flags: commonFlags(),
		Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
			id := ad.c.Args().First()
			raw, err := ad.api.Raw(ctx, http.MethodGet, client.One(path, id), nil, nil)
			if err != nil {
				return err
			}
			return printOne(ad, raw, kind+"/"+id)
		}),
	}
}

func (a *app) nodeCommand() *cli.Command {
	ls := listCommand(a, "the members of the cluster", client.PathNodes, listFlags(selectFlag()), nil,
		func(n client.Node) string { return "node/" + n.ID }, nodeColumns())
	ls.Description = "  flotilla node ls -o wide\n  flotilla node ls --filter state=down -o name"
	return &cli.Command{
		Name: "node", Usage: "members of the cluster", Category: categoryLook,
		Subcommands: append([]*cli.Command{ls, a.showCommand("node", client.PathNodes)}, a.memberCommands()...),
	}
}

func (a *app) groupCommand() *cli.Command {
	ls := listCommand(a, "the Raft groups", client.PathGroups, listFlags(selectFlag()), nil,
		func(g client.Group) string { return fmt.Sprintf("group/%d", g.ID) }, groupColumns())
	return &cli.Command{
		Name: "group", Usage: "Raft groups: the control group and the shards", Category: categoryLook,
		Subcommands: append([]*cli.Command{ls, a.showCommand("group", client.PathGroups)}, a.placementCommands()...),
	}
}

func (a *app) clientCommand() *cli.Command {
	ls := listCommand(a, "the connected clients of all nodes", client.PathClients, listFlags(selectFlag()), nil,
		func(c client.ClientInfo) string { return "client/" + c.ClientID },
		[]column[client.ClientInfo]{
			{"CLIENT", false, func(c client.ClientInfo) string { return c.ClientID }},
			{"NODE", false, func(c client.ClientInfo) string { return c.Node }},
			{"USER", true, func(c client.ClientInfo) string { return dash(c.Username) }},
			{"PEER", false, func(c client.ClientInfo) string { return c.Peer }},
			{"TRANSPORT", true, func(c client.ClientInfo) string { return c.Transport }},
			{"MQTT", false, func(c client.ClientInfo) string { return c.MQTTVersion }},
			{"CLEAN", true, func(c client.ClientInfo) string { return fmt.Sprint(c.CleanStart) }},
			{"KEEPALIVE", true, func(c client.ClientInfo) string { return fmt.Sprintf("%ds", c.KeepaliveS) }},
			{"CONNECTED", false, func(c client.ClientInfo) string { return since(&c.ConnectedAt) }},
		})
	ls.Description = "  flotilla client ls --limit 0\n  flotilla client ls --filter node=n2"
	return &cli.Command{
		Name: "client", Usage: "connected clients", Category: categoryLook,
		Subcommands: []*cli.Command{ls, a.showCommand("client", client.PathClients), a.kickCommand()},
	}
}

func (a *app) sessionCommand() *cli.Command {
	ls := listCommand(a, "sessions", client.PathSessions, listFlags(selectFlag()), nil,
		func(s client.Session) string { return "session/" + s.ClientID },
		[]column[client.Session]{
			{"CLIENT", false, func(s client.Session) string { return s.ClientID }},
			{"DURABLE", false, func(s client.Session) string { return fmt.Sprint(s.Durable) }},
			{"OWNER", false, func(s client.Session) string { return orDash(s.Owner) }},
			{"SHARD", false, func(s client.Session) string { return fmt.Sprint(s.Shard) }},
			{"EPOCH", true, func(s client.Session) string { return fmt.Sprint(s.Epoch) }},
			{"SUBS", false, func(s client.Session) string { return fmt.Sprint(s.Subscriptions) }},
			{"INBOX", false, func(s client.Session) string { return fmt.Sprint(s.InboxDepth) }},
			{"BYTES", true, func(s client.Session) string { return fmt.Sprint(s.InboxBytes) }},
			{"INFLIGHT", false, func(s client.Session) string { return fmt.Sprint(s.Inflight) }},
			{"EXPIRES", false, func(s client.Session) string { return since(s.ExpiresAt) }},
		})
	ls.Description = "  flotilla session ls --sort inbox_depth\n  flotilla session ls --filter connected=false -o json"
	return &cli.Command{
		Name: "session", Usage: "sessions: what client ids own", Category: categoryLook,
		Subcommands: append([]*cli.Command{ls, a.showCommand("session", client.PathSessions)}, a.sessionChanges()...),
	}
}

func (a *app) subscriptionCommand() *cli.Command {
	flags := listFlags(
		&cli.StringFlag{Name: "client", Usage: "only those of this client `ID`"},
		&cli.StringFlag{Name: "filter", Usage: "only those with this very `FILTER`"},
		&cli.StringFlag{Name: "match", Usage: "only those that match this `TOPIC`"},
	)
	params := func(c *cli.Context, q url.Values) { setQuery(c, q, "client", "filter", "match") }
	ls := listCommand(a, "subscriptions", client.PathSubscriptions, flags, params,
		func(s client.Subscription) string { return "subscription/" + s.ClientID + "/" + s.Filter },
		[]column[client.Subscription]{
			{"CLIENT", false, func(s client.Subscription) string { return s.ClientID }},
			{"FILTER", false, func(s client.Subscription) string { return s.Filter }},
			{"QOS", false, func(s client.Subscription) string { return fmt.Sprint(s.QoS) }},
			{"SHARE", false, func(s client.Subscription) string { return dash(s.Share) }},
			{"OPTIONS", true, func(s client.Subscription) string { return dash(s.Options) }},
		})
	ls.Description = "  flotilla subscription ls --match plant/7/temperature"
	return &cli.Command{
		Name: "subscription", Usage: "subscriptions of all sessions", Category: categoryLook, Subcommands: []*cli.Command{ls},
	}
}

func (a *app) retainedCommand() *cli.Command {
	flags := listFlags(&cli.StringFlag{Name: "filter", Usage: "only topics that match this `FILTER`"})
	params := func(c *cli.Context, q url.Values) { setQuery(c, q, "filter") }
	ls := listCommand(a, "retained messages, without payload", client.PathRetained, flags, params,
		func(r client.Retained) string { return "retained/" + r.Topic },
		[]column[client.Retained]{
			{"TOPIC", false, func(r client.Retained) string { return r.Topic }},
			{"QOS", false, func(r client.Retained) string { return fmt.Sprint(r.QoS) }},
			{"BYTES", false, func(r client.Retained) string { return fmt.Sprint(r.PayloadBytes) }},
			{"STORED", false, func(r client.Retained) string { return since(r.StoredAt) }},
			{"EXPIRES", true, func(r client.Retained) string { return since(r.ExpiresAt) }},
		})
	ls.Description = "  flotilla retained ls --filter 'plant/#'"
	return &cli.Command{
		Name: "retained", Usage: "retained messages", Category: categoryLook, Subcommands: append([]*cli.Command{ls}, a.retainedChanges()...),
	}
}

func setQuery(c *cli.Context, q url.Values, names ...string) {
	for _, n := range names {
		if v := c.String(n); v != "" {
			q.Set(n, v)
		}
	}
}
