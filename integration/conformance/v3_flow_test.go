package conformance

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestManyAtOnce: a client of these versions knows no Receive Maximum; the server takes what it can, in order, and leaves
// the rest to TCP.
func TestManyAtOnce_v311_MQTT_4_3_2_2_MQTT_4_3_3_2_MQTT_4_6_0_5(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub, pub := connect(t, v), connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 0)
		const ones, twos = 3000, 1000
		// The server need not read while the client does not.
		written := make(chan error, 1)
		go func() {
			var b []byte
			for i := range ones {
				b = append(b, bytesOf("32 [('%s') %04X 'x']", topic, i+1)...)
			}
			for i := range twos {
				b = append(b, bytesOf("34 [('%s') %04X 'y']", topic, ones+i+1)...)
			}
			_, err := pub.nc.Write(b)
			written <- err
		}()
		for i := range ones {
			pub.exactly("40 02 %04X", i+1)
		}
		for i := range twos {
			pub.exactly("50 02 %04X", ones+i+1)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		for i := range twos {
			pub.put(&mqtt.Pubrel{PacketID: uint16(ones + i + 1)})
		}
		for i := range twos {
			pub.exactly("70 02 %04X", ones+i+1)
		}
	}
}

// TestOfflineMany: what waited for a durable session comes complete and in order, also to a client that acknowledges late.
func TestOfflineMany_v311_MQTT_3_1_2_5_MQTT_4_6_0_6(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v, durable)
		topic := own("a")
		c.subscribe(topic, 2)
		c.disconnect()
		pub := connect(t, v)
		const n = 400
		for i := range n {
			pub.put(&mqtt.Publish{Topic: []byte(topic), Payload: []byte(fmt.Sprint(i)), QoS: 1, PacketID: uint16(i + 1)})
		}
		for i := range n {
			pub.exactly("40 02 %04X", i+1)
		}
		c = connect(t, v, as(c.id), durable)
		for i := range n {
			if m := c.message(); string(m.Payload) != fmt.Sprint(i) || m.Dup {
				t.Fatalf("%s: message %d is %+v", v, i, m)
			}
		}
		c.quiet()
	}
}

// TestSharedSubscriptions: older clients may use them, too: each message comes to one member.
func TestSharedSubscriptions_v311(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		topic := own("s")
		a, b, plain, pub := connect(t, v), connect(t, v), connect(t, v), connect(t, v)
		for _, c := range []*client{a, b} {
			c.subscribe("$share/group/"+topic+"/#", 1)
		}
		plain.subscribe(topic+"/#", 1)
		const n = 20
		seen := map[string]int{}
		for i := range n {
			pub.publish(topic+"/x", fmt.Sprint(i), 1)
			plain.payloads(fmt.Sprint(i))
		}
		for got, late := 0, time.Now().Add(patience); got < n && time.Now().Before(late); {
			for _, c := range []*client{a, b} {
				_ = c.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if _, err := c.in.Peek(1); err != nil {
					continue
				}
				m := c.message()
				if string(m.Topic) != topic+"/x" || m.QoS != 1 {
					t.Errorf("%s: %+v", v, m)
				}
				seen[string(m.Payload)]++
				got++
			}
		}
		a.quiet()
		b.quiet()
		for i := range n {
			if seen[fmt.Sprint(i)] != 1 {
				t.Errorf("%s: message %d came %d times", v, i, seen[fmt.Sprint(i)])
			}
		}
		// A share without a name or a filter is none.
		for _, f := range []string{"$share/group", "$share//" + topic, "$share/gr+up/" + topic, "$share/group/", "$share/gr#up/a", "$share/group/a/#/b"} {
			c := connect(t, v311)
			c.send("82 [0001 ('%s') 01]", f)
			if p, err := c.receive(); err == nil {
				if s, ok := p.(*mqtt.Suback); !ok || s.Codes[0] != mqtt.UnspecifiedError {
					t.Errorf("%s: got %+v, want 0x80 or the end", f, p)
				}
			}
		}
	}
}

