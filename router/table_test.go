package router

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naiveTable is a Table without an idea.
type naiveTable struct {
	records map[uint32]map[[2]string]RouteChange // shard, (tenant, filter)
	index   map[uint32]uint64
	dead    map[string]uint64
}

func newNaiveTable() *naiveTable {
	return &naiveTable{map[uint32]map[[2]string]RouteChange{}, map[uint32]uint64{}, map[string]uint64{}}
}

func (n *naiveTable) apply(shard uint32, index uint64, changes []RouteChange) bool {
	if index <= n.index[shard] {
		return false
	}
	n.put(shard, index, changes)
	return true
}

func (n *naiveTable) put(shard uint32, index uint64, changes []RouteChange) {
	n.index[shard] = index
	if n.records[shard] == nil {
		n.records[shard] = map[[2]string]RouteChange{}
	}
	for _, c := range changes {
		if k := [2]string{c.Tenant, c.Filter}; c.Durable || len(c.Groups) > 0 || len(c.Nodes) > 0 {
			n.records[shard][k] = c
		} else {
			delete(n.records[shard], k)
		}
	}
}

func (n *naiveTable) reset(shard uint32, index uint64, all []RouteChange) bool {
	if index < n.index[shard] {
		return false
	}
	delete(n.records, shard)
	n.put(shard, index, all)
	return true
}

func (n *naiveTable) match(tenant, topic string) *Match {
	m, nodes := &Match{}, map[string]NodeRoute{}
	for shard, records := range n.records {
		durable, shares := false, false
		for k, c := range records {
			if k[0] != tenant || !naiveMatch(k[1], topic) {
				continue
			}
			durable, shares = durable || c.Durable, shares || len(c.Groups) > 0
			for _, g := range c.Groups {
				r := ShareRoute{Shard: shard, Name: g.Name, Filter: c.Filter}
				for _, sn := range g.Nodes {
					if sn.Incarnation > n.dead[sn.Node] {
						r.Nodes = append(r.Nodes, sn)
					}
				}
				sortShareNodes(r.Nodes)
				m.Groups = append(m.Groups, r)
			}
			for _, r := range c.Nodes {
				if r.Incarnation <= n.dead[r.Node] {
					continue
				}
				old := nodes[r.Node]
				nodes[r.Node] = NodeRoute{r.Node, max(r.Incarnation, old.Incarnation), r.Any || old.Any, r.Transient || old.Transient}
			}
		}
		if durable {
			m.Durable = append(m.Durable, shard)
		}
		if shares {
			m.Shares = append(m.Shares, shard)
		}
	}
	for _, r := range nodes {
		m.Nodes = append(m.Nodes, r)
	}
	slices.Sort(m.Durable)
	slices.Sort(m.Shares)
	sortNodes(m.Nodes)
	slices.SortFunc(m.Groups, func(a, b ShareRoute) int {
		return strings.Compare(fmt.Sprint(a.Shard, "\x00", a.Name, "\x00", a.Filter), fmt.Sprint(b.Shard, "\x00", b.Name, "\x00", b.Filter))
	})
	return m
}

func sortShareNodes(nodes []ShareNode) {
	slices.SortFunc(nodes, func(a, b ShareNode) int { return strings.Compare(a.Node, b.Node) })
}

func (n *naiveTable) len() (sum int) {
	for _, records := range n.records {
		sum += len(records)
	}
	return sum
}

