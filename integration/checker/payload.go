package checker

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"strconv"
)

// ID names a message: the payload carries it, so that each delivery can be traced to one publish.
type ID struct {
	Run, Publisher, Topic string
	Seq                   uint64
}

const (
	payloadMagic = "F1"
	hashDigits   = 16
)

// AppendPayload appends a payload of about size bytes (never fewer than the id needs): magic, run, publisher, topic, sequence,
// a hash over everything else, and filling. No part may contain the separator '|'.
func AppendPayload(dst []byte, id ID, size int) []byte {
	start := len(dst)
	dst = append(dst, payloadMagic...)
	for _, part := range []string{id.Run, id.Publisher, id.Topic} {
		dst = append(dst, '|')
		dst = append(dst, part...)
	}
	dst = append(dst, '|')
	dst = strconv.AppendUint(dst, id.Seq, 10)
	dst = append(dst, '|')
	hashAt := len(dst)
	dst = append(dst, "0000000000000000|"...)
	for fill := byte('a'); len(dst)-start < size; fill++ {
		if fill > 'z' {
			fill = 'a'
		}
		dst = append(dst, fill)
	}
	copy(dst[hashAt:hashAt+hashDigits], payloadHash(dst[start:], hashAt-start))
	return dst
}

// payloadHash hashes a payload without the place of the hash itself.
func payloadHash(b []byte, at int) []byte {
	h := fnv.New64a()
	_, _ = h.Write(b[:at])
	_, _ = h.Write(b[at+hashDigits:])
	return fmt.Appendf(nil, "%016x", h.Sum64())
}

// ParsePayload reads the id of a payload and verifies its hash.
func ParsePayload(b []byte) (ID, error) {
	parts := bytes.SplitN(b, []byte{'|'}, 7)
	if len(parts) != 7 || string(parts[0]) != payloadMagic || len(parts[5]) != hashDigits {
		return ID{}, fmt.Errorf("payload of %d bytes is not one of ours: %.40q", len(b), b)
	}
	seq, err := strconv.ParseUint(string(parts[4]), 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("payload: sequence: %w", err)
	}
	at := len(b) - len(parts[6]) - 1 - hashDigits
	if want := payloadHash(b, at); !bytes.Equal(parts[5], want) {
		return ID{}, fmt.Errorf("payload of %d bytes: hash %s, its content has %s", len(b), parts[5], want)
	}
	return ID{Run: string(parts[1]), Publisher: string(parts[2]), Topic: string(parts[3]), Seq: seq}, nil
}
