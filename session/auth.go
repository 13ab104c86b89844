package session

import (
	"context"
	"errors"
	"net"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Credentials is what a client presents in CONNECT.
type Credentials struct {
	ClientID    string
	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool
	Version     mqtt.Version
	Peer        net.Addr
	Listener    string
	Transport   string
	// CommonName is that of the verified client certificate, empty without one.
	CommonName string
}

// Principal is who a client is.
type Principal struct {
	// Tenant separates clients from each other entirely.
	Tenant string
	// Username is empty for an anonymous client.
	Username string
}

// Authenticator decides who a client is. It is called once per CONNECT, on the
// connection's reader, under BackendTimeout. Errors: ErrBadCredentials,
// ErrNotAuthorized, *RefusedError; any other is a denial, too.
type Authenticator interface {
	Authenticate(ctx context.Context, c *Credentials) (Principal, error)
}

// Identity is what rules are evaluated for.
type Identity struct {
	Principal
	ClientID string
}

// Authorizer decides what a client may do. It is called for every publish
// after its alias is resolved, for every filter of a SUBSCRIBE, for restored
// subscriptions at resume, for the will at CONNECT, and for every delivery of
// a retained message. It must not block and not keep topic.
type Authorizer interface {
	MayPublish(id *Identity, topic []byte, qos byte, retain bool) bool
	MaySubscribe(id *Identity, filter string, qos byte) bool
	// MayReceive is asked when a message is about to be sent.
	MayReceive(id *Identity, topic []byte) bool
}

// EnhancedAuth serves authentication methods of MQTT 5 (section 4.12).
type EnhancedAuth interface {
	// Begin starts an exchange, at CONNECT and at re-authentication. Errors:
	// ErrBadAuthMethod for a method that is unknown.
	Begin(ctx context.Context, method string, c *Credentials) (AuthExchange, error)
}

// AuthExchange is one exchange of AUTH packets.
type AuthExchange interface {
	// Step takes the client's data and returns the server's. With done the
	// exchange has succeeded. An error ends it as a refusal.
	Step(ctx context.Context, data []byte) (reply []byte, done bool, p Principal, err error)
}

// AllowAll lets every client in, into the empty tenant, and allows everything.
type AllowAll struct{}

var (
	_ Authenticator = AllowAll{}
	_ Authorizer    = AllowAll{}
)

// Authenticate accepts the user name without looking at the password.
func (AllowAll) Authenticate(_ context.Context, c *Credentials) (Principal, error) {
	return Principal{Username: c.Username}, nil
}

// MayPublish returns true.
func (AllowAll) MayPublish(*Identity, []byte, byte, bool) bool { return true }

// MaySubscribe returns true.
func (AllowAll) MaySubscribe(*Identity, string, byte) bool { return true }

// MayReceive returns true.
func (AllowAll) MayReceive(*Identity, []byte) bool { return true }

// maxUsernameBytes bounds what a client or an Authenticator may name a client: sessions and lists keep it.
const maxUsernameBytes = 1024

// errLongUsername is 0x86, without the name in a log.
var errLongUsername = ErrRefused(mqtt.BadUserNameOrPassword, "user name is too long")

// authenticate finds out who the client is and sets c.ident.
func (c *Conn) authenticate(cn *mqtt.Connect, id string, ack *mqtt.Connack) error {
	cr := &Credentials{
		ClientID: id, Username: cn.Username, HasUsername: cn.HasUsername, Password: cn.Password, HasPassword: cn.HasPassword,
		Version: cn.Version, Peer: c.meta.Peer, Listener: c.meta.Listener, Transport: c.meta.Transport, CommonName: c.meta.CommonName,
	}
	c.ident.ClientID = id
	var p Principal
	var err error
	if len(cn.Username) > maxUsernameBytes {
		err = errLongUsername
	} else if cn.AuthMethod != "" {
		p, err = c.enhanced(cn, cr, ack)
	} else {
		ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.BackendTimeout)
		p, err = c.srv.cfg.Authenticator.Authenticate(ctx, cr)
		cancel()
	}
	if err == nil && len(p.Username) > maxUsernameBytes {
		err = errLongUsername
	}
	c.srv.countAuth(cn, err)
	if err != nil {
		return authError(err)
	}
	c.ident = Identity{Principal: p, ClientID: id}
	return nil
}

