package mqtt

import "errors"

// Error says how a peer broke the protocol or a limit. It ends the connection.
// Next returns it as *Error; test with errors.As.
type Error struct {
	// Code is what an MQTT 5 peer is told, in CONNACK before the session
	// exists and in DISCONNECT afterwards.
	Code ReasonCode
	// Tag is the statement that was broken, such as "v5:MQTT-3.1.2-22", or
	// empty where the specification has no number for it.
	Tag string
	// Msg says what was wrong, in a few words, without the peer's data.
	Msg string
}

// Error returns the message with code and tag.
func (e *Error) Error() string { panic("todo") }

// ErrNotRepresentable says that a packet cannot be sent in this protocol
// version without a change of meaning: for example a negative PUBACK to an MQTT
// 3.1.1 client. The connection is to be closed instead.
var ErrNotRepresentable = errors.New("packet cannot be expressed in this protocol version")

// ErrInvalidPacket says that a packet given to Append breaks the protocol, for
// example by a packet id of 0.
var ErrInvalidPacket = errors.New("invalid packet")
