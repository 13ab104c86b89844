package conformance

import (
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func expires(s uint32) func(*setup) {
	return func(c *setup) { c.CleanStart, c.HasSessionExpiry, c.SessionExpiry = false, true, s }
}

// eventually polls until lack returns "".
func eventually(t *testing.T, lack func() string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		why := lack()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(why)
		}
	}
}

// gone waits until a client's session, which should have expired by now, has ended. Each look takes the session over, so that it
// begins to expire anew: the next one comes later.
func gone(t *testing.T, id string, expiry uint32) {
	t.Helper()
	for late := range 4 {
		c := connect(t, v5, as(id), expires(expiry))
		c.disconnect()
		if !c.ack.SessionPresent {
			return
		}
		wait(t, time.Now().Add(time.Duration(expiry)*time.Second+time.Duration(1+3*late)*time.Second))
	}
	t.Errorf("the session of %s does not expire", id)
}

func TestSessionIsKept_v5_MQTT_3_1_2_23_MQTT_4_1_0_1_MQTT_4_5_0_1(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, expires(0xFFFFFFFF))
	topic := own("a")
	c.subscribe(topic+"/+", 2)
	c.abort()
	pub := connect(t, v5)
	for _, p := range []string{"1", "2", "3"} {
		pub.publish(topic+"/"+p, p, p[0]&1+1)
	}
	c = connect(t, v5, as(c.id), expires(0xFFFFFFFF))
	c.payloads("1", "2", "3")
	c.quiet()
	pub.publish(topic+"/4", "4", 0)
	c.payloads("4")
}

// TestSessionExpires: not early, and not much later.
func TestSessionExpires_v5_MQTT_4_1_0_2(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, expires(2))
	c.subscribe(own("a"), 1)
	begin := time.Now()
	c.disconnect()
	c = connect(t, v5, as(c.id), expires(2))
	if !c.ack.SessionPresent && time.Since(begin) < 2*time.Second {
		t.Fatal("the session expired early")
	}
	c.disconnect()
	wait(t, time.Now().Add(2500*time.Millisecond))
	gone(t, c.id, 2)
}

// wait waits for a point in time: only for what is defined by one.
func wait(t *testing.T, until time.Time) {
	t.Helper()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func TestNoExpiryEndsWithTheConnection_v5_MQTT_4_1_0_2(t *testing.T) {
	t.Parallel()
	for _, c := range []*client{connect(t, v5), connect(t, v5, expires(0)), connect(t, v5, func(s *setup) { s.CleanStart = false })} {
		c.subscribe(own("a"), 1)
		c.disconnect()
		if again := connect(t, v5, as(c.id), func(s *setup) { s.CleanStart = false }); again.ack.SessionPresent {
			t.Error("the session is still there")
		}
	}
}

// TestCleanStartWithExpiry: Clean Start says nothing about how long the new session lasts.
func TestCleanStartWithExpiry(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, expires(100), func(s *setup) { s.CleanStart = true })
	topic := own("a")
	c.subscribe(topic, 1)
	c.abort()
	connect(t, v5).publish(topic, "x", 1)
	c = connect(t, v5, as(c.id), expires(100))
	if !c.ack.SessionPresent {
		t.Error("the session is gone")
	}
	c.payloads("x")
}

func TestExpiryChangesAtDisconnect(t *testing.T) {
	t.Parallel()
	change := func(c *client, s uint32) {
		c.put(&mqtt.Disconnect{HasSessionExpiry: true, SessionExpiry: s})
		c.expectEnd()
	}
	c := connect(t, v5, expires(100)) // to nothing
	change(c, 0)
	if c = connect(t, v5, as(c.id), expires(1)); c.ack.SessionPresent {
		t.Error("expiry 0 at DISCONNECT leaves the session")
	}
	change(c, 100) // to more
	begin := time.Now()
	wait(t, begin.Add(2500*time.Millisecond))
	if c = connect(t, v5, as(c.id), expires(100)); !c.ack.SessionPresent {
		t.Error("the longer expiry of DISCONNECT did not count")
	}
	change(c, 1) // to less
	wait(t, time.Now().Add(1500*time.Millisecond))
	gone(t, c.id, 1)
	c = connect(t, v5) // from none: a protocol error
	c.send("E0 [00 [11 00000064]]")
	c.expectDisconnect(mqtt.ProtocolError)
	c = connect(t, v5) // from none to none is no change
	c.send("E0 [00 [11 00000000]]")
	c.expectClosed()
}

// TestAnnouncedExpiry: a server that uses another expiry than the client asked for says so.
func TestAnnouncedExpiry(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(limited(t)), expires(101))
	if !c.ack.HasSessionExpiry || c.ack.SessionExpiry != 100 {
		t.Errorf("session expiry %v %d, want 100", c.ack.HasSessionExpiry, c.ack.SessionExpiry)
	}
	if c = connect(t, v5, on(limited(t)), expires(100)); c.ack.HasSessionExpiry {
		t.Error("session expiry is announced although it is the client's")
	}
}