// TestPacketSize: a megabyte is the most, unless configured.
func TestPacketSize_v311_MQTT_4_8_0_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v)
		topic := own("a")
		c.subscribe(topic, 0)
		large := bytes.Repeat([]byte("x"), 1<<20-100)
		c.put(&mqtt.Publish{Topic: []byte(topic), Payload: large})
		if m := c.message(); !bytes.Equal(m.Payload, large) {
			t.Errorf("%s: %d bytes arrived, want %d", v, len(m.Payload), len(large))
		}
		c.send("30 81808040 ('%s')", topic) // one byte more than 1 MiB in all would be enough
		c.expectClosed()
	}
}

// TestManyFilters: in one SUBSCRIBE and in one UNSUBSCRIBE.
func TestManyFilters_v311_MQTT_3_8_4_4_MQTT_3_10_4_6(t *testing.T) {
	t.Parallel()
	c, pub := connect(t, v311), connect(t, v311)
	name := own("a")
	const n = 64
	var filters, codes, names strings.Builder
	for i := range n {
		fmt.Fprintf(&filters, "('%s/%d') %02X ", name, i, i%3)
		fmt.Fprintf(&codes, "%02X", i%3)
		fmt.Fprintf(&names, "('%s/%d') ", name, i)
	}
	c.send("82 [0001 %s]", filters.String())
	c.exactly("90 [0001 %s]", codes.String())
	for i := range n {
		pub.publish(fmt.Sprint(name, "/", i), "x", 2)
		if m := c.message(); m.QoS != byte(i%3) {
			t.Errorf("filter %d: QoS %d", i, m.QoS)
		}
	}
	c.send("A2 [0002 %s]", names.String())
	c.exactly("B0 02 0002")
	pub.publish(name+"/7", "x", 1)
	c.quiet()
}

// breaking is a rule that fails in the middle of a packet.
type breaking struct{ session.AllowAll }

func (breaking) MayPublish(_ *session.Identity, topic []byte, _ byte, _ bool) bool {
	if bytes.HasPrefix(topic, []byte("break/")) {
		panic("a fault of a rule")
	}
	return true
}

// TestTransientError: a fault of the server while it handles a packet ends that connection, and no other.
func TestTransientError_v311_MQTT_4_8_0_2(t *testing.T) {
	t.Parallel()
	n := newBroker(t, func(c *cluster.Config) { c.Session.Authorizer = breaking{} })
	for _, v := range olds() {
		other, c := connect(t, v, on(n)), connect(t, v, on(n))
		c.send("32 [('break/it') 0001 'x'] C000")
		c.expectClosed()
		other.quiet()
		connect(t, v, on(n)).quiet()
	}
}

// TestLostMajority: a message whose outcome nobody knows is not acknowledged; the connection ends.
func TestLostMajority_v311_MQTT_4_8_0_2(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three nodes: skipped with -short")
	}
	var nodes []*cluster.Node
	var err error
	for range 3 { // a port that was free a moment ago may be taken
		mine := &site{dir: t.TempDir()}
		nodes, err = mine.startThree()
		for _, n := range mine.nodes {
			t.Cleanup(func() { n.Kill() })
		}
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	topic := own("a")
	sub, pub := admitted(t, v311, on(nodes[0]), durable), admitted(t, v311, on(nodes[0]))
	sub.subscribe(topic, 1)
	pub.publish(topic, "before", 1)
	sub.payloads("before")
	nodes[1].Kill()
	nodes[2].Kill()
	pub.send("32 [('%s') 0009 'x']", topic)
	for {
		p, err := pub.receive()
		if err != nil {
			pub.wasEnd(err)
			break
		}
		if a, ok := p.(*mqtt.Puback); ok {
			t.Fatalf("acknowledged without a majority: %+v", a)
		}
	}
	c := dial(t, v311, on(nodes[0]))
	c.send("10 [('MQTT') 04 00 003C ('%s')]", own("c"))
	c.exactly("20 02 00 03")
	c.expectClosed()
}

