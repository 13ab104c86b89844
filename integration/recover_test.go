package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// onDisk runs a command of the binary that works on data directories, and wants that exit code.
func onDisk(t testing.TB, code int, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Stdin = &out, &out, t.TempDir(), strings.NewReader(stdin)
	err := cmd.Run()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("flotilla %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out.String())
	}
	return out.String()
}

// treeOf is what a directory holds, byte by byte.
func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keptMessages are queued for each durable session.
const keptMessages = 300

// TestRecover: two of three nodes are destroyed for good. The third goes on with what it has: sessions, subscriptions, queued and
// retained messages, a share; new nodes bring three replicas back, and the lost ones cannot return.
func TestRecover(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	for i := range 8 { // a session in most shards
		sub := connect(t, c.Nodes[i%3], fmt.Sprintf("keeper-%d", i))
		sub.subscribe(t, mqtt.SubscribeFilter{Filter: "kept/#", QoS: 2, RetainHandling: 2}, mqtt.SubscribeFilter{Filter: "$share/s/work/#", QoS: 1})
		_ = sub.Close()
	}
	pub := connect(t, n2, "source")
	for i := range keptMessages {
		pub.publish(t, "kept/a", fmt.Sprint(i), 1)
	}
	for i := range 20 {
		pub.publish(t, fmt.Sprintf("work/%d", i), fmt.Sprint(i), 1)
	}
	if err := pub.Write(&mqtt.Publish{Topic: []byte("last/word"), Payload: []byte("kept"), QoS: 1, Retain: true, PacketID: 60000}); err != nil {
		t.Fatal(err)
	}
	pub.publish(t, "kept/a", fmt.Sprint(keptMessages), 1)
	c.WaitAgreement(t, patience) // else the third may rightly lack the newest
	status, err := n3.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	onDisk(t, 8, "", "cluster", "recover", "--data-dir", n3.DataDir, "--yes-i-lose-data") // it runs
	c.KillAll(t)
	onDisk(t, 8, "", "cluster", "recover", "--data-dir", n2.DataDir, "--data-dir", n3.DataDir, "--yes-i-lose-data") // a majority
	old := filepath.Join(t.TempDir(), "n2")
	if err := os.Rename(n2.DataDir, old); err != nil {
		t.Fatal(err)
	}

	before := treeOf(t, n3.DataDir)
	plan := onDisk(t, 0, "", "cluster", "recover", "--data-dir", n3.DataDir, "--dry-run")
	for _, want := range []string{status.ClusterID, "put out for good: n1, n2", "keeper-0"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not say %q:\n%s", want, plan)
		}
	}
	if out := onDisk(t, 8, "yes\n", "cluster", "recover", "--data-dir", n3.DataDir); !strings.Contains(out, "nothing was changed") {
		t.Error(out)
	}
	inspectAll(t, n3.DataDir)
	if diff := cmp.Diff(before, treeOf(t, n3.DataDir)); diff != "" {
		t.Fatal("looking at the directory changed it")
	}
	onDisk(t, 0, status.ClusterID+"\n", "cluster", "recover", "--data-dir", n3.DataDir)

	n3.Start(t)
	harness.Wait(t, patience, "the survivor to serve", n3.Readyz)
	for i := range 8 {
		if st, err := n3.Session(t.Context(), fmt.Sprintf("keeper-%d", i)); err != nil || st.Subscriptions != 2 || st.InboxDepth != keptMessages+1 {
			t.Errorf("keeper-%d: %+v, %v", i, st, err)
		}
	}
	again := connect(t, n3, "keeper-3") // the only member of the share that is there: it gets all of that, too
	again.wait(t, keptMessages+1+20)
	got := map[string]int{}
	for _, m := range again.all() {
		if string(m.Topic) == "kept/a" {
			got[string(m.Payload)]++
		}
	}
	for i := range keptMessages + 1 {
		if got[fmt.Sprint(i)] == 0 {
			t.Fatalf("message %d is lost: %d are there", i, len(got))
		}
	}
	fresh := connect(t, n3, "late", transient)
	fresh.subscribe(t, mqtt.SubscribeFilter{Filter: "last/word", QoS: 1})
	if diff := cmp.Diff([]string{"kept"}, fresh.wait(t, 1)); diff != "" {
		t.Errorf("retained (-want +got):\n%s", diff)
	}
	c.Forget(t, n1)
	c.Forget(t, n2)
	n4, n5 := c.Add(t), c.Add(t)
	n4.Start(t)
	n5.Start(t)
	settled(t, n3, []string{"n3", "n4", "n5"})
	replicated(t, n3, 3, []string{"n3", "n4", "n5"})
	p := connect(t, n4, "source")
	p.publish(t, "kept/a", "after", 1)
	c.WaitAgreement(t, patience)
	member(t, n5, "cluster", "verify", "--deep")
}

