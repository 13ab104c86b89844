package mqtt

import (
	"encoding/binary"
	"slices"
)

// Publish carries an application message. A decoded Publish and its slices are
// valid until the next call of Next; Clone keeps one.
type Publish struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16 // 0 with QoS 0
	Topic       []byte // empty only with a TopicAlias
	Payload     []byte

	// MQTT 5 properties. Older versions drop them at encode.
	TopicAlias      uint16 // 0 = none
	HasExpiry       bool
	Expiry          uint32   // seconds
	SubscriptionIDs []uint32 // server to client only
	// Props holds, as wire bytes without the length, the properties that travel
	// with the message unchanged and in order: payload format indicator,
	// content type, response topic, correlation data and user properties. It is
	// validated at decode and copied verbatim at encode. See ReadProps and
	// MessageProps.
	Props []byte
}

// Type returns TypePublish.
func (*Publish) Type() Type { return TypePublish }

// Clone returns a copy that shares no memory with p.
func (p *Publish) Clone() *Publish {
	c := *p
	c.Topic = slices.Clone(p.Topic)
	c.Payload = slices.Clone(p.Payload)
	c.SubscriptionIDs = slices.Clone(p.SubscriptionIDs)
	c.Props = slices.Clone(p.Props)
	return &c
}

// The PUBLISH flags of the fixed header.
const (
	flagRetain = 0x01
	flagDup    = 0x08
)

// decode reads the body into p, which keeps the memory of its subscription ids.
// The slices of p alias the body.
func (p *Publish) decode(d *decoder, flags byte) {
	p.Dup = flags&flagDup != 0
	p.Retain = flags&flagRetain != 0
	p.QoS = flags >> 1 & 3
	p.PacketID = 0
	p.TopicAlias = 0
	p.HasExpiry, p.Expiry = false, 0
	p.SubscriptionIDs = p.SubscriptionIDs[:0]
	p.Props = nil

	p.Topic = d.bin()
	if p.QoS > 0 { // v5:MQTT-2.2.1-2, v311:MQTT-2.3.1-5
		p.PacketID = d.packetID()
	} else if p.Dup && d.v == V31 {
		p.Dup = false // v31:2.1 gives DUP a meaning for QoS 1 and 2 only
	}
	if d.v == V5 && d.err == nil {
		p.readProps(d)
	}
	if d.err != nil {
		return
	}
	if len(p.Topic) == 0 && p.TopicAlias != 0 {
		p.Topic = nil
	} else if e := checkTopicName(d.v, p.Topic, d.lim); e != nil {
		if len(p.Topic) == 0 && d.v == V5 {
			e = protocolError(d.v, rule{v5: "v5:3.3.2.1"}, "neither topic name nor topic alias")
		}
		d.fail(e)
		return
	}
	p.Payload = d.b[d.off:len(d.b):len(d.b)]
}

// readProps splits the properties: what travels with the message is moved
// together within the packet's own bytes, so that Props needs no memory.
func (p *Publish) readProps(d *decoder) {
	if d.off < len(d.b) && d.b[d.off] == 0 {
		d.off++
		return
	}
	r := d.props(inPublish)
	kept := 0
	for r.next() {
		switch r.id {
		case PropTopicAlias:
			p.TopicAlias = uint16(r.num)
		case PropMessageExpiry:
			p.HasExpiry, p.Expiry = true, r.num
		case PropSubscriptionID:
			p.SubscriptionIDs = append(p.SubscriptionIDs, r.num)
		default:
			if kept != r.start {
				copy(r.b[kept:], r.raw())
			}
			kept += r.off - r.start
		}
	}
	r.close(d)
	if kept > 0 {
		p.Props = r.b[:kept:kept]
	}
}

// PublishSize returns the size of the whole encoded packet in bytes, to compare
// with a client's Maximum Packet Size before encoding.
func PublishSize(v Version, p *Publish) int {
	remaining, _ := p.size(v)
	return 1 + varintLen(remaining) + remaining
}

// size returns the remaining length and the length of the properties.
func (p *Publish) size(v Version) (remaining, props int) {
	remaining = 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		remaining += 2
	}
	if v != V5 {
		return remaining, 0
	}
	props = len(p.Props)
	if p.TopicAlias != 0 {
		props += 3
	}
	if p.HasExpiry {
		props += 5
	}
	for _, id := range p.SubscriptionIDs {
		props += 1 + varintLen(int(id))
	}
	return remaining + varintLen(props) + props, props
}

// AppendPublish appends p as version v sends it. It does not validate: the
// caller guarantees a QoS of at most 2, a packet id with QoS 1 and 2, a topic
// of at most 65,535 bytes and a size that the wire format can carry. It does
// not allocate if dst has room.
func AppendPublish(dst []byte, v Version, p *Publish) []byte {
	return append(AppendPublishHeader(dst, v, p), p.Payload...)
}

// AppendPublishHeader appends what comes before the payload, so that one
// payload can be written to many connections without copying it.
func AppendPublishHeader(dst []byte, v Version, p *Publish) []byte {
	remaining, props := p.size(v)
	dst = slices.Grow(dst, 5+remaining)
	first := byte(TypePublish)<<4 | p.QoS<<1
	if p.Dup {
		first |= flagDup
	}
	if p.Retain {
		first |= flagRetain
	}
	dst = appendVarint(append(dst, first), remaining)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.Topic)))
	dst = append(dst, p.Topic...)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	if v != V5 {
		return dst
	}
	dst = appendVarint(dst, props) // v5:MQTT-2.2.2-1
	if p.TopicAlias != 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, byte(PropTopicAlias)), p.TopicAlias)
	}
	if p.HasExpiry {
		dst = binary.BigEndian.AppendUint32(append(dst, byte(PropMessageExpiry)), p.Expiry)
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(id))
	}
	return append(dst, p.Props...)
}

// check is what AppendPublish leaves to its caller.
func (p *Publish) check(v Version) error {
	switch {
	case p.QoS > 2:
		return invalidf("QoS %d", p.QoS)
	case p.QoS == 0 && p.Dup:
		return invalidf("DUP with QoS 0") // v5:MQTT-3.3.1-2, v311:MQTT-3.3.1-2
	case (p.QoS == 0) != (p.PacketID == 0):
		return invalidf("packet id %d with QoS %d", p.PacketID, p.QoS)
	case len(p.Topic) > 0xFFFF:
		return invalidf("topic name of %d bytes", len(p.Topic))
	case len(p.Topic) == 0 && p.TopicAlias != 0 && v != V5:
		return ErrNotRepresentable
	}
	if len(p.Topic) > 0 || p.TopicAlias == 0 {
		if e := checkTopicName(v, p.Topic, nil); e != nil {
			return invalidf("%s", e.Msg)
		}
	}
	for _, id := range p.SubscriptionIDs {
		if id == 0 || id > MaxRemaining {
			return invalidf("subscription identifier %d", id)
		}
	}
	if n, _ := p.size(v); n > MaxRemaining {
		return invalidf("%d bytes do not fit a packet", n)
	}
	return nil
}
