package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// liveStatus is what status -w knows: the last answer, and the one before for rates.
type liveStatus struct {
	api        *client.Client
	st         client.Status
	raw        json.RawMessage
	alarms     []client.Alarm
	operations []client.Operation
	at, before time.Time
	old        map[string]client.Node
	applied    map[uint32]uint64
	failed     error
	since      time.Time
}

// watchStatus shows the cluster again and again, also while it is ill.
func (a *app) watchStatus(ctx context.Context, ad *admin) error {
	live := &liveStatus{api: ad.api}
	out, ok := a.out.(*os.File)
	if !ok || !terminal(out) || ad.format == "json" || ad.format == "yaml" || ad.format == "name" {
		return ad.watching(ctx, nil, func(ctx context.Context, _ bool) error {
			live.ask(ctx)
			return live.printLine(ad)
		})
	}
	s := openScreen(out, a.in)
	defer s.close()
	return ad.watching(ctx, s.resized, func(ctx context.Context, redrawn bool) error {
		if !redrawn {
			live.ask(ctx)
		}
		var b bytes.Buffer
		columns, _ := s.size()
		if err := live.render(ad.buffered(&b, columns)); err != nil {
			return err
		}
		return s.draw(b.String())
	})
}

// ask gets a new answer. What it learned before stays, if there is none.
func (l *liveStatus) ask(ctx context.Context) {
	raw, err := l.api.Raw(ctx, http.MethodGet, client.PathStatus, nil, nil)
	var st client.Status
	if err == nil {
		err = json.Unmarshal(raw, &st)
	}
	if err != nil {
		if l.failed == nil {
			l.since = time.Now()
		}
		l.failed = err
		return
	}
	var line bytes.Buffer
	if json.Compact(&line, raw) == nil {
		raw = line.Bytes()
	}
	l.raw = raw
	l.take(st, time.Now())
	// Without these two the picture is still worth showing.
	l.alarms, l.operations = nil, nil
	if list, err := l.api.All(ctx, client.PathAlarms, nil, 0); err == nil {
		l.alarms, _ = client.Items[client.Alarm](list)
	}
	if list, err := l.api.All(ctx, client.PathOperations, url.Values{"consistency": {"stale"}}, 0); err == nil {
		l.operations, _ = client.Items[client.Operation](list)
	}
	l.api = l.api.Also(adminAddrs(&st)...)
}

// adminAddrs are where else the cluster may be asked, when the node that answers now does not.
func adminAddrs(st *client.Status) (out []string) {
	for _, n := range st.Nodes {
		if n.AdminAddr != "" && n.AdminAddr != "none" {
			out = append(out, n.AdminAddr)
		}
	}
	return out
}

// take notes an answer.
func (l *liveStatus) take(st client.Status, now time.Time) {
	l.old, l.applied, l.before = map[string]client.Node{}, map[uint32]uint64{}, l.at
	for _, n := range l.st.Nodes {
		l.old[n.ID] = n
	}
	for _, g := range l.st.Groups {
		l.applied[g.ID] = g.CommitIndex
	}
	l.st, l.at, l.failed = st, now, nil
}

// rate is the growth a second of a counter, unknown at first and after a restart.
func (l *liveStatus) rate(now, before *uint64) (float64, bool) {
	took := l.at.Sub(l.before).Seconds()
	if now == nil || before == nil || *now < *before || l.before.IsZero() || took <= 0 {
		return 0, false
	}
	return float64(*now-*before) / took, true
}

func (l *liveStatus) nodeRate(n client.Node, of func(client.Node) *uint64) string {
	old, ok := l.old[n.ID]
	if !ok || old.Incarnation != n.Incarnation {
		return "-"
	}
	r, ok := l.rate(of(n), of(old))
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.0f", r)
}

func received(n client.Node) *uint64 { return n.MessagesReceived }

func sent(n client.Node) *uint64 { return n.MessagesSent }

// sums are figures of the whole cluster.
func (l *liveStatus) sums() (clients int, sessions int64, in, out float64) {
	for _, n := range l.st.Nodes {
		clients += n.Clients
		if n.Sessions != nil {
			sessions += *n.Sessions
		}
		old, ok := l.old[n.ID]
		if !ok || old.Incarnation != n.Incarnation {
			continue
		}
		r, _ := l.rate(n.MessagesReceived, old.MessagesReceived)
		in += r
		r, _ = l.rate(n.MessagesSent, old.MessagesSent)
		out += r
	}
	return clients, sessions, in, out
}

