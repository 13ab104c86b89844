package peer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"
)

// The bytes on the wire are frozen: nodes of different versions share links.
func TestFrameGoldenBytes(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    Kind
		flags   byte
		id      uint32
		payload string
		want    string
	}{
		{"one way", KindForward, 0, 0, "hi", "00000002" + "02" + "00" + "00000000" + "6869"},
		{"call", KindLaneBatch, flagCall, 0x01020304, "", "00000000" + "01" + "01" + "01020304"},
		{"reply", KindLaneBatch, flagReply, 7, "\xff", "00000001" + "01" + "02" + "00000007" + "ff"},
		{"error", KindFetch, flagReply | flagError, 8, "\x01no", "00000003" + "08" + "06" + "00000008" + "016e6f"},
		{"link", kindLink, 0, 0, "0123456789abcdef", "00000010" + "f0" + "00" + "00000000" + "30313233343536373839616263646566"},
		{"ping", kindPing, 0, 0, "", "00000000" + "f1" + "00" + "00000000"},
		{"pong", kindPong, 0, 0, "", "00000000" + "f2" + "00" + "00000000"},
	} {
		got := appendFrame(nil, c.kind, c.flags, c.id, []byte(c.payload))
		if hex.EncodeToString(got) != c.want {
			t.Errorf("%s: %x, want %s", c.name, got, c.want)
		}
		h, p, err := newFrameReader(bytes.NewReader(got)).next()
		if err != nil || h.kind != c.kind || h.flags != c.flags || h.id != c.id || string(p) != c.payload {
			t.Errorf("%s: decoded %+v %q, %v", c.name, h, p, err)
		}
	}
}

// Kinds are on the wire, too.
func TestKindNumbers(t *testing.T) {
	got := []Kind{KindLaneBatch, KindForward, KindRouteSync, KindRouteChanges, KindLeaseRenew, KindKick, KindWake, KindFetch, KindQuery, KindHello, KindAgree, KindAdmin, KindOrigin}
	for i, k := range got {
		if int(k) != i+1 {
			t.Errorf("kind at %d is %d", i, k)
		}
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"length over the cap":   "00400001" + "01" + "00" + "00000000",
		"huge length":           "ffffffff" + "01" + "00" + "00000000",
		"kind 0":                "00000000" + "00" + "00" + "00000000",
		"unknown flag":          "00000000" + "01" + "08" + "00000000",
		"call and reply":        "00000000" + "01" + "03" + "00000000",
		"error without a reply": "00000000" + "01" + "04" + "00000000",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := newFrameReader(bytes.NewReader(b)).next(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, in := range map[string]string{
		"in the header":        "000000",
		"in the payload":       "00000002" + "01" + "00" + "00000000" + "61",
		"in a large payload":   "00020000" + "01" + "00" + "00000000" + "61",
		"before the payload":   "00000002" + "01" + "00" + "00000000",
		"before large payload": "00020000" + "01" + "00" + "00000000",
	} {
		b, _ := hex.DecodeString(in)
		if _, _, err := newFrameReader(bytes.NewReader(b)).next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("end %s: %v", name, err)
		}
	}
	if _, _, err := newFrameReader(bytes.NewReader(nil)).next(); err != io.EOF {
		t.Errorf("end between frames: %v", err)
	}
}

// A declared length alone must not cost its memory.
func TestDeclaredLengthIsNotAllocated(t *testing.T) {
	var b []byte
	b = header{length: MaxPayload, kind: KindForward}.append(b)
	r := newFrameReader(bytes.NewReader(b))
	if _, _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if cap(r.big) > growStep {
		t.Errorf("a frame without bytes took %d", cap(r.big))
	}
}

func TestFramesOfAllSizes(t *testing.T) {
	sizes := []int{0, 1, readBuffer - headerBytes - 1, readBuffer - headerBytes, readBuffer - headerBytes + 1, readBuffer, growStep, growStep + 1, keepBuffer + 1, 3 << 20, MaxPayload, 5, 100_000, 7}
	var wire []byte
	for i, n := range sizes {
		wire = appendFrame(wire, KindForward, 0, uint32(i), bytes.Repeat([]byte{byte(i + 1)}, n))
	}
	for name, src := range map[string]io.Reader{
		"whole": bytes.NewReader(wire), "half": iotest.HalfReader(bytes.NewReader(wire)), "with EOF": iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		r := newFrameReader(src)
		for i, n := range sizes {
			h, p, err := r.next()
			if err != nil || h.id != uint32(i) || !bytes.Equal(p, bytes.Repeat([]byte{byte(i + 1)}, n)) {
				t.Fatalf("%s: frame %d of %d bytes: %+v, %d bytes, %v", name, i, n, h, len(p), err)
			}
		}
		if _, _, err := r.next(); err != io.EOF {
			t.Errorf("%s: after the last: %v", name, err)
		}
		if cap(r.big) > keepBuffer {
			t.Errorf("%s: keeps %d bytes", name, cap(r.big))
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, KindForward, 0, 0, []byte("hello")), KindFetch, flagCall, 9, nil), uint8(3))
	f.Add(header{length: math.MaxUint32, kind: 1}.append(nil), uint8(1))
	f.Add(header{length: MaxPayload, kind: 1}.append(nil), uint8(255))
	f.Add(appendFrame(nil, kindLink, 0, 0, make([]byte, 16)), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		whole := newFrameReader(bytes.NewReader(in))
		parts := newFrameReader(&chunked{in: in, n: int(chunk) + 1})
		var again []byte
		for {
			h, p, err := whole.next()
			h2, p2, err2 := parts.next()
			if h != h2 || !bytes.Equal(p, p2) || (err == nil) != (err2 == nil) {
				t.Fatalf("whole %+v %v, in chunks %+v %v", h, err, h2, err2)
			}
			if err != nil {
				break
			}
			if int(h.length) != len(p) || len(p) > MaxPayload {
				t.Fatalf("%+v with %d bytes", h, len(p))
			}
			again = appendFrame(again, h.kind, h.flags, h.id, p)
		}
		if !bytes.HasPrefix(in, again) {
			t.Fatalf("encoded again: %x is no prefix of %x", again, in)
		}
		_ = decodeError(in)
	})
}

// chunked delivers n bytes at a time.
type chunked struct {
	in []byte
	n  int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	k := copy(p[:min(len(p), c.n)], c.in)
	c.in = c.in[k:]
	return k, nil
}
