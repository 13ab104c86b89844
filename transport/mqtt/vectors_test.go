package mqtt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// newReader returns a reader that is ready for the first packet of wire: one
// that waits for CONNECT, or one whose version is fixed.
func newReader(src io.Reader, v mqtt.Version, first byte) *mqtt.Reader {
	r := mqtt.NewReader(src, mqtt.Limits{})
	if first>>4 != byte(mqtt.TypeConnect) {
		r.SetVersion(v)
	}
	return r
}

// same compares packets; empty and nil slices are the same on the wire.
func same(t testing.TB, got, want mqtt.Packet) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("packet differs (-want +got):\n%s", diff)
	}
}

// testName is a spec tag as it stands in test names: v5_MQTT_3_1_0_2.
func testName(tag string) string {
	if tag == "" {
		return "limit"
	}
	return strings.NewReplacer(":", "_", "-", "_", ".", "_").Replace(tag)
}

func violation(t testing.TB, err error) *mqtt.Error {
	t.Helper()
	var e *mqtt.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want a violation", err)
	}
	return e
}

func TestVectorNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range mqtttest.Vectors() {
		if seen[v.String()] {
			t.Errorf("two vectors named %s", &v)
		}
		seen[v.String()] = true
	}
	t.Logf("%d vectors", len(seen))
}

func TestDecodeVectors(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		t.Run(v.String(), func(t *testing.T) {
			wire := v.Bytes()
			r := newReader(bytes.NewReader(wire), v.Version, wire[0])
			p, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			same(t, p, v.Packet)
			if r.Version() != v.Version {
				t.Errorf("got version %s, want %s", r.Version(), v.Version)
			}
			if r.Size() != len(wire) || r.Buffered() != 0 {
				t.Errorf("got size %d and %d bytes buffered, want %d and 0", r.Size(), r.Buffered(), len(wire))
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("got %v after the last packet, want io.EOF", err)
			}
		})
	}
}

func TestDecodeVectorsByteByByte(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		t.Run(v.String(), func(t *testing.T) {
			wire := v.Bytes()
			p, err := newReader(iotest.OneByteReader(bytes.NewReader(wire)), v.Version, wire[0]).Next()
			if err != nil {
				t.Fatal(err)
			}
			same(t, p, v.Packet)
		})
	}
}

func TestEncodeVectors(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		t.Run(v.String(), func(t *testing.T) {
			prefix := []byte("before")
			got, err := mqtt.Append(prefix, v.Version, v.Packet)
			if err != nil {
				t.Fatal(err)
			}
			wire := v.Bytes()
			if !bytes.HasPrefix(got, prefix) {
				t.Fatalf("Append changed what was in dst: % X", got)
			}
			got = got[len(prefix):]
			if !v.DecodeOnly && !bytes.Equal(got, wire) {
				t.Errorf("\ngot  % X\nwant % X", got, wire)
			}
			if p, ok := v.Packet.(*mqtt.Publish); ok {
				if n := mqtt.PublishSize(v.Version, p); n != len(got) {
					t.Errorf("PublishSize is %d, want %d", n, len(got))
				}
				if head := mqtt.AppendPublishHeader(nil, v.Version, p); !bytes.Equal(append(head, p.Payload...), got) {
					t.Errorf("AppendPublishHeader and payload give % X, want % X", head, got)
				}
			}
			p, err := newReader(bytes.NewReader(got), v.Version, got[0]).Next()
			if err != nil {
				t.Fatal(err)
			}
			same(t, p, v.Packet)
		})
	}
}

