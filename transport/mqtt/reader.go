package mqtt

import "io"

// Reader decodes packets from a stream.
type Reader struct {
}

// NewReader returns a Reader for the server's side: the first packet must be
// CONNECT, which sets the version. It does not read yet.
func NewReader(src io.Reader, lim Limits) *Reader { panic("todo") }

// SetVersion fixes the version, for clients and for streams without a CONNECT.
func (r *Reader) SetVersion(v Version) { panic("todo") }

// Version returns the version of the stream. It is 0 until CONNECT's protocol
// name and level have been read; it is set even if the CONNECT is then
// refused, so that the refusal can be sent in the client's own version.
func (r *Reader) Version() Version { panic("todo") }

// SetMaxPacketSize replaces Limits.MaxPacketSize for the packets to come.
func (r *Reader) SetMaxPacketSize(bytes uint32) { panic("todo") }

// Next returns the next packet. The packet and its slices are valid until the
// next call of Next. Errors: *Error for a violation (then every later call
// returns it, too), io.EOF at the end of the stream between two packets,
// io.ErrUnexpectedEOF within one, and what the source returns, such as a
// timeout, after which Next may be called again and loses nothing.
func (r *Reader) Next() (Packet, error) { panic("todo") }

// Buffered returns the number of bytes that were read from the source and not
// yet returned as packets.
func (r *Reader) Buffered() int { panic("todo") }

// Ready reports whether Next can return without reading from the source.
func (r *Reader) Ready() bool { panic("todo") }

// Size returns the size on the wire of the packet that Next returned last, in
// bytes, for metrics.
func (r *Reader) Size() int { panic("todo") }
