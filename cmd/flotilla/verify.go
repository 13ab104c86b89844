package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

const verifyHelp = `Every replica of every group says the digest of its state at one and the same log index. With --deep each replica also reads all
that it has stored, which takes as long as its disk needs; the cluster works on meanwhile.

  flotilla cluster verify
  flotilla cluster verify --group 3 --deep --timeout 10m

Exit code 1 if replicas differ, are damaged, or could not be asked: each is named.`

// withTimeout are flags with another default of --timeout.
func withTimeout(flags []cli.Flag, value string) []cli.Flag {
	for i, f := range flags {
		if s, ok := f.(*cli.StringFlag); ok && s.Name == "timeout" {
			longer := *s
			longer.Value = value
			flags[i] = &longer
		}
	}
	return flags
}

func (a *app) verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "compare the replicas of every group", Description: verifyHelp,
		Flags: append(withTimeout(commonFlags(), "5m"),
			&cli.BoolFlag{Name: "deep", Usage: "read every stored record, too"},
			&cli.IntSliceFlag{Name: "group", Usage: "only this `GROUP`; may be repeated"},
			&cli.BoolFlag{Name: "no-headers", Usage: "print no titles"}),
		Action: a.call(0, 0, a.verify),
	}
}

func (a *app) verify(ctx context.Context, ad *admin) error {
	req := client.VerifyRequest{Deep: ad.c.Bool("deep")}
	for _, g := range ad.c.IntSlice("group") {
		if g < 0 {
			return usagef("--group %d: groups are numbered from 0", g)
		}
		req.Groups = append(req.Groups, uint32(g))
	}
	raw, err := ad.api.Raw(ctx, http.MethodPost, client.PathVerify, nil, req)
	if err != nil {
		return err
	}
	var v client.Verification
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch ad.format {
	case "json", "yaml":
		err = ad.printRaw(raw)
	case "name":
		err = printVerifyNames(ad, &v)
	default:
		err = printVerification(ad, &v)
	}
	if err == nil && !v.Equal {
		return failf(exitFailed, "%s", strings.Join(differences(&v), "\n"))
	}
	return err
}

// verifyRow is a replica with its group.
type verifyRow struct {
	g *client.VerifyGroup
	r client.VerifyReplica
}

func printVerification(ad *admin, v *client.Verification) error {
	var rows []verifyRow
	for i := range v.Groups {
		for _, r := range v.Groups[i].Replicas {
			rows = append(rows, verifyRow{&v.Groups[i], r})
		}
	}
	return printTable(ad, rows, []column[verifyRow]{
		{"GROUP", false, func(r verifyRow) string { return fmt.Sprint(r.g.ID) }},
		{"KIND", false, func(r verifyRow) string { return r.g.Kind }},
		{"INDEX", false, func(r verifyRow) string { return fmt.Sprint(r.g.Index) }},
		{"NODE", false, func(r verifyRow) string { return r.r.Node }},
		{"STATE", false, func(r verifyRow) string { return r.r.State }},
		{"DIGEST", false, func(r verifyRow) string { return dash(r.r.Digest) }},
		{"DETAIL", true, func(r verifyRow) string { return dash(r.r.Detail) }},
	})
}

func printVerifyNames(ad *admin, v *client.Verification) error {
	for i := range v.Groups {
		for _, r := range v.Groups[i].Replicas {
			if _, err := fmt.Fprintf(ad.app.out, "replica/%d/%s/%s\n", v.Groups[i].ID, r.Node, r.State); err != nil {
				return err
			}
		}
	}
	return nil
}

// differences names what is not equal, a line each.
func differences(v *client.Verification) []string {
	var out []string
	for i := range v.Groups {
		g := &v.Groups[i]
		if g.Equal {
			continue
		}
		named := false
		for _, r := range g.Replicas {
			if r.State == "equal" {
				continue
			}
			named = true
			line := fmt.Sprintf("group %d: the replica on %s %s", g.ID, r.Node, map[string]string{
				"differs": "differs", "damaged": "is damaged", "unreachable": "could not be asked", "behind": "is behind",
			}[r.State])
			if r.Detail != "" {
				line += ": " + r.Detail
			}
			out = append(out, line)
		}
		if !named {
			out = append(out, fmt.Sprintf("group %d: %s", g.ID, g.Detail))
		}
	}
	return out
}
