package session_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestConnectAllVersions(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			c := r.dial(v)
			ack := c.Connect(t, &mqtt.Connect{ClientID: "a", CleanStart: true, KeepAlive: 30})
			if ack.SessionPresent {
				t.Error("session present on a clean start") // v5:MQTT-3.2.2-2
			}
			if v == mqtt.V5 {
				if ack.ReceiveMaximum != 64 || ack.MaximumPacketSize != 1<<20 || ack.TopicAliasMaximum != 32 || ack.SharedUnavailable {
					t.Errorf("CONNACK properties: %+v", ack)
				}
			}
			settle()
			if st := r.nodes[0].Server.Stats(); st.Connections != 1 || st.Pending != 0 {
				t.Errorf("stats %+v", st)
			}
			c.MustSend(t, &mqtt.Pingreq{})
			expect[*mqtt.Pingresp](r, c)
			c.MustSend(t, &mqtt.Disconnect{})
			c.ExpectClosed(t)
		})
	})
}

func TestConnectClientIDs(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, tc := range []struct {
		name  string
		v     mqtt.Version
		id    string
		clean bool
		code  mqtt.ReasonCode // as the v5 code; the codec translates
	}{
		{"v5 empty is assigned", mqtt.V5, "", true, mqtt.Success},
		{"v5 empty without clean start is assigned", mqtt.V5, "", false, mqtt.Success},
		{"v311 empty and clean is accepted MQTT-3.1.3-6", mqtt.V311, "", true, mqtt.Success},
		{"v311 empty and not clean is refused MQTT-3.1.3-8", mqtt.V311, "", false, mqtt.ClientIdentifierNotValid},
		{"v31 empty is refused", mqtt.V31, "", true, mqtt.ClientIdentifierNotValid},
		{"too long", mqtt.V5, long, true, mqtt.ClientIdentifierNotValid},
		{"wildcard", mqtt.V5, "a+b", true, mqtt.ClientIdentifierNotValid},
		{"hash", mqtt.V311, "#", true, mqtt.ClientIdentifierNotValid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, func(r *rig) {
				c := r.dial(tc.v)
				raw, err := mqtt.Append(nil, tc.v, &mqtt.Connect{Version: tc.v, ClientID: "x" + tc.id, CleanStart: true})
				if err != nil {
					t.Fatal(err)
				}
				if tc.id == "" { // what no encoder of ours would send
					raw = bytes.TrimSuffix(raw, []byte("\x00\x01x"))
					raw = append(raw, 0, 0)
					raw[1]--
				} else if raw, err = mqtt.Append(nil, tc.v, &mqtt.Connect{Version: tc.v, ClientID: tc.id, CleanStart: true}); err != nil {
					t.Fatal(err)
				}
				if !tc.clean {
					raw[9] &^= 2
				}
				if err := c.SendRaw(raw); err != nil {
					t.Fatal(err)
				}
				ack := expect[*mqtt.Connack](r, c)
				if ack.Code != tc.code {
					t.Fatalf("CONNACK %s, want %s", ack.Code, tc.code)
				}
				if got := ack.AssignedClientID != ""; got != (tc.v == mqtt.V5 && tc.id == "") { // v5:MQTT-3.2.2-16
					t.Errorf("assigned client id %q", ack.AssignedClientID)
				}
				if ack.Code.Failed() {
					c.ExpectClosed(t) // v5:MQTT-3.2.2-7, v311:MQTT-3.2.2-5
				} else {
					c.Close()
				}
			})
		})
	}
}

func TestConnectReturnCodesPerVersion(t *testing.T) {
	for _, tc := range []struct {
		err  error
		v5   mqtt.ReasonCode
		v311 mqtt.ReasonCode // what the codec makes of the return code
	}{
		{session.ErrBadCredentials, mqtt.BadUserNameOrPassword, mqtt.BadUserNameOrPassword},
		{session.ErrNotAuthorized, mqtt.NotAuthorized, mqtt.NotAuthorized},
		{session.ErrRefused(mqtt.Banned, ""), mqtt.Banned, mqtt.NotAuthorized},
		{errors.New("backend is broken"), mqtt.NotAuthorized, mqtt.NotAuthorized}, // fail closed
	} {
		versions(t, func(t *testing.T, v mqtt.Version) {
			runCfg(t, func(c *session.Config) { c.Authenticator = denyAuth{tc.err} }, func(r *rig) {
				c := r.dial(v)
				c.MustSend(t, &mqtt.Connect{Version: v, ClientID: "a", CleanStart: true})
				ack := expect[*mqtt.Connack](r, c)
				want := tc.v5
				if v != mqtt.V5 {
					want = tc.v311
				}
				if ack.Code != want {
					t.Errorf("%v: CONNACK %s, want %s", tc.err, ack.Code, want)
				}
				c.ExpectClosed(t)
			})
		})
	}
}

