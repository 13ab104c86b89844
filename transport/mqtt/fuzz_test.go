package mqtt_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// seed adds all vectors, each alone and, as a client would send it, behind a
// CONNECT. version 0 stands for a server that waits for CONNECT.
func seed(add func(version byte, wire []byte)) {
	connects := map[mqtt.Version]string{mqtt.V31: connect31, mqtt.V311: connect311, mqtt.V5: connect5}
	for _, v := range mqtttest.Vectors() {
		wire := v.Bytes()
		add(byte(v.Version), wire)
		if wire[0]>>4 == byte(mqtt.TypeConnect) {
			add(0, wire)
		} else {
			add(0, append(mqtttest.Wire(connects[v.Version]), wire...))
		}
	}
}

func fuzzReader(src io.Reader, version byte) *mqtt.Reader {
	r := mqtt.NewReader(src, mqtt.Limits{})
	if v := mqtt.Version(version); v >= mqtt.V31 && v <= mqtt.V5 {
		r.SetVersion(v)
	}
	return r
}

// FuzzDecode: no input panics; whatever is decoded can be encoded, and decoding
// that gives the same packet and the same bytes again.
func FuzzDecode(f *testing.F) {
	seed(func(version byte, wire []byte) { f.Add(version, wire) })
	f.Fuzz(func(t *testing.T, version byte, wire []byte) {
		r := fuzzReader(bytes.NewReader(wire), version)
		for {
			p, err := r.Next()
			if err != nil {
				return
			}
			checkIdentity(t, r.Version(), p)
		}
	})
}

func checkIdentity(t *testing.T, v mqtt.Version, p mqtt.Packet) {
	t.Helper()
	if c, ok := p.(*mqtt.Connect); ok {
		v = c.Version // a client's reader may see a CONNECT of another version
	}
	wire, err := mqtt.Append(nil, v, p)
	if err != nil {
		t.Fatalf("%s: cannot encode %+v: %v", v, p, err)
	}
	if pub, ok := p.(*mqtt.Publish); ok && mqtt.PublishSize(v, pub) != len(wire) {
		t.Fatalf("PublishSize is %d, want %d", mqtt.PublishSize(v, pub), len(wire))
	}
	again, err := newReader(bytes.NewReader(wire), v, wire[0]).Next()
	if err != nil {
		t.Fatalf("%s: cannot decode % X of %+v: %v", v, wire, p, err)
	}
	if diff := cmp.Diff(p, again, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s: differs (-want +got):\n%s", v, diff)
	}
	twice, err := mqtt.Append(nil, v, again)
	if err != nil || !bytes.Equal(wire, twice) {
		t.Fatalf("%s: encoded twice: % X and % X, %v", v, wire, twice, err)
	}
}

// FuzzChunks: how the bytes are cut changes neither packets nor errors.
func FuzzChunks(f *testing.F) {
	seed(func(version byte, wire []byte) { f.Add(version, wire, []byte{0, 2, 6}) })
	f.Fuzz(func(t *testing.T, version byte, wire, cuts []byte) {
		want := transcript(fuzzReader(bytes.NewReader(wire), version))
		for _, c := range [][]byte{{0}, cuts} {
			got := transcript(fuzzReader(&chunkReader{data: wire, cuts: c}, version))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("cut by %v (-whole +cut):\n%s", c, diff)
			}
		}
	})
}

// transcript writes down what a reader returns up to its first error.
func transcript(r *mqtt.Reader) []string {
	var out []string
	for {
		p, err := r.Next()
		if err != nil {
			return append(out, fmt.Sprintf("version %s: %v", r.Version(), err))
		}
		line := fmt.Sprintf("%d bytes: %s %+v", r.Size(), p.Type(), p)
		if c, ok := p.(*mqtt.Connect); ok && c.Will != nil {
			will := *c.Will
			c.Will = nil // a pointer prints as an address
			line = fmt.Sprintf("%d bytes: %+v with %+v", r.Size(), c, will)
		}
		out = append(out, line)
	}
}

// FuzzRoundTrip drives TestRoundTrip by the fuzzer.
func FuzzRoundTrip(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkRoundTrip)) }

// FuzzProps: properties that are accepted survive being taken apart.
func FuzzProps(f *testing.F) {
	for _, v := range mqtttest.Valid() {
		if p, ok := v.Packet.(*mqtt.Publish); ok {
			f.Add(p.Props)
		}
	}
	f.Fuzz(func(t *testing.T, props []byte) {
		m, err := mqtt.ParseMessageProps(props)
		if err != nil {
			return
		}
		b, err := m.Append(nil)
		if err != nil {
			t.Fatalf("cannot encode %+v: %v", m, err)
		}
		again, err := mqtt.ParseMessageProps(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		p := &mqtt.Publish{Topic: []byte("a"), Props: props}
		if len(props) > 8<<10 {
			return
		}
		wire, err := mqtt.Append(nil, mqtt.V5, p)
		if err != nil {
			t.Fatal(err)
		}
		r := mqtt.NewReader(bytes.NewReader(wire), mqtt.Limits{})
		r.SetVersion(mqtt.V5)
		got, err := r.Next()
		if err != nil { // limits of ours
			if e := violation(t, err); e.Tag != "" {
				t.Fatalf("PUBLISH refused: %v", e)
			}
			return
		}
		same(t, got, p)
	})
}
