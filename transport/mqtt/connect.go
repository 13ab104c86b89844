package mqtt

// Connect opens a connection. Decoded, it owns all its slices.
type Connect struct {
	Version    Version // 0 at encode: the version given to Append
	CleanStart bool    // Clean Session before MQTT 5
	KeepAlive  uint16  // seconds; 0 = off
	ClientID   string
	Username   string
	Password   []byte
	Will       *Will // nil = none

	HasUsername bool
	HasPassword bool

	// MQTT 5 properties. Older versions drop them at encode.
	HasSessionExpiry    bool
	SessionExpiry       uint32 // seconds; 0xFFFFFFFF = never expires
	ReceiveMaximum      uint16 // 65535 if absent; 0 is sent as absent
	TopicAliasMaximum   uint16
	MaximumPacketSize   uint32 // bytes; 0 = no limit
	RequestResponseInfo bool
	RequestProblemInfo  bool   // true if absent
	AuthMethod          string // "" = absent
	AuthData            []byte // nil = absent
	UserProps           []UserProperty
}

// Will is the message that the server publishes if the connection is lost.
type Will struct {
	Topic   string
	Payload []byte // at most 65,535 bytes
	QoS     byte
	Retain  bool

	// MQTT 5 properties. Older versions drop them at encode.
	Delay     uint32 // seconds
	HasExpiry bool
	Expiry    uint32 // seconds, counted from the will's publication
	Props     []byte // as in Publish
}

// Type returns TypeConnect.
func (*Connect) Type() Type { return TypeConnect }

// The protocol names.
const (
	nameMQTT   = "MQTT"   // MQTT 3.1.1 and 5.0
	nameMQIsdp = "MQIsdp" // MQTT 3.1
)

// bridgeBit marks a bridge in the protocol levels of some brokers (0x83, 0x84).
const bridgeBit = 0x80

