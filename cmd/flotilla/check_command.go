package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

func (a *app) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "exit 0 if the node that answers is well, 1 if not", ArgsUsage: "[ready|live|startup|NAME]", Category: categoryLook, Flags: commonFlags(),
		Description: "ready, live and startup are the probes of the admin port; NAME is one check of ready. It asks the node alone,\nnever the cluster: see cluster health for that.\n\n  flotilla check -q          # for container health checks\n  flotilla check disk",
		Action:      a.call(0, 1, a.check),
	}
}

func (a *app) check(ctx context.Context, ad *admin) error {
	what := ad.c.Args().First()
	probe := "readyz?verbose"
	switch what {
	case "", "ready", "all":
	case "live":
		probe = "livez?verbose"
	case "startup":
		probe = "startupz?verbose"
	default:
		probe = client.One("readyz", what) + "?verbose"
	}
	h, err := ad.api.Health(ctx, probe)
	if err != nil {
		return err
	}
	if ad.format == "json" || ad.format == "yaml" {
		raw, err := json.Marshal(h)
		if err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
		if err := ad.printRaw(raw); err != nil {
			return err
		}
	} else if !ad.c.Bool("quiet") {
		for _, c := range h.Checks {
			fmt.Fprintf(a.out, "%-10s %s\n", c.Name, checkWord(c))
		}
	}
	if h.Status != "ok" {
		return silent(exitFailed)
	}
	return nil
}

func checkWord(c client.Check) string {
	switch {
	case c.OK:
		return "ok"
	case c.Detail == "":
		return "FAILS"
	}
	return "FAILS: " + c.Detail
}
