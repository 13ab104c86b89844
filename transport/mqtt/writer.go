package mqtt

import "io"

// Append appends any packet as version v sends it. It fails with
// ErrInvalidPacket if the packet breaks the protocol, and with
// ErrNotRepresentable if v cannot say it; dst is then returned unchanged.
func Append(dst []byte, v Version, p Packet) ([]byte, error) { panic("todo") }

// WritePacket encodes p and writes it with one Write, for clients and tests.
func WritePacket(w io.Writer, v Version, p Packet) error { panic("todo") }
