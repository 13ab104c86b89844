package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func (a *app) settingsCommand() *cli.Command {
	ls := listCommand(a, "the settings of the cluster", client.PathSettings, listFlags(selectFlag()), nil,
		func(s client.Setting) string { return "setting/" + s.Key },
		[]column[client.Setting]{
			{"KEY", false, func(s client.Setting) string { return s.Key }},
			{"VALUE", false, func(s client.Setting) string { return s.Value }},
			{"CHANGES", false, func(s client.Setting) string { return s.Changes }},
			{"KIND", true, func(s client.Setting) string {
				if len(s.Words) > 0 {
					return strings.Join(s.Words, "|")
				}
				return s.Kind
			}},
			{"HELP", true, func(s client.Setting) string { return s.Help }},
		})
	ls.Description = "CHANGES says when a change takes effect: live, for new_connections, or never.\n\n  flotilla settings ls -o wide"
	return &cli.Command{
		Name: "settings", Usage: "settings that the whole cluster shares", Category: categoryLook,
		Subcommands: []*cli.Command{ls, {
			Name: "set", Usage: "change a setting on every node, without a restart", ArgsUsage: "KEY VALUE",
			Flags:       append(commonFlags(), &cli.BoolFlag{Name: "dry-run", Usage: "check the value, change nothing"}),
			Description: "Sizes take KiB, MiB, GiB, times ms, s, m, h, d. The section settings of the nodes' files is only read when the cluster is formed.\n\n  flotilla settings set mqtt.max_packet_size 256KiB\n  flotilla settings set inbox.overflow drop_oldest --dry-run",
			Action:      a.call(2, 2, a.setSetting),
		}},
	}
}

func (a *app) setSetting(ctx context.Context, ad *admin) error {
	key, value := strings.TrimPrefix(ad.c.Args().Get(0), "settings."), ad.c.Args().Get(1)
	q := url.Values{}
	if ad.c.Bool("dry-run") {
		q.Set("dry_run", "true")
	}
	raw, err := ad.api.Raw(ctx, http.MethodPatch, client.PathSettings, q, map[string]string{key: value})
	if err != nil || ad.format == "json" || ad.format == "yaml" {
		return ad.changed(raw, err, "")
	}
	var changed client.ChangedSettings
	if err := json.Unmarshal(raw, &changed); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	word := "changed to "
	if changed.DryRun {
		word = "would change to "
	}
	for _, s := range changed.Items {
		line := "setting/" + s.Key + " " + word + s.Value
		if s.Changes == "new_connections" {
			line += " for clients that connect from now on"
		}
		if err := ad.said(line); err != nil {
			return err
		}
	}
	if len(changed.Items) == 0 {
		return ad.said("setting/" + key + " is so already")
	}
	return nil
}

func (a *app) listenerCommand() *cli.Command {
	ls := listCommand(a, "the client ports of all nodes", client.PathListeners, listFlags(selectFlag()), nil,
		func(l client.Listener) string { return "listener/" + l.Node + "/" + l.Name },
		[]column[client.Listener]{
			{"NODE", false, func(l client.Listener) string { return l.Node }},
			{"NAME", false, func(l client.Listener) string { return l.Name }},
			{"ADDR", false, func(l client.Listener) string { return l.Addr }},
			{"TLS", false, func(l client.Listener) string { return fmt.Sprint(l.TLS) }},
			{"PROXY", true, func(l client.Listener) string { return l.Proxy }},
			{"WEBSOCKET", true, func(l client.Listener) string { return dash(l.WebSocket) }},
			{"ACCEPTING", false, func(l client.Listener) string {
				if l.Paused {
					return "paused"
				}
				return fmt.Sprint(l.Accepting)
			}},
			{"CONNECTIONS", false, func(l client.Listener) string { return fmt.Sprint(l.Connections) }},
		})
	return &cli.Command{
		Name: "listener", Usage: "client ports", Category: categoryLook,
		Subcommands: []*cli.Command{ls, {
			Name: "pause", Usage: "close new connections to a listener at once", ArgsUsage: "NODE/NAME", Flags: commonFlags(),
			Description: "Who is connected stays. It holds until resume, or until the node restarts. While all listeners of a node are paused,\nits /readyz fails.\n\n  flotilla listener ls\n  flotilla listener pause n2/mqtt\n  flotilla listener resume n2/mqtt",
			Action:      a.call(1, 1, func(ctx context.Context, ad *admin) error { return ad.pauseListener(ctx, "pause", "paused") }),
		}, {
			Name: "resume", Usage: "let a paused listener accept again", ArgsUsage: "NODE/NAME", Flags: commonFlags(),
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error { return ad.pauseListener(ctx, "resume", "resumed") }),
		}},
	}
}

