package auth

import (
	"context"
	"errors"

	"github.com/flotilla-mqtt/flotilla/session"
)

// Backend is one place that knows users.
type Backend interface {
	session.Authenticator
	session.EnhancedAuth
}

// Chain asks backends in order. The first one that accepts decides; an error
// other than ErrBadCredentials ends the chain with a denial, so that a backend
// that is broken never makes a later one decide.
type Chain struct {
	// Backends are asked for every client that presents a user name.
	Backends []Backend
	// AllowAnonymous lets clients without a user name in, as nobody. A user
	// name that is presented is always verified.
	AllowAnonymous bool
}

var _ Backend = (*Chain)(nil)

// Authenticate implements session.Authenticator.
func (ch *Chain) Authenticate(ctx context.Context, c *session.Credentials) (session.Principal, error) {
	if !c.HasUsername && !c.HasPassword {
		if ch.AllowAnonymous {
			return session.Principal{}, nil
		}
		return session.Principal{}, session.ErrNotAuthorized
	}
	for _, b := range ch.Backends {
		p, err := b.Authenticate(ctx, c)
		if !errors.Is(err, session.ErrBadCredentials) {
			return p, err
		}
	}
	return session.Principal{}, session.ErrBadCredentials
}

// Begin implements session.EnhancedAuth: the first backend with the method
// serves it.
func (ch *Chain) Begin(ctx context.Context, method string, c *session.Credentials) (session.AuthExchange, error) {
	for _, b := range ch.Backends {
		ex, err := b.Begin(ctx, method, c)
		if !errors.Is(err, session.ErrBadAuthMethod) {
			return ex, err
		}
	}
	return nil, session.ErrBadAuthMethod
}
