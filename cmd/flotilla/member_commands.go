package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

// changeFlags are on every command that changes the cluster.
func changeFlags(extra ...cli.Flag) []cli.Flag {
	flags := append(commonFlags(),
		&cli.BoolFlag{Name: "dry-run", Usage: "check and say what would happen, change nothing"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
		&cli.BoolFlag{Name: "wait", Usage: "wait until it is done, and show how far it is"},
		&cli.StringFlag{Name: "wait-timeout", Value: "30m", Usage: "stop waiting after this `TIME`; what was begun goes on"},
	)
	return append(flags, extra...)
}

// memberCommands are the leaves of node that change something.
func (a *app) memberCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "drain", Usage: "send a node's clients and leaderships away; it stays a member", ArgsUsage: "ID", Flags: changeFlags(),
			Description: "Before maintenance. The node keeps its replicas and stays drained, across restarts, until undrain.\n\n  flotilla node drain n2 --wait\n  flotilla node undrain n2",
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
				id := ad.c.Args().First()
				op, err := ad.api.Drain(ctx, id, ad.c.Bool("dry-run"))
				return ad.operation(ctx, op, err, "node/"+id+" drained", "node/"+id+" drains")
			}),
		},
		{
			Name: "undrain", Usage: "let a drained node serve again", ArgsUsage: "ID", Flags: commonFlags(),
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
				id := ad.c.Args().First()
				if _, err := ad.api.Raw(ctx, http.MethodPost, client.One(client.PathNodes, id)+"/undrain", nil, nil); err != nil {
					return err
				}
				return ad.said("node/" + id + " undrained")
			}),
		},
		{
			Name: "remove", Usage: "take a node out for good, alive or dead", ArgsUsage: "ID", Flags: changeFlags(),
			Description: "Its replicas are rebuilt elsewhere first, then its clients go elsewhere, then it leaves; its process ends and its id\nis never used again. What would cost a majority is refused (exit 8).\n\n  flotilla node remove n3 --dry-run\n  flotilla node remove n3 --wait",
			Action:      a.call(1, 1, func(ctx context.Context, ad *admin) error { return ad.remove(ctx, "") }),
		},
		{
			Name: "replace", Usage: "take a node out and let another have its replicas", ArgsUsage: "OLD", Flags: changeFlags(&cli.StringFlag{Name: "with", Usage: "node `ID` that takes over"}),
			Description: "  flotilla node replace n3 --with n6 --wait",
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
				if ad.c.String("with") == "" {
					return usagef("name the node that takes over: --with ID")
				}
				return ad.remove(ctx, ad.c.String("with"))
			}),
		},
		{
			Name: "safe-to-stop", Usage: "exit 0 if a node can be stopped without harm, 8 if not", ArgsUsage: "ID", Flags: commonFlags(),
			Action: a.call(1, 1, a.safeToStop),
		},
	}
}

func (ad *admin) remove(ctx context.Context, with string) error {
	id := ad.c.Args().First()
	if !ad.c.Bool("dry-run") {
		if err := ad.confirm(fmt.Sprintf("Take node %s out of the cluster for good?", id)); err != nil {
			return err
		}
	}
	op, err := ad.api.Remove(ctx, id, with, ad.c.Bool("dry-run"))
	return ad.operation(ctx, op, err, "node/"+id+" removed", "node/"+id+" is being removed")
}

// confirm asks on a terminal; in a script the server's guards decide.
func (ad *admin) confirm(question string) error {
	if ad.c.Bool("yes") || !terminal(ad.app.in) {
		return nil
	}
	fmt.Fprintf(ad.app.errOut, "%s [y/N] ", question)
	line, _ := bufio.NewReader(ad.app.in).ReadString('\n') // no answer is a no
	if s := strings.ToLower(strings.TrimSpace(line)); s != "y" && s != "yes" {
		return failf(exitFailed, "nothing was changed")
	}
	return nil
}

// said prints the result of a change.
func (ad *admin) said(line string) error {
	if ad.format == "json" || ad.format == "yaml" || ad.c.Bool("quiet") {
		return nil
	}
	_, err := fmt.Fprintln(ad.app.out, line)
	return err
}

