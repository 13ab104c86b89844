package mqtt

import (
	"fmt"
	"io"
)

// Append appends any packet as version v sends it. It fails with
// ErrInvalidPacket if the packet breaks the protocol, and with
// ErrNotRepresentable if v cannot say it; dst is then returned unchanged.
func Append(dst []byte, v Version, p Packet) ([]byte, error) {
	if v < V31 || v > V5 {
		return dst, invalidf("protocol version %d", v)
	}
	if pub, ok := p.(*Publish); ok {
		if err := pub.check(v); err != nil {
			return dst, fmt.Errorf("encode PUBLISH: %w", err)
		}
		return AppendPublish(dst, v, pub), nil
	}
	e := encoder{b: dst, v: v}
	e.packet(p)
	if e.err != nil {
		return dst, fmt.Errorf("encode %s: %w", p.Type(), e.err)
	}
	return e.b, nil
}

func (e *encoder) packet(p Packet) {
	switch p := p.(type) {
	case *Connect:
		p.encode(e)
	case *Connack:
		p.encode(e)
	case *Puback:
		p.encode(e, TypePuback)
	case *Pubrec:
		(*Puback)(p).encode(e, TypePubrec)
	case *Pubrel:
		(*Puback)(p).encode(e, TypePubrel)
	case *Pubcomp:
		(*Puback)(p).encode(e, TypePubcomp)
	case *Subscribe:
		p.encode(e)
	case *Suback:
		p.encode(e)
	case *Unsubscribe:
		p.encode(e)
	case *Unsuback:
		p.encode(e)
	case *Pingreq:
		e.b = append(e.b, byte(TypePingreq)<<4, 0)
	case *Pingresp:
		e.b = append(e.b, byte(TypePingresp)<<4, 0)
	case *Disconnect:
		p.encode(e)
	case *Auth:
		if e.v != V5 {
			e.fail(ErrNotRepresentable)
			return
		}
		p.encode(e)
	default:
		e.fail(invalidf("no packet of this package"))
	}
}

// WritePacket encodes p and writes it with one Write, for clients and tests.
func WritePacket(w io.Writer, v Version, p Packet) error {
	b, err := Append(nil, v, p)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write %s: %w", p.Type(), err)
	}
	return nil
}
