package transport

import (
	"encoding/binary"
	"fmt"
	"io"
)

// magic begins every connection on the cluster port, in both directions. Its
// first byte is above 0x7f, so that it is never taken for CONNECT (0x10), TLS
// (0x16) or HTTP (a letter).
var magic = [3]byte{0xF1, 0x0F, 0x7A}

// preambleVersion is the only version so far. It covers the preamble, the
// answer, and the frames of package cluster/peer.
const preambleVersion = 1

const (
	// answerBit is set in the kind byte of an answer.
	answerBit = 0x80
	// preambleHead is the fixed part: magic, kind, version, (answer: status), length.
	preambleHead = 3 + 1 + 1 + 2
	answerHead   = 3 + 1 + 1 + 1 + 2
	// maxIDBytes bounds node ids and cluster ids; maxMessageBytes the text of an answer.
	maxIDBytes      = 128
	maxMessageBytes = 255
	// maxPreambleBody bounds the declared length. It leaves room for members
	// that later nodes append; ours are at most 4 + 3*(1+128) bytes.
	maxPreambleBody = 1024
)

// preamble is what the dialling side says first:
//
//	magic[3] kind version length(u16) | group(u32) cluster from to
//
// Integers are big-endian, texts are a length byte and the bytes. What follows
// in the body is from a later node and is ignored.
type preamble struct {
	version byte
	kind    Kind
	group   uint32
	cluster string
	from    string
	to      string // "" with KindJoin: whoever is there
}

// answer is what the accepting side says then:
//
//	magic[3] kind|0x80 version status length(u16) | node cluster message
type answer struct {
	version byte
	kind    Kind
	status  Status
	node    string
	cluster string
	message string
}

func appendPreamble(dst []byte, p preamble) []byte {
	dst = append(dst, magic[0], magic[1], magic[2], byte(p.kind), p.version, 0, 0)
	body := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, p.group)
	dst = appendText(dst, p.cluster, maxIDBytes)
	dst = appendText(dst, p.from, maxIDBytes)
	dst = appendText(dst, p.to, maxIDBytes)
	binary.BigEndian.PutUint16(dst[body-2:], uint16(len(dst)-body))
	return dst
}

func appendAnswer(dst []byte, a answer) []byte {
	dst = append(dst, magic[0], magic[1], magic[2], byte(a.kind)|answerBit, a.version, byte(a.status), 0, 0)
	body := len(dst)
	dst = appendText(dst, a.node, maxIDBytes)
	dst = appendText(dst, a.cluster, maxIDBytes)
	dst = appendText(dst, a.message, maxMessageBytes)
	binary.BigEndian.PutUint16(dst[body-2:], uint16(len(dst)-body))
	return dst
}

func appendText(dst []byte, s string, limit int) []byte {
	if len(s) > limit {
		s = s[:limit]
	}
	return append(append(dst, byte(len(s))), s...)
}

// readPreamble reads exactly one preamble. A version that this node does not
// know is no error here: the caller answers it, and has only version and kind.
func readPreamble(r io.Reader) (preamble, error) {
	var h [preambleHead]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return preamble{}, fmt.Errorf("read preamble: %w", err)
	}
	p := preamble{kind: Kind(h[3]), version: h[4]}
	if [3]byte(h[:3]) != magic || p.kind&answerBit != 0 {
		return preamble{}, fmt.Errorf("%w: begins with % x", ErrPreamble, h[:4])
	}
	body, err := readBody(r, binary.BigEndian.Uint16(h[5:]))
	if err != nil || p.version != preambleVersion {
		return p, err
	}
	if len(body) < 4 {
		return p, fmt.Errorf("%w: body of %d bytes", ErrPreamble, len(body))
	}
	p.group, body = binary.BigEndian.Uint32(body), body[4:]
	for _, dst := range []*string{&p.cluster, &p.from, &p.to} {
		if *dst, body, err = cutText(body); err != nil {
			return p, err
		}
		if !validID(*dst) {
			return p, fmt.Errorf("%w: id %q", ErrPreamble, *dst)
		}
	}
	return p, nil
}

// readAnswer reads exactly one answer.
func readAnswer(r io.Reader) (answer, error) {
	var h [answerHead]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	a := answer{kind: Kind(h[3] &^ answerBit), version: h[4], status: Status(h[5])}
	if [3]byte(h[:3]) != magic || h[3]&answerBit == 0 {
		return answer{}, fmt.Errorf("%w: answer begins with % x", ErrPreamble, h[:4])
	}
	body, err := readBody(r, binary.BigEndian.Uint16(h[6:]))
	if err != nil {
		return a, err
	}
	for _, dst := range []*string{&a.node, &a.cluster, &a.message} {
		if *dst, body, err = cutText(body); err != nil {
			return a, err
		}
	}
	if !validID(a.node) || !validID(a.cluster) {
		return a, fmt.Errorf("%w: ids %q, %q", ErrPreamble, a.node, a.cluster)
	}
	return a, nil
}

func readBody(r io.Reader, n uint16) ([]byte, error) {
	if n > maxPreambleBody {
		return nil, fmt.Errorf("%w: declares %d bytes", ErrPreamble, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read preamble body: %w", err)
	}
	return body, nil
}

func cutText(b []byte) (string, []byte, error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, fmt.Errorf("%w: text is cut off", ErrPreamble)
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], nil
}

// validID tells whether s may be a node or cluster id (or none): it is short,
// and printable ASCII without blanks, so that it is harmless in logs.
func validID(s string) bool {
	if len(s) > maxIDBytes {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
