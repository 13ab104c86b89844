package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/auth"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// withServer runs a test against a server with two users, ann (pw) and bob (pw).
func withServer(t *testing.T, anonymous bool, fn func(t *testing.T, n *sessiontest.Node)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.conf")
	text := ""
	for _, name := range []string{"ann", "bob"} {
		line, err := auth.Line(name, []byte("pw"), 0)
		if err != nil {
			t.Fatal(err)
		}
		text += line + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := auth.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		cfg := session.DefaultConfig()
		chain := &auth.Chain{Backends: []auth.Backend{f}, AllowAnonymous: anonymous}
		cfg.Authenticator, cfg.EnhancedAuth = chain, chain
		cl := sessiontest.New()
		n := cl.AddNode(cfg, nil, nil)
		defer cl.Close()
		defer func() {
			if err := n.Server.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		fn(t, n)
	})
}

func TestPasswordPerVersion_v311_MQTT_3_1_4_1(t *testing.T) {
	withServer(t, false, func(t *testing.T, n *sessiontest.Node) {
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
			for _, c := range []struct {
				user, pw string
				want     mqtt.ReasonCode
			}{
				{"ann", "pw", mqtt.Success}, {"ann", "wp", mqtt.BadUserNameOrPassword},
				{"eve", "pw", mqtt.BadUserNameOrPassword}, {"", "", mqtt.NotAuthorized},
			} {
				cl := n.Dial(v)
				cl.MustSend(t, &mqtt.Connect{Version: v, ClientID: "c", CleanStart: true, Username: c.user, HasUsername: c.user != "",
					Password: []byte(c.pw), HasPassword: c.pw != ""})
				ack := sessiontest.Expect[*mqtt.Connack](t, cl)
				if ack.Code != c.want {
					t.Errorf("%s, %q %q: %s, want %s", v, c.user, c.pw, ack.Code, c.want)
				}
				cl.Close()
				synctest.Wait()
			}
		}
	})
}

// A session belongs to the user that has made it.
func TestTakeoverByAnotherUser(t *testing.T) {
	withServer(t, true, func(t *testing.T, n *sessiontest.Node) {
		open := func(user string, want mqtt.ReasonCode) *sessiontest.Client {
			t.Helper()
			c := n.Dial(mqtt.V5)
			p := &mqtt.Connect{Version: mqtt.V5, ClientID: "shared", HasSessionExpiry: true, SessionExpiry: 60}
			if user != "" {
				p.Username, p.HasUsername, p.Password, p.HasPassword = user, true, []byte("pw"), true
			}
			c.MustSend(t, p)
			if ack := sessiontest.Expect[*mqtt.Connack](t, c); ack.Code != want {
				t.Fatalf("%q: %s, want %s", user, ack.Code, want)
			}
			return c
		}
		a := open("ann", mqtt.Success)
		open("bob", mqtt.ClientIdentifierNotValid).ExpectClosed(t)
		open("", mqtt.ClientIdentifierNotValid).ExpectClosed(t)
		a.MustSend(t, &mqtt.Pingreq{})
		sessiontest.Expect[*mqtt.Pingresp](t, a)
		a.Close()
		synctest.Wait()
		open("bob", mqtt.ClientIdentifierNotValid).ExpectClosed(t) // it is stored
		b := open("ann", mqtt.Success)
		open("ann", mqtt.Success)
		b.ExpectDisconnect(t, mqtt.SessionTakenOver)
	})
}

// client is the client's side of SCRAM-SHA-256, written from RFC 5802.
type client struct {
	user, pw, nonce string
	serverKeyProof  string
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

func (c *client) first() []byte { return []byte("n,,n=" + c.user + ",r=" + c.nonce) }

func (c *client) final(t *testing.T, server []byte) []byte {
	t.Helper()
	var nonce, salt string
	var it int
	for part := range strings.SplitSeq(string(server), ",") {
		switch part[:2] {
		case "r=":
			nonce = part[2:]
		case "s=":
			salt = part[2:]
		case "i=":
			_, _ = fmt.Sscan(part[2:], &it)
		}
	}
	if !strings.HasPrefix(nonce, c.nonce) || len(nonce) < len(c.nonce)+16 {
		t.Fatalf("server first: %q", server)
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, c.pw, raw, it, 32)
	if err != nil {
		t.Fatal(err)
	}
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	without := "c=biws,r=" + nonce
	message := string(c.first()[3:]) + "," + string(server) + "," + without
	proof := mac(stored[:], message)
	for i := range proof {
		proof[i] ^= key[i]
	}
	c.serverKeyProof = "v=" + base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), message))
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof))
}

