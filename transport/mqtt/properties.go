package mqtt

import "encoding/binary"

// PropertyID identifies a property of MQTT 5 (section 2.2.2.2).
type PropertyID byte

// All properties of MQTT 5.
const (
	PropPayloadFormat           PropertyID = 0x01
	PropMessageExpiry           PropertyID = 0x02
	PropContentType             PropertyID = 0x03
	PropResponseTopic           PropertyID = 0x08
	PropCorrelationData         PropertyID = 0x09
	PropSubscriptionID          PropertyID = 0x0B
	PropSessionExpiry           PropertyID = 0x11
	PropAssignedClientID        PropertyID = 0x12
	PropServerKeepAlive         PropertyID = 0x13
	PropAuthMethod              PropertyID = 0x15
	PropAuthData                PropertyID = 0x16
	PropRequestProblemInfo      PropertyID = 0x17
	PropWillDelay               PropertyID = 0x18
	PropRequestResponseInfo     PropertyID = 0x19
	PropResponseInfo            PropertyID = 0x1A
	PropServerReference         PropertyID = 0x1C
	PropReasonString            PropertyID = 0x1F
	PropReceiveMaximum          PropertyID = 0x21
	PropTopicAliasMaximum       PropertyID = 0x22
	PropTopicAlias              PropertyID = 0x23
	PropMaximumQoS              PropertyID = 0x24
	PropRetainAvailable         PropertyID = 0x25
	PropUser                    PropertyID = 0x26
	PropMaximumPacketSize       PropertyID = 0x27
	PropWildcardAvailable       PropertyID = 0x28
	PropSubscriptionIDAvailable PropertyID = 0x29
	PropSharedAvailable         PropertyID = 0x2A
)

// propKind is the wire type of a property's value.
type propKind byte

const (
	kindBool   propKind = 1 // one byte, 0 or 1
	kindU16    propKind = 2
	kindU32    propKind = 3
	kindVarint propKind = 4
	kindText   propKind = 5
	kindBinary propKind = 6
	kindPair   propKind = 7
)

// spec returns the wire type of a property and where it may stand (v5 table
// 2-4). An unknown property may stand nowhere.
func (id PropertyID) spec() (propKind, placeSet) {
	switch id {
	case PropPayloadFormat:
		return kindBool, inPublish | inWill | inMessage
	case PropMessageExpiry:
		return kindU32, inPublish | inWill
	case PropContentType, PropResponseTopic:
		return kindText, inPublish | inWill | inMessage
	case PropCorrelationData:
		return kindBinary, inPublish | inWill | inMessage
	case PropSubscriptionID:
		return kindVarint, inPublish | inSubscribe
	case PropSessionExpiry:
		return kindU32, inConnect | inConnack | inDisconnect
	case PropAssignedClientID, PropResponseInfo:
		return kindText, inConnack
	case PropServerKeepAlive:
		return kindU16, inConnack
	case PropAuthMethod:
		return kindText, inConnect | inConnack | inAuth
	case PropAuthData:
		return kindBinary, inConnect | inConnack | inAuth
	case PropRequestProblemInfo, PropRequestResponseInfo:
		return kindBool, inConnect
	case PropWillDelay:
		return kindU32, inWill
	case PropServerReference:
		return kindText, inConnack | inDisconnect
	case PropReasonString:
		return kindText, inConnack | inAcked | inReleased | inSuback | inUnsuback | inDisconnect | inAuth
	case PropReceiveMaximum, PropTopicAliasMaximum:
		return kindU16, inConnect | inConnack
	case PropTopicAlias:
		return kindU16, inPublish
	case PropMaximumQoS, PropRetainAvailable, PropWildcardAvailable, PropSubscriptionIDAvailable,
		PropSharedAvailable:
		return kindBool, inConnack
	case PropUser:
		return kindPair, ^placeSet(0)
	case PropMaximumPacketSize:
		return kindU32, inConnect | inConnack
	}
	return 0, 0
}

// propReader walks over a property section. next reads one property into id,
// num, key and value, which alias the section.
type propReader struct {
	b     []byte
	off   int
	place placeSet
	lim   *Limits // nil: no limits of ours
	seen  uint64  // bit per identifier
	users int
	err   *Error

	start int // offset of the current property
	id    PropertyID
	num   uint32
	key   []byte
	value []byte
}

// props opens the property section at d's position. d must be of MQTT 5.
func (d *decoder) props(place placeSet) propReader {
	n, w := varint(d.b[d.off:])
	switch {
	case w == 0:
		d.short()
		return propReader{}
	case w < 0 || w != varintLen(int(n)):
		d.fail(malformed(d.v, rule{v5: "v5:MQTT-1.5.5-1"}, "property length is not a minimal variable byte integer"))
		return propReader{}
	}
	d.off += w
	switch {
	case int(n) > d.lim.MaxPropertyBytes:
		d.fail(newError(d.v, PacketTooLarge, rule{}, "properties are too long"))
		return propReader{}
	case int(n) > d.rest():
		d.short()
		return propReader{}
	}
	b := d.b[d.off : d.off+int(n)]
	d.off += int(n)
	return propReader{b: b, place: place, lim: d.lim}
}

