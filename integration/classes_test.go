package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// faultClass is one of F1 to F25: injuries of one kind, drawn by the seed.
type faultClass struct {
	id, name string
	// disk: it needs a binary whose disk can be hurt (FLOTILLA_TAGS=planted).
	disk   bool
	injure func(r *ward) string
}

// ward is a cluster under traffic and one class of faults.
type ward struct {
	*rig
	class   faultClass
	refused int
}

// faultClasses lists what this machine allows. F9 (clocks) is not among them: a static binary's clock cannot be moved without
// moving the machine's. F19 (membership) has TestMembership.
func faultClasses() []faultClass {
	return []faultClass{
		{id: "F1", name: "kill a follower", injure: (*ward).killFollower},
		{id: "F2", name: "kill a leader", injure: (*ward).killLeader},
		{id: "F3", name: "kill a gateway", injure: (*ward).killGateway},
		{id: "F4", name: "kill a majority or all", injure: (*ward).killMany},
		{id: "F5", name: "pause a leader", injure: (*ward).pauseLeader},
		{id: "F6", name: "pause a follower", injure: (*ward).pauseFollower},
		{id: "F7", name: "partition", injure: (*ward).part},
		{id: "F8", name: "bad links", injure: (*ward).badLinks},
		{id: "F10", name: "power loss", disk: true, injure: (*ward).powerLoss},
		{id: "F11", name: "torn last write", injure: (*ward).tornWrite},
		{id: "F12", name: "bit flip at rest", injure: (*ward).flipBit},
		{id: "F13", name: "truncated file", injure: (*ward).truncate},
		{id: "F14", name: "empty disk, same identity", injure: (*ward).emptyDisk},
		{id: "F15", name: "disk full, no descriptors", disk: true, injure: (*ward).full},
		{id: "F16", name: "I/O errors", disk: true, injure: (*ward).ioErrors},
		{id: "F17", name: "slow and stalled disk", disk: true, injure: (*ward).stalledDisk},
		{id: "F18", name: "snapshot install", injure: (*ward).longAway},
		{id: "F19", name: "drain and return", injure: (*ward).drainOne},
		{id: "F20", name: "leadership transfer", injure: (*ward).transfer},
		{id: "F21", name: "rolling restart", injure: (*ward).rolling},
		{id: "F22", name: "clients break", injure: (*ward).clientsBreak},
		{id: "F23", name: "garbage on the ports", injure: (*ward).garbage},
		{id: "F24", name: "little memory, little CPU", injure: (*ward).starve},
		{id: "F25", name: "two at once", injure: (*ward).composite},
	}
}

// TestFaultClasses runs the classes of faults one after the other on one cluster, each with traffic and a history of its own, and
// writes what came of each as JSON and as a table (faults-out/classes.json, .md). Knobs: FLOTILLA_FAULTS=1 is the hour form;
// FLOTILLA_TAGS=planted gives other forms a disk that can be hurt; FLOTILLA_CLASSES (F1,F7), FLOTILLA_CLASS_ROUNDS, FLOTILLA_FAULT_NODES, FLOTILLA_FAULT_INTERVAL_MS, FLOTILLA_SEED.
func TestFaultClasses(t *testing.T) {
	long(t)
	rounds, wanted := 1, []string{"F8"} // CI: what the other fault tests leave out, briefly
	if os.Getenv("FLOTILLA_FAULTS") != "" {
		rounds, wanted = 24, nil
	}
	if v := os.Getenv("FLOTILLA_CLASSES"); v != "" {
		wanted = strings.Split(v, ",")
	}
	rounds = envInt(t, "FLOTILLA_CLASS_ROUNDS", rounds)
	interval := time.Duration(envInt(t, "FLOTILLA_FAULT_INTERVAL_MS", 10)) * time.Millisecond
	seed := newSeed(t)
	nodes := envInt(t, "FLOTILLA_FAULT_NODES", 3)
	bin, obeys := rigBinary(t)
	report := &checker.ClassReport{Seed: seed, Version: describe(), Started: time.Now(), Cores: runtime.NumCPU(), Load: harness.Load()}
	c := harness.Start(t, harness.Options{Nodes: nodes, Proxied: true, Bin: bin, Flags: []string{"--set", "raft.snapshot_after=1MiB"}})
	for i, class := range faultClasses() {
		if wanted != nil && !slices.Contains(wanted, class.id) {
			continue
		}
		row := checker.ClassRow{Class: class.id, Name: class.name, Nodes: nodes, Skipped: "the binary's disk obeys nobody"}
		if !class.disk || obeys {
			t.Run(class.id, func(t *testing.T) { row = runClass(t, c, class, seed+uint64(i)*1000, rounds, interval) })
		}
		report.Rows = append(report.Rows, row)
		report.Took = time.Since(report.Started)
		keepReport(t, report)
	}
	t.Logf("\n%s", report.Markdown())
}

// rigBinary is a binary whose disk can be hurt: the long form builds one, beside that of the other tests, which has no such thing
// in it. It tells whether the disk obeys.
func rigBinary(t *testing.T) (path string, obeys bool) {
	t.Helper()
	if os.Getenv("FLOTILLA_BIN") != "" || harness.DiskObeys() || os.Getenv("FLOTILLA_FAULTS") == "" {
		return "", harness.DiskObeys()
	}
	path = filepath.Join(t.TempDir(), "flotilla")
	build(t, "build", "-tags", "planted", "-o", path, "./cmd/flotilla")
	return path, true
}

