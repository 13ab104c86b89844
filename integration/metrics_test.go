package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// promisedMetrics are the names of the interfaces, without flotilla_, with their labels. Dashboards and alerts of others rest on
// them: a name that is here is not renamed.
func promisedMetrics() []string {
	return strings.Fields(`
connections{listener,transport} connections_opened_total{listener,transport,version} connections_closed_total{reason} connect_rejected_total{reason}
session_takeovers_total{scope} slow_clients
packets_received_total{type} packets_sent_total{type} bytes_received_total{listener} bytes_sent_total{listener}
publish_received_total{qos} publish_delivered_total{qos}
publish_refused_total{reason} messages_dropped_total{reason}
publish_ack_duration_seconds{qos} subscribe_ack_duration_seconds connect_duration_seconds{durable} delivery_duration_seconds topic_match_duration_seconds
sessions{state} subscriptions routes shares retained_messages retained_bytes inbox_messages inbox_bytes inflight_messages{dir}
lane_queued_bytes{shard} lane_batch_messages lane_resends_total{shard} lease_held lease_lost_total route_feed_lag_seconds{shard}
forward_frames_total{peer,result} peer_rtt_seconds{peer}
raft_has_leader{group} raft_is_leader{group} raft_leader_changes_total{group} raft_term{group} raft_last_index{group} raft_commit_index{group}
raft_applied_index{group} raft_replicas{group} raft_failure_tolerance{group} raft_log_bytes{group} raft_snapshot_bytes{group}
raft_commit_duration_seconds{group} raft_peer_lag_entries{group,peer}
node_state{state} ready fsm_apply_duration_seconds{command} disk_fsync_duration_seconds{store} disk_free_bytes state_flush_lag_entries{group}
build_info{version,commit,go} alarm_active{name} auth_total{backend,result} tls_certificate_not_after_timestamp_seconds{listener}`)
}

// family is one metric of a scrape.
type family struct {
	kind   string          // counter, gauge, histogram
	labels map[string]bool // of all its series, without le
}

var seriesLabel = regexp.MustCompile(`([a-z_]+)="`)

// families reads what /metrics says of its own names.
func families(text []byte) map[string]*family {
	out := map[string]*family{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			out[name] = &family{kind: kind, labels: map[string]bool{}}
			continue
		}
		name, _, _ := strings.Cut(line, "{")
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			if f := out[strings.TrimSuffix(name, suffix)]; f != nil {
				for _, m := range seriesLabel.FindAllStringSubmatch(line, -1) {
					f.labels[m[1]] = m[1] != "le" || f.labels[m[1]]
				}
				break
			}
		}
	}
	return out
}

// scrape is the text of /metrics.
func scrape(t testing.TB, n *harness.Node) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.AdminAddr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// observed starts three nodes that serve TLS, too, and gives every metric a reason to be there.
func observed(t *testing.T) *harness.Cluster {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	writeCertificate(t, filepath.Join(dir, "ca.pem"), cert, key)
	c := harness.Start(t, harness.Options{Nodes: 3, Flags: []string{"--set", "tls.cert=" + cert, "--set", "tls.key=" + key, "--mqtts-addr", "127.0.0.1:0"}})
	settledLeaders(t, c)
	var filters []mqtt.SubscribeFilter
	for _, f := range []string{"seen/#", "seen/+/x", "$share/group/seen/#"} {
		filters = append(filters, mqtt.SubscribeFilter{Filter: f, QoS: 2})
	}
	for i, n := range c.Nodes {
		connect(t, n, "durable-"+n.ID).subscribe(t, filters...)
		connect(t, n, "passing-"+n.ID, transient).subscribe(t, mqtt.SubscribeFilter{Filter: "seen/#", QoS: 1})
		away := connect(t, n, "away-"+n.ID)
		away.subscribe(t, mqtt.SubscribeFilter{Filter: fmt.Sprintf("kept/%d", i), QoS: 1})
		_ = away.Close()
	}
	for i, n := range c.Nodes {
		publisher := connect(t, n, "publisher-"+n.ID)
		for k := range 60 {
			publisher.publish(t, fmt.Sprintf("seen/%d/x", k), "x", byte(k%3))
		}
		for k := range 5 {
			publisher.publish(t, fmt.Sprintf("kept/%d", i), fmt.Sprint(k), 1)
		}
		ack, err := publisher.Publish(t.Context(), &mqtt.Publish{Topic: []byte("status/" + n.ID), Payload: []byte("here"), QoS: 1, Retain: true})
		if err != nil || ack.Code.Failed() {
			t.Fatal(ack.Code, err)
		}
	}
	return c
}