// The connect flags.
const (
	flagReserved   = 0x01
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// decodeConnect sets d.v as soon as it is known, so that a refusal can be sent
// in the version of the client.
func decodeConnect(d *decoder) *Connect {
	d.protocol()
	flags := d.u8()
	d.checkConnectFlags(flags)
	c := &Connect{
		Version:            d.v,
		CleanStart:         flags&flagCleanStart != 0,
		KeepAlive:          d.u16(),
		ReceiveMaximum:     65535,
		RequestProblemInfo: true,
	}
	if d.err != nil {
		return c
	}
	if d.v == V5 {
		c.readProps(d)
	}
	c.ClientID = string(d.text())
	c.checkClientID(d)
	if flags&flagWill != 0 {
		c.Will = d.will(flags)
	}
	// v31:3.1 A flag without the field counts as no flag.
	lenient := d.v == V31
	if flags&flagUsername != 0 && (!lenient || d.rest() > 0) {
		c.HasUsername, c.Username = true, string(d.text())
	}
	if flags&flagPassword != 0 && (!lenient || d.rest() > 0) {
		c.HasPassword, c.Password = true, append([]byte{}, d.bin()...)
	}
	d.end()
	return c
}

// protocol reads protocol name and level.
func (d *decoder) protocol() {
	name, level := string(d.bin()), d.u8()
	if d.err != nil {
		return
	}
	levelRule := rule{"v5:MQTT-3.1.2-2", "v311:MQTT-3.1.2-2", "v31:3.1"}
	switch {
	case name == nameMQIsdp:
		d.v = V31
		if level == byte(V31) {
			return
		}
	case name == nameMQTT:
		d.v = V311
		if level == byte(V311) {
			return
		}
		if level >= byte(V5) && level < bridgeBit {
			d.v = V5
		}
		if level == byte(V5) {
			return
		}
	default:
		// Whoever writes a level from 5 on reads a CONNACK of MQTT 5; for older
		// ones there is no answer but the end (v311:MQTT-3.1.2-1).
		if level >= byte(V5) && level < bridgeBit {
			d.v = V5
		}
		d.fail(newError(d.v, UnsupportedProtocolVersion, rule{v5: "v5:MQTT-3.1.2-1"}, "unknown protocol name"))
		return
	}
	msg := "unsupported protocol level"
	if level&bridgeBit != 0 {
		msg = "unsupported protocol level of a bridge"
	}
	d.fail(newError(d.v, UnsupportedProtocolVersion, levelRule, msg))
}

func (d *decoder) checkConnectFlags(flags byte) {
	switch {
	case d.err != nil:
	case flags&flagReserved != 0 && d.v != V31: // v31:3.1 leaves the bit unused
		d.fail(malformed(d.v, rule{v5: "v5:MQTT-3.1.2-3", v311: "v311:MQTT-3.1.2-3"}, "reserved connect flag is set"))
	case flags&flagWillQoS == flagWillQoS:
		d.fail(malformed(d.v, rule{"v5:MQTT-3.1.2-12", "v311:MQTT-3.1.2-14", "v31:3.1"}, "will QoS is 3"))
	case flags&flagWill == 0 && flags&flagWillQoS != 0:
		d.fail(malformed(d.v, rule{"v5:MQTT-3.1.2-11", "v311:MQTT-3.1.2-13", "v31:3.1"}, "will QoS without a will"))
	case flags&flagWill == 0 && flags&flagWillRetain != 0:
		d.fail(malformed(d.v, rule{"v5:MQTT-3.1.2-13", "v311:MQTT-3.1.2-15", "v31:3.1"}, "will retain without a will"))
	case flags&flagPassword != 0 && flags&flagUsername == 0 && d.v != V5:
		d.fail(malformed(d.v, rule{v311: "v311:MQTT-3.1.2-22", v31: "v31:3.1"}, "password without a user name"))
	}
}

// checkClientID holds what the version itself says about an empty client id.
// The longest one that is taken is the session's to decide.
func (c *Connect) checkClientID(d *decoder) {
	if d.err != nil || c.ClientID != "" {
		return
	}
	if d.v == V31 || d.v == V311 && !c.CleanStart {
		d.fail(newError(d.v, ClientIdentifierNotValid,
			rule{v311: "v311:MQTT-3.1.3-8", v31: "v31:3.1"}, "empty client id"))
	}
}

func (c *Connect) readProps(d *decoder) {
	p := d.props(inConnect)
	for p.next() {
		switch p.id {
		case PropSessionExpiry:
			c.HasSessionExpiry, c.SessionExpiry = true, p.num
		case PropReceiveMaximum:
			c.ReceiveMaximum = uint16(p.num)
		case PropMaximumPacketSize:
			c.MaximumPacketSize = p.num
		case PropTopicAliasMaximum:
			c.TopicAliasMaximum = uint16(p.num)
		case PropRequestResponseInfo:
			c.RequestResponseInfo = p.num == 1
		case PropRequestProblemInfo:
			c.RequestProblemInfo = p.num == 1
		case PropAuthMethod:
			c.AuthMethod = string(p.value)
		case PropAuthData:
			c.AuthData = append([]byte{}, p.value...)
		case PropUser:
			c.UserProps = append(c.UserProps, p.user())
		}
	}
	p.authPair()
	p.close(d)
}

func (d *decoder) will(flags byte) *Will {
	w := &Will{QoS: flags & flagWillQoS >> 3, Retain: flags&flagWillRetain != 0}
	if d.v == V5 {
		w.readProps(d)
	}
	w.Topic = string(d.topic()) // v5:MQTT-3.1.3-11, v311:MQTT-3.1.3-10
	w.Payload = append([]byte{}, d.bin()...)
	return w
}

func (w *Will) readProps(d *decoder) {
	if d.err != nil {
		return
	}
	p := d.props(inWill)
	for p.next() {
		switch p.id {
		case PropWillDelay:
			w.Delay = p.num
		case PropMessageExpiry:
			w.HasExpiry, w.Expiry = true, p.num
		default:
			w.Props = append(w.Props, p.raw()...)
		}
	}
	p.close(d)
}

func (c *Connect) encode(e *encoder) {
	if c.Version != 0 && c.Version != e.v {
		e.fail(invalidf("CONNECT of version %s", c.Version))
	}
	if c.HasPassword && !c.HasUsername && e.v != V5 {
		e.fail(ErrNotRepresentable)
	}
	if c.ClientID == "" && (e.v == V31 || e.v == V311 && !c.CleanStart) {
		e.fail(invalidf("empty client id"))
	}
	e.begin()
	if e.v == V31 {
		e.text(nameMQIsdp)
	} else {
		e.text(nameMQTT)
	}
	e.u8(byte(e.v))
	e.u8(c.flags(e))
	e.u16(c.KeepAlive)
	if e.v == V5 {
		c.encodeProps(e)
	}
	e.text(c.ClientID)
	if c.Will != nil {
		c.Will.encode(e)
	}
	if c.HasUsername {
		e.text(c.Username)
	}
	if c.HasPassword {
		e.bin(c.Password)
	}
	e.end(byte(TypeConnect) << 4)
}

func (c *Connect) flags(e *encoder) byte {
	var flags byte
	if c.CleanStart {
		flags |= flagCleanStart
	}
	if w := c.Will; w != nil {
		if w.QoS > 2 {
			e.fail(invalidf("will QoS %d", w.QoS))
		}
		flags |= flagWill | w.QoS&3<<3
		if w.Retain {
			flags |= flagWillRetain
		}
	}
	if c.HasPassword {
		flags |= flagPassword
	}
	if c.HasUsername {
		flags |= flagUsername
	}
	return flags
}

func (c *Connect) encodeProps(e *encoder) {
	e.openProps()
	if c.HasSessionExpiry {
		e.propU32(PropSessionExpiry, c.SessionExpiry)
	}
	if c.ReceiveMaximum != 0 && c.ReceiveMaximum != 65535 {
		e.propU16(PropReceiveMaximum, c.ReceiveMaximum)
	}
	if c.MaximumPacketSize != 0 {
		e.propU32(PropMaximumPacketSize, c.MaximumPacketSize)
	}
	if c.TopicAliasMaximum != 0 {
		e.propU16(PropTopicAliasMaximum, c.TopicAliasMaximum)
	}
	e.propFlag(PropRequestResponseInfo, c.RequestResponseInfo, false)
	e.propFlag(PropRequestProblemInfo, c.RequestProblemInfo, true)
	e.auth(c.AuthMethod, c.AuthData)
	e.users(c.UserProps)
	e.closeProps()
}

func (w *Will) encode(e *encoder) {
	if e.v == V5 {
		e.openProps()
		if w.Delay != 0 {
			e.propU32(PropWillDelay, w.Delay)
		}
		if w.HasExpiry {
			e.propU32(PropMessageExpiry, w.Expiry)
		}
		e.b = append(e.b, w.Props...)
		e.closeProps()
	}
	e.topic(w.Topic)
	e.bin(w.Payload)
}