// TestRecoverTwoOfFive: three of five nodes are lost. The two that are left have some groups between them, both of some, and none of
// at least one: that one begins anew, and what the others had is there. Both are recovered in one run.
func TestRecoverTwoOfFive(t *testing.T) {
	long(t)
	if !fullScenario() {
		t.Skip("five nodes: with FLOTILLA_SCENARIOS=1")
	}
	c := harness.Start(t, harness.Options{Nodes: 5})
	for i := range 40 {
		sub := connect(t, c.Nodes[i%5], fmt.Sprintf("keeper-%d", i))
		sub.subscribe(t, mqtt.SubscribeFilter{Filter: "kept/#", QoS: 1, RetainHandling: 2}, mqtt.SubscribeFilter{Filter: "$share/s/work/#", QoS: 1})
		_ = sub.Close()
	}
	pub := connect(t, c.Nodes[0], "source")
	for i := range 50 {
		pub.publish(t, "kept/a", fmt.Sprint(i), 1)
	}
	c.WaitAgreement(t, patience)
	groups, err := c.Nodes[0].Groups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left := []string{c.Nodes[3].ID, c.Nodes[4].ID}
	lost := map[uint32]bool{}
	for _, g := range groups {
		lost[g.ID] = g.ID != 0 && !slices.ContainsFunc(g.Replicas, func(id string) bool { return slices.Contains(left, id) })
	}
	home := map[string]uint32{}
	for i := range 40 {
		id := fmt.Sprintf("keeper-%d", i)
		st, err := c.Nodes[0].Session(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		home[id] = st.Shard
	}
	c.KillAll(t)
	for _, n := range c.Nodes[:3] {
		if err := n.Wipe(); err != nil {
			t.Fatal(err)
		}
	}
	n4, n5 := c.Nodes[3], c.Nodes[4]
	t.Log(onDisk(t, 0, "", "cluster", "recover", "--data-dir", n4.DataDir, "--data-dir", n5.DataDir, "--yes-i-lose-data"))
	for _, n := range []*harness.Node{n4, n5} { // each waits for the groups of the other
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	n4.WaitReady(t)
	n5.WaitReady(t)
	settled(t, n4, left)
	replicated(t, n5, 2, left)
	for _, id := range slices.Sorted(maps.Keys(home)) {
		st, err := n5.Session(t.Context(), id)
		switch {
		case lost[home[id]] && err == nil:
			t.Errorf("%s of the lost group %d is there: %+v", id, home[id], st)
		case !lost[home[id]] && (err != nil || st.InboxDepth != 50):
			t.Errorf("%s of group %d: %+v, %v", id, home[id], st, err)
		}
	}
	// Everybody comes back, also those whose session is gone, and the share works for all of them.
	sessions := map[string]*box{}
	for id := range home {
		sub := connect(t, n4, id)
		sub.subscribe(t, mqtt.SubscribeFilter{Filter: "kept/#", QoS: 1, RetainHandling: 2}, mqtt.SubscribeFilter{Filter: "$share/s/work/#", QoS: 1})
		sessions[id] = sub
	}
	p := connect(t, n5, "source")
	for i := range 400 {
		p.publish(t, fmt.Sprintf("work/%d", i), fmt.Sprint(i), 1)
	}
	p.publish(t, "kept/a", "after", 1)
	harness.Wait(t, patience, "each message of the share to reach a member", func(context.Context) error {
		got := map[string]bool{}
		after := 0
		for _, s := range sessions {
			for _, m := range s.all() {
				if strings.HasPrefix(string(m.Topic), "work/") {
					got[string(m.Payload)] = true
				} else if string(m.Payload) == "after" {
					after++
				}
			}
		}
		if len(got) != 400 || after != len(sessions) {
			return fmt.Errorf("%d of 400, and %d of %d have the last one", len(got), after, len(sessions))
		}
		return nil
	})
	for _, n := range c.Nodes[:3] {
		c.Forget(t, n)
	}
	n6 := c.Add(t)
	n6.Start(t)
	settled(t, n4, append(left, n6.ID))
	replicated(t, n4, 3, append(left, n6.ID))
	c.WaitAgreement(t, patience)
	member(t, n6, "cluster", "verify", "--deep")
}

// inspectAll looks at everything in a directory.
func inspectAll(t testing.TB, dir string) {
	t.Helper()
	if out := onDisk(t, 0, "", "inspect", "log", "--data-dir", dir, "--group", "0"); !strings.Contains(out, "form (cluster ") {
		t.Errorf("the log of the control group:\n%s", out)
	}
	onDisk(t, 0, "", "inspect", "log", "--data-dir", dir, "--group", "2", "-o", "json")
	onDisk(t, 2, "", "inspect", "log", "--data-dir", dir)
	onDisk(t, 4, "", "inspect", "log", "--data-dir", dir, "--group", "99")
	if out := onDisk(t, 0, "", "inspect", "snapshot", "--data-dir", dir); !strings.Contains(out, "n1,n2,n3") {
		t.Errorf("replicas:\n%s", out)
	}
	onDisk(t, 0, "", "inspect", "state", "--data-dir", dir)
	out := onDisk(t, 0, "", "inspect", "state", "--data-dir", dir, "--session", "keeper-3", "--peek", "2")
	for _, want := range []string{`"client_id": "keeper-3"`, `"filter": "kept/#"`, `"topic": "kept/a"`, fmt.Sprintf(`"inbox_depth": %d`, keptMessages+1)} {
		if !strings.Contains(out, want) {
			t.Errorf("the session has no %s:\n%s", want, out)
		}
	}
	if out := onDisk(t, 0, "", "inspect", "state", "--data-dir", dir, "--retained", "last/word"); !strings.Contains(out, `"payload_bytes": 4`) {
		t.Error(out)
	}
	if out := onDisk(t, 0, "", "inspect", "state", "--data-dir", dir, "--share", "$share/s/work/#"); !strings.Contains(out, `"queue": 20`) {
		t.Error(out)
	}
	onDisk(t, 4, "", "inspect", "state", "--data-dir", dir, "--session", "nobody")
}

// TestVerifyFindsTampering: a replica whose stored state was changed while its node was down is named, by its digest or by what it
// has stored; the others are equal.
func TestVerifyFindsTampering(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	n1, n3 := c.Nodes[0], c.Nodes[2]
	pub := connect(t, n1, "source")
	for i := range 40 {
		if err := pub.Write(&mqtt.Publish{Topic: fmt.Appendf(nil, "r/%d", i), Payload: []byte("x"), QoS: 1, Retain: true, PacketID: uint16(40000 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	pub.publish(t, "end", "x", 1)
	member(t, n1, "cluster", "verify")
	n3.Stop(t)
	tamper(t, n3)
	n3.Start(t)
	harness.Wait(t, patience, "the node to be back", n3.Readyz)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, harness.Binary(t), "cluster", "verify", "-e", "http://"+n1.AdminAddr()).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "the replica on n3 differs") || strings.Contains(string(out), "the replica on n1 differs") {
		t.Errorf("%v\n%s", err, out)
	}
}

// tamper takes one retained message out of a replica of a node that is down.
func tamper(t testing.TB, n *harness.Node) {
	t.Helper()
	h, err := raftfsm.OpenHost(raftfsm.HostConfig{Dir: n.DataDir, NodeID: n.ID, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, id := range h.Groups() {
		if id == 0 {
			continue
		}
		r, err := h.OpenRepair(id, false)
		if err != nil {
			t.Fatal(err)
		}
		var key []byte
		err = r.Store().Iterate([]byte("R"), []byte("S"), func(k, _ []byte) bool { key = bytes.Clone(k); return false })
		if err == nil && key != nil {
			b := r.Store().NewBatch()
			b.Delete(key)
			err = b.Commit()
		}
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if key != nil {
			return
		}
	}
	t.Fatal("no replica has a retained message")
}