// countAuth counts how an authentication ended.
func (s *Server) countAuth(cn *mqtt.Connect, err error) {
	what := "anonymous"
	switch {
	case cn.AuthMethod != "":
		what = "enhanced"
	case cn.HasUsername || cn.HasPassword:
		what = "password"
	}
	var r *RefusedError
	how := "error"
	switch {
	case err == nil:
		how = "ok"
	case errors.As(err, &r), errors.Is(err, ErrBadCredentials), errors.Is(err, ErrNotAuthorized), errors.Is(err, ErrBadAuthMethod):
		how = "denied"
	}
	s.m.auth.WithLabelValues(what, how).Inc()
}

// enhanced runs the exchange of an authentication method until it has succeeded.
// The hook has its time for each step; the client has that to CONNECT for all.
func (c *Conn) enhanced(cn *mqtt.Connect, cr *Credentials, ack *mqtt.Connack) (Principal, error) {
	if c.srv.cfg.EnhancedAuth == nil { // v5:MQTT-4.12.0-1
		return Principal{}, ErrBadAuthMethod
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.BackendTimeout)
	ex, err := c.srv.cfg.EnhancedAuth.Begin(ctx, cn.AuthMethod, cr)
	cancel()
	if err != nil {
		return Principal{}, err
	}
	data := cn.AuthData
	for {
		ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.BackendTimeout)
		reply, done, p, err := ex.Step(ctx, data)
		cancel()
		if err != nil {
			return Principal{}, err
		}
		if done {
			c.authMethod = cn.AuthMethod
			ack.AuthMethod, ack.AuthData = cn.AuthMethod, reply
			return p, nil
		}
		// v5:MQTT-4.12.0-2
		c.reply(&mqtt.Auth{Code: mqtt.ContinueAuthentication, AuthMethod: cn.AuthMethod, AuthData: reply})
		pkt, err := c.rd.Next()
		if err != nil {
			return Principal{}, err
		}
		if _, ok := pkt.(*mqtt.Disconnect); ok {
			return Principal{}, errStopped
		}
		a, ok := pkt.(*mqtt.Auth)
		if !ok || a.Code != mqtt.ContinueAuthentication || a.AuthMethod != cn.AuthMethod {
			return Principal{}, ErrRefused(mqtt.ProtocolError, "expected AUTH to continue") // v5:MQTT-4.12.0-3
		}
		data = a.AuthData
	}
}

// onAuth handles re-authentication on a live connection.
func (c *Conn) onAuth(a *mqtt.Auth) bool {
	if c.version != mqtt.V5 || c.authMethod == "" || a.AuthMethod != c.authMethod {
		// v5:MQTT-4.12.1-1, and AUTH without a method at CONNECT: v5:MQTT-4.12.0-7
		return c.protocolError("AUTH does not fit the authentication method of CONNECT")
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.BackendTimeout)
	defer cancel()
	switch a.Code {
	case mqtt.ReAuthenticate:
		cr := &Credentials{ClientID: c.ident.ClientID, Version: c.version, Peer: c.meta.Peer, Listener: c.meta.Listener,
			Transport: c.meta.Transport, CommonName: c.meta.CommonName}
		ex, err := c.srv.cfg.EnhancedAuth.Begin(ctx, a.AuthMethod, cr)
		if err != nil {
			return c.authFailed(err)
		}
		c.auth = ex
	case mqtt.ContinueAuthentication:
		if c.auth == nil {
			return c.protocolError("AUTH continues nothing")
		}
	default:
		return c.protocolError("AUTH with a code for servers")
	}
	reply, done, p, err := c.auth.Step(ctx, a.AuthData)
	if err != nil {
		return c.authFailed(err)
	}
	code := mqtt.ContinueAuthentication
	if done {
		if p != c.ident.Principal {
			return c.authFailed(ErrRefused(mqtt.NotAuthorized, "re-authentication as somebody else"))
		}
		code, c.auth = mqtt.Success, nil
	}
	return c.reply(&mqtt.Auth{Code: code, AuthMethod: c.authMethod, AuthData: reply})
}

func (c *Conn) authFailed(err error) bool { // v5:MQTT-4.12.1-2
	why := causeOf(closeAuth, "re-authentication failed")
	if code := connectCode(authError(err)); code.ValidIn(mqtt.TypeDisconnect) {
		why.code = code
	}
	c.close(why)
	return false
}

// maySubscribe asks the rules for a filter.
func (s *Server) maySubscribe(c *Conn, filter string, qos byte) bool {
	return s.cfg.Authorizer.MaySubscribe(&c.ident, filter, qos)
}
