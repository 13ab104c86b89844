package router

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTrieAgainstNaive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr, naive := NewTrie[int](), naiveTrie{}
		var known []string
		filter := func() string {
			if len(known) > 0 && rapid.IntRange(0, 2).Draw(rt, "known") > 0 {
				return rapid.SampledFrom(known).Draw(rt, "filter")
			}
			f := genFilter().Draw(rt, "filter")
			known = append(known, f)
			return f
		}
		key := rapid.Uint64Range(0, 5)
		rt.Repeat(map[string]func(*rapid.T){
			"set": func(*rapid.T) {
				f, k, v := filter(), key.Draw(rt, "key"), rapid.Int().Draw(rt, "v")
				old, existed := tr.Set(f, k, v)
				if wantOld, want := naive.set(f, k, v); old != wantOld || existed != want {
					rt.Fatalf("Set(%q, %d) = %v, %v, want %v, %v", f, k, old, existed, wantOld, want)
				}
			},
			"delete": func(*rapid.T) {
				f, k := filter(), key.Draw(rt, "key")
				old, existed := tr.Delete(f, k)
				if wantOld, want := naive.delete(f, k); old != wantOld || existed != want {
					rt.Fatalf("Delete(%q, %d) = %v, %v, want %v, %v", f, k, old, existed, wantOld, want)
				}
			},
			"match": func(*rapid.T) {
				topic := genTopic().Draw(rt, "topic")
				var got []entry[int]
				tr.Match([]byte(topic), func(k uint64, v int) { got = append(got, entry[int]{k, v}) })
				if want := naive.match(topic); !slices.Equal(sorted(got), want) {
					rt.Fatalf("Match(%q) = %v, want %v in %v", topic, got, want, naive)
				}
			},
			"get": func(*rapid.T) {
				f, k := filter(), key.Draw(rt, "key")
				v, ok := tr.Get(f, k)
				want, wantOK := naive[f][k]
				n := 0
				tr.At(f, func(k uint64, v int) {
					if n++; naive[f][k] != v {
						rt.Fatalf("At(%q) yields %d, %d", f, k, v)
					}
				})
				if v != want || ok != wantOK || n != len(naive[f]) || tr.Count(f) != n {
					rt.Fatalf("Get(%q, %d) = %v, %v, want %v, %v; At %d, Count %d, want %d", f, k, v, ok, want, wantOK, n, tr.Count(f), len(naive[f]))
				}
			},
			"": func(*rapid.T) {
				checkTrie(rt, tr)
				pairs := 0
				for _, p := range naive {
					pairs += len(p)
				}
				if tr.Len() != pairs || tr.Filters() != len(naive) {
					rt.Fatalf("Len() = %d, Filters() = %d, want %d, %d", tr.Len(), tr.Filters(), pairs, len(naive))
				}
			},
		})
		checkWalk(rt, tr, naive)
	})
}

func checkWalk(rt *rapid.T, tr *Trie[int], naive naiveTrie) {
	type pair struct {
		filter string
		key    uint64
		v      int
	}
	var got, want []pair
	tr.Walk(func(f string, k uint64, v int) bool { got = append(got, pair{f, k, v}); return true })
	for f, pairs := range naive {
		for k, v := range pairs {
			want = append(want, pair{f, k, v})
		}
	}
	slices.SortFunc(want, func(a, b pair) int { return cmp.Or(cmp.Compare(a.filter, b.filter), cmp.Compare(a.key, b.key)) })
	if !slices.Equal(got, want) {
		rt.Fatalf("Walk yields %v, want %v", got, want)
	}
	if len(want) > 1 {
		n := 0
		tr.Walk(func(string, uint64, int) bool { n++; return false })
		if n != 1 {
			rt.Fatalf("Walk went on after false: %d calls", n)
		}
	}
}