// TestFullServer: a refusal that has no code before MQTT 5 is told by a code that comes near, or by the end alone.
func TestFullServer_v311_MQTT_3_2_2_5_MQTT_3_2_2_6(t *testing.T) {
	t.Parallel()
	n := newBroker(t, func(c *cluster.Config) { c.Session.MaxConnections = 1 })
	first := connect(t, v311, on(n))
	for _, v := range olds() {
		c := dial(t, v, on(n))
		c.put(&mqtt.Connect{ClientID: "late", CleanStart: true})
		if p, err := c.receive(); err == nil {
			if a, ok := p.(*mqtt.Connack); !ok || a.Code != mqtt.ServerUnavailable {
				t.Errorf("%s: got %+v, want CONNACK 0x03 or the end", v, p)
			}
			c.expectClosed()
		}
	}
	first.quiet()
}

// TestLastWords: what was sent in front of DISCONNECT counts, even if nobody waits for the answers.
func TestLastWords_v311_MQTT_3_3_4_1(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		sub := connect(t, v)
		topic := own("a")
		sub.subscribe(topic, 2)
		for _, packet := range []string{"30 [('%s') 'last']", "32 [('%s') 0001 'last']", "34 [('%s') 0002 'last'] 6202 0002"} {
			c := connect(t, v, will(topic, "never"))
			c.send(packet+" E000", topic)
			c.abort()
			sub.payloads("last")
		}
		sub.quiet()
	}
}

// TestRequestsInOneWrite: they take effect in their order.
func TestRequestsInOneWrite_v311_MQTT_3_10_4_2_MQTT_4_6_0_5(t *testing.T) {
	t.Parallel()
	for _, v := range olds() {
		c := connect(t, v)
		topic := own("a")
		c.send("32 [('%[1]s') 0001 '0'] 82 [0002 ('%[1]s') 01] 32 [('%[1]s') 0003 '1'] A2 [0004 ('%[1]s')] 32 [('%[1]s') 0005 '2'] 82 [0006 ('%[1]s') 01] 32 [('%[1]s') 0007 '3']", topic)
		var answers, messages []string
		for len(answers) < 7 || len(messages) < 2 {
			switch p := c.next().(type) {
			case *mqtt.Publish:
				c.acknowledge(p)
				messages = append(messages, string(p.Payload))
			default:
				answers = append(answers, fmt.Sprintf("%02X%d", c.frame[0], c.frame[3]))
			}
		}
		if got := strings.Join(answers, " "); got != "401 902 403 B04 405 906 407" {
			t.Errorf("%s: answers %s, want them in the order of the requests", v, got)
		}
		if got := strings.Join(messages, " "); got != "1 3" {
			t.Errorf("%s: messages %s, want 1 and 3", v, got)
		}
		c.quiet()
	}
}

// TestSlowBytes: a byte now and then is no packet, so that the keep alive ends such a connection.
func TestSlowBytes_v311_MQTT_3_1_2_24(t *testing.T) {
	t.Parallel()
	c := connect(t, v311, func(s *setup) { s.KeepAlive = 1 })
	begin := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.in.ReadByte()
	}()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	packet := bytesOf("30 [('%s') '%s']", own("a"), strings.Repeat("x", 100))
	for _, b := range packet {
		select {
		case <-ended:
			if after := time.Since(begin); after < 1400*time.Millisecond {
				t.Errorf("ended after %v, want 1.5 s", after)
			}
			return
		case <-tick.C:
			_, _ = c.nc.Write([]byte{b})
		}
	}
	t.Errorf("the connection stands after %v without a whole packet", time.Since(begin))
}
