package conformance

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/session"
)

// extra are shared brokers with a configuration of their own, started at their first use.
type extra struct {
	guarded, limited func() (*cluster.Node, error)
}

// extras is set once, by TestMain.
var extras *extra

func newExtra(s *site) *extra {
	return &extra{
		guarded: sync.OnceValues(func() (*cluster.Node, error) {
			return s.startWith("guarded", func(c *cluster.Config) {
				c.Session.Authenticator, c.Session.Authorizer, c.Session.EnhancedAuth = gate{}, gate{}, gate{}
			})
		}),
		limited: sync.OnceValues(func() (*cluster.Node, error) {
			return s.startWith("limited", func(c *cluster.Config) {
				c.Session.MaxQoS, c.Session.RetainAvailable, c.Session.MaxPacketSize = 1, false, 2048
				c.Session.ReceiveMaximum, c.Session.TopicAliasMaximum, c.Session.MaxKeepAlive = 4, 2, 4*time.Second
				c.Settings.MaxSubscriptions, c.Settings.MaxSessionExpiry = 5, 100*time.Second
			})
		}),
	}
}

func (s *site) startWith(name string, change func(*cluster.Config)) (*cluster.Node, error) {
	cfg, err := config(filepath.Join(s.dir, name))
	if err != nil {
		return nil, err
	}
	change(&cfg)
	n, err := start(cfg)
	if err != nil {
		return nil, err
	}
	s.keep(n)
	return n, ready(n)
}

// guarded is a broker that lets in alice with the password "secret" (see alice), who may do nothing below "deny/" and
// receives nothing from "blind/", and everybody by the method TEST: answers "ping" to a challenge.
func guarded(t testing.TB) *cluster.Node {
	t.Helper()
	n, err := extras.guarded()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// limited is a broker without QoS 2 and retained messages, with low limits.
func limited(t testing.TB) *cluster.Node {
	t.Helper()
	n, err := extras.limited()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// alice gives the credentials that guarded knows.
func alice(s *setup) {
	s.HasUsername, s.Username, s.HasPassword, s.Password = true, "alice", true, []byte("secret")
}

// gate is the authentication and the rules of guarded.
type gate struct{}

// Authenticate lets alice in.
func (gate) Authenticate(_ context.Context, c *session.Credentials) (session.Principal, error) {
	switch {
	case c.Username == "alice" && string(c.Password) == "secret":
		return session.Principal{Username: "alice"}, nil
	case !c.HasUsername:
		return session.Principal{}, session.ErrNotAuthorized
	}
	return session.Principal{}, session.ErrBadCredentials
}

func (gate) MayPublish(_ *session.Identity, topic []byte, _ byte, _ bool) bool {
	return !bytes.HasPrefix(topic, []byte("deny/"))
}

func (gate) MaySubscribe(_ *session.Identity, filter string, _ byte) bool {
	return !bytes.HasPrefix([]byte(filter), []byte("deny/"))
}

func (gate) MayReceive(_ *session.Identity, topic []byte) bool {
	return !bytes.HasPrefix(topic, []byte("blind/"))
}

// Begin serves the methods TEST, which asks once, and ONCE, which does not ask.
func (gate) Begin(_ context.Context, method string, _ *session.Credentials) (session.AuthExchange, error) {
	switch method {
	case "TEST":
		return &challenge{}, nil
	case "ONCE":
		return &challenge{asked: true}, nil
	}
	return nil, session.ErrBadAuthMethod
}

// challenge wants "ping" as an answer to "pong?".
type challenge struct{ asked bool }

func (c *challenge) Step(_ context.Context, data []byte) ([]byte, bool, session.Principal, error) {
	if string(data) == "no" {
		return nil, false, session.Principal{}, session.ErrNotAuthorized
	}
	if !c.asked {
		c.asked = true
		return []byte("pong?"), false, session.Principal{}, nil
	}
	if string(data) != "ping" {
		return nil, false, session.Principal{}, session.ErrNotAuthorized
	}
	return []byte("welcome"), true, session.Principal{Username: "tester"}, nil
}
