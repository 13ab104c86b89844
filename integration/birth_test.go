package integration

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestBirthFollowsWill: a client that says "online" in a retained message when it connects, and has the will "offline" there, is
// online for everybody once it has said so, however its last connection ended and wherever the new one is. I13, I15.
func TestBirthFollowsWill(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	settledLeaders(t, c)
	watcher := connect(t, c.Nodes[2], "watcher")
	watcher.subscribe(t, mqtt.SubscribeFilter{Filter: "status/#", QoS: 1})
	for name, kind := range map[string]func(*mqttc.Options){"transient": transient, "clean": clean, "durable": func(*mqttc.Options) {}, "3.1.1": version(mqtt.V311)} {
		t.Run(name, func(t *testing.T) {
			topic := "status/" + name
			var last *box
			for round := range 20 {
				if last != nil && round%2 == 0 {
					last.Abort() // else the new connection takes the session over
				}
				last = connect(t, c.Nodes[round%3], "device "+name, kind, func(o *mqttc.Options) {
					o.Will = &mqtt.Will{Topic: topic, Payload: fmt.Appendf(nil, "offline %d", round), QoS: 1, Retain: true}
				})
				said := fmt.Sprintf("online %d", round)
				if _, err := last.Publish(t.Context(), &mqtt.Publish{Topic: []byte(topic), Payload: []byte(said), QoS: 1, Retain: true}); err != nil {
					t.Fatal(err)
				}
				late := connect(t, c.Nodes[(round+1)%3], fmt.Sprintf("late %s %d", name, round), transient)
				late.subscribe(t, mqtt.SubscribeFilter{Filter: topic, QoS: 1})
				if got := late.wait(t, 1); got[0] != said {
					t.Fatalf("round %d: the retained message is %q", round, got[0])
				}
				_ = late.Close()
			}
			online := -1
			for _, m := range watcher.all() {
				var round int
				if string(m.Topic) != topic {
					continue
				}
				if n, _ := fmt.Sscanf(string(m.Payload), "online %d", &round); n == 1 {
					online = round
				} else if n, _ := fmt.Sscanf(string(m.Payload), "offline %d", &round); n == 1 && round < online {
					t.Errorf("%q came when the client was online %d", m.Payload, online)
				}
			}
		})
	}
}
