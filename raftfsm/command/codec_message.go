package command

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of Message: 1 topic, 2 payload, 3 props, 4 bits (QoS, 0x4 retain,
// 0x8 has expiry), 5 expiry, 6 published at, 7 publisher.
const (
	msgQoS    = 0x3
	msgRetain = 0x4
	msgExpiry = 0x8
)

func (m *Message) bits() uint64 {
	bits := uint64(m.QoS & msgQoS)
	if m.Retain {
		bits |= msgRetain
	}
	if m.HasExpiry {
		bits |= msgExpiry
	}
	return bits
}

// Size is how many bytes Append adds.
func (m *Message) Size() int {
	n := sizeBytes(len(m.Topic)) + sizeBytes(len(m.Payload)) + sizeBytes(len(m.Props)) +
		sizeUint(m.bits()) + sizeUint(uint64(m.PublishedAt)) + sizeBytes(len(m.Publisher))
	if m.HasExpiry {
		n += sizeUint(uint64(m.Expiry))
	}
	return n
}

// Append adds the encoded message to dst.
func (m *Message) Append(dst []byte) []byte {
	dst = putBytes(dst, 1, m.Topic)
	dst = putBytes(dst, 2, m.Payload)
	dst = putBytes(dst, 3, m.Props)
	dst = putUint(dst, 4, m.bits())
	if m.HasExpiry {
		dst = putUint(dst, 5, uint64(m.Expiry))
	}
	dst = putUint(dst, 6, uint64(m.PublishedAt))
	return putString(dst, 7, m.Publisher)
}

// DecodeMessage reads an encoded message. The result aliases b.
func DecodeMessage(b []byte) (Message, error) {
	var m Message
	err := m.Decode(b)
	return m, err
}

// Decode reads an encoded message into m. The result aliases b.
func (m *Message) Decode(b []byte) error {
	*m = Message{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			m.Topic = f.bytes()
		case 2:
			m.Payload = f.bytes()
		case 3:
			m.Props = f.bytes()
		case 4:
			bits := f.uint()
			m.QoS = byte(bits & msgQoS)
			m.Retain = bits&msgRetain != 0
			m.HasExpiry = bits&msgExpiry != 0
			if m.QoS == 3 {
				f.bad = true
			}
		case 5:
			m.Expiry = f.u32()
		case 6:
			m.PublishedAt = int64(f.uint())
		case 7:
			m.Publisher = f.string()
		}
	}
	return f.err("message")
}

// Fields of Publish: 1 tenant, 2 message, 3 flags, 4 origin {1 shard, 2 seq, 3 low}, 5 epoch.

func (o *OriginKey) size() int {
	return sizeUint(uint64(o.Shard)) + sizeUint(o.Seq) + sizeUint(o.Low)
}

// AppendPublish adds the command to a lane's buffer. It copies the message once.
func AppendPublish(dst []byte, p *Publish) []byte {
	n := sizeBytes(len(p.Tenant)) + sizeBytes(len(p.Message)) + sizeUint(uint64(p.Flags)) + sizeUint(p.Epoch)
	on := 0
	if p.Origin.Shard != 0 {
		on = p.Origin.size()
		n += sizeBytes(on)
	}
	dst = protowire.AppendVarint(dst, uint64(KindPublish)<<1)
	dst = protowire.AppendVarint(dst, uint64(n))
	dst = putString(dst, 1, p.Tenant)
	dst = putBytes(dst, 2, p.Message)
	dst = putUint(dst, 3, uint64(p.Flags))
	if p.Origin.Shard != 0 {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(on))
		dst = putUint(dst, 1, uint64(p.Origin.Shard))
		dst = putUint(dst, 2, p.Origin.Seq)
		dst = putUint(dst, 3, p.Origin.Low)
	}
	return putUint(dst, 5, p.Epoch)
}

// Decode reads the payload of a publish command. It aliases b.
func (p *Publish) Decode(b []byte) error {
	*p = Publish{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			p.Tenant = f.string()
		case 2:
			p.Message = f.bytes()
		case 3:
			p.Flags = PublishFlags(f.u32())
		case 4:
			o := fields{b: f.bytes()}
			for o.next() {
				switch o.num {
				case 1:
					p.Origin.Shard = o.u32()
				case 2:
					p.Origin.Seq = o.uint()
				case 3:
					p.Origin.Low = o.uint()
				}
			}
			f.bad = f.bad || o.bad
		case 5:
			p.Epoch = f.uint()
		}
	}
	return f.err("publish")
}