type denyAuth struct{ err error }

func (d denyAuth) Authenticate(context.Context, *session.Credentials) (session.Principal, error) {
	return session.Principal{}, d.err
}

// TestConnectUserNameHasALimit: the name that a client gives, and the one that it is given.
func TestConnectUserNameHasALimit(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		for length, want := range map[int]mqtt.ReasonCode{1024: mqtt.Success, 1025: mqtt.BadUserNameOrPassword} {
			name := strings.Repeat("x", length)
			run(t, func(r *rig) {
				c := r.dial(v)
				c.MustSend(t, &mqtt.Connect{Version: v, ClientID: "a", CleanStart: true, HasUsername: true, Username: name})
				if ack := expect[*mqtt.Connack](r, c); ack.Code != want {
					t.Errorf("%d bytes: CONNACK %s, want %s", length, ack.Code, want)
				}
				c.Close()
			})
			runCfg(t, func(c *session.Config) { c.Authenticator = nameAuth(name) }, func(r *rig) {
				c := r.dial(v)
				c.MustSend(t, &mqtt.Connect{Version: v, ClientID: "a", CleanStart: true})
				if ack := expect[*mqtt.Connack](r, c); ack.Code != want {
					t.Errorf("%d bytes by an Authenticator: CONNACK %s, want %s", length, ack.Code, want)
				}
				c.Close()
			})
		}
	})
}

// nameAuth calls everybody by one name.
type nameAuth string

func (n nameAuth) Authenticate(context.Context, *session.Credentials) (session.Principal, error) {
	return session.Principal{Username: string(n)}, nil
}

func TestConnectBackendUnavailable(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		for _, hang := range []bool{false, true} {
			run(t, func(r *rig) {
				r.cl.Set(func(f *sessiontest.Faults) { f.Unavailable, f.Hang = true, hang })
				c := r.dial(v)
				start := time.Now()
				c.MustSend(t, &mqtt.Connect{Version: v, ClientID: "a", CleanStart: true})
				if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.ServerUnavailable {
					t.Errorf("CONNACK %s", ack.Code)
				}
				if d := time.Since(start); d > 5*time.Second || hang && d < 5*time.Second {
					t.Errorf("answered after %v", d)
				}
				c.ExpectClosed(t)
			})
		}
	})
}

func TestConnRejectsSecondConnect_v311_MQTT_3_1_0_2_v5_MQTT_3_1_0_2(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			c := r.open(v, "a")
			c.MustSend(t, &mqtt.Connect{Version: v, ClientID: "a", CleanStart: true})
			if v == mqtt.V5 {
				c.ExpectDisconnect(t, mqtt.ProtocolError)
			} else {
				c.ExpectClosed(t)
			}
		})
	})
}

func TestConnectFirstPacketMustBeConnect_v5_MQTT_3_1_0_1(t *testing.T) {
	run(t, func(r *rig) {
		for _, raw := range []string{"\xc0\x00", "\x30\x03\x00\x01a", "\xe0\x00", "GET / HTTP/1.1\r\n\r\n", "\x00\x00"} {
			c := r.dial(mqtt.V5)
			if err := c.SendRaw([]byte(raw)); err != nil {
				t.Fatal(err)
			}
			c.ExpectClosed(t)
		}
	})
}

func TestConnectUnknownVersion_v311_MQTT_3_1_2_2_v5_MQTT_3_1_2_2(t *testing.T) {
	run(t, func(r *rig) {
		for level, v := range map[string]mqtt.Version{"\x09": mqtt.V5, "\x02": mqtt.V311, "\x84": mqtt.V311} {
			c := r.dial(v)
			if err := c.SendRaw([]byte("\x10\x0d\x00\x04MQTT" + level + "\x02\x00\x00\x00\x01a")); err != nil {
				t.Fatal(err)
			}
			if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.UnsupportedProtocolVersion {
				t.Errorf("level %q: CONNACK %s", level, ack.Code)
			}
			c.ExpectClosed(t)
		}
	})
}

func TestConnectTimeout(t *testing.T) {
	run(t, func(r *rig) {
		c := r.dial(mqtt.V5)
		start := time.Now()
		if err := c.SendRaw([]byte("\x10")); err != nil { // the first byte does not help
			t.Fatal(err)
		}
		if _, err := c.RecvWithin(time.Minute); err == nil {
			t.Error("got a packet")
		}
		if d := time.Since(start); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("closed after %v, want 10s", d)
		}
	})
}