func (ad *admin) pauseListener(ctx context.Context, verb, done string) error {
	arg := ad.c.Args().First()
	node, name, _ := strings.Cut(arg, "/")
	if node == "" || name == "" {
		return usagef("%q: want NODE/NAME, for example n2/mqtt; flotilla listener ls prints both", arg)
	}
	raw, err := ad.api.Raw(ctx, http.MethodPost, client.One(client.PathListeners, node)+"/"+url.PathEscape(name)+"/"+verb, nil, nil)
	return ad.changed(raw, err, "listener/"+arg+" "+done)
}

func (a *app) logCommand() *cli.Command {
	return &cli.Command{
		Name: "log", Usage: "what the nodes log", Category: categoryLook,
		Subcommands: []*cli.Command{{
			Name: "level", Usage: "print the levels, or change some until the node stops", ArgsUsage: "[NAME=LEVEL]...",
			Flags: append(commonFlags(), &cli.StringFlag{Name: "node", Usage: "only on this node `ID`; else on all"}, &cli.BoolFlag{Name: "no-headers", Usage: "print no titles"}),
			Description: "NAME root stands for all loggers without a level of their own; an empty LEVEL takes a level back.\n\n" +
				"  flotilla log level\n  flotilla log level session=debug --node n2\n  flotilla log level session= root=warn",
			Action: a.call(0, 100, a.logLevel),
		}},
	}
}

func (a *app) logLevel(ctx context.Context, ad *admin) error {
	q := url.Values{}
	setQuery(ad.c, q, "node")
	if ad.c.NArg() == 0 {
		list, err := ad.api.All(ctx, client.PathLoggers, q, 0)
		if err != nil {
			return err
		}
		return printList(ad, list, loggerName, loggerColumns())
	}
	for _, arg := range ad.c.Args().Slice() {
		if name, _, ok := strings.Cut(arg, "="); !ok || name == "" {
			return usagef("%q: want NAME=LEVEL, for example session=debug", arg)
		}
	}
	for _, arg := range ad.c.Args().Slice() {
		name, level, _ := strings.Cut(arg, "=")
		raw, err := ad.api.Raw(ctx, http.MethodPut, client.One(client.PathLoggers, name), q, client.LoggerLevel{Level: level})
		if err != nil || ad.format == "json" || ad.format == "yaml" {
			if err := ad.changed(raw, err, ""); err != nil {
				return err
			}
			continue
		}
		var list client.List[client.Logger]
		if err := json.Unmarshal(raw, &list); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		for _, l := range list.Items {
			if err := ad.said(loggerName(l) + " logs " + l.Level); err != nil {
				return err
			}
		}
	}
	return nil
}

func loggerName(l client.Logger) string {
	if l.Name == "" {
		return "logger/" + l.Node + "/root"
	}
	return "logger/" + l.Node + "/" + l.Name
}

func loggerColumns() []column[client.Logger] {
	return []column[client.Logger]{
		{"NODE", false, func(l client.Logger) string { return l.Node }},
		{"LOGGER", false, func(l client.Logger) string {
			if l.Name == "" {
				return "root"
			}
			return l.Name
		}},
		{"LEVEL", false, func(l client.Logger) string { return l.Level }},
	}
}
