package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// flotillaCLI runs the command as an operator would and returns its exit code and what it printed.
func flotillaCLI(t *testing.T, n *harness.Node, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), append(args, "-e", "http://"+n.AdminAddr())...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("flotilla %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), both.String()
}

func mustCLI(t *testing.T, n *harness.Node, args ...string) string {
	t.Helper()
	code, out := flotillaCLI(t, n, args...)
	if code != 0 {
		t.Fatalf("flotilla %v: exit %d\n%s", args, code, out)
	}
	return out
}

const (
	backupKeepers = 12
	backupEach    = 60
)

// fillForBackup leaves something of every kind in a cluster: sessions with queues, a half-done QoS 2 handshake, shares,
// retained messages, an armed will.
func fillForBackup(t *testing.T, c *harness.Cluster) {
	t.Helper()
	for i := range backupKeepers {
		sub := connect(t, c.Nodes[i%3], fmt.Sprintf("keeper-%d", i))
		sub.subscribe(t, mqtt.SubscribeFilter{Filter: fmt.Sprintf("kept/%d/+", i), QoS: 1 + byte(i%2), RetainHandling: 2})
		_ = sub.Close()
	}
	for _, id := range []string{"worker-a", "worker-b"} {
		w := connect(t, c.Nodes[0], id)
		w.subscribe(t, mqtt.SubscribeFilter{Filter: "$share/crew/jobs/#", QoS: 1})
		_ = w.Close()
	}
	watcher := connect(t, c.Nodes[1], "watcher")
	watcher.subscribe(t, mqtt.SubscribeFilter{Filter: "wills/#", QoS: 1})
	_ = watcher.Close()
	pub := connect(t, c.Nodes[2], "source", manual, func(o *mqttcOptions) { o.OnPacket = holdPubrec })
	for i := range backupEach {
		for k := range backupKeepers {
			pub.publish(t, fmt.Sprintf("kept/%d/a", k), strconv.Itoa(i), 1)
		}
		pub.publish(t, fmt.Sprintf("jobs/%d", i), strconv.Itoa(i), 1)
	}
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := pub.Publish(ctx, &mqtt.Publish{Topic: []byte(fmt.Sprintf("state/%d", i)), Payload: []byte("on"), QoS: 1, Retain: true})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := pub.Write(&mqtt.Publish{Topic: []byte("kept/0/half"), Payload: []byte("half"), QoS: 2, PacketID: 60001}); err != nil {
		t.Fatal(err)
	}
	pub.publish(t, "nowhere", "fence", 1) // its answer comes after that of the half one
	_ = pub.Close()
}

// liveTraffic publishes to a session that is away until it is stopped. acked is how many were acknowledged.
func liveTraffic(t *testing.T, c *harness.Cluster) (acked *atomic.Int64, stop func()) {
	t.Helper()
	sub := connect(t, c.Nodes[0], "live")
	sub.subscribe(t, mqtt.SubscribeFilter{Filter: "live", QoS: 1})
	_ = sub.Close()
	pub := connect(t, c.Nodes[1], "live-source")
	acked = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := pub.Publish(ctx, &mqtt.Publish{Topic: []byte("live"), Payload: []byte(strconv.Itoa(i)), QoS: 1}); err != nil {
				return
			}
			acked.Store(int64(i + 1))
		}
	}()
	return acked, func() { cancel(); <-done; _ = pub.Close() }
}

// TestBackupRestore takes a backup of three nodes under traffic and brings it back into three others: every session, queued
// message and retained message as of the indexes in the file is there, and clients go on with their old client ids.
func TestBackupRestore(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	fillForBackup(t, c)
	armed := connect(t, c.Nodes[0], "armed", func(o *mqttcOptions) {
		o.Will = &mqtt.Will{Topic: "wills/armed", Payload: []byte("gone"), QoS: 1}
	})
	acked, stop := liveTraffic(t, c)
	harness.Wait(t, patience, "traffic", func(context.Context) error {
		if n := acked.Load(); n < 200 {
			return fmt.Errorf("%d acknowledged", n)
		}
		return nil
	})
	file := filepath.Join(t.TempDir(), "monday.backup")
	before := acked.Load()
	out := mustCLI(t, c.Nodes[2], "cluster", "backup", file)
	after := acked.Load()
	stop()
	t.Logf("%d acknowledged before, %d after it: %s", before, after, out)
	if after == before {
		t.Error("publishers waited for the backup")
	}
	if _, out := flotillaCLI(t, c.Nodes[0], "cluster", "backup", "--check", file, "-o", "wide"); !strings.Contains(out, "group 8 at index") {
		t.Errorf("check: %s", out)
	}
	refuseDamage(t, c, file)
	// A cluster that is not empty is not touched.
	if code, out := flotillaCLI(t, c.Nodes[0], "cluster", "restore", file); code != 8 || !strings.Contains(out, "not empty") {
		t.Errorf("restore over live sessions: exit %d, %s", code, out)
	}
	_ = armed.Close()
	c.KillAll(t)

	fresh := harness.Start(t, harness.Options{Nodes: 3})
	out = mustCLI(t, fresh.Nodes[1], "cluster", "restore", file, "--wait")
	if !strings.Contains(out, "backup restored") {
		t.Errorf("restore said %s", out)
	}
	fresh.WaitHealthy(t, patience)
	checkRestored(t, fresh, before)
	fresh.WaitAgreement(t, patience)
}

