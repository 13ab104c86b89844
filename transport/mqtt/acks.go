package mqtt

// Puback acknowledges a QoS 1 PUBLISH. Code, ReasonString and UserProps exist
// in MQTT 5 only.
type Puback struct {
	PacketID     uint16
	Code         ReasonCode
	ReasonString string
	UserProps    []UserProperty
}

// Pubrec is the first answer to a QoS 2 PUBLISH.
type Pubrec Puback

// Pubrel releases a QoS 2 packet id.
type Pubrel Puback

// Pubcomp answers PUBREL.
type Pubcomp Puback

// Type returns TypePuback.
func (*Puback) Type() Type { return TypePuback }

// Type returns TypePubrec.
func (*Pubrec) Type() Type { return TypePubrec }

// Type returns TypePubrel.
func (*Pubrel) Type() Type { return TypePubrel }

// Type returns TypePubcomp.
func (*Pubcomp) Type() Type { return TypePubcomp }

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties. It
// does not validate and does not allocate if dst has room. Older versions drop
// the code, so a failure must not get here: see ErrNotRepresentable.
func AppendAck(dst []byte, v Version, t Type, packetID uint16, code ReasonCode) []byte {
	panic("todo")
}