func genChange() *rapid.Generator[RouteChange] {
	node := rapid.Custom(func(rt *rapid.T) NodeRoute {
		n := NodeRoute{
			Node:        rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(rt, "node"),
			Incarnation: rapid.Uint64Range(1, 4).Draw(rt, "incarnation"),
			Transient:   rapid.Bool().Draw(rt, "transient"),
		}
		n.Any = !n.Transient || rapid.Bool().Draw(rt, "any")
		return n
	})
	member := rapid.Custom(func(rt *rapid.T) ShareNode {
		return ShareNode{
			Node:        rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(rt, "node"),
			Incarnation: rapid.Uint64Range(1, 4).Draw(rt, "incarnation"),
			Members:     rapid.Uint32Range(1, 3).Draw(rt, "members"),
		}
	})
	group := rapid.Custom(func(rt *rapid.T) ShareGroup {
		return ShareGroup{
			Name:  rapid.SampledFrom([]string{"g", "g1", "h"}).Draw(rt, "name"),
			Nodes: rapid.SliceOfNDistinct(member, 0, 3, func(n ShareNode) string { return n.Node }).Draw(rt, "members"),
		}
	})
	return rapid.Custom(func(rt *rapid.T) RouteChange {
		return RouteChange{
			Tenant:  rapid.SampledFrom([]string{"", "t1", "t2"}).Draw(rt, "tenant"),
			Filter:  genFilter().Draw(rt, "filter"),
			Durable: rapid.Bool().Draw(rt, "durable"),
			Nodes:   rapid.SliceOfNDistinct(node, 0, 3, func(n NodeRoute) string { return n.Node }).Draw(rt, "nodes"),
			Groups:  rapid.SliceOfNDistinct(group, 0, 2, func(g ShareGroup) string { return g.Name }).Draw(rt, "groups"),
		}
	})
}

// TestTableAgainstNaive matches after every change, mostly topics that are in
// the cache: a change that does not reach the cache is a wrong result here.
func TestTableAgainstNaive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tb, naive := NewTable(), newNaiveTable()
		shard := rapid.Uint32Range(0, 2)
		changes := rapid.SliceOfN(genChange(), 0, 4)
		topics := rapid.SliceOfN(genTopic(), 3, 3).Draw(rt, "topics")
		index := func(s uint32) uint64 {
			return max(1, naive.index[s]+uint64(rapid.IntRange(0, 2).Draw(rt, "step"))) - uint64(rapid.IntRange(0, 1).Draw(rt, "back"))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"apply": func(*rapid.T) {
				s, c := shard.Draw(rt, "shard"), changes.Draw(rt, "changes")
				i := index(s)
				if got, want := tb.Apply(s, i, c), naive.apply(s, i, c); got != want {
					rt.Fatalf("Apply(%d, %d) = %v", s, i, got)
				}
			},
			"reset": func(*rapid.T) {
				s, c := shard.Draw(rt, "shard"), changes.Draw(rt, "changes")
				i := index(s)
				if got, want := tb.Reset(s, i, c), naive.reset(s, i, c); got != want {
					rt.Fatalf("Reset(%d, %d) = %v", s, i, got)
				}
			},
			"drop": func(*rapid.T) {
				n, i := rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "node"), rapid.Uint64Range(1, 3).Draw(rt, "incarnation")
				tb.DropNode(n, i)
				naive.dead[n] = max(naive.dead[n], i)
			},
			"": func(*rapid.T) {
				for _, tenant := range []string{"", "t1", "t2", "t3"} {
					for _, topic := range append(topics, genTopic().Draw(rt, "another")) {
						for range 3 { // the third comes from the cache
							if diff := cmp.Diff(naive.match(tenant, topic), tb.Match(tenant, []byte(topic))); diff != "" {
								rt.Fatalf("Match(%q, %q): %s", tenant, topic, diff)
							}
						}
					}
				}
				checkTable(rt, tb, naive)
			},
		})
	})
}

