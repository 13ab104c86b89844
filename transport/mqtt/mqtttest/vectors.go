package mqtttest

import "github.com/flotilla-mqtt/flotilla/transport/mqtt"

// Vector is one packet on the wire.
type Vector struct {
	Name    string
	Version mqtt.Version
	Hex     string          // spaces are ignored
	Packet  mqtt.Packet     // what the bytes mean; nil if they must be refused
	Code    mqtt.ReasonCode // the code of the refusal
	Tag     string          // the tag of the refusal
	// DecodeOnly marks bytes that are legal but not what we would send.
	DecodeOnly bool
}

// Vectors returns all vectors, freshly made.
func Vectors() []Vector { return nil }
