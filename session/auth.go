package session

import (
	"context"
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