func checkTable(rt *rapid.T, tb *Table, naive *naiveTable) {
	if tb.Len() != naive.len() {
		rt.Fatalf("Len() = %d, want %d", tb.Len(), naive.len())
	}
	for s := range uint32(3) {
		if tb.Index(s) != naive.index[s] {
			rt.Fatalf("Index(%d) = %d, want %d", s, tb.Index(s), naive.index[s])
		}
	}
	refs := 0
	for _, r := range tb.records.byKey {
		refs += r.refs
	}
	if refs != naive.len() {
		rt.Fatalf("%d references to interned records, want %d", refs, naive.len())
	}
	met := 0
	tb.Walk(func(shard uint32, c RouteChange) bool {
		met++
		want, ok := naive.records[shard][[2]string{c.Tenant, c.Filter}]
		if want.Nodes = append([]NodeRoute(nil), want.Nodes...); len(want.Nodes) > 0 {
			sortNodes(want.Nodes)
		}
		if want.Groups = append([]ShareGroup(nil), want.Groups...); len(want.Groups) > 0 {
			slices.SortFunc(want.Groups, func(a, b ShareGroup) int { return strings.Compare(a.Name, b.Name) })
		}
		for i := range want.Groups {
			want.Groups[i].Nodes = append([]ShareNode(nil), want.Groups[i].Nodes...)
			sortShareNodes(want.Groups[i].Nodes)
		}
		if !ok || !cmp.Equal(want, c) {
			rt.Fatalf("Walk yields shard %d %+v, want %+v", shard, c, want)
		}
		return true
	})
	if met != naive.len() {
		rt.Fatalf("Walk yields %d records, want %d", met, naive.len())
	}
}

func route(filter string, nodes ...NodeRoute) RouteChange {
	return RouteChange{Tenant: "t", Filter: filter, Nodes: nodes}
}

func TestCacheTellsTopicsAndTenantsApart(t *testing.T) {
	var c cache
	m := &Match{}
	c.put(7, "t", []byte("a"), 1, m, nil)
	if e := c.get(7, "t", []byte("a")); e == nil || e.match != m {
		t.Errorf("got %v", e)
	}
	for _, k := range [][2]string{{"t", "b"}, {"u", "a"}, {"ta", ""}} { // all with one hash
		if e := c.get(7, k[0], []byte(k[1])); e != nil {
			t.Errorf("%q of tenant %q finds %q of %q", k[1], k[0], e.topic, e.tenant)
		}
	}
	c.put(8, "t", bytes.Repeat([]byte("x"), cacheTopicBytes+1), 1, m, nil)
	if c.sets[8].free() != 0 {
		t.Error("a topic that is too long is kept")
	}
}

func TestTableKeepsNothingOfItsArguments(t *testing.T) {
	tb := NewTable()
	buf := []byte("tenantfilterkindnode-7group")
	view := func(a, b int) string { return unsafeString(buf[a:b]) }
	nodes := []NodeRoute{{Node: view(16, 22), Incarnation: 1, Any: true}}
	members := []ShareNode{{Node: view(16, 22), Incarnation: 1, Members: 2}}
	tb.Apply(1, 1, []RouteChange{{Tenant: view(0, 6), Filter: view(6, 12), Nodes: nodes, Groups: []ShareGroup{{view(22, 27), members}}}})
	nodes[0].Incarnation, members[0].Members = 99, 99
	for i := range buf {
		buf[i] = 'x'
	}
	want := &Match{
		Nodes: []NodeRoute{{Node: "node-7", Incarnation: 1, Any: true}}, Shares: []uint32{1},
		Groups: []ShareRoute{{1, "group", "filter", []ShareNode{{"node-7", 1, 2}}}},
	}
	if diff := cmp.Diff(want, tb.Match("tenant", []byte("filter"))); diff != "" {
		t.Error(diff)
	}
}