func TestConnectPendingLimit(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.PendingConnects = 2 }, func(r *rig) {
		a, b := r.dial(mqtt.V5), r.dial(mqtt.V5)
		r.dial(mqtt.V5) // the port has had a place for it, a moment too early
		r.dial(mqtt.V5)
		r.dial(mqtt.V5).ExpectClosed(t)
		a.Connect(t, &mqtt.Connect{ClientID: "a", CleanStart: true})
		settle()
		c := r.open(mqtt.V5, "c") // a's place is free again
		for _, x := range []*sessiontest.Client{a, b, c} {
			x.Close()
		}
	})
}

func TestConnectMaxConnections(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		runCfg(t, func(c *session.Config) { c.MaxConnections = 1 }, func(r *rig) {
			r.open(v, "a")
			c := r.dial(v)
			c.MustSend(t, &mqtt.Connect{Version: v, ClientID: "b", CleanStart: true})
			want := mqtt.QuotaExceeded
			if v != mqtt.V5 {
				want = mqtt.ServerUnavailable
			}
			if ack := expect[*mqtt.Connack](r, c); ack.Code != want {
				t.Errorf("CONNACK %s, want %s", ack.Code, want)
			}
			c.ExpectClosed(t)
		})
	})
}

func TestConnectServerKeepAlive_v5_MQTT_3_2_2_21(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.MaxKeepAlive = time.Minute }, func(r *rig) {
		for _, tc := range []struct {
			asked, told uint16
			has         bool
		}{{30, 0, false}, {60, 0, false}, {61, 60, true}, {0, 60, true}} {
			c := r.dial(mqtt.V5)
			ack := c.Connect(t, &mqtt.Connect{ClientID: "a", CleanStart: true, KeepAlive: tc.asked})
			if ack.HasServerKeepAlive != tc.has || ack.ServerKeepAlive != tc.told {
				t.Errorf("asked %d: told %v %d", tc.asked, ack.HasServerKeepAlive, ack.ServerKeepAlive)
			}
			c.MustSend(t, &mqtt.Disconnect{})
			c.ExpectClosed(t)
		}
	})
}

func TestConnectSessionExpiryIsCapped(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.MaxSessionExpiry = time.Hour }, func(r *rig) {
		c := r.dial(mqtt.V5)
		ack := c.Connect(t, &mqtt.Connect{ClientID: "a", HasSessionExpiry: true, SessionExpiry: 0xFFFFFFFF})
		if !ack.HasSessionExpiry || ack.SessionExpiry != 3600 {
			t.Errorf("CONNACK %+v", ack)
		}
		if s, _ := r.cl.Session("a"); s.ExpiryS != 3600 {
			t.Errorf("asked for %d s", s.ExpiryS)
		}
		// A 3.1.1 session without Clean Session lives as long as any may.
		r.dial(mqtt.V311).Connect(t, &mqtt.Connect{ClientID: "b"})
		if s, _ := r.cl.Session("b"); s.ExpiryS != 3600 {
			t.Errorf("3.1.1 got %d s", s.ExpiryS)
		}
		r.open(mqtt.V311, "c")
		if s, _ := r.cl.Session("c"); s.ExpiryS != 0 {
			t.Errorf("3.1.1 clean got %d s", s.ExpiryS)
		}
	})
}

func TestConnectSessionPresent_v5_MQTT_3_2_2_3(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			c, present := r.durable(v, "a")
			if present {
				t.Error("present at first")
			}
			c.MustSend(t, &mqtt.Disconnect{})
			c.ExpectClosed(t)
			c, present = r.durable(v, "a")
			if !present && v != mqtt.V31 { // 3.1 has no such flag
				t.Error("not present after a reconnect")
			}
			c.MustSend(t, &mqtt.Disconnect{})
			c.ExpectClosed(t)
			c = r.dial(v)
			if ack := c.Connect(t, &mqtt.Connect{ClientID: "a", CleanStart: true}); ack.SessionPresent { // v5:MQTT-3.1.2-4
				t.Error("present after a clean start")
			}
			c.Close()
		})
	})
}

func TestDisconnectChangesExpiry_v5_3_14_2_2_2(t *testing.T) {
	run(t, func(r *rig) {
		c, _ := r.durable(mqtt.V5, "a")
		c.MustSend(t, &mqtt.Disconnect{HasSessionExpiry: true, SessionExpiry: 7})
		c.ExpectClosed(t)
		settle()
		if s, _ := r.cl.Session("a"); s.ExpiryS != 7 {
			t.Errorf("expiry %d, want 7", s.ExpiryS)
		}
		c = r.open(mqtt.V5, "b") // expiry 0: it cannot become durable now
		c.MustSend(t, &mqtt.Disconnect{HasSessionExpiry: true, SessionExpiry: 7})
		c.ExpectDisconnect(t, mqtt.ProtocolError)
	})
}

// An exchange that asks for n steps and then accepts "ok".
type stepAuth struct{ steps int }