// operation prints what was begun, and with --wait how it ends.
func (ad *admin) operation(ctx context.Context, op client.Operation, err error, done, begun string) error {
	if err != nil {
		return err
	}
	for _, w := range op.Warnings {
		fmt.Fprintf(ad.app.errOut, "flotilla: warning: %s\n", w)
	}
	switch {
	case ad.c.Bool("dry-run"):
		if ad.format != "json" && ad.format != "yaml" {
			return ad.said(fmt.Sprintf("would begin: %s of node %s, %d steps; nothing was changed", op.Kind, op.Node, op.Total))
		}
	case ad.c.Bool("wait") && op.ID != "":
		if op, err = ad.await(ctx, op); err != nil {
			return err
		}
	}
	if ad.format == "json" || ad.format == "yaml" {
		raw, err := json.Marshal(op)
		if err != nil {
			return fmt.Errorf("encode the operation: %w", err)
		}
		if err := ad.printRaw(raw); err != nil {
			return err
		}
	}
	switch op.State {
	case client.OperationFailed, client.OperationCancelled:
		return failf(exitFailed, "operation %s was %s: %s", op.ID, op.State, op.Progress+op.Error)
	case client.OperationDone:
		return ad.said(done)
	}
	return ad.said(begun + " by " + op.ID + ": flotilla operation show " + op.ID)
}

// progressEvery is how often a wait that is not on a terminal says where it is.
const progressEvery = 5 * time.Second

// await follows an operation to its end.
func (ad *admin) await(ctx context.Context, op client.Operation) (client.Operation, error) {
	patience, err := config.ParseDuration(ad.c.String("wait-timeout"))
	if err != nil {
		return op, usagef("--wait-timeout: %w", err)
	}
	give := time.NewTimer(patience)
	defer give.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	line := ""
	var last time.Time
	for op.State == client.OperationRunning {
		now := fmt.Sprintf("%s %s: %d of %d, %s", op.Kind, op.Node, op.Done, op.Total, op.Progress)
		switch {
		case ad.c.Bool("quiet"):
		case terminal(ad.app.errOut) && now != line:
			fmt.Fprintf(ad.app.errOut, "\r\x1b[K%s", now)
		case !terminal(ad.app.errOut) && time.Since(last) >= progressEvery:
			fmt.Fprintln(ad.app.errOut, now)
			last = time.Now()
		}
		line = now
		select {
		case <-ctx.Done():
			return op, ctx.Err()
		case <-give.C:
			return op, failf(exitTimeout, "operation %s goes on: flotilla operation show %s", op.ID, op.ID)
		case <-poll.C:
		}
		if next, err := ad.api.Operation(ctx, op.ID); err == nil {
			op = next // a node that does not answer now is asked again
		}
	}
	if terminal(ad.app.errOut) && line != "" {
		fmt.Fprint(ad.app.errOut, "\r\x1b[K")
	}
	return op, nil
}

func (a *app) safeToStop(ctx context.Context, ad *admin) error {
	id := ad.c.Args().First()
	raw, err := ad.api.Raw(ctx, http.MethodGet, client.One(client.PathNodes, id)+"/safe-to-stop", nil, nil)
	if err != nil {
		return err
	}
	var st client.SafeToStop
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if ad.format == "json" || ad.format == "yaml" {
		err = ad.printRaw(raw)
	} else if st.Safe {
		err = ad.said("node/" + id + " can be stopped")
	} else {
		err = ad.said("node/" + id + " should not be stopped:\n  " + strings.Join(st.Reasons, "\n  "))
	}
	if err == nil && !st.Safe {
		return silent(exitGuard)
	}
	return err
}

func (a *app) tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "join tokens: permissions for new nodes",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a token; its secret is printed this once", Flags: append(commonFlags(),
					&cli.StringFlag{Name: "ttl", Value: "1h", Usage: "the token expires after this `TIME`; 0 is never"},
					&cli.UintFlag{Name: "uses", Value: 1, Usage: "how many nodes may join with it"}),
				Description: "  flotilla cluster token create --ttl 1h --uses 3 > token\n  flotilla start --join 10.0.0.1:7400 --join-token-file token",
				Action:      a.call(0, 0, a.createToken),
			},
			{
				Name: "generate", Usage: "make a secret offline, for the nodes of a --bootstrap-expect cluster",
				Action: action(0, 0, func(*cli.Context) error {
					secret, err := cluster.NewJoinSecret()
					if err != nil {
						return err
					}
					_, err = fmt.Fprintln(a.out, secret)
					return err
				}),
			},
			listCommand(a, "join tokens, without their secrets", client.PathJoinTokens, listFlags(), nil,
				func(t client.JoinToken) string { return "token/" + t.ID },
				[]column[client.JoinToken]{
					{"TOKEN", false, func(t client.JoinToken) string { return t.ID }},
					{"USES", false, func(t client.JoinToken) string { return fmt.Sprint(t.Uses) }},
					{"EXPIRES", false, func(t client.JoinToken) string { return since(t.ExpiresAt) }},
				}),
			{
				Name: "revoke", Usage: "take a token back", ArgsUsage: "ID", Flags: commonFlags(),
				Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
					id := ad.c.Args().First()
					if _, err := ad.api.Raw(ctx, http.MethodDelete, client.One(client.PathJoinTokens, id), nil, nil); err != nil {
						return err
					}
					return ad.said("token/" + id + " revoked")
				}),
			},
		},
	}
}

