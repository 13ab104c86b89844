package qos

import "errors"

// What can be wrong with a delivery that is about to be sent.
var (
	// ErrQuota: the client's Receive Maximum is used up; wait for an acknowledgement.
	ErrQuota = errors.New("receive maximum of the client is used up")
	// ErrSpan: the packet id is still held by a delivery that is 32,767 (inbox)
	// or 32,768 (connection-scoped) older; wait for its acknowledgement.
	ErrSpan = errors.New("packet id is still in flight")
	// ErrOrder: an inbox sequence is not above the one that was sent before it.
	ErrOrder = errors.New("inbox sequence is not above the last one sent")
)

// What a client can do wrong.
var (
	// ErrPacketID: an acknowledgement names a packet id that is not in flight
	// (v5: 0x92).
	ErrPacketID = errors.New("packet id is not in flight")
	// ErrWrongAck: an acknowledgement does not fit the QoS or the state of the
	// delivery that it names (v5: 0x82).
	ErrWrongAck = errors.New("acknowledgement does not fit the delivery")
	// ErrReceiveMaximum: the client has more unacknowledged publishes than it
	// was allowed (v5: 0x93). v5:MQTT-3.3.4-9
	ErrReceiveMaximum = errors.New("client exceeds the receive maximum")
	// ErrTooManyIDs: the session holds more unreleased QoS 2 packet ids than it
	// may (v5: 0x97).
	ErrTooManyIDs = errors.New("too many unreleased QoS 2 packet ids")
	// ErrAliasInvalid: a topic alias is zero or above the announced maximum
	// (v5: 0x94). v5:MQTT-3.3.2-8 v5:MQTT-3.3.2-9
	ErrAliasInvalid = errors.New("topic alias is out of range")
	// ErrAliasUnknown: a topic alias without topic was never set on this
	// connection, or there is neither topic nor alias (v5: 0x82).
	ErrAliasUnknown = errors.New("topic alias is not set")
)
