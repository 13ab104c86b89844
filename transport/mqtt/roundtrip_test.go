package mqtt_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// chunkReader delivers data in pieces of the sizes in cuts, again and again.
type chunkReader struct {
	data []byte
	cuts []byte
	i    int
}

func (c *chunkReader) Read(b []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := len(c.data)
	if len(c.cuts) > 0 {
		n = min(n, int(c.cuts[c.i%len(c.cuts)])+1)
		c.i++
	}
	n = copy(b, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

// TestRoundTrip: what is encoded is decoded to the same packet, has the size
// that was foretold, and does not depend on how the bytes are delivered. The
// packets of one run share a stream, so none may disturb the next.
func TestRoundTrip(t *testing.T) { rapid.Check(t, checkRoundTrip) }

func checkRoundTrip(t *rapid.T) {
	g := gen{t, drawVersion(t)}
	var wire []byte
	var want []mqtt.Packet
	for range rapid.IntRange(1, 6).Draw(t, "packets") {
		p := g.packet()
		before := len(wire)
		var err error
		if wire, err = mqtt.Append(wire, g.v, p); err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		if pub, ok := p.(*mqtt.Publish); ok && mqtt.PublishSize(g.v, pub) != len(wire)-before {
			t.Fatalf("PublishSize is %d, want %d", mqtt.PublishSize(g.v, pub), len(wire)-before)
		}
		want = append(want, p)
	}
	cuts := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "cuts")
	r := mqtt.NewReader(&chunkReader{data: wire, cuts: cuts}, mqtt.Limits{})
	r.SetVersion(g.v)
	for i, p := range want {
		got, err := r.Next()
		if err != nil {
			t.Fatalf("packet %d, %+v: %v", i, p, err)
		}
		if diff := cmp.Diff(p, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("packet %d differs (-want +got):\n%s", i, diff)
		}
		again, err := mqtt.Append(nil, g.v, got)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		if !bytes.Equal(again, wire[:len(again)]) {
			t.Fatalf("encode after decode: got % X, want % X", again, wire[:len(again)])
		}
		wire = wire[len(again):]
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("got %v at the end, want io.EOF", err)
	}
}

// TestClone: a clone survives the next call of Next.
func TestClone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := gen{t, mqtt.V5}
		first, second := g.publish(), g.publish()
		wire, _ := mqtt.Append(nil, mqtt.V5, first)
		wire, _ = mqtt.Append(wire, mqtt.V5, second)
		r := mqtt.NewReader(&chunkReader{data: wire}, mqtt.Limits{})
		r.SetVersion(mqtt.V5)
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		kept := p.(*mqtt.Publish).Clone()
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, kept, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("clone differs (-want +got):\n%s", diff)
		}
	})
}

// TestMessageProps: taking properties apart and putting them together again
// keeps all but the order between different properties.
func TestMessageProps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		props := gen{t, mqtt.V5}.props()
		m, err := mqtt.ParseMessageProps(props)
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Append([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		again, err := mqtt.ParseMessageProps(b[1:])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatalf("differs (-want +got):\n%s", diff)
		}
		if len(b)-1 != len(props) {
			t.Fatalf("got %d bytes, want %d", len(b)-1, len(props))
		}
	})
}
