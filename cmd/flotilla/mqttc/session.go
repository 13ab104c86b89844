package mqttc

import (
	"sync"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Session is the client's half of an MQTT session: what is in flight. It
// outlives the connection and belongs to one Client at a time.
type Session struct {
	mu sync.Mutex
}

// NewSession returns an empty session.
func NewSession() *Session { return &Session{} }

// InFlight is a publish that is not acknowledged.
type InFlight struct {
	Publish *mqtt.Publish // a copy, with PacketID
	Token   uint64
	// Released means that PUBREC has come: PUBREL is what would be sent again.
	Released bool
}

// InFlight returns what is not acknowledged, in the order of sending.
func (s *Session) InFlight() []InFlight { panic("todo") }

// Received returns the QoS 2 packet ids that await PUBREL, ascending.
func (s *Session) Received() []uint16 { panic("todo") }

// Clear forgets everything, as after a CONNACK without session present. It
// returns what was in flight. It must not be called while a Client has it.
func (s *Session) Clear() []InFlight { panic("todo") }
