package mqtt

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestVarintBoundaries is table 2-5 of MQTT 5.
func TestVarintBoundaries(t *testing.T) {
	for _, c := range []struct {
		n    int
		wire string
	}{
		{0, "00"}, {127, "7f"}, {128, "8001"}, {16383, "ff7f"}, {16384, "808001"}, {2097151, "ffff7f"}, {2097152, "80808001"},
		{MaxRemaining, "ffffff7f"},
	} {
		b := appendVarint(nil, c.n)
		if got := hex.EncodeToString(b); got != c.wire {
			t.Errorf("%d: got %s, want %s", c.n, got, c.wire)
		}
		if varintLen(c.n) != len(b) {
			t.Errorf("varintLen(%d) is %d, want %d", c.n, varintLen(c.n), len(b))
		}
		if v, n := varint(b); v != uint32(c.n) || n != len(b) {
			t.Errorf("%s: got %d in %d bytes", c.wire, v, n)
		}
		if _, n := varint(b[:len(b)-1]); n != 0 {
			t.Errorf("%s cut off: got %d bytes, want 0", c.wire, n)
		}
	}
	for _, wire := range []string{"80808080", "ffffffff", "8080808001", "ffffffff7f"} {
		b, _ := hex.DecodeString(wire)
		if _, n := varint(b); n != -1 {
			t.Errorf("%s: got %d, want -1", wire, n)
		}
	}
}

// naiveText is the specification, spelled out.
func naiveText(b []byte) textFault {
	if !utf8.Valid(b) {
		return textIllUTF8
	}
	if bytes.ContainsRune(b, 0) {
		return textNUL
	}
	return textGood
}

func naiveTopic(b []byte) (int, textFault) {
	if f := naiveText(b); f != textGood {
		return 0, f
	}
	if strings.ContainsAny(string(b), "+#") {
		return 0, textWildcard
	}
	return len(strings.Split(string(b), "/")), textGood
}

// drawText draws bytes that are mostly good text, of all lengths around the
// word size, with at most a few bad bytes.
func drawText(t *rapid.T) []byte {
	b := rapid.SliceOfN(rapid.SampledFrom([]byte("abcdefgh/////XYZ .-_\"*,-.$!\x01\x7f")), 0, 40).Draw(t, "text")
	for range rapid.IntRange(0, 2).Draw(t, "disturbances") {
		part := rapid.SampledFrom([]string{"\x00", "+", "#", "\x80", "\xff", "é", "€", "𝄞", "\xed\xa0\x80", "\xed\xbf\xbf", "\xc0\x80",
			"\xf4\x90\x80\x80", "\ufeff", "\xc3", "/"}).Draw(t, "disturbance")
		at := rapid.IntRange(0, len(b)).Draw(t, "at")
		b = append(b[:at:at], append([]byte(part), b[at:]...)...)
	}
	return b
}

func TestCheckTextAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawText(t)
		if got, want := checkText(b), naiveText(b); got != want {
			t.Fatalf("checkText(%q) is %d, want %d", b, got, want)
		}
		levels, fault := checkTopicText(b)
		if wantLevels, want := naiveTopic(b); fault != want || levels != wantLevels {
			t.Fatalf("checkTopicText(%q) is %d, %d; want %d, %d", b, levels, fault, wantLevels, want)
		}
	})
}

// TestCheckTextOneBadByte puts every byte at every place of texts around the
// word size.
func TestCheckTextOneBadByte(t *testing.T) {
	for n := 1; n <= 26; n++ {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte{'a'}, n)
				b[at] = byte(c)
				if got, want := checkText(b), naiveText(b); got != want {
					t.Fatalf("checkText(%q) is %d, want %d", b, got, want)
				}
				levels, fault := checkTopicText(b)
				if wantLevels, want := naiveTopic(b); fault != want || levels != wantLevels {
					t.Fatalf("checkTopicText(%q) is %d, %d; want %d, %d", b, levels, fault, wantLevels, want)
				}
			}
		}
	}
}

func FuzzCheckText(f *testing.F) {
	for _, s := range []string{"", "a/b", "0123456789abcdef/é", "\xed\xa0\x80", "a\x00", "+/#"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := checkText(b), naiveText(b); got != want {
			t.Fatalf("checkText(%q) is %d, want %d", b, got, want)
		}
		levels, fault := checkTopicText(b)
		if wantLevels, want := naiveTopic(b); fault != want || levels != wantLevels {
			t.Fatalf("checkTopicText(%q) is %d, %d; want %d, %d", b, levels, fault, wantLevels, want)
		}
	})
}