func TestTableCachedMatchAllocatesNothing(t *testing.T) {
	tb := NewTable()
	tb.Apply(1, 1, []RouteChange{route("dev/+/state", NodeRoute{"n1", 1, true, false}), {Tenant: "t", Filter: "dev/#", Durable: true},
		{Tenant: "t", Filter: "dev/7/#", Groups: []ShareGroup{{"g", []ShareNode{{"n1", 1, 3}}}}},
	})
	topic := []byte("dev/7/state")
	for range 2 {
		tb.Match("t", topic)
	}
	misses := tb.Misses()
	if n := testing.AllocsPerRun(1000, func() { tb.Match("t", topic) }); n != 0 {
		t.Errorf("%v allocations per cached match, want 0", n)
	}
	if tb.Misses() != misses {
		t.Errorf("%d misses while the topic was cached", tb.Misses()-misses)
	}
	i := 0
	miss := func() {
		i++
		topic[4] = byte('0' + i%8)
		topic[5] = byte('a' + i/8%16)
		tb.Match("t", topic[:6])
	}
	if n := testing.AllocsPerRun(100, miss); n > 5 {
		t.Errorf("%v allocations per miss, want at most 5: a result of two slices, an entry and its topic", n)
	}
}

// TestTableStormKeepsHotTopics publishes to distinct topics, as a fleet of
// devices does, between publishes to hot ones.
func TestTableStormKeepsHotTopics(t *testing.T) {
	tb := NewTable()
	tb.Apply(1, 1, []RouteChange{{Tenant: "t", Filter: "#", Durable: true}})
	hot := make([][]byte, 1000)
	for i := range hot {
		hot[i] = []byte(fmt.Sprint("hot/", i))
		tb.Match("t", hot[i])
		tb.Match("t", hot[i])
	}
	storm := make([][]byte, 200_000)
	for i := range storm {
		storm[i] = []byte(fmt.Sprint("device/", i, "/state"))
	}
	before := tb.Misses()
	for i, topic := range storm {
		tb.Match("t", topic)
		tb.Match("t", hot[i%len(hot)])
	}
	missed := tb.Misses() - before - uint64(len(storm))
	if missed > uint64(len(storm))/100 {
		t.Errorf("%d of %d hot publishes missed the cache", missed, len(storm))
	}
	n := 0
	for i := range tb.cache.sets {
		for w := range tb.cache.sets[i].ways {
			if tb.cache.sets[i].ways[w].Load() != nil {
				n++
			}
		}
	}
	if n > cacheSets*cacheWays || n < len(hot)*9/10 {
		t.Errorf("%d entries in the cache", n)
	}
}

// TestTableTakesInNewHotTopics lets topics become hot when the cache is full of
// others, in turn, so that none is missed twice in a row.
func TestTableTakesInNewHotTopics(t *testing.T) {
	tb := NewTable()
	tb.Apply(1, 1, []RouteChange{{Tenant: "t", Filter: "#", Durable: true}})
	for i := range 10 * cacheSets * cacheWays {
		tb.Match("t", []byte(fmt.Sprint("cold/", i)))
	}
	round := func() uint64 {
		before := tb.Misses()
		for i := range 2000 {
			tb.Match("t", []byte(fmt.Sprint("hot/", i)))
		}
		return tb.Misses() - before
	}
	for range 30 {
		round()
	}
	if n := round(); n > 100 {
		t.Errorf("%d of 2,000 hot topics are still missed", n)
	}
}

func TestTableChurnElsewhereKeepsTheCache(t *testing.T) {
	tb := NewTable()
	tb.Apply(1, 1, []RouteChange{{Tenant: "t", Filter: "plant/+/alarm", Durable: true}})
	topic := []byte("plant/7/alarm")
	for range 2 {
		tb.Match("t", topic)
	}
	before := tb.Misses()
	for i := range 10_000 {
		tb.Apply(2, uint64(i)+1, []RouteChange{{Tenant: "t", Filter: fmt.Sprintf("device/%d", i), Durable: true}, {Tenant: "other", Filter: "#", Durable: i%2 == 0}})
		tb.Match("t", topic)
	}
	if missed := tb.Misses() - before; missed > 100 {
		t.Errorf("%d of 10,000 publishes missed the cache while other topics were subscribed to", missed)
	}
	all := []RouteChange{{Tenant: "t", Filter: "plant/+/alarm", Durable: true}}
	before = tb.Misses()
	tb.Reset(1, 2, all)
	if tb.Match("t", topic); tb.Misses() != before {
		t.Error("a Reset to the same records invalidated them")
	}
}

