package mqtt

import "encoding/binary"

// encoder appends one packet. The first fault sticks in err.
type encoder struct {
	b     []byte
	v     Version
	body  int // offset behind the room for the fixed header
	props int // offset of the property length that is open
	err   error
}

// headerRoom is the largest fixed header. begin leaves this room, and end moves
// the body down to what the header takes.
const headerRoom = 5

func (e *encoder) begin() {
	e.b = append(e.b, 0, 0, 0, 0, 0)
	e.body = len(e.b)
}

func (e *encoder) end(first byte) {
	n := len(e.b) - e.body
	if n > MaxRemaining {
		e.fail(invalidf("%d bytes do not fit a packet", n))
	}
	if e.err != nil {
		return
	}
	head := append(e.b[:e.body-headerRoom], first)
	head = appendVarint(head, n)
	e.b = append(head, e.b[e.body:]...)
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) u8(n byte)    { e.b = append(e.b, n) }
func (e *encoder) u16(n uint16) { e.b = binary.BigEndian.AppendUint16(e.b, n) }
func (e *encoder) u32(n uint32) { e.b = binary.BigEndian.AppendUint32(e.b, n) }

func (e *encoder) packetID(id uint16) {
	if id == 0 {
		e.fail(invalidf("packet id is 0"))
	}
	e.u16(id)
}

func (e *encoder) code(c ReasonCode, t Type) {
	e.checkCode(c, t)
	e.u8(byte(c))
}

func (e *encoder) checkCode(c ReasonCode, t Type) {
	if !c.ValidIn(t) {
		e.fail(invalidf("%s does not carry %s", t, c))
	}
}

func (e *encoder) bin(b []byte) {
	if len(b) > 0xFFFF {
		e.fail(invalidf("a field of %d bytes", len(b)))
		return
	}
	e.u16(uint16(len(b)))
	e.b = append(e.b, b...)
}

func (e *encoder) text(s string) {
	if len(s) > 0xFFFF {
		e.fail(invalidf("a string of %d bytes", len(s)))
		return
	}
	e.u16(uint16(len(s)))
	at := len(e.b)
	e.b = append(e.b, s...)
	if f := checkText(e.b[at:]); f != textGood {
		e.fail(invalidf("%s", textError(e.v, f).Msg))
	}
}

// topic appends a topic name.
func (e *encoder) topic(s string) {
	at := len(e.b) + 2
	e.text(s)
	if e.err == nil {
		if f := checkTopicName(e.v, e.b[at:], nil); f != nil {
			e.fail(invalidf("%s", f.Msg))
		}
	}
}

// filter appends a topic filter.
func (e *encoder) filter(s string) {
	if s == "" {
		e.fail(invalidf("empty topic filter"))
	}
	e.text(s)
}

// openProps starts a property section, closeProps writes its length.
func (e *encoder) openProps() {
	e.props = len(e.b)
	e.b = append(e.b, 0)
}

func (e *encoder) closeProps() {
	n := len(e.b) - e.props - 1
	if n > MaxRemaining {
		e.fail(invalidf("%d bytes of properties", n))
		return
	}
	if w := varintLen(n); w > 1 {
		e.b = append(e.b, make([]byte, w-1)...)
		copy(e.b[e.props+w:], e.b[e.props+1:])
	}
	appendVarint(e.b[:e.props], n)
}

func (e *encoder) propByte(id PropertyID, n byte) { e.b = append(e.b, byte(id), n) }

// propFlag appends a property of one byte unless flag says its default.
func (e *encoder) propFlag(id PropertyID, flag, byDefault bool) {
	if flag == byDefault {
		return
	}
	var n byte
	if flag {
		n = 1
	}
	e.propByte(id, n)
}

func (e *encoder) propU16(id PropertyID, n uint16) {
	e.u8(byte(id))
	e.u16(n)
}

func (e *encoder) propU32(id PropertyID, n uint32) {
	e.u8(byte(id))
	e.u32(n)
}

// propText appends a string, unless it is empty.
func (e *encoder) propText(id PropertyID, s string) {
	if s != "" {
		e.u8(byte(id))
		e.text(s)
	}
}

// auth appends authentication method and data.
func (e *encoder) auth(method string, data []byte) {
	e.propText(PropAuthMethod, method)
	if data == nil {
		return
	}
	if method == "" {
		e.fail(invalidf("authentication data without a method"))
	}
	e.u8(byte(PropAuthData))
	e.bin(data)
}

func (e *encoder) users(props []UserProperty) {
	for _, u := range props {
		e.u8(byte(PropUser))
		e.text(u.Key)
		e.text(u.Value)
	}
}

// reason appends what all answers of MQTT 5 share.
func (e *encoder) reason(s string, users []UserProperty) {
	e.propText(PropReasonString, s)
	e.users(users)
}
