package mqtt

import "io"

// Reader decodes packets from a stream. While it waits for a packet it holds
// less than 1 KiB; it borrows larger buffers from Limits.Buffers while data
// comes faster or packets are larger, never more than twice the bytes that have
// arrived for a packet, or 16 KiB.
type Reader struct {
	src io.Reader
	lim Limits
	ver Version
	// server: the version came from a CONNECT, so the peer is a client.
	server bool
	// peerMax is the Maximum Packet Size of CONNECT.
	peerMax uint32

	buf  []byte // small[:] or lent.b
	lent *buffer
	r, w int // unread bytes: buf[r:w]
	// filled: the last Read filled all the room that it was given, so more is
	// likely to wait in the source.
	filled bool
	size   int
	err    *Error

	// Reused packets of the hot types. One packet is valid at a time, so one
	// ack serves all four types.
	pub Publish
	ack Puback

	small [smallBuffer]byte
}

// NewReader returns a Reader for the server's side: the first packet must be
// CONNECT, which sets the version. It does not read yet.
func NewReader(src io.Reader, lim Limits) *Reader {
	r := &Reader{src: src, lim: lim.withDefaults()}
	r.buf = r.small[:]
	return r
}

// SetVersion fixes the version, for clients and for streams without a CONNECT.
func (r *Reader) SetVersion(v Version) { r.ver = v }

// Version returns the version of the stream. It is 0 until CONNECT's protocol
// name and level have been read; it is set even if the CONNECT is then
// refused, so that the refusal can be sent in the client's own version.
func (r *Reader) Version() Version { return r.ver }

// PeerMaxPacketSize returns the Maximum Packet Size that CONNECT named, 0 for
// none. It is set even if the CONNECT is then refused, so that the refusal
// keeps to it (v5:MQTT-3.2.2-19).
func (r *Reader) PeerMaxPacketSize() uint32 { return r.peerMax }

// SetMaxPacketSize replaces Limits.MaxPacketSize for the packets to come.
func (r *Reader) SetMaxPacketSize(bytes uint32) { r.lim.MaxPacketSize = bytes }

// Buffered returns the number of bytes that were read from the source and not
// yet returned as packets.
func (r *Reader) Buffered() int { return r.w - r.r }

// Ready reports whether Next can return without reading from the source.
func (r *Reader) Ready() bool {
	if r.err != nil {
		return true
	}
	_, total, err := r.frame()
	return err != nil || total > 0 && total <= r.w-r.r
}

// Size returns the size on the wire of the packet that Next returned last, in
// bytes, for metrics.
func (r *Reader) Size() int { return r.size }

// Next returns the next packet. The packet and its slices are valid until the
// next call of Next. Errors: *Error for a violation (then every later call
// returns it, too), io.EOF at the end of the stream between two packets,
// io.ErrUnexpectedEOF within one, and what the source returns, such as a
// timeout, after which Next may be called again and loses nothing.
func (r *Reader) Next() (Packet, error) {
	if r.err != nil {
		return nil, r.err
	}
	for {
		hdr, total, err := r.frame()
		if err != nil {
			return nil, r.refuse(err)
		}
		if total > 0 && total <= r.w-r.r {
			packet := r.buf[r.r : r.r+total]
			r.r += total
			r.size = total
			return r.decode(packet, hdr)
		}
		if err := r.fill(max(total, r.w-r.r+1)); err != nil {
			return nil, err
		}
	}
}

func (r *Reader) refuse(err *Error) error {
	r.err = err
	return err
}

// frame looks at the fixed header of the packet that begins at r.r. total is 0
// if the header is not complete yet.
func (r *Reader) frame() (hdr, total int, err *Error) {
	b := r.buf[r.r:r.w]
	if len(b) == 0 {
		return 0, 0, nil
	}
	if err := r.checkFirst(b[0]); err != nil {
		return 0, 0, err
	}
	if len(b) >= 2 && b[1] < 0x80 {
		hdr, total = 2, 2+int(b[1])
	} else {
		n, w := varint(b[1:])
		switch {
		case w == 0:
			return 0, 0, nil
		case w < 0:
			return 0, 0, malformed(r.ver, rule{"v5:1.5.5", "v311:2.2.3", "v31:2.1"}, "remaining length has more than 4 bytes")
		case r.ver == V5 && w != varintLen(int(n)):
			return 0, 0, minimalLength()
		}
		hdr, total = 1+w, 1+w+int(n)
	}
	limit := r.lim.MaxPacketSize
	if r.ver == 0 {
		limit = min(limit, r.lim.MaxConnectSize)
	}
	if total > int(limit) {
		return 0, 0, newError(r.ver, PacketTooLarge, rule{v5: "v5:MQTT-3.2.2-15"}, "packet is too large")
	}
	return hdr, total, nil
}

func minimalLength() *Error {
	return malformed(V5, rule{v5: "v5:MQTT-1.5.5-1"}, "remaining length is not minimal")
}

