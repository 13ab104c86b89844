package conformance

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestDupIsNotHandedOn_v5_MQTT_3_3_1_3(t *testing.T) {
	t.Parallel()
	sub, pub := connect(t, v5), connect(t, v5)
	topic := own("a")
	sub.subscribe(topic, 1)
	pub.send("3A [('%s') 0001 [] 'x']", topic)
	expect[*mqtt.Puback](pub)
	if m := expect[*mqtt.Publish](sub); m.Dup {
		t.Error("DUP came through")
	}
}

func TestAcrossNodes(t *testing.T) {
	t.Parallel()
	nodes := trio(t)
	sub, pub := connect(t, v5, on(nodes[0])), connect(t, v5, on(nodes[1]))
	topic := own("a")
	sub.subscribe(topic, 2)
	pub.publish(topic, "x", 2)
	sub.payloads("x")
	sub.quiet()
}