func TestTableResetIsNeverPartial(t *testing.T) {
	tb, want := NewTable(), &Match{Durable: []uint32{1}}
	all := []RouteChange{{Tenant: "t", Filter: "stays", Durable: true}}
	for i := range 3000 {
		all = append(all, RouteChange{Tenant: "t", Filter: fmt.Sprint("f/", i), Durable: true})
	}
	tb.Reset(1, 1, all)
	stop, done := atomic.Bool{}, make(chan int)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			if m := tb.Match("t", []byte("stays")); !cmp.Equal(m, want) {
				t.Errorf("a record that is in both dumps is seen as %v", m)
				break
			}
		}
		done <- n
	}()
	for i := range uint64(20) {
		tb.Reset(1, 2+i, all[:1+len(all)/int(1+i%2)-1])
		runtime.Gosched()
	}
	stop.Store(true)
	if n := <-done; n == 0 {
		t.Error("no match ran")
	}
	if tb.Reset(1, 20, nil) || tb.Len() == 0 {
		t.Error("a dump from the past was accepted")
	}
	if !tb.Reset(1, 21, nil) || tb.Len() != 0 || !tb.Match("t", []byte("stays")).Empty() {
		t.Error("an empty dump leaves records")
	}
	if len(tb.tenants) != 0 || len(tb.records.byKey) != 0 {
		t.Error("an empty table keeps tenants or records")
	}
}

// i5Filter and i5Topic are what writer k changes, by kind of counter.
func i5Filter(kind, k int) string {
	return []string{fmt.Sprintf("i5/%d", k), fmt.Sprintf("first%d/+", k), fmt.Sprintf("+/last%d", k)}[kind]
}

func i5Topic(kind, k int) []byte {
	return []byte(strings.Replace(i5Filter(kind, k), "+", "x", 1))
}

// i5Probe lets writers raise the incarnation of one route each, and drop it, and
// readers match. A reader notes how far a writer has come, matches, and must
// not see less. after runs behind each change. The probe returns the number of
// violations.
func i5Probe(tb *Table, rounds int, kinds []int, after func(filter string)) int64 {
	const writers, readers = 6, 4
	var applied, dropping, dropped [writers]atomic.Uint64
	var violations, running atomic.Int64
	var wg sync.WaitGroup
	running.Store(writers)
	write := func(k int) {
		defer wg.Done()
		defer running.Add(-1)
		node, filter := fmt.Sprint("n", k), i5Filter(kinds[k%len(kinds)], k)
		for v := uint64(1); v <= uint64(rounds); v++ {
			tb.Apply(uint32(k), v, []RouteChange{route(filter, NodeRoute{node, v, true, false})})
			after(filter)
			applied[k].Store(v)
			runtime.Gosched()
			if v%16 == 0 {
				dropping[k].Store(v)
				tb.DropNode(node, v)
				after("")
				dropped[k].Store(v)
				runtime.Gosched()
			}
		}
	}
	read := func(r int) {
		defer wg.Done()
		for i := r; running.Load() > 0; i++ {
			k := i / 8 % writers
			from, gone := applied[k].Load(), dropped[k].Load()
			m := tb.Match("t", i5Topic(kinds[k%len(kinds)], k))
			switch {
			case len(m.Nodes) == 0:
				if from > dropping[k].Load() {
					violations.Add(1) // no route, and no drop explains it
				}
			case m.Nodes[0].Incarnation < from, m.Nodes[0].Incarnation <= gone:
				violations.Add(1)
			}
			if i%16 == 0 {
				runtime.Gosched()
			}
		}
	}
	for i := range max(writers, readers) {
		if i < writers {
			wg.Add(1)
			go write(i)
		}
		if i < readers {
			wg.Add(1)
			go read(i)
		}
	}
	wg.Wait()
	return violations.Load()
}

