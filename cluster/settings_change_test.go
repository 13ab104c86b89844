package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// connack is what a client of MQTT 5 is told by a node.
func connack(t testing.TB, n *cluster.Node, id string) mqtt.Connack {
	t.Helper()
	c := dial(t, n, id, true, nil)
	defer c.Close()
	return c.Connack()
}

// TestSettingsChangeEverywhere: a change at one node is what clients of every node are told,
// although each node was started with other values; and nobody restarts.
func TestSettingsChangeEverywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	i := 0
	nodes, _ := formCluster(t, 3, func(c *cluster.Config) {
		i++
		c.Session.ReceiveMaximum = uint16(10 * i) // each file says something else
	})
	for _, n := range nodes {
		waitFor(t, 10*time.Second, "one Receive Maximum", func() string {
			if got, want := connack(t, n, "c").ReceiveMaximum, connack(t, nodes[0], "d").ReceiveMaximum; got != want {
				return "differs"
			}
			return ""
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events, err := nodes[0].OpenEvents(t.Context(), cluster.EventQuery{Types: []string{"settings.changed"}})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	changed, err := nodes[2].ChangeSettings(ctx, map[string]string{"mqtt.receive_maximum": "7", "mqtt.max_packet_size": "64KiB", "mqtt.max_keepalive": "30s", "inbox.max_messages": "3"}, false)
	if err != nil || len(changed) != 4 {
		t.Fatalf("%+v, %v", changed, err)
	}
	var told []cluster.Event
	for len(told) < len(changed) {
		list, _, err := events.Next(ctx)
		if err != nil {
			t.Fatalf("%v after %+v", err, told)
		}
		told = append(told, list...)
	}
	for i := range told {
		if !told[i].At.Equal(told[0].At) {
			t.Errorf("one change was committed in parts: at %s and at %s", told[0].At, told[i].At)
		}
	}
	for _, n := range nodes {
		waitFor(t, 10*time.Second, "the new values at "+n.ID(), func() string {
			a := connack(t, n, "c")
			if a.ReceiveMaximum != 7 || a.MaximumPacketSize != 64<<10 || a.ServerKeepAlive != 30 {
				return "CONNACK has others"
			}
			return ""
		})
		for _, s := range n.ClusterSettings() {
			if s.Key == "inbox.max_messages" && s.Value != "3" {
				t.Errorf("%s: %+v", n.ID(), s)
			}
		}
	}
	if again, err := nodes[0].ChangeSettings(ctx, map[string]string{"mqtt.receive_maximum": "7"}, false); err != nil || len(again) != 0 {
		t.Errorf("what is so already changes %+v, %v", again, err)
	}
	if _, err := nodes[1].ChangeSettings(ctx, map[string]string{"mqtt.max_qos": "1", "shards": "9"}, false); err == nil {
		t.Error("shards were changed")
	}
	// All or none.
	for _, s := range nodes[1].ClusterSettings() {
		if s.Key == "mqtt.max_qos" && s.Value != "2" {
			t.Errorf("max_qos is %s after a refusal", s.Value)
		}
	}
}
