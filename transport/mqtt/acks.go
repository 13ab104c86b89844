package mqtt

// Puback acknowledges a QoS 1 PUBLISH. Code, ReasonString and UserProps exist
// in MQTT 5 only. A decoded one is valid until the next call of Next.
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

// decode reads any of the four.
func (p *Puback) decode(d *decoder, t Type) {
	*p = Puback{PacketID: d.packetID()}
	if d.v == V5 && d.rest() > 0 { // v5:3.4.2.1 the code may be left out
		p.Code = d.code(t)
		if d.rest() > 0 {
			p.ReasonString, p.UserProps = d.reason(only(t))
		}
	}
	d.end()
}

// reason reads a property section that holds a reason string and user
// properties at most.
func (d *decoder) reason(place placeSet) (text string, users []UserProperty) {
	p := d.props(place)
	for p.next() {
		switch p.id {
		case PropReasonString:
			text = string(p.value)
		case PropUser:
			users = append(users, p.user())
		}
	}
	p.close(d)
	return text, users
}

func ackFirstByte(t Type) byte {
	if t == TypePubrel {
		return byte(t)<<4 | 0x02 // v5:MQTT-3.6.1-1, v311:MQTT-3.6.1-1
	}
	return byte(t) << 4
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties. It
// does not validate and does not allocate if dst has room. Older versions drop
// the code, so a failure must not get here: see ErrNotRepresentable.
func AppendAck(dst []byte, v Version, t Type, packetID uint16, code ReasonCode) []byte {
	if v == V5 && code != Success {
		return append(dst, ackFirstByte(t), 3, byte(packetID>>8), byte(packetID), byte(code))
	}
	return append(dst, ackFirstByte(t), 2, byte(packetID>>8), byte(packetID))
}

func (p *Puback) encode(e *encoder, t Type) {
	e.checkCode(p.Code, t)
	if p.PacketID == 0 {
		e.fail(invalidf("packet id is 0"))
	}
	if e.v != V5 && p.Code.Failed() {
		e.fail(ErrNotRepresentable)
	}
	if e.err != nil {
		return
	}
	if e.v != V5 || p.ReasonString == "" && len(p.UserProps) == 0 {
		e.b = AppendAck(e.b, e.v, t, p.PacketID, p.Code)
		return
	}
	e.begin()
	e.u16(p.PacketID)
	e.u8(byte(p.Code))
	e.openProps()
	e.reason(p.ReasonString, p.UserProps)
	e.closeProps()
	e.end(ackFirstByte(t))
}