// TestMetrics: every promised name is in /metrics of a running node, with its labels and as what its name says; figures of
// replicated state come from one node each, so that their sums are true.
func TestMetrics(t *testing.T) {
	long(t)
	c := observed(t)
	t.Run("names", func(t *testing.T) { metricNames(t, c) })
	t.Run("sums", func(t *testing.T) { metricSums(t, c) })
	t.Run("promtool", func(t *testing.T) {
		tool := promtool(t)
		cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
		cmd.Stdin = bytes.NewReader(scrape(t, c.Nodes[0]))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
	})
}

func metricNames(t *testing.T, c *harness.Cluster) {
	found := map[string]*family{}
	for _, n := range c.Nodes {
		for name, f := range families(scrape(t, n)) {
			if old := found[name]; old != nil {
				for l := range old.labels {
					f.labels[l] = true
				}
			}
			found[name] = f
		}
	}
	for _, promise := range promisedMetrics() {
		name, rest, _ := strings.Cut(promise, "{")
		f := found["flotilla_"+name]
		if f == nil {
			t.Errorf("flotilla_%s is in no node's /metrics", name)
			continue
		}
		delete(f.labels, "le")
		var labels []string
		if rest != "" {
			labels = strings.Split(strings.TrimSuffix(rest, "}"), ",")
		}
		if len(f.labels) != len(labels) || slices.ContainsFunc(labels, func(l string) bool { return !f.labels[l] }) {
			t.Errorf("flotilla_%s has the labels %v, want %v", name, f.labels, labels)
		}
	}
	for name, f := range found {
		if !strings.HasPrefix(name, "flotilla_") {
			continue
		}
		want := "gauge"
		switch {
		case strings.HasSuffix(name, "_total"):
			want = "counter"
		case strings.HasSuffix(name, "_duration_seconds"), name == "flotilla_lane_batch_messages":
			want = "histogram"
		}
		if f.kind != want {
			t.Errorf("%s is a %s, its name says %s", name, f.kind, want)
		}
		for _, secret := range []string{"client", "client_id", "topic", "user", "username"} {
			if f.labels[secret] {
				t.Errorf("%s has a label %s: its number has no bound", name, secret)
			}
		}
	}
}

// metricSums: the population of observed is known.
func metricSums(t *testing.T, c *harness.Cluster) {
	for series, want := range map[string]float64{
		`flotilla_sessions{state="connected"}`: 9, `flotilla_sessions{state="offline"}`: 3,
		"flotilla_subscriptions": 3*3 + 3 + 3, "flotilla_shares": 1, "flotilla_retained_messages": 3, "flotilla_inbox_messages": 15,
	} {
		harness.Wait(t, patience, fmt.Sprintf("the sum of %s to be %v", series, want), func(ctx context.Context) error {
			m, err := c.Metrics(ctx)
			if err == nil && m[series] != want {
				err = fmt.Errorf("it is %v", m[series])
			}
			return err
		})
	}
}

// promtool is the tool of the Prometheus package; without it the test is skipped.
func promtool(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		needClient(t, fmt.Errorf("promtool is not installed (Debian package prometheus): %w", err))
	}
	return path
}
