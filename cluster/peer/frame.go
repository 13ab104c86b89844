package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Kind is what a frame means to package cluster. Numbers are on the wire:
// append-only, never reused. 240 and above are the link's own.
type Kind byte

// The kinds.
const (
	KindLaneBatch    Kind = 1
	KindForward      Kind = 2
	KindRouteSync    Kind = 3
	KindRouteChanges Kind = 4
	KindLeaseRenew   Kind = 5
	KindKick         Kind = 6
	KindWake         Kind = 7
	KindFetch        Kind = 8
	KindQuery        Kind = 9
	KindHello        Kind = 10
	KindAgree        Kind = 11
	KindAdmin        Kind = 12
	KindOrigin       Kind = 13
)

// The link's own kinds.
const (
	// kindLink is the first frame of a connection: who dialled, and which of its dials this is.
	kindLink Kind = 240
	// kindPing is echoed as kindPong. A kindPong without payload only shows that its sender lives.
	kindPing Kind = 241
	kindPong Kind = 242
)

// MaxPayload is the largest payload of a frame: 4 MiB.
const MaxPayload = 4 << 20

// headerBytes is the size of a frame's head:
//
//	length(u32) kind(u8) flags(u8) id(u32) | payload
//
// Integers are big-endian. length counts the payload alone.
const headerBytes = 4 + 1 + 1 + 4

// Flags of a frame.
const (
	flagCall  = 1 << 0 // wants a reply with the same id
	flagReply = 1 << 1 // is the reply to the call with this id
	flagError = 1 << 2 // with flagReply: the payload is an error code and a text
	flagsAll  = flagCall | flagReply | flagError
)

// Codes at the begin of the payload of an error reply.
const (
	errCodeRemote      = 1 // the handler's own error; its text follows
	errCodeUnknownKind = 2
	errCodeTooLarge    = 3 // the reply would exceed MaxPayload
)

// header is the head of a frame.
type header struct {
	length uint32
	kind   Kind
	flags  byte
	id     uint32
}

func (h header) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, h.length)
	dst = append(dst, byte(h.kind), h.flags)
	return binary.BigEndian.AppendUint32(dst, h.id)
}

func parseHeader(b []byte) (header, error) {
	h := header{length: binary.BigEndian.Uint32(b), kind: Kind(b[4]), flags: b[5], id: binary.BigEndian.Uint32(b[6:])}
	switch {
	case h.length > MaxPayload:
		return h, fmt.Errorf("%w: frame declares %d bytes", ErrProtocol, h.length)
	case h.kind == 0:
		return h, fmt.Errorf("%w: frame of kind 0", ErrProtocol)
	case h.flags&^flagsAll != 0, h.flags&flagCall != 0 && h.flags != flagCall, h.flags == flagError:
		return h, fmt.Errorf("%w: frame with flags %#x", ErrProtocol, h.flags)
	}
	return h, nil
}

// appendFrame appends a whole frame.
func appendFrame(dst []byte, k Kind, flags byte, id uint32, payload []byte) []byte {
	dst = header{length: uint32(len(payload)), kind: k, flags: flags, id: id}.append(dst)
	return append(dst, payload...)
}

const (
	// readBuffer is where frames are read; those that fit are not copied.
	readBuffer = 64 << 10
	// growStep is by how much the buffer of a larger frame grows before its
	// bytes are there: a declared length alone costs no more than this.
	growStep = 256 << 10
	// keepBuffer is the largest such buffer that is kept for the next one.
	keepBuffer = 1 << 20
)

// frameReader reads frames.
type frameReader struct {
	br   *bufio.Reader
	used int    // bytes of the frame in br that was returned last
	big  []byte // payload of a frame that does not fit into br
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{br: bufio.NewReaderSize(r, readBuffer)}
}

// next returns the next frame. The payload is valid until the call after.
func (r *frameReader) next() (header, []byte, error) {
	if r.used > 0 {
		_, _ = r.br.Discard(r.used) // was peeked
		r.used = 0
	}
	if cap(r.big) > keepBuffer {
		r.big = nil
	}
	b, err := r.br.Peek(headerBytes)
	if err != nil {
		if err == io.EOF && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return header{}, nil, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return h, nil, err
	}
	whole := headerBytes + int(h.length)
	if whole <= readBuffer {
		b, err = r.br.Peek(whole)
		if err != nil {
			return h, nil, unexpected(err)
		}
		r.used = whole
		return h, b[headerBytes:whole:whole], nil
	}
	_, _ = r.br.Discard(headerBytes)
	p, err := r.readBig(int(h.length))
	return h, p, err
}

func (r *frameReader) readBig(n int) ([]byte, error) {
	r.big = r.big[:0]
	for len(r.big) < n {
		have := len(r.big)
		want := n - have
		if room := cap(r.big) - have; room == 0 {
			want = min(want, growStep)
			r.big = append(make([]byte, 0, min(n, max(2*cap(r.big), have+want))), r.big...)
			want = min(n, cap(r.big)) - have
		} else {
			want = min(want, room)
		}
		r.big = r.big[:have+want]
		if _, err := io.ReadFull(r.br, r.big[have:]); err != nil {
			return nil, unexpected(err)
		}
	}
	return r.big, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