func (a stepAuth) Begin(_ context.Context, method string, _ *session.Credentials) (session.AuthExchange, error) {
	if method != "steps" {
		return nil, session.ErrBadAuthMethod
	}
	return &stepExchange{left: a.steps}, nil
}

type stepExchange struct{ left int }

func (e *stepExchange) Step(_ context.Context, data []byte) ([]byte, bool, session.Principal, error) {
	if string(data) == "bad" {
		return nil, false, session.Principal{}, session.ErrNotAuthorized
	}
	if e.left--; e.left >= 0 {
		return []byte("more"), false, session.Principal{}, nil
	}
	return []byte("welcome"), true, session.Principal{Username: "u"}, nil
}

func TestAuthMethodWithoutHook_v5_MQTT_4_12_0_1(t *testing.T) {
	run(t, func(r *rig) {
		c := r.dial(mqtt.V5)
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "a", CleanStart: true, AuthMethod: "SCRAM-SHA-256"})
		if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.BadAuthenticationMethod {
			t.Errorf("CONNACK %s", ack.Code)
		}
		c.ExpectClosed(t)
	})
}

func TestEnhancedAuth_v5_MQTT_4_12(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.EnhancedAuth = stepAuth{steps: 2} }, func(r *rig) {
		begin := func(data string) *sessiontest.Client {
			c := r.dial(mqtt.V5)
			c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "a", CleanStart: true, AuthMethod: "steps", AuthData: []byte(data)})
			return c
		}
		step := func(c *sessiontest.Client, code mqtt.ReasonCode, data string) {
			c.MustSend(t, &mqtt.Auth{Code: code, AuthMethod: "steps", AuthData: []byte(data)})
		}
		c := begin("x")
		for range 2 {
			if a := expect[*mqtt.Auth](r, c); a.Code != mqtt.ContinueAuthentication || string(a.AuthData) != "more" {
				t.Fatalf("AUTH %+v", a)
			}
			step(c, mqtt.ContinueAuthentication, "y")
		}
		if ack := expect[*mqtt.Connack](r, c); ack.Code != 0 || ack.AuthMethod != "steps" || string(ack.AuthData) != "welcome" {
			t.Fatalf("CONNACK %+v", ack)
		}
		// Again on the live connection, and then a failure. v5:MQTT-4.12.1-2
		step(c, mqtt.ReAuthenticate, "x")
		for range 2 {
			expect[*mqtt.Auth](r, c)
			step(c, mqtt.ContinueAuthentication, "y")
		}
		if a := expect[*mqtt.Auth](r, c); a.Code != mqtt.Success {
			t.Errorf("AUTH %s", a.Code)
		}
		step(c, mqtt.ReAuthenticate, "bad")
		c.ExpectDisconnect(t, mqtt.NotAuthorized)

		c = begin("bad")
		if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.NotAuthorized {
			t.Errorf("CONNACK %s", ack.Code)
		}
		c.ExpectClosed(t)
		c = begin("x")
		expect[*mqtt.Auth](r, c)
		c.MustSend(t, &mqtt.Pingreq{}) // v5:MQTT-3.1.2-30
		if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.ProtocolError {
			t.Errorf("CONNACK %s", ack.Code)
		}
		c.ExpectClosed(t)
	})
}

func TestPanicClosesOnlyItsConnection(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.Authorizer = panicky{} }, func(r *rig) {
		a, b := r.open(mqtt.V5, "a"), r.open(mqtt.V5, "b")
		a.MustSend(t, pub("boom", "x", 0, 0))
		a.ExpectDisconnect(t, mqtt.UnspecifiedError)
		// SUBSCRIBE is handled beside the reader.
		c := r.open(mqtt.V5, "c")
		c.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "boom"}}})
		c.ExpectDisconnect(t, mqtt.UnspecifiedError)
		b.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, b)
	})
}

type panicky struct{ session.AllowAll }

func (panicky) MaySubscribe(_ *session.Identity, filter string, _ byte) bool {
	if filter == "boom" {
		panic("planted")
	}
	return true
}

func (panicky) MayPublish(_ *session.Identity, topic []byte, _ byte, _ bool) bool {
	if string(topic) == "boom" {
		panic("planted")
	}
	return true
}

func TestStopWithHalfOpenHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := sessiontest.New()
		n := cl.AddNode(session.DefaultConfig(), nil, nil)
		cl.Set(func(f *sessiontest.Faults) { f.Hang = true })
		for range 5 {
			c := n.Dial(mqtt.V5)
			c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "a", CleanStart: true})
			n.Dial(mqtt.V5) // silent
		}
		synctest.Wait()
		start := time.Now()
		if err := n.Server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("stop took %v", d)
		}
		n.Dial(mqtt.V5).ExpectClosed(t)
	})
}
