package mqtt

// Suback answers SUBSCRIBE, one code per filter in order. To older versions
// every failure is sent as 0x80. ReasonString and UserProps exist in MQTT 5
// only.
type Suback struct {
	PacketID     uint16
	Codes        []ReasonCode
	ReasonString string
	UserProps    []UserProperty
}

// Type returns TypeSuback.
func (*Suback) Type() Type { return TypeSuback }

func decodeSuback(d *decoder) *Suback {
	s := &Suback{PacketID: d.packetID()}
	if d.v == V5 && d.err == nil {
		s.ReasonString, s.UserProps = d.reason(inSuback)
	}
	s.Codes = d.codes(TypeSuback)
	return s
}

// codes reads the reason codes of SUBACK and UNSUBACK up to the end.
func (d *decoder) codes(t Type) []ReasonCode {
	if d.err != nil {
		return nil
	}
	if d.rest() == 0 {
		d.fail(protocolError(d.v, rule{"v5:3.9.3", "v311:3.9.3", "v31:3.9"}, "no reason code"))
		return nil
	}
	if d.rest() > d.lim.MaxFilters {
		d.fail(newError(d.v, QuotaExceeded, rule{}, "too many reason codes"))
		return nil
	}
	codes := make([]ReasonCode, 0, d.rest())
	for d.rest() > 0 {
		c := ReasonCode(d.u8())
		switch {
		case d.v == V5 && !c.ValidIn(t):
			d.fail(protocolError(d.v, codeRule(t), "reason code is not one of this packet type"))
		case d.v != V5 && c > GrantedQoS2 && c != UnspecifiedError:
			d.fail(malformed(d.v, rule{v311: "v311:MQTT-3.9.3-2", v31: "v31:3.9"}, "reserved return code"))
		}
		codes = append(codes, c)
	}
	return codes
}

func (s *Suback) encode(e *encoder) {
	if len(s.Codes) == 0 {
		e.fail(invalidf("no reason code"))
	}
	e.begin()
	e.packetID(s.PacketID)
	if e.v == V5 {
		e.openProps()
		e.reason(s.ReasonString, s.UserProps)
		e.closeProps()
	}
	for _, c := range s.Codes {
		e.checkCode(c, TypeSuback)
		if e.v != V5 && c.Failed() {
			c = UnspecifiedError
		}
		e.u8(byte(c))
	}
	e.end(byte(TypeSuback) << 4)
}
