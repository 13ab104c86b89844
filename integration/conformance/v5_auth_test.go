package conformance

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func method(name, data string) func(*setup) {
	return func(s *setup) {
		s.AuthMethod = name
		if data != "" {
			s.AuthData = []byte(data)
		}
	}
}

// begin sends CONNECT with the method TEST and wants the challenge.
func begin(t *testing.T, opts ...func(*setup)) *client {
	t.Helper()
	opts = append(opts, on(guarded(t)), method("TEST", "hello"))
	c := dial(t, v5, opts...)
	s := &setup{Connect: mqtt.Connect{CleanStart: true, ClientID: own("auth"), RequestProblemInfo: true}}
	for _, o := range opts {
		o(s)
	}
	c.id = s.ClientID
	c.put(&s.Connect)
	a := expect[*mqtt.Auth](c)
	if a.Code != mqtt.ContinueAuthentication || a.AuthMethod != "TEST" || string(a.AuthData) != "pong?" {
		t.Fatalf("AUTH %+v", a)
	}
	return c
}

func TestEnhancedAuthentication_v5_MQTT_4_12_0_2_MQTT_4_12_0_5_MQTT_3_15_2_1(t *testing.T) {
	t.Parallel()
	c := begin(t)
	c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("ping")})
	a := expect[*mqtt.Connack](c)
	if a.Code != mqtt.Success || a.AuthMethod != "TEST" || string(a.AuthData) != "welcome" {
		t.Errorf("CONNACK %+v", a)
	}
	c.quiet()
	// One step: CONNACK at once, with the method.
	c = connect(t, v5, on(guarded(t)), method("ONCE", "ping"))
	if c.ack.AuthMethod != "ONCE" || string(c.ack.AuthData) != "welcome" {
		t.Errorf("CONNACK %+v", c.ack)
	}
}

func TestAuthenticationIsRejected_v5_MQTT_4_12_0_4_MQTT_3_1_4_2_MQTT_3_2_2_7(t *testing.T) {
	t.Parallel()
	refused(t, v5, mqtt.NotAuthorized, on(guarded(t)), method("TEST", "no"))
	refused(t, v5, mqtt.NotAuthorized, on(guarded(t)), method("ONCE", "wrong"))
	c := begin(t)
	c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("wrong")})
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.NotAuthorized {
		t.Errorf("CONNACK %s", a.Code)
	}
	c.expectClosed()
	// Without a method: user name and password.
	refused(t, v5, mqtt.NotAuthorized, on(guarded(t)))
	refused(t, v5, mqtt.BadUserNameOrPassword, on(guarded(t)), alice, func(s *setup) { s.Password = []byte("wrong") })
	refused(t, v5, mqtt.BadUserNameOrPassword, on(guarded(t)), alice, func(s *setup) { s.HasPassword = false })
}

func TestUnknownMethod_v5_MQTT_4_12_0_1(t *testing.T) {
	t.Parallel()
	refused(t, v5, mqtt.BadAuthenticationMethod, on(guarded(t)), method("OTHER", "x"))
	refused(t, v5, mqtt.BadAuthenticationMethod, method("TEST", "x")) // where there are none
}

func TestNoMethodNoAuth_v5_MQTT_4_12_0_6_MQTT_4_12_0_7(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(guarded(t)), alice)
	if c.ack.AuthMethod != "" || c.ack.AuthData != nil {
		t.Errorf("CONNACK has a method: %+v", c.ack)
	}
	c.put(&mqtt.Auth{Code: mqtt.ReAuthenticate, AuthMethod: "TEST", AuthData: []byte("hello")})
	c.expectDisconnect(mqtt.ProtocolError)
}

// TestOtherPacketsDuringAuthentication: they are refused, and have no effect.
func TestOtherPacketsDuringAuthentication_v5_MQTT_3_1_2_30_MQTT_4_12_0_3_MQTT_3_14_0_1(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"C0 []", "30 [('a') [] 'x']", "82 [0001 [] ('a') 00]", "F0 [19 [15 ('TEST')]]", "F0 [18 [15 ('OTHER')]]", "F0 []",
		"10 [('MQTT') 05 02 0000 [] ('a')]", "20 [00 00 []]"} {
		c := begin(t)
		c.id = p
		c.send("%s", p)
		for _, got := range c.expectEnd() { // no DISCONNECT: there was no CONNACK
			if a, ok := got.(*mqtt.Connack); !ok || !a.Code.Failed() {
				t.Errorf("%s: got %+v", p, got)
			}
		}
	}
	c := begin(t)
	c.send("E0 []") // a client may give up
	c.expectEnd()
}

