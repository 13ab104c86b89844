package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func (a *app) inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "look into the data directory of a stopped node", Category: categoryOther,
		Subcommands: []*cli.Command{
			{
				Name: "log", Usage: "print the Raft log of a group, decoded",
				Description: "Nothing is changed. Entries at the end may not be committed. Payloads are shown with --payload only.\n\n" +
					"  flotilla inspect log --data-dir D --group 3\n  flotilla inspect log --data-dir D --group 0 --from 100 --to 120 -o json",
				Flags: append(inspectFlags(),
					&cli.Uint64Flag{Name: "from", Usage: "first `INDEX`"}, &cli.Uint64Flag{Name: "to", Usage: "last `INDEX`; 0 is the end"},
					&cli.BoolFlag{Name: "payload", Usage: "show payloads, too"}),
				Action: a.inspecting(a.inspectLog),
			},
			{
				Name: "snapshot", Usage: "print votes, log bounds, membership and the snapshot of each group",
				Description: "Nothing is changed.\n\n  flotilla inspect snapshot --data-dir D\n  flotilla inspect snapshot --data-dir D --group 3 -o json",
				Flags:       inspectFlags(),
				Action:      a.inspecting(a.inspectReplicas),
			},
			{
				Name: "state", Usage: "print what the groups hold, or one session, retained message or share",
				Description: "Nothing is changed. The log behind the stored state is applied in memory first, as a start would; --stored leaves that out.\n\n" +
					"  flotilla inspect state --data-dir D\n  flotilla inspect state --data-dir D --session dev-7 --peek 10\n" +
					"  flotilla inspect state --data-dir D --retained plant/7/config\n  flotilla inspect state --data-dir D --share '$share/workers/jobs/#'",
				Flags: append(inspectFlags(),
					&cli.StringFlag{Name: "session", Usage: "the session of this client `ID`"}, &cli.IntFlag{Name: "peek", Usage: "with up to `N` messages of its inbox"},
					&cli.StringFlag{Name: "retained", Usage: "the retained message of this `TOPIC`"},
					&cli.StringFlag{Name: "share", Usage: "the share of this whole `FILTER`, or of this name in --group"},
					&cli.BoolFlag{Name: "stored", Usage: "only what is in the state database"},
					&cli.BoolFlag{Name: "payload", Usage: "show payloads, too"}),
				Action: a.inspecting(a.inspectState),
			},
		},
	}
}

func inspectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "data-dir", Value: "./flotilla-data", Usage: "`DIR` of a node that is stopped, or a copy"},
		&cli.IntFlag{Name: "group", Value: -1, Usage: "only this `GROUP`"},
		offlineOutputFlag(),
	}
}

// inspection is one look at a directory.
type inspection struct {
	*cluster.Inspection
	c      *cli.Context
	asJSON bool
	groups []uint32
}

