package mqtt

// Version is a protocol version: the protocol level of CONNECT.
type Version byte

// The versions that this package speaks. The zero Version means unknown.
const (
	V31  Version = 3 // MQTT 3.1, protocol name MQIsdp
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

// String returns the usual name, such as "3.1.1".
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "unknown"
}

// Type is the control packet type, the upper half of a packet's first byte.
type Type byte

// The control packet types. 0 is reserved; 15 is reserved before MQTT 5.
const (
	TypeConnect     Type = 1
	TypeConnack     Type = 2
	TypePublish     Type = 3
	TypePuback      Type = 4
	TypePubrec      Type = 5
	TypePubrel      Type = 6
	TypePubcomp     Type = 7
	TypeSubscribe   Type = 8
	TypeSuback      Type = 9
	TypeUnsubscribe Type = 10
	TypeUnsuback    Type = 11
	TypePingreq     Type = 12
	TypePingresp    Type = 13
	TypeDisconnect  Type = 14
	TypeAuth        Type = 15
)

// String returns the name as the specification writes it, such as "PUBLISH".
func (t Type) String() string {
	switch t {
	case TypeConnect:
		return "CONNECT"
	case TypeConnack:
		return "CONNACK"
	case TypePublish:
		return "PUBLISH"
	case TypePuback:
		return "PUBACK"
	case TypePubrec:
		return "PUBREC"
	case TypePubrel:
		return "PUBREL"
	case TypePubcomp:
		return "PUBCOMP"
	case TypeSubscribe:
		return "SUBSCRIBE"
	case TypeSuback:
		return "SUBACK"
	case TypeUnsubscribe:
		return "UNSUBSCRIBE"
	case TypeUnsuback:
		return "UNSUBACK"
	case TypePingreq:
		return "PINGREQ"
	case TypePingresp:
		return "PINGRESP"
	case TypeDisconnect:
		return "DISCONNECT"
	case TypeAuth:
		return "AUTH"
	}
	return "RESERVED"
}

// Packet is one control packet: *Connect, *Connack, *Publish, *Puback, *Pubrec,
// *Pubrel, *Pubcomp, *Subscribe, *Suback, *Unsubscribe, *Unsuback, *Pingreq,
// *Pingresp, *Disconnect or *Auth.
type Packet interface {
	Type() Type
}

// UserProperty is one user property of MQTT 5: a name and a value, both UTF-8.
// Names may repeat and the order is kept.
type UserProperty struct {
	Key, Value string
}

// MaxRemaining is the largest remaining length that the wire format can carry,
// in bytes (v5:MQTT 2.1.4).
const MaxRemaining = 268435455
