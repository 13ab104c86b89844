package mqtt

// Auth is a step of enhanced authentication. It exists in MQTT 5 only.
type Auth struct {
	Code         ReasonCode
	AuthMethod   string // "" only in a bare success
	AuthData     []byte // nil = absent
	ReasonString string
	UserProps    []UserProperty
}

// Type returns TypeAuth.
func (*Auth) Type() Type { return TypeAuth }

func decodeAuth(d *decoder) *Auth {
	a := &Auth{}
	if d.rest() == 0 { // v5:3.15.2.1 a bare success has no body
		return a
	}
	a.Code = d.code(TypeAuth)
	if d.err != nil {
		return a
	}
	p := d.props(inAuth)
	for p.next() {
		switch p.id {
		case PropAuthMethod:
			a.AuthMethod = string(p.value)
		case PropAuthData:
			a.AuthData = append([]byte{}, p.value...)
		case PropReasonString:
			a.ReasonString = string(p.value)
		case PropUser:
			a.UserProps = append(a.UserProps, p.user())
		}
	}
	p.close(d)
	d.end()
	if d.err == nil && a.AuthMethod == "" {
		d.fail(protocolError(d.v, rule{v5: "v5:3.15.2.2.2"}, "AUTH without an authentication method"))
	}
	return a
}

func (a *Auth) encode(e *encoder) {
	e.begin()
	bare := a.Code == Success && a.AuthMethod == "" && a.AuthData == nil && a.ReasonString == "" && len(a.UserProps) == 0
	if !bare {
		if a.AuthMethod == "" {
			e.fail(invalidf("AUTH without an authentication method"))
		}
		e.code(a.Code, TypeAuth)
		e.openProps()
		e.auth(a.AuthMethod, a.AuthData)
		e.reason(a.ReasonString, a.UserProps)
		e.closeProps()
	}
	e.end(byte(TypeAuth) << 4)
}
