package integration

import (
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// allowAll lets everybody in.
type allowAll struct{ mochi.HookBase }

func (*allowAll) ID() string { return "allow-all" }
func (*allowAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (*allowAll) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allowAll) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// TestRigAgainstReferenceBroker runs the population of the fault suites against another broker without faults: what the rig
// itself does wrong shows here, with none of our code under it. Restoring sessions is not asked of the reference.
func TestRigAgainstReferenceBroker(t *testing.T) {
	long(t)
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(new(allowAll), nil); err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	if err := server.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := mixedPlan(5 * time.Millisecond)
	// The reference answers MQTT 5 publishes with a PUBACK code that does not exist, which our client refuses.
	p.publishers = []library{raw3, raw3, paho311, paho311, paho5, paho5}
	tr := newTraffic(t, []endpoint{{"reference", l.Address}}, newSeed(t), p)
	tr.ignoreProps = true // the reference drops user properties for clients that do not ask for problem information
	harness.Wait(t, patience, "some traffic", func(context.Context) error {
		if tr.acked() < 2000 {
			return errTooFew
		}
		return nil
	})
	r := tr.drain(30 * time.Second)
	if r.Acked[1] == 0 || r.Acked[2] == 0 || r.MustReach < 5*2000 {
		t.Errorf("the rig made too little traffic: %s", r)
	}
}

// TestCheckHistory checks a history that a run left behind: FLOTILLA_CHECK=file.
func TestCheckHistory(t *testing.T) {
	path := os.Getenv("FLOTILLA_CHECK")
	if path == "" {
		t.Skip("FLOTILLA_CHECK names no history")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	events, err := checker.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	report, err := checker.Check(events)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	if !report.OK() {
		t.Fail()
	}
}