// checkTrie verifies what the trie believes of itself.
func checkTrie[V any](tb interface{ Fatalf(string, ...any) }, tr *Trie[V]) {
	kids, xor, live, inUse := map[uint32]uint32{}, map[uint32]uint32{}, 0, 0
	free := map[uint32]bool{}
	for _, n := range tr.nodes.free {
		free[n] = true
	}
	for n := range tr.nodes.used {
		if free[n] {
			continue
		}
		inUse++
		nd := tr.nodes.at(n)
		if n == root {
			continue
		}
		live += int(nd.size)
		kids[nd.parent]++
		xor[nd.parent] ^= n
		if nd.kids < 2 && nd.set == 0 && nd.multi == 0 {
			tb.Fatalf("node %d (%s) has %d children and no set", n, tr.label(n), nd.kids)
		}
		if first := string(firstOf(tr.label(n))); tr.child(nd.parent, first) != n {
			tb.Fatalf("node %d is not found under its parent by %q", n, first)
		}
	}
	for n := range tr.nodes.used {
		if nd := tr.nodes.at(n); !free[n] && (nd.kids != kids[n] || nd.xor != xor[n]) {
			tb.Fatalf("node %d: %d children, xor %x, want %d, %x", n, nd.kids, nd.xor, kids[n], xor[n])
		}
	}
	if tr.live != live || len(tr.labels) > 2*live+8192 {
		tb.Fatalf("labels: %d in use of %d, counted %d", live, len(tr.labels), tr.live)
	}
	if inUse > 2*tr.Filters()+1 {
		tb.Fatalf("%d nodes for %d filters", inUse, tr.Filters())
	}
}

func TestMatchesAgainstNaive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f, topic := genFilter().Draw(rt, "filter"), genTopic().Draw(rt, "topic")
		want := naiveMatch(f, topic)
		if got := Matches(f, []byte(topic)); got != want {
			rt.Fatalf("Matches(%q, %q) = %v", f, topic, got)
		}
		if want && !strings.HasPrefix(topic, LiteralPrefix(f)) {
			rt.Fatalf("%q matches %q and has not its prefix %q", topic, f, LiteralPrefix(f))
		}
		if !HasWildcard(f) && want != (f == topic) {
			rt.Fatalf("%q has no wildcard; matches %q: %v", f, topic, want)
		}
	})
}

func TestTrieDollarRule_v5_MQTT_4_7_2_1(t *testing.T) {
	tr := NewTrie[string]()
	for i, f := range []string{"#", "+/#", "+/x", "+", "$SYS/#", "$SYS/+", "$SYS/x", "a/$x", "a/+", "a/#"} {
		tr.Set(f, uint64(i), f)
	}
	for topic, want := range map[string][]string{
		"$SYS/x": {"$SYS/#", "$SYS/+", "$SYS/x"},
		"$SYS":   {"$SYS/#"},
		"$x":     nil,
		"a/$x":   {"#", "+/#", "a/#", "a/$x", "a/+"},
	} {
		var got []string
		tr.Match([]byte(topic), func(_ uint64, v string) { got = append(got, v) })
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", topic, got, want)
		}
	}
}

func TestTrieManyKeysAtOneFilter(t *testing.T) {
	tr, rng := NewTrie[int](), rand.New(rand.NewPCG(1, 1))
	const n = 5000
	order := rng.Perm(n)
	for _, k := range order {
		if _, existed := tr.Set("a/+", uint64(k), k); existed {
			t.Fatalf("key %d existed", k)
		}
	}
	seen := make([]bool, n)
	tr.Match([]byte("a/b"), func(k uint64, v int) {
		if seen[k] || v != int(k) {
			t.Fatalf("key %d: seen %v, value %d", k, seen[k], v)
		}
		seen[k] = true
	})
	if slices.Contains(seen, false) || tr.Count("a/+") != n || tr.Filters() != 1 {
		t.Errorf("%d keys, %d filters", tr.Count("a/+"), tr.Filters())
	}
	for i, k := range rng.Perm(n) {
		if v, ok := tr.Delete("a/+", uint64(k)); !ok || v != k || tr.Len() != n-1-i {
			t.Fatalf("Delete(%d) = %d, %v; %d left", k, v, ok, tr.Len())
		}
		if v, ok := tr.Get("a/+", uint64(k)); ok {
			t.Fatalf("deleted key %d is still %d", k, v)
		}
	}
	checkTrie(t, tr)
}

