package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// bug is one that a build with the tag planted has on purpose, if FLOTILLA_PLANTED names it.
type bug struct {
	name string
	// what it does.
	does string
	// by are the tests, mostly of integration/sim, that must notice it, the likeliest first.
	by []simRun
	// quick: CI asks for it, too.
	quick bool
}

// simRun is one test of the simulation, with the seeds of TestSeeds, or of another room.
type simRun struct {
	test        string
	first, last int
	room        string
}

func (s simRun) String() string {
	switch {
	case s.room != "":
		return s.test + " of " + s.room
	case s.first == 0:
		return s.test
	}
	return fmt.Sprintf("%s, seeds %d to %d", s.test, s.first, s.last)
}

func directed(test string) simRun { return simRun{test: test} }

// seeds are what a bug is given when no directed test is made for it. Those of the unplanted build pass (see TestPlanted).
func seeds() simRun { return simRun{test: "TestSeeds", first: 1, last: 8} }

// bugs lists them all. The file docs/reliability.md shows the table.
func bugs() []bug {
	return []bug{
		{name: "ack-before-commit", does: "PUBACK when the message is in the lane", by: []simRun{directed("TestPowerLossAfterAck")}, quick: true},
		{name: "log-unsynced", does: "no fsync of the shared log", by: []simRun{directed("TestPowerLossAfterAck")}},
		{name: "vote-unsynced", does: "no fsync of votes", by: []simRun{directed("TestPowerLossAfterAck"), directed("TestCrashAfterVote")}},
		{name: "ahead-unanswered", does: "what is sent ahead of the leader's own disk counts before the follower has answered", by: []simRun{seeds()}},
		{name: "epoch-unchecked", does: "commands with an older epoch change a session", by: []simRun{seeds()}},
		{name: "lane-repeat-applied", does: "a lane's batch that comes again is applied again", by: []simRun{{test: "TestLaneRepeat", room: "raftfsm/state"}, seeds()}},
		{name: "resend-unordered", does: "a lane sends again from the end, and the shard takes it", by: []simRun{seeds()}},
		{name: "origin-key-forgotten", does: "released messages and wills are applied as often as they come", by: []simRun{directed("TestPowerLossAfterAck"), seeds()}},
		{name: "released-twice", does: "PUBREL releases a QoS 2 message twice", by: []simRun{directed("TestWithoutFaults")}, quick: true},
		{name: "stale-ack-counts", does: "an acknowledgement that was refused counts as recorded", by: []simRun{{test: "TestRefusedAckIsNoSuccess_I2", room: "cluster"}}},
		{name: "will-twice", does: "a will fires twice", by: []simRun{directed("TestWithoutFaults"), seeds()}},
		{name: "share-dead-member", does: "what a member of a share had when its session ended is lost", by: []simRun{seeds()}},
		{name: "share-map-order", does: "a share picks its member by the order of a map", by: []simRun{directed("TestWithoutFaults")}},
		{name: "suback-before-gateways", does: "SUBACK does not wait for the gateways", by: []simRun{seeds()}},
		{name: "route-update-dropped", does: "one route change in four reaches no gateway", by: []simRun{directed("TestWithoutFaults"), seeds()}},
		{name: "lease-ignored", does: "a gateway goes on without a lease", by: []simRun{directed("TestIsolatedGateway"), seeds()}},
		{name: "retained-read-stale", does: "retained messages are read from a replica that has nothing yet", by: []simRun{directed("TestStillRegister")}},
		{name: "session-present-always", does: "CONNACK always says session present", by: []simRun{directed("TestWithoutFaults")}},
		{name: "packet-id-moved", does: "a message has another packet id after each takeover", by: []simRun{directed("TestWithoutFaults"), seeds()}},
		{name: "overflow-silent", does: "an inbox drops what is beyond its limit, and says nothing", by: []simRun{directed("TestSnapshots"), seeds()}},
		{name: "restore-into-a-copy", does: "a snapshot that was installed does not reach the machine", by: []simRun{directed("TestSnapshots")}},
		{name: "snapshot-without-tail", does: "a snapshot lacks what was still in memory", by: []simRun{directed("TestSnapshots")}},
		{name: "log-cut-before-flush", does: "the log is cut before the state is on disk", by: []simRun{directed("TestSnapshots")}},
		{name: "clock-ahead", does: "a replica keeps its own time when that of its leader is behind", by: []simRun{directed("TestTimeOfTheMinority")}},
		{name: "replay-applied-again", does: "entries that were applied are applied again after a restart", by: []simRun{directed("TestSnapshots"), seeds()}},
	}
}

// TestPlanted builds the simulation with the tag planted and holds it against every bug of the list: one of the tests that are
// named beside it must fail, and each of them must pass without a bug. `make planted` sets FLOTILLA_PLANTED_ALL=1; without it
// it is the quick ones, and that their tests pass without a bug is what CI shows anyway. FLOTILLA_PLANTED_ONLY names some, FLOTILLA_PLANTED_BIN a simulation that is built already.
func TestPlanted(t *testing.T) {
	long(t)
	bin := os.Getenv("FLOTILLA_PLANTED_BIN")
	if bin == "" {
		bin = filepath.Join(t.TempDir(), "sim.test")
		build(t, "test", "-c", "-tags", "planted", "-o", bin, "./integration/sim")
	}
	only := strings.Split(os.Getenv("FLOTILLA_PLANTED_ONLY"), ",")
	all, clean := os.Getenv("FLOTILLA_PLANTED_ALL") != "", map[simRun]bool{}
	for _, b := range bugs() {
		switch {
		case only[0] != "" && !slices.Contains(only, b.name):
			continue
		case only[0] == "" && !b.quick && !all:
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			for _, run := range b.by {
				if all && !clean[run] {
					if seed, out, err := playSim(t, bin, "", run); err != nil {
						t.Fatalf("without a bug %s fails (seed %d): %v\n%s", run, seed, err, out)
					}
					clean[run] = true
				}
				if seed, out, err := playSim(t, bin, b.name, run); err != nil {
					t.Logf("%s: caught by %s (seed %d) as %v", b.name, run.test, seed, rules(out))
					return
				}
			}
			t.Errorf("%s (%s): not noticed by %v", b.name, b.does, b.by)
		})
	}
}

