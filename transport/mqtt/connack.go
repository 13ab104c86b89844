package mqtt

// Connack answers CONNECT. In properties, the zero value of each field means
// what the absence of the property means.
type Connack struct {
	SessionPresent bool // MQTT 3.1 drops it
	// Code is translated for older versions, see ReasonCode.ReturnCode.
	Code ReasonCode

	// MQTT 5 properties. Older versions drop them at encode.
	HasSessionExpiry           bool
	SessionExpiry              uint32 // seconds
	ReceiveMaximum             uint16 // 65535 if absent; 0 is sent as absent
	HasMaximumQoS              bool
	MaximumQoS                 byte // 0 or 1; absent means 2
	RetainUnavailable          bool
	MaximumPacketSize          uint32 // bytes; 0 = no limit
	AssignedClientID           string
	TopicAliasMaximum          uint16
	ReasonString               string
	UserProps                  []UserProperty
	WildcardUnavailable        bool
	SubscriptionIDsUnavailable bool
	SharedUnavailable          bool
	HasServerKeepAlive         bool
	ServerKeepAlive            uint16 // seconds
	ResponseInfo               string
	ServerReference            string
	AuthMethod                 string
	AuthData                   []byte // nil = absent
}

// Type returns TypeConnack.
func (*Connack) Type() Type { return TypeConnack }

func decodeConnack(d *decoder) *Connack {
	c := &Connack{ReceiveMaximum: 65535}
	flags := d.u8()
	if d.v != V31 { // v31:3.2 leaves the byte unused
		if flags > 1 {
			d.fail(malformed(d.v, rule{v5: "v5:MQTT-3.2.2-1", v311: "v311:3.2.2.1"}, "reserved acknowledge flag is set"))
		}
		c.SessionPresent = flags == 1
	}
	if d.v == V5 {
		c.Code = d.code(TypeConnack)
	} else {
		code, ok := fromReturnCode(d.u8())
		if !ok {
			d.fail(malformed(d.v, rule{v311: "v311:3.2.2.3", v31: "v31:3.2"}, "unknown return code"))
		}
		c.Code = code
	}
	if d.err == nil && c.SessionPresent && c.Code != Success {
		d.fail(protocolError(d.v, rule{v5: "v5:MQTT-3.2.2-6", v311: "v311:MQTT-3.2.2-4"}, "session present in a refusal"))
	}
	if d.v == V5 && d.err == nil {
		c.readProps(d)
	}
	d.end()
	return c
}

func (c *Connack) readProps(d *decoder) {
	p := d.props(inConnack)
	for p.next() {
		switch p.id {
		case PropSessionExpiry:
			c.HasSessionExpiry, c.SessionExpiry = true, p.num
		case PropReceiveMaximum:
			c.ReceiveMaximum = uint16(p.num)
		case PropMaximumQoS:
			c.HasMaximumQoS, c.MaximumQoS = true, byte(p.num)
		case PropRetainAvailable:
			c.RetainUnavailable = p.num == 0
		case PropMaximumPacketSize:
			c.MaximumPacketSize = p.num
		case PropAssignedClientID:
			c.AssignedClientID = string(p.value)
		case PropTopicAliasMaximum:
			c.TopicAliasMaximum = uint16(p.num)
		case PropReasonString:
			c.ReasonString = string(p.value)
		case PropUser:
			c.UserProps = append(c.UserProps, p.user())
		case PropWildcardAvailable:
			c.WildcardUnavailable = p.num == 0
		case PropSubscriptionIDAvailable:
			c.SubscriptionIDsUnavailable = p.num == 0
		case PropSharedAvailable:
			c.SharedUnavailable = p.num == 0
		case PropServerKeepAlive:
			c.HasServerKeepAlive, c.ServerKeepAlive = true, uint16(p.num)
		case PropResponseInfo:
			c.ResponseInfo = string(p.value)
		case PropServerReference:
			c.ServerReference = string(p.value)
		case PropAuthMethod:
			c.AuthMethod = string(p.value)
		case PropAuthData:
			c.AuthData = append([]byte{}, p.value...)
		}
	}
	p.authPair()
	p.close(d)
}

func (c *Connack) encode(e *encoder) {
	if c.SessionPresent && c.Code != Success {
		e.fail(invalidf("session present in a refusal"))
	}
	e.begin()
	var flags byte
	if c.SessionPresent && e.v != V31 {
		flags = 1
	}
	e.u8(flags)
	if e.v == V5 {
		e.code(c.Code, TypeConnack)
		c.encodeProps(e)
	} else {
		rc, ok := c.Code.ReturnCode()
		if !ok {
			e.fail(ErrNotRepresentable) // v311:MQTT-3.2.2-6
		}
		e.u8(rc)
	}
	e.end(byte(TypeConnack) << 4)
}

func (c *Connack) encodeProps(e *encoder) {
	e.openProps()
	if c.HasSessionExpiry {
		e.propU32(PropSessionExpiry, c.SessionExpiry)
	}
	if c.ReceiveMaximum != 0 && c.ReceiveMaximum != 65535 {
		e.propU16(PropReceiveMaximum, c.ReceiveMaximum)
	}
	if c.HasMaximumQoS {
		if c.MaximumQoS > 1 {
			e.fail(invalidf("maximum QoS %d", c.MaximumQoS))
		}
		e.propByte(PropMaximumQoS, c.MaximumQoS)
	}
	e.propFlag(PropRetainAvailable, !c.RetainUnavailable, true)
	if c.MaximumPacketSize != 0 {
		e.propU32(PropMaximumPacketSize, c.MaximumPacketSize)
	}
	e.propText(PropAssignedClientID, c.AssignedClientID)
	if c.TopicAliasMaximum != 0 {
		e.propU16(PropTopicAliasMaximum, c.TopicAliasMaximum)
	}
	e.reason(c.ReasonString, c.UserProps)
	e.propFlag(PropWildcardAvailable, !c.WildcardUnavailable, true)
	e.propFlag(PropSubscriptionIDAvailable, !c.SubscriptionIDsUnavailable, true)
	e.propFlag(PropSharedAvailable, !c.SharedUnavailable, true)
	if c.HasServerKeepAlive {
		e.propU16(PropServerKeepAlive, c.ServerKeepAlive)
	}
	e.propText(PropResponseInfo, c.ResponseInfo)
	e.propText(PropServerReference, c.ServerReference)
	e.auth(c.AuthMethod, c.AuthData)
	e.closeProps()
}