// inspecting is the action of a leaf: it opens the directory and closes it.
func (a *app) inspecting(fn func(*inspection) error) cli.ActionFunc {
	return action(0, 0, func(c *cli.Context) (err error) {
		in := &inspection{c: c}
		if in.asJSON, err = offlineFormat(c); err != nil {
			return err
		}
		if in.Inspection, err = cluster.Inspect(c.String("data-dir"), nil); err != nil {
			return offlineError(err)
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		if in.groups, err = in.Groups(); err != nil {
			return offlineError(err)
		}
		if g := c.Int("group"); g >= 0 {
			in.groups = []uint32{uint32(g)}
		} else if c.IsSet("group") {
			return usagef("--group %d: groups are numbered from 0", g)
		}
		return fn(in)
	})
}

// inspectLog prints a line per command, or an object per entry.
func (a *app) inspectLog(in *inspection) error {
	if len(in.groups) != 1 {
		return usagef("name one group of %v with --group", in.groups)
	}
	var printed error
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	err := in.Log(in.groups[0], in.c.Uint64("from"), in.c.Uint64("to"), in.c.Bool("payload"), func(e cluster.EntryReport) bool {
		if in.asJSON {
			printed = enc.Encode(e)
		} else {
			printed = a.printEntry(&e)
		}
		return printed == nil && in.c.Context.Err() == nil
	})
	if err != nil {
		return offlineError(err)
	}
	return printed
}

func (a *app) printEntry(e *cluster.EntryReport) error {
	at := "-"
	if e.AppendedAt != nil {
		at = e.AppendedAt.Format(time.RFC3339Nano)
	}
	line := fmt.Sprintf("%d  term %d  %s  %d bytes  %s", e.Index, e.Term, e.Type, e.Bytes, at)
	if e.Members != nil {
		line += "  " + memberText(e.Members)
	}
	if e.Error != "" {
		line += "  NOT UNDERSTOOD: " + e.Error
	}
	if _, err := fmt.Fprintln(a.out, line); err != nil {
		return err
	}
	for _, b := range e.Batches {
		lane := "leader " + dash(e.Leader)
		if b.Node != "" {
			lane = fmt.Sprintf("%s/%d #%d", b.Node, b.Incarnation, b.Seq)
		}
		for i := range b.Commands {
			if _, err := fmt.Fprintf(a.out, "    %s  %s\n", lane, commandText(&b.Commands[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

func commandText(c *cluster.CommandReport) string {
	text := c.Kind
	if c.Client != "" {
		text += " client " + c.Client
	}
	if c.Epoch != 0 {
		text += fmt.Sprintf(" epoch %d", c.Epoch)
	}
	if c.Topic != "" {
		text += fmt.Sprintf(" topic %s qos %d payload %d bytes", c.Topic, c.QoS, c.PayloadBytes)
		if c.Retain {
			text += " retain"
		}
	}
	if c.Payload != nil {
		text += " " + base64.StdEncoding.EncodeToString(c.Payload)
	}
	if c.Detail != "" {
		text += " (" + strings.TrimSpace(c.Detail) + ")"
	}
	if c.Error != "" {
		text += " NOT UNDERSTOOD: " + c.Error
	}
	return text
}

func memberText(members []cluster.MemberReport) string {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.ID
		if !m.Voter {
			names[i] += "(no vote)"
		}
	}
	return strings.Join(names, ",")
}

func (a *app) inspectReplicas(in *inspection) error {
	var all []cluster.ReplicaReport
	for _, g := range in.groups {
		r, err := in.Replica(g)
		if err != nil {
			return offlineError(err)
		}
		all = append(all, r)
	}
	if in.asJSON {
		return writeJSON(a.out, map[string]any{"items": all})
	}
	rows := [][]string{{"GROUP", "KIND", "TERM", "VOTED", "LOG", "LASTTERM", "SNAPSHOT", "STATE", "KEYS", "BYTES", "MEMBERS"}}
	for _, r := range all {
		snap, log := "-", "-"
		if r.Snapshot != nil {
			snap = fmt.Sprintf("%d/%d", r.Snapshot.Index, r.Snapshot.Term)
		}
		if r.LastIndex > 0 {
			log = fmt.Sprintf("%d-%d", r.FirstIndex, r.LastIndex)
		}
		rows = append(rows, []string{
			fmt.Sprint(r.Group), r.Kind, fmt.Sprint(r.Term), fmt.Sprintf("%s/%d", dash(r.VotedFor), r.VoteTerm), log, fmt.Sprint(r.LastTerm), snap,
			fmt.Sprint(r.StateIndex), fmt.Sprint(r.StateKeys), fmt.Sprint(r.StateBytes), memberText(r.Members),
		})
	}
	return writeRows(a.out, rows)
}

// one loads the shard of a key and shows one thing of it.
func (in *inspection) one(key string, show func(m *state.Shard) (any, bool, error)) (any, error) {
	shard := uint32(0)
	if g := in.c.Int("group"); g > 0 {
		shard = uint32(g)
	} else {
		var err error
		if shard, err = in.ShardOf(key); err != nil {
			return nil, offlineError(err)
		}
	}
	m, err := in.Shard(shard, in.c.Bool("stored"))
	if err != nil {
		return nil, offlineError(err)
	}
	v, ok, err := show(m)
	switch {
	case err != nil:
		return nil, offlineError(err)
	case !ok:
		return nil, failf(exitNotFound, "%q is not in group %d of this replica", key, shard)
	}
	return v, nil
}

func (a *app) inspectState(in *inspection) error {
	payload := in.c.Bool("payload")
	for flag, show := range map[string]func(m *state.Shard, key string) (any, bool, error){
		"session": func(m *state.Shard, key string) (any, bool, error) {
			st, subs, inbox, ok, err := cluster.InspectSession(m, key, in.c.Int("peek"))
			for i := range inbox {
				if !payload {
					inbox[i].Payload = nil
				}
			}
			return map[string]any{"session": st, "subscriptions": subs, "inbox": inbox}, ok, err
		},
		"retained": func(m *state.Shard, key string) (any, bool, error) {
			st, body, ok, err := cluster.InspectRetained(m, key)
			out := map[string]any{"retained": st}
			if payload {
				out["payload_base64"] = body
			}
			return out, ok, err
		},
		"share": func(m *state.Shard, key string) (any, bool, error) {
			s, ok := cluster.InspectShare(m, key)
			return map[string]any{"share": s}, ok, nil
		},
	} {
		if key := in.c.String(flag); key != "" {
			v, err := in.one(key, func(m *state.Shard) (any, bool, error) { return show(m, key) })
			if err != nil {
				return err
			}
			return writeJSON(a.out, v) // a tree, whatever the format
		}
	}
	return a.inspectSummary(in)
}

// groupSummary is what a group holds.
type groupSummary struct {
	Group    uint32 `json:"group"`
	Kind     string `json:"kind"`
	Applied  uint64 `json:"applied_index"`
	Sessions int    `json:"sessions"`
	Durable  int    `json:"durable_sessions"`
	Subs     int    `json:"subscriptions"`
	Queued   uint64 `json:"queued_messages"`
	Bytes    uint64 `json:"queued_bytes"`
	Retained int    `json:"retained_messages"`
	Shares   int    `json:"shares"`
	Nodes    int    `json:"nodes,omitempty"`
	Cluster  string `json:"cluster_id,omitempty"`
}

func (a *app) inspectSummary(in *inspection) error {
	var all []groupSummary
	for _, g := range in.groups {
		s, err := summarise(in, g)
		if err != nil {
			return offlineError(err)
		}
		all = append(all, s)
	}
	if in.asJSON {
		return writeJSON(a.out, map[string]any{"items": all})
	}
	rows := [][]string{{"GROUP", "KIND", "APPLIED", "SESSIONS", "DURABLE", "SUBSCRIPTIONS", "QUEUED", "BYTES", "RETAINED", "SHARES"}}
	for _, s := range all {
		rows = append(rows, []string{
			fmt.Sprint(s.Group), s.Kind, fmt.Sprint(s.Applied), fmt.Sprint(s.Sessions), fmt.Sprint(s.Durable), fmt.Sprint(s.Subs),
			fmt.Sprint(s.Queued), fmt.Sprint(s.Bytes), fmt.Sprint(s.Retained), fmt.Sprint(s.Shares),
		})
	}
	return writeRows(a.out, rows)
}

func summarise(in *inspection, g uint32) (groupSummary, error) {
	if g == 0 {
		v, err := in.Control(in.c.Bool("stored"))
		if err != nil {
			return groupSummary{}, err
		}
		return groupSummary{Kind: "control", Applied: v.Index, Nodes: len(v.Nodes), Cluster: v.ClusterID}, nil
	}
	m, err := in.Shard(g, in.c.Bool("stored"))
	if err != nil {
		return groupSummary{}, err
	}
	st := m.Stats()
	return groupSummary{
		Group: g, Kind: "shard", Applied: m.Applied(), Sessions: st.Sessions, Durable: st.Durable, Subs: st.Subscriptions,
		Queued: st.InboxMessages, Bytes: st.InboxBytes, Retained: st.RetainedMessages, Shares: st.Shares,
	}, nil
}