// checkFirst judges the first byte: it must be CONNECT's at the start and never
// again from a client.
func (r *Reader) checkFirst(first byte) *Error {
	switch {
	case r.ver == 0 && first>>4 != byte(TypeConnect):
		return protocolError(r.ver, rule{v5: "v5:MQTT-3.1.0-1"}, "first packet is not CONNECT")
	case r.server && first>>4 == byte(TypeConnect):
		return protocolError(r.ver, rule{"v5:MQTT-3.1.0-2", "v311:MQTT-3.1.0-2", "v31:3.1"}, "second CONNECT")
	}
	return header(r.ver, first)
}

// fill reads once. want is the least number of bytes from r.r on that the next
// step needs.
func (r *Reader) fill(want int) error {
	switch {
	case r.r == r.w:
		r.r, r.w = 0, 0
		r.rest()
	case len(r.buf) > busyBuffer && want <= busyBuffer:
		r.swap(busyBuffer) // a large packet is done
	case r.filled && len(r.buf) < busyBuffer:
		r.swap(2 * len(r.buf))
	case r.r+want > len(r.buf):
		if r.r > 0 {
			r.w = copy(r.buf, r.buf[r.r:r.w])
			r.r = 0
		}
		if r.w == len(r.buf) {
			r.swap(2 * len(r.buf))
		}
	}
	for range 100 {
		room := r.buf[r.w:]
		n, err := r.src.Read(room)
		r.w += n
		r.filled = n == len(room)
		if n > 0 {
			return nil // an error with data comes again with the next Read
		}
		if err == io.EOF && r.w > r.r {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// rest picks the buffer to wait with when all data has been consumed: the small
// one, unless more data is likely to be there already.
func (r *Reader) rest() {
	switch {
	case !r.filled:
		r.release()
	case len(r.buf) < busyBuffer:
		r.swap(2 * len(r.buf))
	case len(r.buf) > busyBuffer:
		r.swap(busyBuffer)
	}
}

// swap takes a buffer of at least n bytes and moves the unread bytes there.
func (r *Reader) swap(n int) {
	next := r.lim.Buffers.get(n)
	r.w = copy(next.b, r.buf[r.r:r.w])
	r.r = 0
	if r.lent != nil {
		r.lim.Buffers.put(r.lent)
	}
	r.lent, r.buf = next, next.b
}

func (r *Reader) release() {
	if r.lent != nil {
		r.lim.Buffers.put(r.lent)
		r.lent = nil
		r.buf = r.small[:]
	}
}

// decode decodes a whole packet with a fixed header of hdr bytes.
func (r *Reader) decode(packet []byte, hdr int) (Packet, error) {
	first := packet[0]
	d := decoder{b: packet[hdr:len(packet):len(packet)], v: r.ver, lim: &r.lim}
	var p Packet
	switch t := Type(first >> 4); t {
	case TypePublish:
		r.pub.decode(&d, first&0x0F)
		if r.server && len(r.pub.SubscriptionIDs) > 0 {
			d.fail(protocolError(r.ver, rule{v5: "v5:MQTT-3.3.4-6"}, "subscription identifier from a client"))
		}
		p = &r.pub
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		r.ack.decode(&d, t)
		p = r.ackPacket(t)
	case TypeConnect:
		p = r.connect(&d, hdr)
	case TypePingreq:
		d.end()
		p = &Pingreq{}
	case TypePingresp:
		d.end()
		p = &Pingresp{}
	default:
		p = decodeCold(&d, t)
	}
	if d.err != nil {
		return nil, r.refuse(d.err)
	}
	return p, nil
}

func (r *Reader) ackPacket(t Type) Packet {
	switch t {
	case TypePuback:
		return &r.ack
	case TypePubrec:
		return (*Pubrec)(&r.ack)
	case TypePubrel:
		return (*Pubrel)(&r.ack)
	}
	return (*Pubcomp)(&r.ack)
}

// connect decodes CONNECT and takes over its version.
func (r *Reader) connect(d *decoder, hdr int) Packet {
	known := r.ver != 0
	d.v = 0
	c := decodeConnect(d)
	if d.v == V5 && hdr != 1+varintLen(len(d.b)) {
		d.fail(minimalLength())
	}
	if !known {
		r.ver, r.server, r.peerMax = d.v, true, c.MaximumPacketSize
	}
	return c
}

func decodeCold(d *decoder, t Type) Packet {
	switch t {
	case TypeConnack:
		return decodeConnack(d)
	case TypeSubscribe:
		return decodeSubscribe(d)
	case TypeSuback:
		return decodeSuback(d)
	case TypeUnsubscribe:
		return decodeUnsubscribe(d)
	case TypeUnsuback:
		return decodeUnsuback(d)
	case TypeDisconnect:
		return decodeDisconnect(d)
	}
	return decodeAuth(d)
}
