package integration

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestRestartKeepsEverything: what was acknowledged is there after kill -9 of all nodes and after SIGTERM, with one node and
// with three: session, subscriptions, inbox in order, retained messages, a half-done QoS 2 handshake. I1 I2 I10 I22.
func TestRestartKeepsEverything(t *testing.T) {
	long(t)
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			c := harness.Start(t, harness.Options{Nodes: nodes})
			n := c.Nodes[0]
			ends := map[string]func(){
				"kill": func() { c.KillAll(t) },
				"stop": func() {
					for _, n := range c.Nodes {
						n.Stop(t)
					}
				},
			}
			for round, how := range []string{"kill", "stop", "kill"} {
				t.Run(fmt.Sprintf("%d %s", round, how), func(t *testing.T) {
					topic := fmt.Sprintf("restart/%d", round)
					sub := connect(t, n, "keeper")
					if sub.SessionPresent() != (round > 0) {
						t.Errorf("session present is %v", sub.SessionPresent())
					}
					// Without a replay: one that the close interrupts goes on after the restart, with what was retained meanwhile.
					sub.subscribe(t, mqtt.SubscribeFilter{Filter: topic + "/+", QoS: 2, RetainHandling: 2})
					_ = sub.Close()
					pub := connect(t, n, "source", manual, func(o *mqttcOptions) { o.OnPacket = holdPubrec })
					for i := range 200 {
						pub.publish(t, topic+"/a", fmt.Sprint(i), 1)
					}
					if err := pub.Write(&mqtt.Publish{Topic: []byte(topic + "/kept"), Payload: []byte("kept"), QoS: 1, Retain: true, PacketID: 60000}); err != nil {
						t.Fatal(err)
					}
					if err := pub.Write(&mqtt.Publish{Topic: []byte(topic + "/half"), Payload: []byte("half"), QoS: 2, PacketID: 60001}); err != nil {
						t.Fatal(err)
					}
					pub.publish(t, topic+"/a", "200", 1) // its answer comes after theirs

					ends[how]()
					c.StartAll(t)

					back := connect(t, n, "source", manual)
					if !back.SessionPresent() {
						t.Error("the publisher's session is gone")
					}
					if err := back.Write(&mqtt.Pubrel{PacketID: 60001}); err != nil {
						t.Fatal(err)
					}
					again := connect(t, n, "keeper")
					if !again.SessionPresent() {
						t.Error("the subscriber's session is gone")
					}
					got := map[string][]string{}
					again.wait(t, 203)
					for _, m := range again.all() {
						got[string(m.Topic)] = append(got[string(m.Topic)], string(m.Payload))
					}
					want := map[string][]string{topic + "/a": numbers(0, 201), topic + "/kept": {"kept"}, topic + "/half": {"half"}}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("received after the restart (-want +got):\n%s", diff)
					}
					fresh := connect(t, n, "late", transient)
					fresh.subscribe(t, mqtt.SubscribeFilter{Filter: topic + "/kept", QoS: 1})
					if diff := cmp.Diff([]string{"kept"}, fresh.wait(t, 1)); diff != "" {
						t.Errorf("retained (-want +got):\n%s", diff)
					}
					_ = again.Close()
					_ = back.Close()
				})
			}
		})
	}
}
