package raftfsm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func openTestHost(t testing.TB, fs vfs.FS) *raftfsm.TestHost {
	t.Helper()
	h, err := raftfsm.OpenTestHost(fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func dump(t testing.TB, st raftfsm.Store, lo, hi []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	prev := ""
	err := st.Iterate(lo, hi, func(k, v []byte) bool {
		if string(k) <= prev && prev != "" {
			t.Errorf("key %q after %q", k, prev)
		}
		prev = string(k)
		out[prev] = string(v)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStateConformance is what machines ask of a Store: its own keys, atomic batches, ranges.
func TestStateConformance(t *testing.T) {
	h := openTestHost(t, vfs.NewMem())
	stores := []raftfsm.Store{h.State(1, 1), h.State(1, 2), h.State(2, 1)}
	for i, st := range stores {
		b := st.NewBatch()
		for k := range 10 {
			b.Set([]byte(fmt.Sprintf("k%d", k)), []byte(fmt.Sprintf("v%d-%d", i, k)))
		}
		b.Set([]byte{}, []byte("empty key"))
		b.Set([]byte{0xff, 0xff}, nil)
		if b.Len() == 0 {
			t.Error("batch says that it is empty")
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	b := stores[1].NewBatch()
	b.Delete([]byte("k0"))
	b.DeleteRange([]byte("k2"), []byte("k5"))
	b.DeleteRange([]byte{0xff}, nil)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"": "empty key", "k1": "v1-1", "k5": "v1-5", "k6": "v1-6", "k7": "v1-7", "k8": "v1-8", "k9": "v1-9"}
	if d := cmp.Diff(want, dump(t, stores[1], nil, nil)); d != "" {
		t.Error(d)
	}
	if got := dump(t, stores[0], []byte("k3"), []byte("k5")); len(got) != 2 || got["k3"] != "v0-3" {
		t.Errorf("range: %v", got)
	}
	if n := len(dump(t, stores[2], nil, nil)); n != 12 {
		t.Errorf("group 2 has %d keys", n)
	}
	if v, err := stores[0].Get([]byte("k2")); err != nil || string(v) != "v0-2" {
		t.Errorf("get: %q, %v", v, err)
	}
	if _, err := stores[1].Get([]byte("k2")); !errors.Is(err, raftfsm.ErrNotFound) {
		t.Errorf("deleted key: %v", err)
	}
	n := 0
	if err := stores[0].Iterate(nil, nil, func(_, _ []byte) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("iteration went on to %d: %v", n, err)
	}
}

// TestStateCrashImages writes a machine back at random points and loses power at others: the applied
// index that is read back never exceeds the content, and what was flushed is there.
func TestStateCrashImages(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
		fs := vfs.NewCrashableMem()
		h, err := raftfsm.OpenTestHost(fs)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		m := raftfsmtest.NewMachine()
		if err := m.Load(h.State(1, 1)); err != nil {
			rt.Fatal(err)
		}
		digests := map[uint64][16]byte{}
		note := func() {
			i, d := m.Digest()
			digests[i] = d
		}
		note()
		var index, flushed, written uint64
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "op") {
			default:
				index++
				if _, err := m.Apply(index, 1, []byte(fmt.Sprintf("%c entry %d", rune('a'+rng.IntN(20)), index))); err != nil {
					rt.Fatal(err)
				}
				note()
			case 4:
				if err := m.WriteBack(); err != nil {
					rt.Fatal(err)
				}
				written = m.Applied()
			case 5:
				if err := h.Flush(); err != nil {
					rt.Fatal(err)
				}
				flushed = written
			case 6:
				fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(rt, "unsynced"), RNG: rng})
				_ = h.Close()
				if h, err = raftfsm.OpenTestHost(fs); err != nil {
					rt.Fatal(err)
				}
				m = raftfsmtest.NewMachine()
				if err := m.Load(h.State(1, 1)); err != nil {
					rt.Fatal(err)
				}
				got, d := m.Digest()
				if got < flushed || got > written {
					rt.Fatalf("applied %d after a crash, flushed %d, written %d", got, flushed, written)
				}
				if d != digests[got] {
					rt.Fatalf("state does not belong to its applied index %d", got)
				}
				index, written, flushed = got, got, got
			}
		}
	})
}

// TestStreamRoundTrip streams a state and reads it back; every cut and every flipped bit is noticed.
func TestStreamRoundTrip(t *testing.T) {
	h := openTestHost(t, vfs.NewMem())
	st := h.State(4, 9)
	want := map[string]string{}
	b := st.NewBatch()
	for i := range 300 {
		k, v := fmt.Sprintf("key %d", i), fmt.Sprintf("%0*d", i*7%900, i)
		want[k] = v
		b.Set([]byte(k), []byte(v))
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	stream, size, err := h.StreamState(4, 9, 77)
	if err != nil || size != int64(len(stream)) {
		t.Fatalf("stream of %d bytes announced as %d: %v", len(stream), size, err)
	}
	got, err := raftfsm.ReadStream(stream)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	empty, _, err := h.StreamState(5, 1, 77)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string][]byte{"full": stream, "empty": empty} {
		step := max(1, len(s)/3000)
		for i := 0; i < len(s); i += step {
			if _, err := raftfsm.ReadStream(s[:i]); !errors.Is(err, raftfsm.ErrCorrupt) {
				t.Fatalf("%s stream cut at %d: %v", name, i, err)
			}
			bad := append([]byte(nil), s...)
			bad[i] ^= 1 << (i % 8)
			if _, err := raftfsm.ReadStream(bad); err == nil {
				t.Fatalf("%s stream with a flip at %d was accepted", name, i)
			}
		}
		if _, err := raftfsm.ReadStream(append(s[:len(s):len(s)], 0)); !errors.Is(err, raftfsm.ErrCorrupt) {
			t.Fatalf("%s stream with a byte more: %v", name, err)
		}
	}
}