// TestEveryTruncationIsRefused cuts each packet at every byte, once by ending
// the stream and once by shortening the remaining length.
func TestEveryTruncationIsRefused(t *testing.T) {
	for _, v := range mqtttest.Valid() {
		t.Run(v.String(), func(t *testing.T) {
			wire := v.Bytes()
			for n := 1; n < len(wire); n++ {
				_, err := newReader(bytes.NewReader(wire[:n]), v.Version, wire[0]).Next()
				if err != io.ErrUnexpectedEOF {
					t.Fatalf("cut at %d: got %v, want io.ErrUnexpectedEOF", n, err)
				}
			}
			for n := range len(wire) - 2 {
				if wire[1] >= 0x80 || n >= 0x80 {
					break
				}
				short := append([]byte{wire[0], byte(n)}, wire[2:2+n]...)
				p, err := newReader(bytes.NewReader(short), v.Version, wire[0]).Next()
				if err != nil {
					violation(t, err)
					continue
				}
				if cmp.Equal(p, v.Packet, cmpopts.EquateEmpty()) && !v.DecodeOnly {
					t.Errorf("the first %d bytes mean the same packet", n)
				}
			}
		})
	}
}

// TestRefuseVectors also proves that each refusal can be told to the client:
// its code is one that CONNACK or DISCONNECT may carry.
func TestRefuseVectors(t *testing.T) {
	for _, v := range mqtttest.Invalid() {
		t.Run(testName(v.Tag)+"/"+v.Name, func(t *testing.T) {
			wire := v.Bytes()
			r := newReader(bytes.NewReader(wire), v.Version, wire[0])
			p, err := r.Next()
			if err == nil {
				t.Fatalf("decoded as %+v", p)
			}
			e := violation(t, err)
			if e.Code != v.Code || e.Tag != v.Tag {
				t.Errorf("got %q [%s], want %q [%s]", e.Code, e.Tag, v.Code, v.Tag)
			}
			if r.Version() != v.Version {
				t.Errorf("got version %s, want %s", r.Version(), v.Version)
			}
			if _, again := r.Next(); again != err {
				t.Errorf("the next call returned %v, want the same error", again)
			}
			carrier := mqtt.TypeDisconnect
			if wire[0]>>4 == byte(mqtt.TypeConnect) {
				carrier = mqtt.TypeConnack
			}
			if !e.Code.ValidIn(carrier) {
				t.Errorf("%s cannot carry %q", carrier, e.Code)
			}
			if prefix := map[mqtt.Version]string{mqtt.V31: "v31:", mqtt.V311: "v311:"}[v.Version]; !strings.HasPrefix(e.Tag, prefix) {
				t.Errorf("tag %s is of another version", e.Tag)
			}
		})
	}
}

// TestRefuseVectorsByteByByte proves that a refusal does not depend on how the
// bytes arrive.
func TestRefuseVectorsByteByByte(t *testing.T) {
	for _, v := range mqtttest.Invalid() {
		wire := v.Bytes()
		_, err := newReader(iotest.OneByteReader(bytes.NewReader(wire)), v.Version, wire[0]).Next()
		e := violation(t, err)
		if e.Code != v.Code || e.Tag != v.Tag {
			t.Errorf("%s: got %q [%s], want %q [%s]", &v, e.Code, e.Tag, v.Code, v.Tag)
		}
	}
}

// TestHeaderIsRefusedEarly proves that a bad first byte is refused without
// waiting for the rest.
func TestHeaderIsRefusedEarly(t *testing.T) {
	for _, first := range []byte{0x00, 0x36, 0x38, 0x80, 0x60, 0xE1, 0xC1} {
		r := mqtt.NewReader(io.MultiReader(bytes.NewReader([]byte{first}), iotest.ErrReader(errors.New("read on"))), mqtt.Limits{})
		r.SetVersion(mqtt.V5)
		_, err := r.Next()
		if e := violation(t, err); e.Code != mqtt.MalformedPacket {
			t.Errorf("%02X: got %v", first, e)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := &mqtt.Error{Code: mqtt.PacketTooLarge, Msg: "packet is too large"}
	if got, want := e.Error(), "mqtt: packet too large: packet is too large"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	e.Tag = "v5:MQTT-3.2.2-15"
	if got, want := fmt.Sprint(e), "mqtt: packet too large: packet is too large [v5:MQTT-3.2.2-15]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
