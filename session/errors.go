package session

import (
	"errors"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

var (
	// ErrUnavailable means that the cluster cannot decide now: no quorum, no
	// leader, no lease, or a time limit. The outcome is unknown.
	ErrUnavailable = errors.New("cluster is unavailable")
	// ErrStale means that a newer connection has the session.
	ErrStale = errors.New("session is superseded by a newer connection")
	// ErrNotAuthorized means that a hook refused the action.
	ErrNotAuthorized = errors.New("not authorized")
	// ErrBadCredentials means that user name or password are wrong.
	ErrBadCredentials = errors.New("bad user name or password")
	// ErrBadAuthMethod means that a hook does not know the authentication method.
	ErrBadAuthMethod = errors.New("bad authentication method")
	// ErrConfig means that a Config cannot be used.
	ErrConfig = errors.New("session configuration")

	// errStopped ends what waits when the connection or the server ends.
	errStopped = errors.New("connection is closing")
)

// RefusedError is a refusal with its reason code. The action had no effect.
type RefusedError struct {
	Code mqtt.ReasonCode
	// Msg says why in a few words, for the log and the reason string.
	Msg string
	// Server is where the client is sent instead, with 0x9C and 0x9D.
	Server string
}

// Error returns the code's name and the message.
func (e *RefusedError) Error() string {
	if e.Msg == "" {
		return fmt.Sprintf("refused: %s", e.Code)
	}
	return fmt.Sprintf("refused: %s: %s", e.Code, e.Msg)
}

// ErrRefused returns a *RefusedError.
func ErrRefused(code mqtt.ReasonCode, msg string) error { return &RefusedError{Code: code, Msg: msg} }
