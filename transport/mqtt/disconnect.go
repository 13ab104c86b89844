package mqtt

// Disconnect ends the connection. Before MQTT 5 only clients send it, without
// any field: then every Code but NormalDisconnection is not representable.
type Disconnect struct {
	Code             ReasonCode
	HasSessionExpiry bool
	SessionExpiry    uint32 // seconds
	ReasonString     string
	ServerReference  string
	UserProps        []UserProperty
}

// Type returns TypeDisconnect.
func (*Disconnect) Type() Type { return TypeDisconnect }

func decodeDisconnect(d *decoder) *Disconnect {
	p := &Disconnect{}
	if d.v == V5 && d.rest() > 0 { // v5:3.14.2.1 the code may be left out
		p.Code = d.code(TypeDisconnect)
		if d.rest() > 0 {
			p.readProps(d)
		}
	}
	d.end()
	return p
}

func (p *Disconnect) readProps(d *decoder) {
	r := d.props(inDisconnect)
	for r.next() {
		switch r.id {
		case PropSessionExpiry:
			p.HasSessionExpiry, p.SessionExpiry = true, r.num
		case PropReasonString:
			p.ReasonString = string(r.value)
		case PropServerReference:
			p.ServerReference = string(r.value)
		case PropUser:
			p.UserProps = append(p.UserProps, r.user())
		}
	}
	r.close(d)
}

func (p *Disconnect) encode(e *encoder) {
	e.checkCode(p.Code, TypeDisconnect)
	if e.v != V5 {
		if p.Code != NormalDisconnection {
			e.fail(ErrNotRepresentable)
		}
		e.begin()
		e.end(byte(TypeDisconnect) << 4)
		return
	}
	bare := !p.HasSessionExpiry && p.ReasonString == "" && p.ServerReference == "" && len(p.UserProps) == 0
	e.begin()
	if !bare || p.Code != NormalDisconnection {
		e.u8(byte(p.Code))
	}
	if !bare {
		e.openProps()
		if p.HasSessionExpiry {
			e.propU32(PropSessionExpiry, p.SessionExpiry)
		}
		e.propText(PropReasonString, p.ReasonString)
		e.propText(PropServerReference, p.ServerReference)
		e.users(p.UserProps)
		e.closeProps()
	}
	e.end(byte(TypeDisconnect) << 4)
}
