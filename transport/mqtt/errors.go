package mqtt

import (
	"errors"
	"fmt"
)

// Error says how a peer broke the protocol or a limit. It ends the connection.
// Next returns it as *Error; test with errors.As.
type Error struct {
	// Code is what an MQTT 5 peer is told, in CONNACK before the session
	// exists and in DISCONNECT afterwards.
	Code ReasonCode
	// Tag is the statement that was broken, such as "v5:MQTT-3.1.0-1", or
	// empty where a limit of ours was broken.
	Tag string
	// Msg says what was wrong, in a few words, without the peer's data.
	Msg string
}

// Error returns the code, the message and the tag.
func (e *Error) Error() string {
	if e.Tag == "" {
		return fmt.Sprintf("mqtt: %s: %s", e.Code, e.Msg)
	}
	return fmt.Sprintf("mqtt: %s: %s [%s]", e.Code, e.Msg, e.Tag)
}

// ErrNotRepresentable says that a packet cannot be sent in this protocol
// version without a change of meaning: for example a negative PUBACK to an MQTT
// 3.1.1 client. The connection is to be closed instead.
var ErrNotRepresentable = errors.New("packet cannot be expressed in this protocol version")

// ErrInvalidPacket says that a packet given to Append breaks the protocol, for
// example by a packet id of 0.
var ErrInvalidPacket = errors.New("invalid packet")

// rule names one statement in each version, with "v5:" and so on before it. An
// empty field means that the version has no number for it.
type rule struct{ v5, v311, v31 string }

func (r rule) tag(v Version) string {
	switch v {
	case V31:
		return r.v31
	case V311:
		return r.v311
	}
	return r.v5
}

func newError(v Version, code ReasonCode, r rule, msg string) *Error {
	return &Error{Code: code, Tag: r.tag(v), Msg: msg}
}

func malformed(v Version, r rule, msg string) *Error {
	return newError(v, MalformedPacket, r, msg)
}

func protocolError(v Version, r rule, msg string) *Error {
	return newError(v, ProtocolError, r, msg)
}

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidPacket, fmt.Sprintf(format, args...))
}