// playSim runs a test of the simulation with a bug, seed after seed, until one fails.
func playSim(t *testing.T, bin, bug string, run simRun) (seed int, out []byte, err error) {
	t.Helper()
	for seed = run.first; seed <= run.last; seed++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		cmd := exec.CommandContext(ctx, bin, "-test.run", "^"+run.test+"$", "-test.timeout", "10m")
		if run.room != "" {
			cmd = exec.CommandContext(ctx, "go", "test", "-tags", "planted", "-count=1", "-run", "^"+run.test+"$", "./"+run.room)
			cmd.Dir = ".."
		}
		cmd.Env = append(os.Environ(), "FLOTILLA_PLANTED="+bug)
		if seed != 0 {
			cmd.Env = append(cmd.Env, fmt.Sprintf("FLOTILLA_SIM_SEED=%d", seed))
		}
		out, err = cmd.CombinedOutput()
		cancel()
		if err != nil {
			return seed, out, err
		}
		if bytes.Contains(out, []byte("no tests to run")) {
			t.Fatalf("there is no test %s", run.test)
		}
	}
	return 0, nil, nil
}

// rules are the rules that an output names as broken.
func rules(out []byte) []string {
	var list []string
	for _, m := range regexp.MustCompile(`\b(I\d+): `).FindAllSubmatch(out, -1) {
		list = append(list, string(m[1]))
	}
	if len(list) == 0 {
		lines := strings.SplitN(strings.TrimSpace(string(out)), "\n", 4)
		return lines[:min(3, len(lines))]
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
}

// TestPausedGateway is I5 with a gateway that sleeps for longer than its lease, with publishes in its sockets that were sent
// after a SUBACK elsewhere (case 3 of what a lease is for). It must not acknowledge them by its old routes.
func TestPausedGateway(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	if lost := wakeLate(t, c); len(lost) > 0 {
		t.Errorf("I5: acknowledged and never delivered: %v", lost)
	}
}

// TestPlantedPause: a gateway that does not look at its lease after a pause is noticed by the test above.
func TestPlantedPause(t *testing.T) {
	long(t)
	if os.Getenv("FLOTILLA_PLANTED_ALL") == "" {
		t.Skip("FLOTILLA_PLANTED_ALL=1 runs it (make planted)")
	}
	bin := filepath.Join(t.TempDir(), "flotilla")
	build(t, "build", "-tags", "planted", "-o", bin, "./cmd/flotilla")
	c := harness.Start(t, harness.Options{Nodes: 3, Bin: bin, Env: []string{"FLOTILLA_PLANTED=lease-unchecked-after-pause"}})
	for range 5 {
		if lost := wakeLate(t, c); len(lost) > 0 {
			t.Logf("lease-unchecked-after-pause: caught by TestPausedGateway as I5: %d acknowledged and never delivered", len(lost))
			return
		}
	}
	t.Error("lease-unchecked-after-pause: not noticed")
}

// wakeLate pauses a gateway, subscribes elsewhere, publishes into the sleeping gateway's sockets, and wakes it. It returns the
// topics whose message was acknowledged and never came.
func wakeLate(t *testing.T, c *harness.Cluster) (lost []string) {
	t.Helper()
	const publishers = 24
	leader := c.Leader(t.Context(), 0)
	at := slices.IndexFunc(c.Nodes, func(n *harness.Node) bool { return n != leader })
	sleeper, other := c.Nodes[at], c.Nodes[(at+1)%len(c.Nodes)]
	round := fmt.Sprint(time.Now().UnixNano())
	var pubs []*rawClient
	for i := range publishers {
		p := openRaw(t, sleeper, &mqtt.Connect{Version: mqtt.V5, ClientID: fmt.Sprintf("late-%s-%d", round, i), CleanStart: true}, false)
		defer p.Close()
		pubs = append(pubs, p)
	}
	sub := connect(t, other, "early-"+round)
	if err := sleeper.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Resume() }()
	sub.subscribe(t, mqtt.SubscribeFilter{Filter: "late/" + round + "/#", QoS: 1})
	for i, p := range pubs {
		topic := fmt.Sprintf("late/%s/%d", round, i)
		if err := p.send(&mqtt.Publish{Topic: []byte(topic), Payload: []byte(topic), QoS: 1, PacketID: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := sleeper.Resume(); err != nil {
		t.Fatal(err)
	}
	var acked []string
	for i, p := range pubs {
		answer, err := p.next(10 * time.Second)
		if ack, ok := answer.(*mqtt.Puback); err == nil && ok && ack.Code < 0x80 {
			acked = append(acked, fmt.Sprintf("late/%s/%d", round, i))
		}
	}
	missing := func() []string {
		return slices.DeleteFunc(slices.Clone(acked), func(topic string) bool { return slices.Contains(sub.payloads(), topic) })
	}
	_ = harness.Until(t.Context(), 10*time.Second, "what was acknowledged", func(context.Context) error {
		if len(missing()) > 0 {
			return errors.New("not all is there")
		}
		return nil
	})
	t.Logf("%d publishes to a gateway that slept: %d acknowledged, %d missing", publishers, len(acked), len(missing()))
	return missing()
}
