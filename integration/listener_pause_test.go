package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestListenerPausedFromAnotherNode: any node takes the order, the node of the port obeys; its clients stay, new ones
// go to the others; a restart forgets it.
func TestListenerPausedFromAnotherNode(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	dial := func(n *harness.Node, id string) (*mqttc.Client, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + n.MQTTAddr(), ClientID: id, Clean: true})
	}
	stays, err := dial(n2, "stays")
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Abort()
	if out, code := runAs(t, n1, "listener", "pause", "n2/mqtt"); code != 0 || out != "listener/n2/mqtt paused\n" {
		t.Fatalf("pause: %d %s", code, out)
	}
	if new, err := dial(n2, "new"); err == nil {
		new.Abort()
		t.Error("n2 let a client in while its listener is paused")
	}
	if out, _ := runAs(t, n1, "client", "ls", "--filter", "node=n2", "-o", "name"); out != "client/stays\n" {
		t.Errorf("clients of n2: %q", out)
	}
	if err := n2.Readyz(t.Context()); err == nil {
		t.Error("n2 is ready without an open listener")
	}
	out, _ := runAs(t, n1, "listener", "ls", "--no-headers", "--filter", "paused=true")
	if f := strings.Fields(out); len(f) != 6 || f[0] != "n2" || f[4] != "paused" || f[5] != "1" {
		t.Errorf("listener ls: %q", out)
	}
	if out, code := runAs(t, n1, "listener", "resume", "n2/mqtt"); code != 0 {
		t.Fatalf("resume: %d %s", code, out)
	}
	again, err := dial(n2, "new")
	if err != nil {
		t.Fatalf("after resume: %v", err)
	}
	again.Abort()

	if out, code := runAs(t, n2, "listener", "pause", "n2/mqtt"); code != 0 {
		t.Fatalf("pause: %d %s", code, out)
	}
	c.KillAll(t)
	c.StartAll(t)
	harness.Wait(t, time.Minute, "n2 to accept after its restart", func(ctx context.Context) error {
		if err := n2.Readyz(ctx); err != nil {
			return err
		}
		conn, err := dial(n2, "later")
		if err != nil {
			return err
		}
		conn.Abort()
		return nil
	})
	if out, code := runAs(t, n1, "listener", "pause", "n9/mqtt"); code != 4 {
		t.Errorf("a node that does not exist: %d %s", code, out)
	}
}