// next returns false at the end and after a fault.
func (p *propReader) next() bool {
	if p.err != nil || p.off >= len(p.b) {
		return false
	}
	p.start = p.off
	p.id = PropertyID(p.b[p.off])
	kind, in := p.id.spec()
	if in&p.place == 0 {
		return p.bad(MalformedPacket, "v5:2.2.2.2", "property is unknown or not of this packet type")
	}
	p.off++
	bit := uint64(1) << p.id
	if p.seen&bit != 0 && p.id != PropUser && (p.id != PropSubscriptionID || p.place != inPublish) {
		return p.bad(ProtocolError, "v5:2.2.2.2", "property occurs more than once")
	}
	p.seen |= bit
	if !p.read(kind) {
		if p.err == nil {
			p.bad(MalformedPacket, "v5:2.2.2.2", "properties end within a property")
		}
		return false
	}
	return p.judge()
}

func (p *propReader) bad(code ReasonCode, tag, msg string) bool {
	p.err = &Error{Code: code, Tag: tag, Msg: msg}
	return false
}

// read reads the value; false without an error means that it is cut off.
func (p *propReader) read(kind propKind) bool {
	b := p.b[p.off:]
	switch kind {
	case kindBool:
		if len(b) < 1 {
			return false
		}
		p.num = uint32(b[0])
		p.off++
		return true
	case kindU16:
		if len(b) < 2 {
			return false
		}
		p.num = uint32(binary.BigEndian.Uint16(b))
		p.off += 2
		return true
	case kindU32:
		if len(b) < 4 {
			return false
		}
		p.num = binary.BigEndian.Uint32(b)
		p.off += 4
		return true
	case kindVarint:
		n, w := varint(b)
		if w == 0 {
			return false
		}
		if w < 0 || w != varintLen(int(n)) {
			return p.bad(MalformedPacket, "v5:MQTT-1.5.5-1", "not a minimal variable byte integer")
		}
		p.num = n
		p.off += w
		return true
	case kindPair:
		// v5:MQTT-1.5.7-1
		return p.bytes(&p.key) && p.text(p.key) && p.bytes(&p.value) && p.text(p.value)
	case kindText:
		return p.bytes(&p.value) && p.text(p.value)
	}
	return p.bytes(&p.value)
}

func (p *propReader) bytes(to *[]byte) bool {
	b := p.b[p.off:]
	if len(b) < 2 {
		return false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b)-2 < n {
		return false
	}
	*to = b[2 : 2+n : 2+n]
	p.off += 2 + n
	return true
}

func (p *propReader) text(b []byte) bool {
	if f := checkText(b); f != textGood {
		p.err = textError(V5, f)
		return false
	}
	return true
}

// judge applies the rules on values.
func (p *propReader) judge() bool {
	switch p.id {
	case PropPayloadFormat, PropRequestProblemInfo, PropRequestResponseInfo, PropMaximumQoS, PropRetainAvailable,
		PropWildcardAvailable, PropSubscriptionIDAvailable, PropSharedAvailable:
		if p.num > 1 {
			return p.bad(ProtocolError, "v5:2.2.2.2", "property is neither 0 nor 1")
		}
	case PropReceiveMaximum, PropMaximumPacketSize, PropSubscriptionID:
		if p.num == 0 {
			return p.bad(ProtocolError, "v5:2.2.2.2", "property is 0")
		}
	case PropTopicAlias:
		if p.num == 0 {
			return p.bad(TopicAliasInvalid, "v5:MQTT-3.3.2-8", "topic alias is 0")
		}
	case PropAuthMethod:
		if len(p.value) == 0 {
			return p.bad(BadAuthenticationMethod, "v5:4.12", "empty authentication method")
		}
	case PropResponseTopic:
		return p.responseTopic()
	case PropUser:
		p.users++
		if p.lim != nil && p.users > p.lim.MaxUserProperties {
			return p.bad(QuotaExceeded, "", "too many user properties")
		}
	}
	return true
}

// responseTopic holds v5:MQTT-3.3.2-14.
func (p *propReader) responseTopic() bool {
	if e := checkTopicName(V5, p.value, p.lim); e != nil {
		if e.Tag == "v5:MQTT-3.3.2-2" {
			e.Tag = "v5:MQTT-3.3.2-14"
		}
		p.err = e
		return false
	}
	return true
}

func (p *propReader) user() UserProperty {
	return UserProperty{Key: string(p.key), Value: string(p.value)}
}

// raw returns the current property as wire bytes.
func (p *propReader) raw() []byte { return p.b[p.start:p.off] }

// close hands a fault of the section to d.
func (p *propReader) close(d *decoder) {
	if p.err != nil {
		d.fail(p.err)
	}
}

// authPair holds that authentication data needs a method (v5 3.1.2.11.10).
func (p *propReader) authPair() {
	if p.err == nil && p.seen&(1<<PropAuthData) != 0 && p.seen&(1<<PropAuthMethod) == 0 {
		p.bad(ProtocolError, "v5:3.1.2.11.10", "authentication data without a method")
	}
}
