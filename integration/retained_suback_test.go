package integration

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestRetainedBehindSuback: what is published to be retained once a SUBACK is there reaches its client once and as a live
// message, from whatever node; it is not also found by the search for retained messages that the SUBSCRIBE began. I14, I4.
func TestRetainedBehindSuback_v5_MQTT_3_3_1_12_v311_MQTT_3_3_1_9(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	settledLeaders(t, c)
	publisher := connect(t, c.Nodes[0], "publisher")
	for name, kind := range map[string]func(*mqttc.Options){"transient": transient, "durable": func(*mqttc.Options) {}, "3.1.1": version(mqtt.V311)} {
		t.Run(name, func(t *testing.T) {
			subscriber := connect(t, c.Nodes[2], "subscriber "+name, kind)
			for round := range 60 {
				root := fmt.Sprintf("%s/%d", name, round)
				filters := []mqtt.SubscribeFilter{{Filter: root + "/+", QoS: 2}}
				if round%3 == 2 {
					filters = append(filters, mqtt.SubscribeFilter{Filter: root + "/none/#", QoS: 1})
				}
				before := len(subscriber.all())
				subscriber.subscribe(t, filters...)
				keep(t, publisher, root+"/0", byte(round%3))
				keep(t, publisher, root+"/1", 1)
				publisher.publish(t, root+"/fence", "fence", 1)
				subscriber.wait(t, before+3)
				for i, m := range subscriber.all()[before:] {
					if want := []string{root + "/0", root + "/1", root + "/fence"}; i >= len(want) || m.Retain || m.Dup {
						t.Errorf("round %d: message %d is %s, RETAIN %v, DUP %v", round, i, m.Topic, m.Retain, m.Dup)
					}
				}
			}
		})
	}
}

// keep publishes a retained message.
func keep(t testing.TB, b *box, topic string, qos byte) {
	t.Helper()
	if _, err := b.Publish(t.Context(), &mqtt.Publish{Topic: []byte(topic), Payload: []byte("x"), QoS: qos, Retain: true}); err != nil {
		t.Fatal(err)
	}
}