// TestTableMatchSeesWhatWasApplied_I5 also plants the bug that the probe is for:
// a change that does not raise its counter.
func TestTableMatchSeesWhatWasApplied_I5(t *testing.T) {
	const rounds = 1000
	for _, kinds := range [][]int{{0, 1, 2}, {0}, {1}, {2}} {
		if n := i5Probe(NewTable(), rounds, kinds, func(string) {}); n != 0 {
			t.Errorf("kinds %v: %d matches did not see what was applied before they began", kinds, n)
		}
	}
	for kind, name := range []string{"topic", "first level", "tenant", "all"} {
		tb := NewTable()
		plant := func(filter string) {
			s, tenant := &tb.stamps, tb.tenantHash("t")
			c := []*atomic.Uint64{
				s.count(tenant, stampTopic, tb.topicHash(filter)),
				s.count(tenant, stampFirst, tb.topicHash(firstLevel(filter))),
				s.count(tenant, stampTenant, 0),
				&s.all,
			}[kind]
			if (kind == 3) == (filter == "") {
				c.Add(^uint64(0))
			}
		}
		if n := i5Probe(tb, rounds, []int{kind % 3}, plant); n == 0 {
			t.Errorf("counter of %s not raised: the probe does not notice", name)
		} else {
			t.Logf("counter of %s not raised: %d violations", name, n)
		}
	}
}

// TestTableReadersAgainstApply is for the race detector: every reading method
// against every changing one.
func TestTableReadersAgainstApply(t *testing.T) {
	tb := NewTable()
	var wg sync.WaitGroup
	var stop atomic.Bool
	for r := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := r; !stop.Load(); i++ {
				topic := []byte(fmt.Sprintf("a/%d/c", i%50))
				m := tb.Match("t", topic)
				for _, n := range m.Nodes {
					if n.Node == "" {
						t.Error("empty node")
					}
				}
				if i%100 == 0 {
					tb.Explain("t", topic)
					tb.Walk(func(uint32, RouteChange) bool { return true })
					tb.Index(1)
					tb.Len()
				}
			}
		}()
	}
	for i := range uint64(2000) {
		f := []string{"a/%d/c", "a/%d/#", "+/%d/+", "a/%d/c/d"}[i%4]
		c := route(fmt.Sprintf(f, i%50), NodeRoute{fmt.Sprint("n", i%3), i, true, i%2 == 0})
		if i%5 == 0 {
			c.Nodes = nil
		}
		tb.Apply(uint32(i%3), i+1, []RouteChange{c})
		if i%100 == 0 {
			tb.DropNode("n1", i-min(i, 50))
			tb.Reset(uint32(i%3), i+1, []RouteChange{c})
		}
	}
	stop.Store(true)
	wg.Wait()
}

func BenchmarkTableMatch(b *testing.B) {
	tb := NewTable()
	var all []RouteChange
	for i := range 100_000 {
		all = append(all, RouteChange{Tenant: "t", Filter: fmt.Sprintf("devices/d-%06d/+", i), Durable: true, Nodes: []NodeRoute{{fmt.Sprint("n", i%5), 1, true, false}}})
	}
	tb.Reset(1, 1, all)
	topics := make([][]byte, 1<<16)
	for i := range topics {
		topics[i] = []byte(fmt.Sprintf("devices/d-%06d/state", i))
	}
	for name, n := range map[string]int{"cached": 256, "storm of distinct topics": 1 << 16} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					tb.Match("t", topics[i&(n-1)])
				}
			})
		})
	}
}

func BenchmarkTableApply(b *testing.B) {
	tb, i := NewTable(), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		i++
		tb.Apply(1, i, []RouteChange{{Tenant: "t", Filter: fmt.Sprintf("devices/d-%06d", i%100_000), Durable: i/100_000%2 == 0}})
	}
}
