package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

func (a *app) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "what the cluster is and whether it is well", Category: categoryLook,
		Flags: append(commonFlags(),
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it live: rates, alarms and running operations, too"},
			&cli.StringFlag{Name: "interval", Value: "1s", Usage: "how often to look, with --watch: a `TIME`"}),
		Description: "Any node answers, also without a majority. Exit 0 means that an answer was printed, good or bad:\nsee cluster health for a check.\n\n  flotilla status\n  flotilla status -w\n  flotilla status -e http://10.0.0.2:8080,http://10.0.0.3:8080 -o json",
		Action:      a.call(0, 0, a.status),
	}
}

func (a *app) status(ctx context.Context, ad *admin) error {
	if ad.c.Bool("watch") {
		return a.watchStatus(ctx, ad)
	}
	raw, err := ad.api.Raw(ctx, http.MethodGet, client.PathStatus, nil, nil)
	if err != nil {
		return err
	}
	if ad.format == "json" || ad.format == "yaml" {
		return ad.printRaw(raw)
	}
	var st client.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if ad.format == "name" {
		_, err := fmt.Fprintf(a.out, "cluster/%s\n", st.ClusterID)
		return err
	}
	fmt.Fprintf(a.out, "cluster %s: %s\n", dash(st.ClusterID), healthWord(st))
	for _, r := range st.Reasons {
		fmt.Fprintf(a.out, "  %s\n", r)
	}
	fmt.Fprintln(a.out)
	if err := printTable(ad, st.Nodes, nodeColumns()); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	return printTable(ad, st.Groups, groupColumns())
}

func healthWord(st client.Status) string {
	if st.Healthy {
		return "healthy"
	}
	return "NOT healthy"
}

func (a *app) clusterCommand() *cli.Command {
	flags := append(commonFlags(), &cli.StringFlag{Name: "wait", Usage: "wait up to this `TIME` for the cluster to be healthy"})
	return &cli.Command{
		Name: "cluster", Usage: "the cluster as a whole: health, join tokens, certificates", Category: categoryLook,
		Subcommands: []*cli.Command{{
			Name: "health", Usage: "exit 0 if the cluster is healthy, 8 if degraded, 5 without a majority", Flags: flags,
			Description: "  flotilla cluster health --wait 60s",
			Action:      a.call(0, 0, a.health),
		}, a.backupCommand(), a.restoreCommand(), a.verifyCommand(), a.recoverCommand(), a.tokenCommand(), a.caCommand()},
	}
}

// pollInterval is how often health --wait asks.
const pollInterval = 250 * time.Millisecond

func (a *app) health(ctx context.Context, ad *admin) error {
	var patience time.Duration
	if w := ad.c.String("wait"); w != "" {
		var err error
		if patience, err = config.ParseDuration(w); err != nil {
			return usagef("--wait: %w", err)
		}
	}
	give := time.NewTimer(patience)
	defer give.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		st, err := ad.api.Status(ctx)
		if err == nil && st.Healthy {
			return a.printHealth(ad, st)
		}
		if err != nil && !errors.Is(err, client.ErrUnreachable) && exitCode(err) != exitServer {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-give.C:
			if err != nil {
				return err
			}
			if err := a.printHealth(ad, st); err != nil {
				return err
			}
			return silent(healthCode(st))
		case <-poll.C:
		}
	}
}

func (a *app) printHealth(ad *admin, st client.Status) error {
	if ad.format == "json" || ad.format == "yaml" {
		raw, err := json.Marshal(map[string]any{"healthy": st.Healthy, "reasons": st.Reasons})
		if err != nil {
			return err
		}
		return ad.printRaw(raw)
	}
	if ad.c.Bool("quiet") {
		return nil
	}
	fmt.Fprintln(a.out, healthWord(st))
	for _, r := range st.Reasons {
		fmt.Fprintf(a.out, "  %s\n", r)
	}
	return nil
}

// healthCode tells a degraded cluster from one that cannot acknowledge.
func healthCode(st client.Status) int {
	if st.Healthy {
		return exitOK
	}
	for _, g := range st.Groups {
		if g.Leader == nil {
			return exitServer
		}
	}
	if len(st.Groups) == 0 {
		return exitServer
	}
	return exitGuard
}

func nodeColumns() []column[client.Node] {
	return []column[client.Node]{
		{"NODE", false, func(n client.Node) string { return n.ID }},
		{"STATE", false, func(n client.Node) string { return n.State }},
		{"ROLES", false, func(n client.Node) string { return strings.Join(n.Roles, ",") }},
		{"ZONE", true, func(n client.Node) string { return dash(n.Zone) }},
		{"MQTT", false, func(n client.Node) string { return dash(n.MQTTAddr) }},
		{"CLUSTER", false, func(n client.Node) string { return dash(n.ClusterAddr) }},
		{"ADMIN", true, func(n client.Node) string { return dash(n.AdminAddr) }},
		{"CLIENTS", false, func(n client.Node) string { return fmt.Sprint(n.Clients) }},
		{"CONTACT", false, func(n client.Node) string {
			if n.LastContactMS < 0 {
				return "never"
			}
			return (time.Duration(n.LastContactMS) * time.Millisecond).String()
		}},
		{"SESSIONS", true, func(n client.Node) string { return count(n.Sessions) }},
		{"LAG", true, func(n client.Node) string { return count(n.LagEntries) }},
		{"DISKFREE", true, func(n client.Node) string {
			if n.DiskFreeBytes == nil {
				return "-"
			}
			return config.Size(*n.DiskFreeBytes &^ (1<<20 - 1)).String()
		}},
		{"STARTED", true, func(n client.Node) string { return since(n.StartedAt) }},
		{"INCARNATION", true, func(n client.Node) string { return fmt.Sprint(n.Incarnation) }},
		{"VERSION", true, func(n client.Node) string { return dash(n.Version) }},
	}
}

func groupColumns() []column[client.Group] {
	return []column[client.Group]{
		{"GROUP", false, func(g client.Group) string { return fmt.Sprint(g.ID) }},
		{"KIND", false, func(g client.Group) string { return g.Kind }},
		{"LEADER", false, func(g client.Group) string { return orDash(g.Leader) }},
		{"REPLICAS", false, func(g client.Group) string { return strings.Join(g.Replicas, ",") }},
		{"TERM", false, func(g client.Group) string { return fmt.Sprint(g.Term) }},
		{"APPLIED", false, func(g client.Group) string { return fmt.Sprint(g.AppliedIndex) }},
		{"COMMIT", true, func(g client.Group) string { return fmt.Sprint(g.CommitIndex) }},
		{"SNAPSHOT", true, func(g client.Group) string { return fmt.Sprint(g.Snapshot) }},
		{"LOG", true, func(g client.Group) string { return config.Size(g.LogBytes &^ 1023).String() }},
		{"DIGEST", true, func(g client.Group) string { return dash(g.Digest) }},
	}
}
