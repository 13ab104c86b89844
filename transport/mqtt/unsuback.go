package mqtt

// Unsuback answers UNSUBSCRIBE. All but PacketID exist in MQTT 5 only; there,
// one code per filter in order.
type Unsuback struct {
	PacketID     uint16
	Codes        []ReasonCode
	ReasonString string
	UserProps    []UserProperty
}

// Type returns TypeUnsuback.
func (*Unsuback) Type() Type { return TypeUnsuback }

func decodeUnsuback(d *decoder) *Unsuback {
	u := &Unsuback{PacketID: d.packetID()}
	if d.v == V5 && d.err == nil {
		u.ReasonString, u.UserProps = d.reason(inUnsuback)
		u.Codes = d.codes(TypeUnsuback)
	}
	d.end()
	return u
}

func (u *Unsuback) encode(e *encoder) {
	e.begin()
	e.packetID(u.PacketID)
	if e.v == V5 {
		if len(u.Codes) == 0 {
			e.fail(invalidf("no reason code"))
		}
		e.openProps()
		e.reason(u.ReasonString, u.UserProps)
		e.closeProps()
		for _, c := range u.Codes {
			e.code(c, TypeUnsuback)
		}
	}
	e.end(byte(TypeUnsuback) << 4)
}