// TestTrieReclaimsNodes churns through far more filters than it ever holds.
func TestTrieReclaimsNodes(t *testing.T) {
	tr, rng := NewTrie[int](), rand.New(rand.NewPCG(2, 2))
	var held []string
	for i := range 200_000 {
		if len(held) > 500 || len(held) > 0 && rng.IntN(2) == 0 {
			at := rng.IntN(len(held))
			if _, ok := tr.Delete(held[at], 1); !ok {
				t.Fatalf("%q is not there", held[at])
			}
			held[at] = held[len(held)-1]
			held = held[:len(held)-1]
			continue
		}
		f := fmt.Sprintf("site/%d/dev/%d/x/%d", rng.IntN(4), i%10, i)
		if rng.IntN(3) == 0 {
			f += "/#"
		}
		held = append(held, f)
		tr.Set(f, 1, i)
	}
	checkTrie(t, tr)
	if used := tr.nodes.used; used > 1200 {
		t.Errorf("%d nodes for at most 501 filters at a time", used)
	}
	if used := tr.sets.used; used > 600 {
		t.Errorf("%d sets for at most 501 filters at a time", used)
	}
	for _, f := range held {
		tr.Delete(f, 1)
	}
	checkTrie(t, tr)
	if tr.Len() != 0 || tr.Filters() != 0 || tr.edges.n != 0 || tr.live != 0 {
		t.Errorf("not empty: %d pairs, %d filters, %d edges, %d bytes", tr.Len(), tr.Filters(), tr.edges.n, tr.live)
	}
}

func TestEmptyTrieGivesItsMemoryBack(t *testing.T) {
	tr := NewTrie[int]()
	for i := range 5000 {
		tr.Set(fmt.Sprint("a/", i), 1, i)
	}
	for i := range 5000 {
		tr.Delete(fmt.Sprint("a/", i), 1)
	}
	if len(tr.nodes.pages) > 1 || len(tr.edges.slots) != 0 {
		t.Errorf("%d pages, %d slots are kept", len(tr.nodes.pages), len(tr.edges.slots))
	}
	tr.Set("a", 1, 1)
	if tr.Len() != 1 {
		t.Error("unusable after it was emptied")
	}
}

func TestTrieScanMeetsWhatStays(t *testing.T) {
	tr, rng := NewTrie[int](), rand.New(rand.NewPCG(3, 3))
	for i := range 3000 {
		tr.Set(fmt.Sprintf("keep/%d/%d", i%7, i), 1, i)
	}
	seen := map[string]int{}
	for from := uint32(0); from < tr.nodes.used; from += 100 {
		tr.scan(from, from+100, func(f string, _ uint64, _ int) { seen[f]++ })
		for range 20 { // splits, merges and reuse of nodes in between
			f := fmt.Sprintf("keep/%d/%d/x", rng.IntN(7), rng.IntN(3000))
			tr.Set(f, 1, 0)
			tr.Delete(fmt.Sprintf("keep/%d/%d/x", rng.IntN(7), rng.IntN(3000)), 1)
			tr.Delete(f, 1)
		}
	}
	for i := range 3000 {
		if f := fmt.Sprintf("keep/%d/%d", i%7, i); seen[f] != 1 {
			t.Fatalf("%s was met %d times", f, seen[f])
		}
	}
}

func TestTrieMatchAllocatesNothing(t *testing.T) {
	tr := NewTrie[uint64]()
	for i := range 1000 {
		tr.Set(fmt.Sprintf("dev/%d/+/state", i), 1, 1)
		tr.Set("dev/7/#", uint64(i), 1)
	}
	deep := strings.TrimSuffix(strings.Repeat("a/", 128), "/")
	for _, f := range worstFilters(500, 128) {
		tr.Set(f, 1, 1)
	}
	sum := uint64(0)
	fn := func(k, v uint64) { sum += k + v }
	for _, topic := range []string{"dev/7/x/state", "none/of/these", deep} {
		b := []byte(topic)
		if n := testing.AllocsPerRun(100, func() { tr.Match(b, fn) }); n != 0 {
			t.Errorf("%.20s: %v allocations per match, want 0", topic, n)
		}
		if n := testing.AllocsPerRun(100, func() { tr.Match(b, func(k, v uint64) { sum += k + v }) }); n != 0 {
			t.Errorf("%.20s: %v allocations per match with a closure, want 0", topic, n)
		}
	}
}