// describe names what is tested.
func describe() string {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// keepReport writes what there is, so that a run that is cut short leaves something, too.
func keepReport(t *testing.T, r *checker.ClassReport) {
	t.Helper()
	dir := filepath.Join("..", "faults-out")
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "classes.json"), append(b, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "classes.md"), []byte(r.Markdown()), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// runClass hurts the cluster some times in one way, drains, and says what the history shows.
func runClass(t *testing.T, c *harness.Cluster, class faultClass, seed uint64, rounds int, interval time.Duration) checker.ClassRow {
	p := mixedPlan(interval)
	p.name = strings.ToLower(class.id)
	for _, n := range c.Nodes {
		revive(t, n)
	}
	r := &ward{class: class, rig: &rig{t: t, c: c, rng: rand.New(rand.NewPCG(seed, 9)), tr: newTraffic(t, clusterEndpoints(c), seed, p)}}
	faults := 0
	for range rounds {
		r.mustRun()
		faults++
		what := class.injure(r)
		took := r.heal()
		r.tr.fault("", "healed")
		t.Logf("%s %s: whole again after %v, %d acknowledged so far", class.id, what, took.Round(time.Millisecond), r.tr.acked())
		pause(t.Context(), time.Duration(r.rng.Int64N(int64(time.Second))))
	}
	report := r.tr.drain(90 * time.Second)
	c.WaitAgreement(t, patience)
	mine := func(f string) bool { return strings.HasPrefix(f, class.id+" ") }
	return checker.Row(class.id, class.name, len(c.Nodes), faults, r.refused, report, checker.Gaps(r.tr.rec.Events(), mine))
}

// revive brings a node up that an earlier class left down.
func revive(t *testing.T, n *harness.Node) {
	t.Helper()
	if n.Paused() {
		_ = n.Resume()
	}
	if err := n.Disk(harness.DiskWell); err != nil {
		t.Fatal(err)
	}
	if !n.Running() {
		if err := n.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	n.WaitReady(t)
}

func (r *ward) mustRun() {
	r.t.Helper()
	for _, n := range r.c.Nodes {
		if !n.Running() {
			r.t.Fatalf("node %s ended by itself:\n%s", n.ID, strings.Join(n.Tail(), "\n"))
		}
	}
}

// note puts a fault into the history.
func (r *ward) note(what string, nodes ...*harness.Node) string {
	r.tr.fault(ids(nodes), r.class.id+" "+what)
	return what + " " + ids(nodes)
}

func (r *ward) any() *harness.Node { return r.c.Nodes[r.rng.IntN(len(r.c.Nodes))] }

// leader is the leader of a group that the seed draws, follower somebody else.
func (r *ward) leader() *harness.Node {
	return r.victim([]faultKind{killControl, killShard}[r.rng.IntN(2)])
}

func (r *ward) follower() *harness.Node {
	l := r.c.Leader(r.t.Context(), 0)
	for {
		if n := r.any(); n != l {
			return n
		}
	}
}

// between is a time that the seed draws.
func (r *ward) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.rng.Int64N(int64(most-least)+1))
}

func (r *ward) wait(least, most time.Duration) { pause(r.t.Context(), r.between(least, most)) }

// down kills nodes, waits, does something to what they left, and starts them.
func (r *ward) down(what string, meanwhile func(n *harness.Node) error, victims ...*harness.Node) string {
	r.t.Helper()
	said := r.note(what, victims...)
	r.must(harness.KillAll(victims...))
	r.wait(0, 2*time.Second)
	for _, v := range victims {
		if meanwhile != nil {
			r.must(meanwhile(v))
		}
		r.must(v.Launch())
	}
	return said
}

// damaged is down for what a node may refuse to start with: then it ends with 9 or 10 and a sentence, and gets its disk back.
func (r *ward) damaged(what string, n *harness.Node, damage func() (string, error)) string {
	r.t.Helper()
	said := r.note(what, n)
	r.must(n.Kill())
	whole := filepath.Join(r.c.Dir, n.ID+".whole")
	r.must(os.RemoveAll(whole))
	r.must(n.Copy(whole))
	detail, err := damage()
	r.must(err)
	r.must(n.Launch())
	if err := n.Ready(r.t.Context(), healTimeout); err == nil {
		return said + detail + ": it serves"
	}
	if n.Running() {
		r.t.Fatalf("I24: %s %s: node %s neither serves nor refuses to start:\n%s", said, detail, n.ID, strings.Join(n.Tail(), "\n"))
	}
	code := n.WaitExit(r.t, time.Second)
	if code != 9 && code != 10 {
		r.t.Errorf("I24: %s %s: node %s ended with %d, want 9 or 10:\n%s", said, detail, n.ID, code, strings.Join(n.Tail(), "\n"))
	}
	r.refused++
	r.must(n.Put(whole))
	r.must(n.Launch())
	return fmt.Sprintf("%s%s: it refused with %d", said, detail, code)
}
