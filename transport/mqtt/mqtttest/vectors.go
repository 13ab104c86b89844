package mqtttest

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Vector is one packet on the wire.
type Vector struct {
	Name    string
	Version mqtt.Version
	// Wire is the packet in hexadecimal. Spaces are ignored, 'text' stands for
	// its bytes, ( ) puts the two-byte length of its content in front of it,
	// and [ ] the length as a variable byte integer.
	Wire   string
	Packet mqtt.Packet     // what the bytes mean; nil if they must be refused
	Code   mqtt.ReasonCode // the code of the refusal
	Tag    string          // the tag of the refusal
	// DecodeOnly marks bytes that are legal but not what we would send.
	DecodeOnly bool
}

// Bytes returns the packet as it is on the wire. It panics if Wire is not well
// written.
func (v *Vector) Bytes() []byte { return Wire(v.Wire) }

// String returns a name that is unique among Vectors.
func (v *Vector) String() string { return fmt.Sprintf("%s/%s", v.Version, v.Name) }

// Vectors returns all vectors, freshly made: first those that are valid, then
// those that must be refused.
func Vectors() []Vector { return append(Valid(), Invalid()...) }

// Valid returns the vectors that must be decoded.
func Valid() []Vector {
	return slices.Concat(connects(), connacks(), publishes(), acks(), subscriptions(), others())
}

// Invalid returns the vectors that must be refused.
func Invalid() []Vector {
	return slices.Concat(badHeaders(), badConnects(), badConnectProps(), badPublishes(), badSubscriptions(), badAnswers())
}

// each repeats a vector for several versions.
func each(v Vector, versions ...mqtt.Version) []Vector {
	out := make([]Vector, len(versions))
	for i, version := range versions {
		out[i] = v
		out[i].Version = version
	}
	return out
}

// Wire turns the notation of Vector.Wire into bytes. It panics if s is not well
// written.
func Wire(s string) []byte {
	b, rest := parse(s)
	if rest != "" {
		panic("mqtttest: unbalanced: " + rest)
	}
	return b
}

// parse reads up to the end or an unopened closing bracket.
func parse(s string) (b []byte, rest string) {
	for s != "" {
		switch s[0] {
		case ' ':
			s = s[1:]
		case '\'':
			text, after, ok := strings.Cut(s[1:], "'")
			if !ok {
				panic("mqtttest: open quote: " + s)
			}
			b, s = append(b, text...), after
		case '(', '[':
			content, after := parse(s[1:])
			if after == "" {
				panic("mqtttest: open bracket: " + s)
			}
			if s[0] == '(' {
				b = append(b, byte(len(content)>>8), byte(len(content)))
			} else {
				b = appendLength(b, len(content))
			}
			b, s = append(b, content...), after[1:]
		case ')', ']':
			return b, s
		default:
			octet, err := hex.DecodeString(s[:2])
			if err != nil {
				panic("mqtttest: " + err.Error() + ": " + s)
			}
			b, s = append(b, octet...), s[2:]
		}
	}
	return b, ""
}

func appendLength(b []byte, n int) []byte {
	for {
		octet := byte(n % 128)
		n /= 128
		if n == 0 {
			return append(b, octet)
		}
		b = append(b, octet|0x80)
	}
}