// TestTrieMatchIsBounded matches topics of 65,536 levels and counts the visits
// to a trie made to branch at every level.
func TestTrieMatchIsBounded(t *testing.T) {
	tr := NewTrie[int]()
	const depth = 12
	for i := range 1 << depth { // every filter of {a,+}^12 with /x behind
		var f strings.Builder
		for b := range depth {
			f.WriteString([]string{"a/", "+/"}[i>>b&1])
		}
		tr.Set(f.String()+"x", 1, i)
	}
	visits := 0
	tr.match([]byte(strings.Repeat("a/", depth)+"x"), func(uint32, uint32, bool) { visits++ })
	if visits != 1<<depth {
		t.Errorf("%d filters match, want %d", visits, 1<<depth)
	}
	deepTopic := strings.Repeat("/", 65535)
	tr.Set(deepTopic, 1, 1)
	tr.Set("+"+strings.Repeat("/+", 65535), 1, 1)
	visits = 0
	tr.Match([]byte(deepTopic), func(uint64, int) { visits++ })
	if visits != 2 {
		t.Errorf("%d filters match the deepest topic, want 2", visits)
	}
}

// worstFilters returns filters of {a,+}^levels that branch wherever they can.
func worstFilters(n, levels int) []string {
	rng, all := rand.New(rand.NewPCG(9, 9)), make([]string, n)
	for i := range all {
		f := make([]byte, 0, 2*levels)
		for range levels {
			f = append(f, "a+"[rng.IntN(2)], '/')
		}
		all[i] = string(f[:len(f)-1])
	}
	return all
}

// TestTrieBytesPerFilter holds the memory budget of DESIGN.md.
func TestTrieBytesPerFilter(t *testing.T) {
	const n = 200_000
	for _, c := range []struct {
		name   string
		filter func(i int) string
		budget float64
	}{
		{"own topic", func(i int) string { return fmt.Sprintf("devices/d-%07d/commands", i) }, 130},
		{"own subtree", func(i int) string { return fmt.Sprintf("site/%03d/line/%02d/d-%07d/#", i%500, i%20, i) }, 130},
	} {
		before := heap()
		tr := NewTrie[uint64]()
		bytes := 0
		for i := range n {
			f := c.filter(i)
			bytes += len(f)
			tr.Set(f, uint64(i), 1)
		}
		per := float64(heap()-before) / n
		t.Logf("%s: %.0f bytes per filter (spelling of %d bytes included), %.2f nodes", c.name, per, bytes/n, float64(tr.nodes.used)/n)
		if per > c.budget {
			t.Errorf("%s: %.0f bytes per filter, budget %.0f", c.name, per, c.budget)
		}
		runtime.KeepAlive(tr)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestTrieCompactsEmptyLevels: an empty level has no bytes, but it has a place in
// the buffer that is replaced.
func TestTrieCompactsEmptyLevels(t *testing.T) {
	tr := NewTrie[int]()
	kept := []string{"/", "/x", "//x/y", "a//b", "a//c", "a/", "+//+", "/#"}
	for i := range 200 { // so that empty levels get places behind the start
		tr.Set(fmt.Sprintf("before/%d", i), 1, i)
	}
	for i, f := range kept {
		tr.Set(f, 1, i)
	}
	for i := range 200 {
		tr.Delete(fmt.Sprintf("before/%d", i), 1)
	}
	for i := range 2000 {
		f := fmt.Sprintf("churn/%d/of/a/filter/that/is/long", i)
		tr.Set(f, 1, i)
		tr.Delete(f, 1)
		for k, f := range kept {
			if v, ok := tr.Get(f, 1); !ok || v != k {
				t.Fatalf("round %d: Get(%q) = %d, %v", i, f, v, ok)
			}
		}
		n := 0
		tr.Match([]byte("a//b"), func(uint64, int) { n++ })
		tr.Match([]byte("/x"), func(uint64, int) { n++ })
		if n != 4 {
			t.Fatalf("round %d: %d matches, want 4", i, n)
		}
		tr.Set(fmt.Sprintf("new//%d/", i%7), 1, i)
		tr.Delete(fmt.Sprintf("new//%d/", (i+3)%7), 1)
	}
}
