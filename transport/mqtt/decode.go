package mqtt

import "encoding/binary"

// decoder walks over the body of one packet. The first fault sticks in err;
// after it every read returns zero values.
type decoder struct {
	b   []byte
	off int
	v   Version
	lim *Limits
	err *Error
}

func (d *decoder) fail(e *Error) {
	if d.err == nil {
		d.err = e
	}
	d.off = len(d.b)
}

func (d *decoder) short() {
	d.fail(malformed(d.v, rule{"v5:MQTT-4.13.1-1", "v311:MQTT-4.8.0-1", "v31:2.1"}, "packet ends within a field"))
}

func (d *decoder) rest() int { return len(d.b) - d.off }

func (d *decoder) u8() byte {
	if d.rest() < 1 {
		d.short()
		return 0
	}
	c := d.b[d.off]
	d.off++
	return c
}

func (d *decoder) u16() uint16 {
	if d.rest() < 2 {
		d.short()
		return 0
	}
	n := binary.BigEndian.Uint16(d.b[d.off:])
	d.off += 2
	return n
}

// bin reads binary data with a two-byte length; it aliases the packet.
func (d *decoder) bin() []byte {
	n := int(d.u16())
	if d.rest() < n {
		d.short()
		return nil
	}
	b := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

// text reads a UTF-8 string; it aliases the packet.
func (d *decoder) text() []byte {
	b := d.bin()
	if f := checkText(b); f != textGood {
		d.fail(textError(d.v, f))
		return nil
	}
	return b
}

// topic reads a topic name and judges it.
func (d *decoder) topic() []byte {
	b := d.bin()
	if d.err == nil {
		if e := checkTopicName(d.v, b, d.lim); e != nil {
			d.fail(e)
			return nil
		}
	}
	return b
}

// filter reads a topic filter. Its grammar is the router's to judge.
func (d *decoder) filter() string {
	b := d.text()
	switch {
	case d.err != nil:
	case len(b) == 0:
		d.fail(newError(d.v, TopicFilterInvalid,
			rule{"v5:MQTT-4.7.3-1", "v311:MQTT-4.7.3-1", "v31:3.8"}, "empty topic filter"))
	case len(b) > d.lim.MaxTopicBytes:
		d.fail(newError(d.v, TopicFilterInvalid, rule{}, "topic filter is too long"))
	}
	if d.err != nil {
		return ""
	}
	return string(b)
}

// packetID reads a packet id, which is never 0.
func (d *decoder) packetID() uint16 {
	id := d.u16()
	if id == 0 && d.err == nil {
		d.fail(protocolError(d.v, rule{"v5:MQTT-2.2.1-3", "v311:MQTT-2.3.1-1", "v31:2.4"}, "packet id is 0"))
	}
	return id
}

// end refuses bytes after the last field.
func (d *decoder) end() {
	if d.err == nil && d.rest() > 0 {
		d.fail(malformed(d.v, rule{"v5:MQTT-4.13.1-1", "v311:MQTT-4.8.0-1", "v31:2.1"},
			"bytes after the last field"))
	}
}

// code reads a reason code of MQTT 5 that a packet of type t may carry.
func (d *decoder) code(t Type) ReasonCode {
	c := ReasonCode(d.u8())
	if d.err == nil && !c.ValidIn(t) {
		d.fail(protocolError(d.v, codeRule(t), "reason code is not one of this packet type"))
	}
	return c
}

func codeRule(t Type) rule {
	switch t {
	case TypeConnack:
		return rule{v5: "v5:MQTT-3.2.2-8"}
	case TypePuback:
		return rule{v5: "v5:MQTT-3.4.2-1"}
	case TypePubrec:
		return rule{v5: "v5:MQTT-3.5.2-1"}
	case TypePubrel:
		return rule{v5: "v5:MQTT-3.6.2-1"}
	case TypePubcomp:
		return rule{v5: "v5:MQTT-3.7.2-1"}
	case TypeSuback:
		return rule{v5: "v5:MQTT-3.9.3-2"}
	case TypeUnsuback:
		return rule{v5: "v5:MQTT-3.11.3-2"}
	case TypeDisconnect:
		return rule{v5: "v5:MQTT-3.14.2-1"}
	}
	return rule{v5: "v5:MQTT-3.15.2-1"}
}

func textError(v Version, f textFault) *Error {
	if f == textNUL {
		return malformed(v, rule{"v5:MQTT-1.5.4-2", "v311:MQTT-1.5.3-2", "v31:2.5"}, "string contains U+0000")
	}
	return malformed(v, rule{"v5:MQTT-1.5.4-1", "v311:MQTT-1.5.3-1", "v31:2.5"}, "string is not well-formed UTF-8")
}

// checkTopicName judges a topic name: of PUBLISH, of a will, or a response
// topic. A nil lim means no limits of ours.
func checkTopicName(v Version, b []byte, lim *Limits) *Error {
	if len(b) == 0 {
		return newError(v, TopicNameInvalid,
			rule{"v5:MQTT-4.7.3-1", "v311:MQTT-4.7.3-1", "v31:3.3"}, "empty topic name")
	}
	if lim != nil && len(b) > lim.MaxTopicBytes {
		return newError(v, TopicNameInvalid, rule{}, "topic name is too long")
	}
	levels, fault := checkTopicText(b)
	switch {
	case fault == textWildcard:
		return newError(v, TopicNameInvalid,
			rule{"v5:MQTT-3.3.2-2", "v311:MQTT-3.3.2-2", "v31:3.3"}, "wildcard in a topic name")
	case fault != textGood:
		return textError(v, fault)
	case lim != nil && levels > lim.MaxTopicLevels:
		return newError(v, TopicNameInvalid, rule{}, "topic name has too many levels")
	}
	return nil
}
