package tap

import (
	"encoding/binary"
	"errors"
)

// Packet types that matter here.
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSubscribe  = 8
	typeSuback     = 9
	typeUnsub      = 10
	typeUnsuback   = 11
	typeDisconnect = 14
)

var errShort = errors.New("packet is too short")

// splitter cuts a stream of chunks into packets.
type splitter struct{ buf []byte }

// push adds a chunk and calls fn for each complete packet; body is valid during the call.
func (s *splitter) push(chunk []byte, fn func(header byte, body []byte)) error {
	s.buf = append(s.buf, chunk...)
	at := 0
	for {
		header, body, size, err := nextPacket(s.buf[at:])
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		fn(header, body)
		at += size
	}
	s.buf = append(s.buf[:0], s.buf[at:]...)
	return nil
}

// nextPacket returns size 0 if the packet is not complete.
func nextPacket(b []byte) (header byte, body []byte, size int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	length, n, err := varint(b[1:])
	if err != nil || n == 0 || len(b) < 1+n+length {
		return 0, nil, 0, err
	}
	return b[0], b[1+n : 1+n+length], 1 + n + length, nil
}

// varint returns n 0 if it is not complete.
func varint(b []byte) (v, n int, err error) {
	for i := range 4 {
		if i >= len(b) {
			return 0, 0, nil
		}
		v |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1, nil
		}
	}
	return 0, 0, errors.New("length has more than four bytes")
}

// cursor reads fields; after an error everything it returns is zero.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.b) {
		c.err = errShort
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) str() string { return string(c.take(int(c.u16()))) }

// properties returns the property bytes of a v5 packet.
func (c *cursor) properties() []byte {
	n, size, err := varint(c.b)
	if err != nil || size == 0 {
		c.err = errShort
		return nil
	}
	c.take(size)
	return c.take(n)
}

// Properties with a meaning here.
const (
	propExpiry     = 0x02
	propSubID      = 0x0B
	propSessionExp = 0x11
	propTopicAlias = 0x23
	propUser       = 0x26
)

// eachProperty walks over properties; raw is identifier and value.
func eachProperty(props []byte, fn func(id byte, value, raw []byte)) error {
	c := cursor{b: props}
	for len(c.b) > 0 && c.err == nil {
		start := c.b
		id := c.u8()
		var value []byte
		switch id {
		case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A:
			value = c.take(1)
		case 0x13, 0x21, 0x22, propTopicAlias:
			value = c.take(2)
		case propExpiry, propSessionExp, 0x18, 0x27:
			value = c.take(4)
		case propSubID:
			_, n, _ := varint(c.b)
			value = c.take(n)
		case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F:
			value = c.take(int(c.u16()))
		case propUser:
			c.take(int(c.u16()))
			c.take(int(c.u16()))
		default:
			return errors.New("unknown property")
		}
		fn(id, value, start[:len(start)-len(c.b)])
	}
	return c.err
}
