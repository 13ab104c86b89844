package mqttc

import (
	"errors"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

var (
	// ErrClosed means that this side closed the connection.
	ErrClosed = errors.New("connection is closed")
	// ErrLost means that the connection ended without a DISCONNECT from us.
	ErrLost = errors.New("connection lost")
	// ErrKeepAlive means that the server did not answer in time.
	ErrKeepAlive = errors.New("no answer to PINGREQ")
	// ErrSessionInUse means that another open Client has the Session.
	ErrSessionInUse = errors.New("session belongs to an open client")
	// ErrURL means that a broker URL cannot be used.
	ErrURL = errors.New("broker URL")
)

// RefusedError is a CONNACK that refuses.
type RefusedError struct {
	Code   mqtt.ReasonCode
	Reason string // the server's words, if any
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("server refused the connection: %s (0x%02x)", e.Code, byte(e.Code))
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// DisconnectError is a DISCONNECT from the server. It wraps ErrLost.
type DisconnectError struct {
	Code      mqtt.ReasonCode
	Reason    string
	Reference string // of another server
}

func (e *DisconnectError) Error() string {
	text := fmt.Sprintf("server disconnected: %s (0x%02x)", e.Code, byte(e.Code))
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Reference != "" {
		text += ": use " + e.Reference
	}
	return text
}

func (e *DisconnectError) Unwrap() error { return ErrLost }