func (l *liveStatus) running() []client.Operation {
	return slices.DeleteFunc(slices.Clone(l.operations), func(o client.Operation) bool { return o.State != client.OperationRunning })
}

// printLine is a round for programs and logs.
func (l *liveStatus) printLine(ad *admin) error {
	now := time.Now().Format("15:04:05")
	if l.failed != nil {
		_, err := fmt.Fprintf(ad.app.errOut, "flotilla: %s no answer: %s\n", now, firstLine(l.failed))
		return err
	}
	var err error
	switch ad.format {
	case "json":
		_, err = fmt.Fprintln(ad.app.out, string(l.raw))
	case "yaml":
		fmt.Fprintln(ad.app.out, "---")
		err = ad.printRaw(l.raw)
	case "name":
		_, err = fmt.Fprintf(ad.app.out, "cluster/%s\n", l.st.ClusterID)
	default:
		clients, sessions, in, out := l.sums()
		_, err = fmt.Fprintf(ad.app.out, "%s %s nodes=%d/%d leaders=%d/%d clients=%d sessions=%d in=%.0f/s out=%.0f/s alarms=%d operations=%d\n", now, healthWord(l.st),
			l.ready(), len(l.st.Nodes), l.led(), len(l.st.Groups), clients, sessions, in, out, len(l.alarms), len(l.running()))
	}
	return err
}

func (l *liveStatus) ready() (n int) {
	for _, node := range l.st.Nodes {
		if node.State == "ready" {
			n++
		}
	}
	return n
}

func (l *liveStatus) led() (n int) {
	for _, g := range l.st.Groups {
		if g.Leader != nil {
			n++
		}
	}
	return n
}

// render is a round for people.
func (l *liveStatus) render(ad *admin) error {
	out := ad.app.out
	clients, sessions, in, sentRate := l.sums()
	fmt.Fprintf(out, "%s  cluster %s: %s\n", time.Now().Format("15:04:05"), dash(l.st.ClusterID), healthWord(l.st))
	if l.failed != nil {
		fmt.Fprintf(out, "NO ANSWER since %s, what follows is old: %s\n", l.since.Format("15:04:05"), firstLine(l.failed))
	}
	fmt.Fprintf(out, "%d clients, %d durable sessions, %.0f messages/s in, %.0f out\n", clients, sessions, in, sentRate)
	for _, r := range l.st.Reasons {
		fmt.Fprintf(out, "  %s\n", r)
	}
	for _, al := range l.alarms {
		fmt.Fprintf(out, "  ALARM %s on %s since %s: %s\n", al.Name, al.Node, since(&al.Since), al.Detail)
	}
	for _, o := range l.running() {
		fmt.Fprintf(out, "  %s %s %s [%s] %d/%d %s\n", o.ID, o.Kind, o.Node, bar(o.Done, o.Total), o.Done, o.Total, o.Progress)
	}
	fmt.Fprintln(out)
	cols := append(nodeColumns(), column[client.Node]{})
	cols = slices.DeleteFunc(cols, func(c column[client.Node]) bool {
		return c.title == "" || slices.Contains([]string{"ROLES", "MQTT", "CLUSTER"}, c.title) && ad.format != "wide"
	})
	cols = append(cols,
		column[client.Node]{"IN/S", false, func(n client.Node) string { return l.nodeRate(n, received) }},
		column[client.Node]{"OUT/S", false, func(n client.Node) string { return l.nodeRate(n, sent) }},
		column[client.Node]{"LAG", false, func(n client.Node) string { return count(n.LagEntries) }})
	if err := printTable(ad, l.st.Nodes, cols); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return printTable(ad, l.st.Groups, append(groupColumns(), column[client.Group]{"COMMITS/S", false, func(g client.Group) string {
		old, ok := l.applied[g.ID]
		r, known := l.rate(&g.CommitIndex, &old)
		if !ok || !known {
			return "-"
		}
		return fmt.Sprintf("%.0f", r)
	}}))
}

// bar shows how far something is.
func bar(done, total uint32) string {
	const width = 20
	if total == 0 {
		return strings.Repeat(" ", width)
	}
	full := int(uint64(min(done, total)) * width / uint64(total))
	return strings.Repeat("#", full) + strings.Repeat(" ", width-full)
}
