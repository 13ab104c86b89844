package mqtt

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// appendVarint appends a variable byte integer of at most MaxRemaining.
func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// varint reads a variable byte integer. n is 0 if b is too short and -1 if the
// encoding has more than four bytes.
func varint(b []byte) (v uint32, n int) {
	for i := range min(len(b), 4) {
		v |= uint32(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

// textFault is what is wrong with a string.
type textFault byte

const (
	textGood     textFault = 0
	textIllUTF8  textFault = 1 // ill-formed, surrogates included
	textNUL      textFault = 2
	textWildcard textFault = 3 // + or # in a topic name
)

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
	sevenF   = 0x7F * lowBits
)

// checkText applies the rules for UTF-8 strings. The discouraged characters
// (controls, non-characters) are let through, as the specification allows, and
// so is U+FEFF, which must not be stripped (v5:MQTT-1.5.4-3, v311:MQTT-1.5.3-3).
func checkText(b []byte) textFault {
	rest := b
	for len(rest) >= 8 {
		x := binary.LittleEndian.Uint64(rest)
		// With all bytes below 0x80, adding 0x7F sets the top bit of exactly
		// the bytes that are not zero: no carry leaves a byte.
		if x&highBits != 0 || (x+sevenF)&highBits != highBits {
			return checkTextSlow(b)
		}
		rest = rest[8:]
	}
	for _, c := range rest {
		if c == 0 || c >= 0x80 {
			return checkTextSlow(b)
		}
	}
	return textGood
}

func checkTextSlow(b []byte) textFault {
	if !utf8.Valid(b) {
		return textIllUTF8
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return textNUL
	}
	return textGood
}

// checkTopicText is checkText that refuses wildcards, too, and counts the
// levels.
func checkTopicText(b []byte) (levels int, fault textFault) {
	n := len(b)
	if n < 8 {
		return checkTopicShort(b)
	}
	levels = 1
	for i := 0; i < n; i += 8 {
		var x uint64
		if n-i >= 8 {
			x = binary.LittleEndian.Uint64(b[i:])
		} else {
			// The last bytes: reload the last eight, drop those that were
			// looked at, fill with 'a'.
			drop := 8 * (8 - (n - i))
			x = binary.LittleEndian.Uint64(b[n-8:])>>drop | 'a'*lowBits<<(64-drop)
		}
		if x&highBits != 0 {
			return checkTopicSlow(b)
		}
		// '+' is 0x2B and '#' is 0x23: one bit apart.
		good := (x + sevenF) & ((x | 0x08*lowBits ^ '+'*lowBits) + sevenF)
		if good&highBits != highBits {
			return checkTopicSlow(b)
		}
		slashes := ^((x ^ '/'*lowBits) + sevenF) & highBits
		levels += bits.OnesCount64(slashes)
	}
	return levels, textGood
}

func checkTopicShort(b []byte) (levels int, fault textFault) {
	levels = 1
	for _, c := range b {
		switch {
		case c == '/':
			levels++
		case c == 0, c == '+', c == '#', c >= 0x80:
			return checkTopicSlow(b)
		}
	}
	return levels, textGood
}

func checkTopicSlow(b []byte) (levels int, fault textFault) {
	if f := checkTextSlow(b); f != textGood {
		return 0, f
	}
	if bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0 {
		return 0, textWildcard
	}
	return bytes.Count(b, []byte{'/'}) + 1, textGood
}
