package conformance

import (
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestMQIsdp: level 3 under the old name; everything else of a connection is as in MQTT 3.1.1.
func TestMQIsdp_v31(t *testing.T) {
	t.Parallel()
	c := dial(t, v31)
	topic := own("a")
	c.send("10 [('MQIsdp') 03 02 003C ('%s')]", own("c"))
	c.exactly("20 02 00 00")
	c.send("82 [0001 ('%s') 02] 34 [('%s') 0002 'x'] 6202 0002", topic, own("b"))
	c.exactly("90 03 0001 02")
	c.exactly("50 02 0002")
	c.exactly("70 02 0002")
}

// TestClientIDLength_v31: 1 to 23 characters, which are not bytes.
func TestClientIDLength_v31(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"x", strings.Repeat("y", 23), strings.Repeat("ü", 23), strings.Repeat("水", 23)} {
		c := dial(t, v31)
		c.send("10 [('MQIsdp') 03 02 003C ('%s')]", id)
		c.exactly("20 02 00 00")
		c.put(&mqtt.Disconnect{})
		c.expectEnd()
	}
	for _, id := range []string{"", strings.Repeat("y", 24), strings.Repeat("ü", 24), strings.Repeat("y", 200)} {
		for _, flags := range []string{"00", "02"} {
			c := dial(t, v31)
			c.id = id
			c.send("10 [('MQIsdp') 03 %s 003C ('%s')]", flags, id)
			c.exactly("20 02 00 02")
			c.expectClosed()
		}
	}
}

// TestNoFailureInSuback_v31: a subscription that is not allowed is acknowledged as it was asked for, and hears nothing.
func TestNoFailureInSuback_v31(t *testing.T) {
	t.Parallel()
	c := connect(t, v31, on(guarded(t)), alice)
	topic := own("a")
	c.send("82 [0001 ('fine/%[1]s') 01 ('deny/%[1]s') 02 ('deny/too/%[1]s') 00]", topic)
	c.exactly("90 05 0001 01 02 00")
	c.quiet()
}

// TestReservedConnectFlag_v31: the bit is unused, not reserved.
func TestReservedConnectFlag_v31(t *testing.T) {
	t.Parallel()
	c := dial(t, v31)
	c.send("10 [('MQIsdp') 03 03 003C ('%s')]", own("c"))
	c.exactly("20 02 00 00")
}

// TestMissingUserName_v31: "If these flags are set and the fields are missing": that is valid in MQTT 3.1.
func TestMissingUserNameAndPassword_v31(t *testing.T) {
	t.Parallel()
	for _, fields := range []string{"", "('user')", "('user') ('password')"} {
		c := dial(t, v31)
		c.send("10 [('MQIsdp') 03 C2 003C ('%s') "+fields+"]", own("c"))
		c.exactly("20 02 00 00")
	}
}

// TestDupWithQoS0_v31: DUP means something for QoS 1 and 2 only; with QoS 0 it is no violation, and not handed on.
func TestDupWithQoS0_v31(t *testing.T) {
	t.Parallel()
	c := connect(t, v31)
	topic := own("a")
	c.subscribe(topic, 0)
	c.send("38 [('%s') 'x']", topic)
	c.exactly("30 [('%s') 'x']", topic)
}

// TestDupRequests_v31: SUBSCRIBE, UNSUBSCRIBE and PUBREL are of QoS 1 in MQTT 3.1 and may carry DUP when they are repeated.
func TestDupRequests_v31(t *testing.T) {
	t.Parallel()
	c := connect(t, v31)
	topic := own("a")
	c.send("82 [0001 ('%s') 01]", topic)
	c.exactly("90 03 0001 01")
	c.send("8A [0001 ('%s') 01]", topic)
	c.exactly("90 03 0001 01")
	c.send("34 [('%s') 0002 'x']", own("b"))
	c.exactly("50 02 0002")
	c.send("62 02 0002")
	c.exactly("70 02 0002")
	c.send("6A 02 0002")
	c.exactly("70 02 0002")
	c.send("A2 [0003 ('%s')]", topic)
	c.exactly("B0 02 0003")
	c.send("AA [0003 ('%s')]", topic)
	c.exactly("B0 02 0003")
}
