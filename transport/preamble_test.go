package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var exported = cmp.AllowUnexported(preamble{}, answer{})

// The bytes are frozen: nodes of different versions must understand each other.
func TestPreambleGoldenBytes(t *testing.T) {
	p := preamble{version: 1, kind: KindRaft, group: 0x01020304, cluster: "c1", from: "n1", to: "n22"}
	want := "f10f7a" + "01" + "01" + "000e" + "01020304" + "026331" + "026e31" + "036e3232"
	got := appendPreamble(nil, p)
	if hex.EncodeToString(got) != want {
		t.Errorf("preamble %x, want %s", got, want)
	}
	back, err := readPreamble(iotest.OneByteReader(bytes.NewReader(got)))
	if d := cmp.Diff(p, back, exported); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}

	a := answer{version: 1, kind: KindPeer, status: StatusWrongCluster, node: "n1", cluster: "c1", message: "no"}
	want = "f10f7a" + "82" + "01" + "03" + "0009" + "026e31" + "026331" + "026e6f"
	got = appendAnswer(nil, a)
	if hex.EncodeToString(got) != want {
		t.Errorf("answer %x, want %s", got, want)
	}
	aback, err := readAnswer(iotest.OneByteReader(bytes.NewReader(got)))
	if d := cmp.Diff(a, aback, exported); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestStatusNumbers(t *testing.T) {
	for s, want := range map[Status]string{
		1: "ok", 2: "version", 3: "wrong_cluster", 4: "wrong_node", 5: "not_formed", 6: "removed",
		7: "unknown_group", 8: "busy", 9: "certificate", 10: "refused", 99: "status_99",
	} {
		if s.String() != want {
			t.Errorf("status %d is %s, want %s", byte(s), s, want)
		}
		if s > StatusOK && s < StatusRefused && statusOf(s.err()) != s {
			t.Errorf("status %s does not survive its error", s)
		}
	}
	for k, want := range map[Kind]string{1: "raft", 2: "peer", 3: "join", 9: "kind_9"} {
		if k.String() != want {
			t.Errorf("kind %d is %s", byte(k), k)
		}
	}
}

func TestPreambleOfTheFuture(t *testing.T) {
	// Members that a later node appends are ignored.
	b := appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c", from: "a", to: "b"})
	b = append(b, "more"...)
	b[6] += 4
	if p, err := readPreamble(bytes.NewReader(b)); err != nil || p.to != "b" {
		t.Errorf("appended members: %+v, %v", p, err)
	}
	// Another version has an unknown body, which is skipped.
	b = []byte{0xf1, 0x0f, 0x7a, 2, 9, 0, 3, 1, 2, 3, 'x'}
	r := bytes.NewReader(b)
	if p, err := readPreamble(r); err != nil || p.version != 9 || r.Len() != 1 {
		t.Errorf("version 9: %+v, %v, %d bytes left", p, err, r.Len())
	}
}

func TestPreambleRefuses(t *testing.T) {
	good := appendPreamble(nil, preamble{version: 1, kind: KindPeer, cluster: "c", from: "a", to: "b"})
	edit := func(fn func(b []byte) []byte) []byte { return fn(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"other magic": edit(func(b []byte) []byte { b[1]++; return b }),
		"an answer":   edit(func(b []byte) []byte { b[3] |= answerBit; return b }),
		"huge body":   edit(func(b []byte) []byte { b[5] = 0xff; return b }),
		"short body":  edit(func(b []byte) []byte { b[6] = 3; return b }),
		"cut text":    edit(func(b []byte) []byte { b[6]--; return b }),
		"long text":   edit(func(b []byte) []byte { b[11] = 200; return b }),
		"control":     edit(func(b []byte) []byte { b[12] = '\n'; return b }),
		"blank":       edit(func(b []byte) []byte { b[12] = ' '; return b }),
		"not ASCII":   edit(func(b []byte) []byte { b[12] = 0xc3; return b }),
	} {
		if p, err := readPreamble(bytes.NewReader(b)); !errors.Is(err, ErrPreamble) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for n := range good {
		if _, err := readPreamble(bytes.NewReader(good[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	// A node id cannot be longer than what every node takes.
	long := strings.Repeat("x", maxIDBytes+1)
	if validID(long) || !validID(long[1:]) {
		t.Error("length of ids")
	}
}

func FuzzPreamble(f *testing.F) {
	f.Add(appendPreamble(nil, preamble{version: 1, kind: KindRaft, group: 7, cluster: "c", from: "a", to: "b"}))
	f.Add(appendAnswer(nil, answer{version: 1, kind: KindJoin, status: StatusOK, node: "a", cluster: "c", message: "m"}))
	f.Add([]byte{0xf1, 0x0f, 0x7a, 1, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		if p, err := readPreamble(r); err == nil && p.version == preambleVersion {
			again, err := readPreamble(bytes.NewReader(appendPreamble(nil, p)))
			if err != nil || again != p {
				t.Fatalf("%+v became %+v, %v", p, again, err)
			}
		}
		if a, err := readAnswer(bytes.NewReader(in)); err == nil {
			again, err := readAnswer(bytes.NewReader(appendAnswer(nil, a)))
			if err != nil || again != a {
				t.Fatalf("%+v became %+v, %v", a, again, err)
			}
		}
	})
}
