package statetest

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Conformance holds a store against what machines rely on: it runs random batches and
// reads beside a plain map. Every implementation of state.Store should pass it, so
// that what is proved with MemStore holds for the real store.
func Conformance(t testing.TB, st state.Store) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	key := func() []byte {
		k := []byte{"ISU"[rnd.IntN(3)]}
		for range rnd.IntN(4) {
			k = append(k, byte(rnd.IntN(3)*127))
		}
		return k
	}
	want := map[string]string{}
	for round := range 300 {
		b := st.NewBatch()
		next := maps.Clone(want)
		for range rnd.IntN(8) {
			change(rnd, b, next, key)
		}
		if rnd.IntN(4) == 0 {
			continue // a batch that is not committed changes nothing
		}
		if err := b.Commit(); err != nil {
			t.Fatalf("round %d: commit: %v", round, err)
		}
		want = next
		compareStore(t, st, want, key())
	}
}

// change adds one random change to a batch and to the map, with buffers that are
// overwritten afterwards.
func change(rnd *rand.Rand, b state.Batch, want map[string]string, key func() []byte) {
	k, v := key(), []byte{byte(rnd.IntN(256)), byte(rnd.IntN(256))}
	switch rnd.IntN(5) {
	case 0:
		b.Delete(k)
		delete(want, string(k))
	case 1:
		hi := key()
		if bytes.Compare(k, hi) > 0 {
			k, hi = hi, k
		}
		b.DeleteRange(k, hi)
		maps.DeleteFunc(want, func(s, _ string) bool { return s >= string(k) && s < string(hi) })
	case 2:
		b.Set(k, nil) // an empty value is a value
		want[string(k)] = ""
	default:
		b.Set(k, v)
		want[string(k)] = string(v)
	}
	for i := range k {
		k[i] = 0xee
	}
	v[0] = 0xee
}

func compareStore(t testing.TB, st state.Store, want map[string]string, lower []byte) {
	t.Helper()
	for _, bounds := range [][2][]byte{{nil, nil}, {lower, nil}, {nil, lower}, {lower, {'S'}}} {
		var keys []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if k >= string(bounds[0]) && (bounds[1] == nil || k < string(bounds[1])) {
				keys = append(keys, k)
			}
		}
		stop := len(keys) / 2
		var got []string
		err := st.Iterate(bounds[0], bounds[1], func(k, v []byte) bool {
			if string(v) != want[string(k)] {
				t.Fatalf("iterate: %q has %q, want %q", k, v, want[string(k)])
			}
			got = append(got, string(k))
			return len(got) < stop || stop == 0
		})
		if stop > 0 {
			keys = keys[:stop]
		}
		if err != nil || !slices.Equal(got, keys) {
			t.Fatalf("iterate %q: %q, want %q, %v", bounds, got, keys, err)
		}
	}
	for k, v := range want {
		one, err := st.Get([]byte(k))
		if err != nil || string(one) != v {
			t.Fatalf("get %q: %q, want %q, %v", k, one, v, err)
		}
		for i := range one { // it is the caller's
			one[i] = 0xee
		}
		if two, _ := st.Get([]byte(k)); string(two) != v {
			t.Fatalf("get %q: the caller changed the store", k)
		}
	}
	if _, err := st.Get([]byte("ISU")); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("get of a missing key: %v", err)
	}
}