func TestMalformedAuth(t *testing.T) {
	t.Parallel()
	open := func() *client {
		c := begin(t)
		c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("ping")})
		expect[*mqtt.Connack](c)
		return c
	}
	for p, code := range map[string]mqtt.ReasonCode{
		"F0 [19]": mqtt.MalformedPacket, "F0 [19 []]": mqtt.ProtocolError, "F0 [19 [16 ('x')]]": mqtt.ProtocolError,
		"F0 [19 [15 ('OTHER')]]": mqtt.ProtocolError, "F0 [18 [15 ('TEST')]]": mqtt.ProtocolError, "F0 [00 [15 ('TEST')]]": mqtt.ProtocolError,
		"F0 [01 [15 ('TEST')]]": mqtt.ProtocolError, "F0 [19 [15 ('TEST') 15 ('TEST')]]": mqtt.ProtocolError, "F0 [19 [15 ('TEST') 21 0001]]": mqtt.MalformedPacket,
		"F1 [19 [15 ('TEST')]]": mqtt.MalformedPacket,
	} {
		c := open()
		c.id = p
		c.send("%s", p)
		d := expect[*mqtt.Disconnect](c)
		if d.Code != code && !(code == mqtt.ProtocolError && d.Code == mqtt.BadAuthenticationMethod) {
			t.Errorf("%s: DISCONNECT %s, want %s", p, d.Code, code)
		}
		c.expectClosed()
	}
}

// TestReAuthentication: on a live connection, which goes on meanwhile.
func TestReAuthentication_v5_MQTT_4_12_1_1_MQTT_4_12_0_5(t *testing.T) {
	t.Parallel()
	c := begin(t)
	c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("ping")})
	expect[*mqtt.Connack](c)
	for range 2 {
		c.put(&mqtt.Auth{Code: mqtt.ReAuthenticate, AuthMethod: "TEST", AuthData: []byte("again")})
		if a := expect[*mqtt.Auth](c); a.Code != mqtt.ContinueAuthentication || a.AuthMethod != "TEST" {
			t.Errorf("AUTH %+v", a)
		}
		c.publish(own("a"), "x", 1)
		c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("ping")})
		if a := expect[*mqtt.Auth](c); a.Code != mqtt.Success || a.AuthMethod != "TEST" || string(a.AuthData) != "welcome" {
			t.Errorf("AUTH %+v", a)
		}
	}
	c.quiet()
}

func TestReAuthenticationFails_v5_MQTT_4_12_1_2(t *testing.T) {
	t.Parallel()
	c := begin(t)
	c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("ping")})
	expect[*mqtt.Connack](c)
	c.put(&mqtt.Auth{Code: mqtt.ReAuthenticate, AuthMethod: "TEST", AuthData: []byte("again")})
	expect[*mqtt.Auth](c)
	c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("wrong")})
	c.expectDisconnect(mqtt.NotAuthorized)
}

// TestNoAuthExceedsMaximumPacketSize: the broker's AUTH has nothing that could give way, so it is what it must be.
func TestAuthHasNoReasonStringOrUserProperties_v5_MQTT_3_15_2_2_MQTT_3_15_2_3(t *testing.T) {
	t.Parallel()
	c := begin(t, maximumPacketSize(60))
	if len(c.frame) > 60 {
		t.Errorf("AUTH of %d bytes", len(c.frame))
	}
	c.put(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: "TEST", AuthData: []byte("ping")})
	if a := expect[*mqtt.Connack](c); len(c.frame) > 60 || a.Code != mqtt.Success {
		t.Errorf("CONNACK %s of %d bytes", a.Code, len(c.frame))
	}
}

func TestPermissionToReceive(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, on(guarded(t)), alice)
	c.subscribe("blind/#", 1)
	base := own("a")
	c.subscribe(base, 1)
	pub := connect(t, v5, on(guarded(t)), alice)
	pub.publish("blind/a", "x", 1)
	pub.publish(base, "marker", 1)
	c.payloads("marker")
}
