package state_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func TestOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := state.NewOrdered()
		want := map[int]bool{}
		if rapid.Bool().Draw(t, "many") { // enough to cut chunks
			step := rapid.SampledFrom([]int{1, -1, 7}).Draw(t, "step")
			for i := range 2000 {
				v := (i*step%2003 + 2003) % 2003
				if !want[v] {
					o.Insert(v)
					want[v] = true
				}
			}
		}
		for range rapid.IntRange(0, 200).Draw(t, "changes") {
			v := rapid.IntRange(0, 2100).Draw(t, "value")
			if want[v] || rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				o.Remove(v)
				delete(want, v)
				continue
			}
			o.Insert(v)
			want[v] = true
		}
		sorted := slices.Sorted(maps.Keys(want))
		for _, from := range []int{-1, 500, 1999, 3000} {
			i, _ := slices.BinarySearch(sorted, from)
			if d := cmp.Diff(sorted[i:], o.From(from), cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("from %d:\n%s", from, d)
			}
		}
		if o.Len() != len(want) {
			t.Fatalf("length %d, want %d", o.Len(), len(want))
		}
	})
}

func TestRangeSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s state.RangeSet
		want := map[uint64]bool{}
		for range rapid.IntRange(0, 100).Draw(t, "changes") {
			v := rapid.Uint64Range(0, 40).Draw(t, "value")
			if rapid.IntRange(0, 9).Draw(t, "drop") == 0 {
				s.DropBelow(v)
				maps.DeleteFunc(want, func(k uint64, _ bool) bool { return k < v })
			} else if s.Add(v) == want[v] {
				t.Fatalf("add %d", v)
			} else {
				want[v] = true
			}
			for k := range uint64(42) {
				if s.Has(k) != want[k] {
					t.Fatalf("has %d: %v", k, s.Has(k))
				}
			}
			if !s.Valid() {
				t.Fatal("ranges touch or overlap")
			}
		}
	})
	var s state.RangeSet
	for v := range uint64(1000) {
		s.Add(v)
	}
	if s.Ranges() != 1 {
		t.Fatalf("%d ranges for a run", s.Ranges())
	}
}
