package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// turnedAway says that the port hangs up on who connects, before a byte of theirs.
func turnedAway(t *testing.T, addr string) bool {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("a paused listener keeps its port: %v", err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func listenerCheck(t *testing.T, n *cluster.Node) cluster.Check {
	t.Helper()
	for _, c := range n.ReadyChecks() {
		if c.Name == "listeners" {
			return c
		}
	}
	t.Fatal("there is no check of the listeners")
	return cluster.Check{}
}

// TestPausedListener: new connections are closed at once, those that exist go on, other ports are not concerned, and
// only a node without an open port is not ready.
func TestPausedListener(t *testing.T) {
	lan := freePort(t)
	cfg := testConfig(t, t.TempDir())
	cfg.Listeners = []transport.ClientConfig{{Name: "lan", Addr: lan}}
	n, reg := startCounted(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	old, err := mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + lan, ClientID: "old", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Abort()

	halfway, err := net.Dial("tcp", lan) // says nothing yet
	if err != nil {
		t.Fatal(err)
	}
	defer halfway.Close()
	if _, err := old.Publish(ctx, &mqtt.Publish{Topic: []byte("t"), QoS: 1}); err != nil {
		t.Fatal(err)
	}

	st, err := n.PauseListener(ctx, n.ID(), "lan", true)
	if err != nil || !st.Paused || st.Accepting || st.Name != "lan" || st.Connections != 1 {
		t.Fatalf("pause: %+v, %v", st, err)
	}
	if !turnedAway(t, lan) {
		t.Error("a paused listener lets somebody wait")
	}
	waitFor(t, 10*time.Second, "the count of who was turned away", func() string {
		if n := counter(t, reg, "flotilla_listener_rejected_total", "paused"); n != 1 {
			return fmt.Sprint(n)
		}
		return ""
	})
	if _, err := halfway.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01h")); err != nil {
		t.Fatal(err)
	}
	if err := halfway.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(halfway); len(got) > 0 {
		t.Errorf("a client that was on its way in when the listener was paused got %x, %v", got, err)
	}
	if _, err := mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + lan, ClientID: "new", Clean: true}); err == nil {
		t.Error("a paused listener let a client in")
	}
	if _, err := old.Publish(ctx, &mqtt.Publish{Topic: []byte("t"), QoS: 1}); err != nil {
		t.Errorf("who was connected cannot publish: %v", err)
	}
	if turnedAway(t, n.Addrs().MQTT) {
		t.Error("the other listener turns clients away, too")
	}
	if c := listenerCheck(t, n); !c.OK || !strings.Contains(c.Detail, "lan") {
		t.Errorf("one of two is paused: %+v", c)
	}
	for range 2 { // what is so already is no error
		if _, err := n.PauseListener(ctx, n.ID(), "mqtt", true); err != nil {
			t.Error(err)
		}
	}
	if c := listenerCheck(t, n); c.OK || !strings.Contains(c.Detail, "mqtt, lan") {
		t.Errorf("both are paused: %+v", c)
	}
	if st, err = n.PauseListener(ctx, n.ID(), "lan", false); err != nil || st.Paused || !st.Accepting {
		t.Fatalf("resume: %+v, %v", st, err)
	}
	again, err := mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + lan, ClientID: "new", Clean: true})
	if err != nil {
		t.Fatalf("after resume: %v", err)
	}
	again.Abort()
	if c := listenerCheck(t, n); !c.OK {
		t.Errorf("one is open again: %+v", c)
	}
	for _, c := range []struct{ node, name, want string }{
		{n.ID(), "mqtts", "it has mqtt, lan"}, {n.ID(), "", "it has mqtt, lan"}, {"n9", "mqtt", `no node "n9"`}, {"", "mqtt", "no node"},
	} {
		var g *cluster.GuardError
		if _, err := n.PauseListener(ctx, c.node, c.name, true); !errors.As(err, &g) || g.Code != cluster.GuardNotFound || !strings.Contains(g.Detail, c.want) {
			t.Errorf("pause %s/%s: %v", c.node, c.name, err)
		}
	}
}
