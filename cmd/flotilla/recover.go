package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

const recoverHelp = `For a cluster that has lost the majority of its nodes for good. Offline: all nodes are stopped, and the data directory
of EVERY node that is left is named (copy them to one machine if they are on several; copy them back afterwards).

It prints what will be kept and what may be lost, and wants the cluster id typed. Then each group becomes what its newest
replica has; a group without any replica begins anew, empty. All other nodes are put out for good: their ids never come
back, so delete their data. Join tokens are taken back. Then start the nodes; others join with flotilla start --join.

  flotilla cluster recover --data-dir /var/lib/flotilla --dry-run
  flotilla cluster recover --data-dir /var/lib/flotilla
  flotilla cluster recover --data-dir /mnt/n1 --data-dir /mnt/n4 --yes-i-lose-data -o json

Exit codes: 0 recovered (or planned), 8 not confirmed, not needed or a node runs there, 9 the directory must not be used,
10 it is damaged.`

func (a *app) recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "after the loss of a majority: go on with the nodes that are left (offline)", Description: recoverHelp,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "data-dir", Usage: "`DIR` of a node that is left; may be repeated"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, change nothing"},
			&cli.BoolFlag{Name: "yes-i-lose-data", Usage: "do not ask for the cluster id"},
			offlineOutputFlag(),
		},
		Action: action(0, 0, a.recover),
	}
}

// offlineOutputFlag is -o of commands that ask no node.
func offlineOutputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table or json"}
}

// offlineFormat checks it.
func offlineFormat(c *cli.Context) (asJSON bool, err error) {
	switch f := c.String("output"); f {
	case "table":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, usagef("--output %s: use table or json", f)
	}
}

