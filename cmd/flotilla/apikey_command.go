package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

func (a *app) apikeyCommand() *cli.Command {
	ls := listCommand(a, "API keys, without their secrets", client.PathAPIKeys, listFlags(selectFlag()), nil,
		func(k client.APIKey) string { return "apikey/" + k.Name },
		[]column[client.APIKey]{
			{"NAME", false, func(k client.APIKey) string { return k.Name }},
			{"ID", false, func(k client.APIKey) string { return k.ID }},
			{"ROLE", false, func(k client.APIKey) string { return k.Role }},
			{"SCOPES", false, func(k client.APIKey) string { return dash(strings.Join(k.Scopes, ",")) }},
			{"EXPIRES", false, func(k client.APIKey) string { return since(k.ExpiresAt) }},
			{"USED", false, func(k client.APIKey) string { return since(k.LastUsedAt) }},
			{"CREATED", true, func(k client.APIKey) string { return since(&k.CreatedAt) }},
			{"BY", true, func(k client.APIKey) string { return dash(k.CreatedBy) }},
		})
	ls.Description = "USED is what the answering node knows, since its start.\n\n  flotilla apikey ls -o wide"
	return &cli.Command{
		Name: "apikey", Usage: "keys of the admin API", Category: categoryLook,
		Subcommands: []*cli.Command{ls, a.showCommand("apikey", client.PathAPIKeys), a.apikeyAdd(), a.apikeyRemove(), a.apikeyGenerate(), a.apikeyHash()},
	}
}

func (a *app) apikeyAdd() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "make a key; its secret is printed this once", ArgsUsage: "NAME",
		Flags: append(commonFlags(),
			&cli.StringFlag{Name: "role", Usage: "`ROLE`: viewer looks, operator does what can be undone, admin everything"},
			&cli.StringFlag{Name: "scope", Usage: "restrict the key to this `SCOPE`: metrics"},
			&cli.StringFlag{Name: "expires", Value: "0", Usage: "the key expires after this `TIME`, for example 90d; 0 is never"}),
		Description: "The first key must be an admin's. From then on every call needs a key, also on loopback, on all nodes.\n\n" +
			"  flotilla apikey add root --role admin > root.key\n" +
			"  flotilla apikey add grafana --role viewer --scope metrics --token-file root.key > grafana.key\n" +
			"  export FLOTILLA_TOKEN_FILE=root.key; flotilla status\n\n" +
			"Where the API listens beyond loopback only, see: flotilla apikey generate --help",
		Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
			ttl, err := config.ParseDuration(ad.c.String("expires"))
			if err != nil {
				return usagef("--expires: %w", err)
			}
			role := ad.c.String("role")
			if !strings.Contains(" viewer operator admin ", " "+role+" ") || role == "" {
				return usagef("--role %q: use viewer, operator or admin", role)
			}
			want := client.NewAPIKey{Name: ad.c.Args().First(), Role: role, TTLSeconds: int64(ttl / time.Second)}
			if s := ad.c.String("scope"); s != "" {
				want.Scopes = []string{s}
			}
			raw, err := ad.api.Raw(ctx, http.MethodPost, client.PathAPIKeys, nil, want)
			if err != nil || ad.format == "json" || ad.format == "yaml" {
				return ad.changed(raw, err, "")
			}
			var k client.APIKey
			if err := json.Unmarshal(raw, &k); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			_, err = fmt.Fprintln(a.out, k.Key)
			return err
		}),
	}
}

func (a *app) apikeyRemove() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "take a key back, on all nodes", ArgsUsage: "NAME", Flags: append(commonFlags(), yesFlag()),
		Description: "NAME may be the id, too. The last admin key stays while there are others.\n\n  flotilla apikey rm grafana",
		Action: a.call(1, 1, func(ctx context.Context, ad *admin) error {
			name := ad.c.Args().First()
			if err := ad.confirm(fmt.Sprintf("Take API key %s back?", name)); err != nil {
				return err
			}
			if err := ad.api.DeleteAPIKey(ctx, name); err != nil {
				return err
			}
			return ad.said("apikey/" + name + " removed")
		}),
	}
}

func (a *app) apikeyGenerate() *cli.Command {
	return &cli.Command{
		Name: "generate", Usage: "make a key offline, for admin.bootstrap_key_file",
		Description: "For a cluster whose API listens beyond loopback only: give a node the key, or its hash, in a file. It is an\n" +
			"administrator's on this node alone, also without a majority. Make the real keys with it, then take it out again.\n\n" +
			"  flotilla apikey generate > first.key\n  flotilla apikey hash first.key > first.hash      # for the node: admin.bootstrap_key_file: first.hash\n" +
			"  flotilla apikey add root --role admin --token-file first.key -e https://10.0.0.1:8080",
		Action: action(0, 0, func(*cli.Context) error {
			key, err := client.NewKey("bootstrap")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, key)
			return err
		}),
	}
}

func (a *app) apikeyHash() *cli.Command {
	return &cli.Command{
		Name: "hash", Usage: "print the hash of a key, for admin.bootstrap_key_file", ArgsUsage: "[FILE]",
		Description: "The hash lets nobody in. Without FILE the key is a line of stdin.\n\n  flotilla apikey hash first.key > first.hash",
		Action: action(0, 1, func(c *cli.Context) error {
			key, err := a.readKey(c.Args().First())
			if err != nil {
				return err
			}
			if client.KeyID(key) == "" {
				return usagef("the file %w", errNoKey)
			}
			sum, err := keyHash(key)
			if err != nil {
				return usagef("the file %w", err)
			}
			_, err = fmt.Fprintln(a.out, bootstrapHash+hex.EncodeToString(sum))
			return err
		}),
	}
}

func (a *app) auditCommand() *cli.Command {
	flags := listFlags(selectFlag())
	ls := listCommand(a, "what was changed through the API, newest first", client.PathAudit, flags, func(*cli.Context, url.Values) {},
		func(e client.AuditEntry) string { return "audit/" + e.ID },
		[]column[client.AuditEntry]{
			{"AT", false, func(e client.AuditEntry) string { return since(&e.At) }},
			{"ACTOR", false, func(e client.AuditEntry) string { return e.Actor }},
			{"ROLE", true, func(e client.AuditEntry) string { return e.Role }},
			{"ADDRESS", false, func(e client.AuditEntry) string { return e.Address }},
			{"NODE", false, func(e client.AuditEntry) string { return e.Node }},
			{"ACTION", false, func(e client.AuditEntry) string { return dash(e.Action) }},
			{"RESULT", false, func(e client.AuditEntry) string { return e.Result }},
			{"STATUS", true, func(e client.AuditEntry) string { return fmt.Sprint(e.Status) }},
			{"TARGET", false, func(e client.AuditEntry) string { return e.Method + " " + strings.TrimPrefix(e.Target, "/api/v1") }},
		})
	ls.Description = "Each node keeps its last 1,000 in memory; for more, and from before its start, look for the event api.audit in its log.\n\n  flotilla audit ls --filter actor=key:root"
	return &cli.Command{Name: "audit", Usage: "who changed what through the API", Category: categoryLook, Subcommands: []*cli.Command{ls}}
}