func (a *app) createToken(ctx context.Context, ad *admin) error {
	ttl, err := config.ParseDuration(ad.c.String("ttl"))
	if err != nil {
		return usagef("--ttl: %w", err)
	}
	uses := ad.c.Uint("uses")
	if uses < 1 || uses > math.MaxUint32 {
		return usagef("--uses %d: at least one node must be able to join with a token", uses)
	}
	raw, err := ad.api.Raw(ctx, http.MethodPost, client.PathJoinTokens, nil, client.NewJoinToken{TTLSeconds: int64(ttl / time.Second), Uses: uint32(uses)})
	if err != nil {
		return err
	}
	if ad.format == "json" || ad.format == "yaml" {
		return ad.printRaw(raw)
	}
	var t client.JoinToken
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	_, err = fmt.Fprintln(a.out, t.Token)
	return err
}

func (a *app) operationCommand() *cli.Command {
	ls := listCommand(a, "what was asked of the cluster and takes long, newest first", client.PathOperations, listFlags(selectFlag()), nil,
		func(o client.Operation) string { return "operation/" + o.ID },
		[]column[client.Operation]{
			{"OPERATION", false, func(o client.Operation) string { return o.ID }},
			{"KIND", false, func(o client.Operation) string { return o.Kind }},
			{"NODE", false, func(o client.Operation) string { return dash(o.Node) }},
			{"STATE", false, func(o client.Operation) string { return o.State }},
			{"STEPS", false, func(o client.Operation) string { return fmt.Sprintf("%d/%d", o.Done, o.Total) }},
			{"STARTED", true, func(o client.Operation) string { return since(&o.StartedAt) }},
			{"PROGRESS", false, func(o client.Operation) string { return dash(o.Progress) }},
		})
	return &cli.Command{
		Name: "operation", Usage: "operations that take long", Category: categoryLook,
		Subcommands: []*cli.Command{ls, a.showCommand("operation", client.PathOperations), {
			Name: "cancel", Usage: "stop an operation where that is still possible", ArgsUsage: "ID", Flags: commonFlags(),
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
				id := ad.c.Args().First()
				if _, err := ad.api.Raw(ctx, http.MethodDelete, client.One(client.PathOperations, id), nil, nil); err != nil {
					return err
				}
				return ad.said("operation/" + id + " cancelled")
			}),
		}},
	}
}

// placementCommands are the leaves of group that change something.
func (a *app) placementCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "transfer", Usage: "hand a group's leadership over", ArgsUsage: "ID", Flags: append(commonFlags(), &cli.StringFlag{Name: "to", Usage: "`NODE` that should lead; empty: the most advanced replica"}),
			Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
				id := ad.c.Args().First()
				if _, err := ad.api.Raw(ctx, http.MethodPost, client.One(client.PathGroups, id)+"/transfer", nil, map[string]string{"to": ad.c.String("to")}); err != nil {
					return err
				}
				return ad.said("group/" + id + " transferred")
			}),
		},
		{
			Name: "rebalance", Usage: "spread replicas evenly, one step at a time", Flags: changeFlags(),
			Description: "Replicas move by themselves, one at a time, whenever nodes come and go. This shows the steps that are left, as an operation\nthat can be watched. When it is cancelled, replicas stay where they are, but for missing ones, until the next rebalance.\n\n  flotilla group rebalance --dry-run\n  flotilla group rebalance --wait\n  flotilla operation cancel op-...",
			Action:      a.call(0, 0, a.rebalance),
		},
	}
}

func (a *app) rebalance(ctx context.Context, ad *admin) error {
	path := "/api/v1/rebalance"
	if ad.c.Bool("dry-run") {
		path += "?dry_run=true"
	}
	raw, err := ad.api.Raw(ctx, http.MethodPost, path, nil, nil)
	if err != nil {
		return err
	}
	if ad.format == "json" || ad.format == "yaml" {
		return ad.printRaw(raw)
	}
	var op client.Operation
	if err := json.Unmarshal(raw, &op); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	fmt.Fprintln(a.out, op.Progress)
	for _, step := range op.Warnings {
		fmt.Fprintf(a.out, "  %s\n", step)
	}
	if op.ID == "" || ad.c.Bool("dry-run") {
		return nil
	}
	op.Warnings = nil // printed above, as steps
	return ad.operation(ctx, op, nil, "replicas are spread evenly", "replicas are being spread")
}