// TestSessionMovesBetweenVersions: subscriptions and messages do not depend on the version.
func TestSessionMovesBetweenVersions(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, durable)
	topic := own("a")
	c.subscribe(topic, 2, func(s *mqtt.Subscribe) { s.SubscriptionID = 7 })
	c.disconnect()
	connect(t, v5).publish(topic, "x", 2)
	c = connect(t, v311, as(c.id), durable)
	if !c.ack.SessionPresent {
		t.Error("session present is 0")
	}
	c.payloads("x")
}

func TestKeepAlive_v5_MQTT_3_1_2_22_MQTT_3_2_2_22(t *testing.T) {
	t.Parallel()
	topic := own("w")
	sub := watch(t, topic, 1)
	begin := time.Now()
	c := connect(t, v5, will(topic, "silent"), func(s *setup) { s.KeepAlive = 1 })
	if c.ack.HasServerKeepAlive {
		t.Errorf("server keep alive %d", c.ack.ServerKeepAlive)
	}
	c.expectDisconnect(mqtt.KeepAliveTimeout)
	if took := time.Since(begin); took < 1500*time.Millisecond || took > 1500*time.Millisecond+patience {
		t.Errorf("a keep alive of 1 s ended after %v", took)
	}
	sub.payloads("silent")
}

// TestKeepAliveCountsPackets: any packet will do.
func TestKeepAliveCountsPackets(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, func(s *setup) { s.KeepAlive = 4 }) // ends after 6 s
	for i := range 4 {
		wait(t, time.Now().Add(2*time.Second))
		if i%2 == 0 {
			c.quiet()
		} else {
			c.publish(own("a"), "x", 1)
		}
	}
}

func TestServerKeepAlive_v5_MQTT_3_1_2_22(t *testing.T) {
	t.Parallel()
	for _, asked := range []uint16{0, 5, 65535} {
		c := connect(t, v5, on(limited(t)), func(s *setup) { s.KeepAlive = asked })
		if !c.ack.HasServerKeepAlive || c.ack.ServerKeepAlive != 4 {
			t.Errorf("asked for %d: server keep alive %v %d, want 4", asked, c.ack.HasServerKeepAlive, c.ack.ServerKeepAlive)
		}
	}
	limited(t)
	begin := time.Now()
	c := connect(t, v5, on(limited(t)), func(s *setup) { s.KeepAlive = 60 })
	c.expectDisconnect(mqtt.KeepAliveTimeout)
	if took := time.Since(begin); took < 6*time.Second || took > 6*time.Second+patience {
		t.Errorf("a server keep alive of 4 s ended after %v", took)
	}
}

func TestPing_v5_MQTT_3_12_4_1(t *testing.T) {
	t.Parallel()
	c := connect(t, v5)
	for range 3 {
		c.quiet()
	}
	c.send("C000 C000 C000 C000")
	for range 4 {
		expect[*mqtt.Pingresp](c)
	}
	broken(t, mqtt.MalformedPacket, "C0 [00]")
}

func TestDisconnect_v5_MQTT_3_14_2_1_MQTT_3_14_4_2(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"E0 []", "E0 [00]", "E0 [00 []]", "E0 [04]", "E0 [80 []]", "E0 [93]", "E0 [00 [1F ('bye') 26 ('k') ('v') 26 ('k') ('v')]]"} {
		c := connect(t, v5)
		c.id = p
		c.send("%s C0 []", p) // what follows is not answered
		c.expectClosed()
	}
	broken(t, mqtt.ProtocolError, "E0 [01]", "E0 [03]", "E0 [FF]", "E0 [00 [1F () 1F ()]]", "E0 [00 [11 00000000 11 00000000]]")
	broken(t, mqtt.MalformedPacket, "E0 [00 [21 0001]]", "E0 [00 [] 00]", "E0 [00 05]")
}

// TestNothingFollowsDisconnect: also with messages under way.
func TestNothingFollowsDisconnect_v5_MQTT_3_14_4_1_MQTT_3_14_2_2(t *testing.T) {
	t.Parallel()
	topic := own("a")
	sub, pub := watch(t, topic, 1), connect(t, v5)
	for range 20 {
		pub.publish(topic, "x", 1)
	}
	sub.send("D0 00")
	came := sub.expectEnd()
	for i, p := range came {
		if d, ok := p.(*mqtt.Disconnect); ok && (i != len(came)-1 || d.HasSessionExpiry) {
			t.Errorf("DISCONNECT %+v is packet %d of %d", d, i+1, len(came))
		}
	}
	if len(came) == 0 || came[len(came)-1].Type() != mqtt.TypeDisconnect {
		t.Errorf("no DISCONNECT at the end of %d packets", len(came))
	}
}