// refuseDamage sends what is no backup: it is refused, and the cluster goes on.
func refuseDamage(t *testing.T, c *harness.Cluster, file string) {
	t.Helper()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{"cut": whole[:len(whole)-7], "flipped": flipped, "other": []byte("hello")} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := flotillaCLI(t, c.Nodes[0], "cluster", "backup", "--check", path); code != 1 || !strings.Contains(out, "backup") {
			t.Errorf("%s: check: exit %d, %s", name, code, out)
		}
	}
	harness.Wait(t, patience, "the cluster to go on", c.Nodes[0].Readyz)
}

// checkRestored: what was acknowledged before the backup began is there.
func checkRestored(t *testing.T, c *harness.Cluster, live int64) {
	t.Helper()
	for i := range backupKeepers {
		b := connect(t, c.Nodes[(i+1)%3], fmt.Sprintf("keeper-%d", i))
		if !b.SessionPresent() {
			t.Errorf("keeper %d has no session", i)
		}
		want := numbers(0, backupEach)
		if got := b.wait(t, len(want))[:len(want)]; cmp.Diff(want, got) != "" {
			t.Errorf("keeper %d (-want +got):\n%s", i, cmp.Diff(want, got))
		}
		if i > 0 {
			_ = b.Close()
			continue
		}
		// The handshake that had begun ends here, once.
		source := connect(t, c.Nodes[0], "source", manual)
		if err := source.Write(&mqtt.Pubrel{PacketID: 60001}); err != nil {
			t.Fatal(err)
		}
		if got := b.wait(t, backupEach+1); got[backupEach] != "half" {
			t.Errorf("the half-done message is %q", got[backupEach])
		}
		_ = source.Close()
		_ = b.Close()
	}
	if live > 0 {
		b := connect(t, c.Nodes[0], "live")
		got := b.wait(t, int(live))
		if want := numbers(0, len(got)); cmp.Diff(want, got) != "" {
			t.Errorf("what was published during the backup has a gap (-want +got):\n%s", cmp.Diff(want, got))
		}
		_ = b.Close()
	}
	checkRestoredShared(t, c, live > 0)
}

func checkRestoredShared(t *testing.T, c *harness.Cluster, will bool) {
	t.Helper()
	crew := []*box{connect(t, c.Nodes[0], "worker-a"), connect(t, c.Nodes[2], "worker-b")}
	harness.Wait(t, patience, "every job of the share", func(context.Context) error {
		seen := map[string]bool{}
		for _, w := range crew {
			for _, p := range w.payloads() {
				seen[p] = true
			}
		}
		if len(seen) < backupEach {
			return fmt.Errorf("%d of %d", len(seen), backupEach)
		}
		return nil
	})
	for _, w := range crew {
		_ = w.Close()
	}
	late := connect(t, c.Nodes[1], "late", transient)
	late.subscribe(t, mqtt.SubscribeFilter{Filter: "state/#", QoS: 1})
	if got := late.wait(t, 20); len(got) != 20 {
		t.Errorf("%d retained messages", len(got))
	}
	_ = late.Close()
	if !will {
		return
	}
	watcher := connect(t, c.Nodes[1], "watcher")
	if got := watcher.wait(t, 1); got[0] != "gone" {
		t.Errorf("the will of who was connected: %v", got)
	}
	_ = watcher.Close()
}

// TestRestoreSurvivesKills: a restore whose nodes are killed serves nobody before all of it is back, and then everything.
func TestRestoreSurvivesKills(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	fillForBackup(t, c)
	file := filepath.Join(t.TempDir(), "b")
	mustCLI(t, c.Nodes[0], "cluster", "backup", file)
	c.KillAll(t)

	fresh := harness.Start(t, harness.Options{Nodes: 3})
	mustCLI(t, fresh.Nodes[1], "cluster", "restore", file)
	if err := fresh.Nodes[0].Readyz(t.Context()); err == nil {
		t.Log("the restore was over before anybody could be killed")
	}
	// The one that has the file, and the leader of the control group.
	for _, n := range []*harness.Node{fresh.Nodes[1], fresh.Leader(t.Context(), 0)} {
		if n == nil || !n.Running() {
			continue
		}
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range fresh.Nodes {
		n.WaitReady(t)
	}
	fresh.WaitHealthy(t, patience)
	checkRestored(t, fresh, -1)
	fresh.WaitAgreement(t, patience)
	harness.Wait(t, patience, "one operation, which is done", func(ctx context.Context) error {
		var ops struct {
			Items []struct{ Kind, State, Error string }
		}
		err := fresh.Nodes[0].Do(ctx, http.MethodGet, "/api/v1/operations", nil, &ops)
		if err == nil && (len(ops.Items) != 1 || ops.Items[0].State != "done") {
			err = fmt.Errorf("operations %+v", ops)
		}
		return err
	})
}