func (a *app) recover(c *cli.Context) (err error) {
	asJSON, err := offlineFormat(c)
	if err != nil {
		return err
	}
	if len(c.StringSlice("data-dir")) == 0 {
		return usagef("name the data directory of each node that is left: --data-dir DIR")
	}
	r, err := cluster.PlanRecover(c.Context, cluster.RecoverOptions{DataDirs: c.StringSlice("data-dir")})
	if err != nil {
		return offlineError(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if asJSON {
		err = writeJSON(a.out, r.Plan)
	} else {
		err = printPlan(a.out, &r.Plan)
	}
	if err != nil || c.Bool("dry-run") {
		return err
	}
	if !c.Bool("yes-i-lose-data") {
		if err := a.confirmLoss(r.Plan.ClusterID); err != nil {
			return err
		}
	}
	if err := r.Apply(c.Context); err != nil {
		return offlineError(fmt.Errorf("the recovery is not finished, run it again: %w", err))
	}
	if !asJSON {
		printAfter(a.out, &r.Plan)
	}
	return nil
}

// confirmLoss wants the cluster id, from a person or a script.
func (a *app) confirmLoss(id string) error {
	fmt.Fprintf(a.errOut, "Type the cluster id to go on: ")
	line, err := bufio.NewReader(io.LimitReader(a.in, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !terminal(a.in) {
		fmt.Fprintln(a.errOut)
	}
	if strings.TrimSpace(line) != id {
		return &codedError{
			code: exitGuard, err: errors.New("that is not the cluster id: nothing was changed"),
			hint: "it stands in the first line above; a script gives --yes-i-lose-data",
		}
	}
	return nil
}

// offlineError classifies what is wrong with a directory.
func offlineError(err error) error {
	e := &codedError{code: exitFailed, err: err}
	switch {
	case errors.Is(err, cluster.ErrRecoverNeedless):
		e.code = exitGuard
	case errors.Is(err, cluster.ErrConfig):
		e.code = exitUsage
	case errors.Is(err, raftfsm.ErrLocked):
		e.code, e.hint = exitGuard, "a node runs in this directory: stop it first"
	case errors.Is(err, raftfsm.ErrNoData), errors.Is(err, fs.ErrNotExist):
		e.code, e.hint = exitNotFound, "name the directory that flotilla start was given as --data-dir"
	case errors.Is(err, raftfsm.ErrIdentity), errors.Is(err, cluster.ErrIdentity):
		e.code = exitIdentity
	case errors.Is(err, raftfsm.ErrCorrupt), errors.Is(err, raftfsm.ErrFailStop):
		e.code, e.hint = exitFailStop, "the directory is damaged there; leave it out, or use a copy that is not"
	case errors.Is(err, context.Canceled):
		return err
	}
	return e
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// planSessions is how many sessions the table names per group.
const planSessions = 8

func printPlan(w io.Writer, p *cluster.RecoverPlan) error {
	fmt.Fprintf(w, "cluster %s\n\nsurvivors:\n", p.ClusterID)
	for _, n := range p.Survivors {
		fmt.Fprintf(w, "  %s in %s\n", n.ID, n.DataDir)
	}
	fmt.Fprintf(w, "put out for good: %s\n\n", dash(strings.Join(p.Removed, ", ")))
	rows := [][]string{{"GROUP", "KIND", "FROM", "ENTRIES", "TERM", "CERTAIN", "NEWEST", "SESSIONS", "DURABLE", "QUEUED", "RETAINED", "SHARES"}}
	for i := range p.Groups {
		g := &p.Groups[i]
		row := []string{fmt.Sprint(g.ID), g.Kind, g.Node}
		if g.Lost {
			rows = append(rows, append(row, "LOST", "-", "-", "-", "-", "-", "-", "-", "-"))
			continue
		}
		row = append(row, fmt.Sprintf("%d-%d", g.FirstIndex, g.LastIndex), fmt.Sprint(g.LastTerm), fmt.Sprint(g.AppliedIndex), since(g.NewestAt))
		if g.Kind == "control" {
			rows = append(rows, append(row, "-", "-", "-", "-", "-"))
			continue
		}
		rows = append(rows, append(row, fmt.Sprint(g.Sessions), fmt.Sprint(g.DurableSessions), fmt.Sprint(g.QueuedMessages), fmt.Sprint(g.Retained), fmt.Sprint(g.Shares)))
	}
	if err := writeRows(w, rows); err != nil {
		return err
	}
	fmt.Fprint(w, "\nKept is what these logs hold: up to CERTAIN it was committed, what is behind that may not have been. What the lost nodes\n"+
		"committed without the survivors, after NEWEST, is gone: acknowledged messages, subscriptions and sessions among it. What\n"+
		"clients have received and acknowledged since then may come again.\n")
	for i := range p.Groups {
		if ids := p.Groups[i].SessionIDs; len(ids) > 0 {
			more := ""
			if n := p.Groups[i].DurableSessions - min(len(ids), planSessions); n > 0 {
				more = fmt.Sprintf(" and %d more (-o json)", n)
			}
			fmt.Fprintf(w, "sessions of group %d that may have lost something: %s%s\n", p.Groups[i].ID, strings.Join(ids[:min(len(ids), planSessions)], ", "), more)
		}
	}
	if n := p.Settled.ShareMembers; n > 0 {
		fmt.Fprintf(w, "members of shares whose session is gone: %d\n", n)
	}
	if n := p.Settled.JoinTokens; n > 0 {
		fmt.Fprintf(w, "join tokens that are taken back: %d\n", n)
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "WARNING: %s\n", warning)
	}
	fmt.Fprintln(w)
	return nil
}

func printAfter(w io.Writer, p *cluster.RecoverPlan) {
	fmt.Fprintf(w, "recovered. Start the survivors as always; then add nodes: flotilla start --join with a new --data-dir and a new node id\n")
	if len(p.Removed) > 0 {
		fmt.Fprintf(w, "delete the data of %s: these nodes never come back\n", strings.Join(p.Removed, ", "))
	}
}