func TestScramOverMQTT_v5_MQTT_4_12_0_2_MQTT_4_12_0_5_MQTT_4_12_1_1(t *testing.T) {
	withServer(t, false, func(t *testing.T, n *sessiontest.Node) {
		c := n.Dial(mqtt.V5)
		s := &client{user: "ann", pw: "pw", nonce: "abcdef"}
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true, AuthMethod: auth.Method, AuthData: s.first()})
		a := sessiontest.Expect[*mqtt.Auth](t, c)
		if a.Code != mqtt.ContinueAuthentication || a.AuthMethod != auth.Method {
			t.Fatalf("AUTH %+v", a)
		}
		c.MustSend(t, &mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: auth.Method, AuthData: s.final(t, a.AuthData)})
		ack := sessiontest.Expect[*mqtt.Connack](t, c)
		if ack.Code != mqtt.Success || ack.AuthMethod != auth.Method || string(ack.AuthData) != s.serverKeyProof {
			t.Fatalf("CONNACK %+v", ack)
		}
		// Again, while other packets flow.
		again := func(user, pw string) *client {
			s := &client{user: user, pw: pw, nonce: "ghijkl"}
			c.MustSend(t, &mqtt.Auth{Code: mqtt.ReAuthenticate, AuthMethod: auth.Method, AuthData: s.first()}, &mqtt.Pingreq{})
			a := sessiontest.Expect[*mqtt.Auth](t, c)
			sessiontest.Expect[*mqtt.Pingresp](t, c)
			c.MustSend(t, &mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: auth.Method, AuthData: s.final(t, a.AuthData)})
			return s
		}
		s = again("ann", "pw")
		if a := sessiontest.Expect[*mqtt.Auth](t, c); a.Code != mqtt.Success || string(a.AuthData) != s.serverKeyProof {
			t.Fatalf("AUTH %+v", a)
		}
		again("bob", "pw") // it is somebody, and somebody else
		c.ExpectDisconnect(t, mqtt.NotAuthorized)
	})
}

func TestScramRefusedOverMQTT_v5_MQTT_4_12_0_1_MQTT_4_12_0_4(t *testing.T) {
	withServer(t, true, func(t *testing.T, n *sessiontest.Node) {
		for _, name := range []string{"ann", "eve"} {
			c := n.Dial(mqtt.V5)
			s := &client{user: name, pw: "wrong", nonce: "abcdef"}
			c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true, AuthMethod: auth.Method, AuthData: s.first()})
			a := sessiontest.Expect[*mqtt.Auth](t, c)
			c.MustSend(t, &mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: auth.Method, AuthData: s.final(t, a.AuthData)})
			if ack := sessiontest.Expect[*mqtt.Connack](t, c); ack.Code != mqtt.NotAuthorized {
				t.Errorf("%s: CONNACK %s", name, ack.Code)
			}
			c.ExpectClosed(t)
		}
		c := n.Dial(mqtt.V5)
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true, AuthMethod: "SCRAM-SHA-1"})
		if ack := sessiontest.Expect[*mqtt.Connack](t, c); ack.Code != mqtt.BadAuthenticationMethod {
			t.Errorf("CONNACK %s", ack.Code)
		}
		// Silence within the exchange ends with the time to CONNECT.
		c = n.Dial(mqtt.V5)
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true, AuthMethod: auth.Method})
		sessiontest.Expect[*mqtt.Auth](t, c)
		if _, err := c.RecvWithin(30 * time.Second); err != nil {
			if to, ok := err.(interface{ Timeout() bool }); ok && to.Timeout() {
				t.Error("the connection waits for ever")
			}
		}
	})
}
