package router

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkTrieMatch shows the cost of a match over the number of filters.
func BenchmarkTrieMatch(b *testing.B) {
	for _, n := range []int{100, 10_000, 1_000_000} {
		tr := NewTrie[uint64]()
		for i := range n {
			tr.Set(fmt.Sprintf("devices/d-%07d/commands/+", i), uint64(i), 1)
		}
		tr.Set("devices/+/commands/all", 1, 1)
		topics := make([][]byte, 1024)
		for i := range topics {
			topics[i] = []byte(fmt.Sprintf("devices/d-%07d/commands/go", (i*7919)%n))
		}
		b.Run(fmt.Sprint("filters=", n), func(b *testing.B) {
			b.ReportAllocs()
			found, i := 0, 0
			for b.Loop() {
				tr.Match(topics[i&1023], func(uint64, uint64) { found++ })
				i++
			}
			if found < i {
				b.Fatalf("%d found in %d matches", found, i)
			}
		})
	}
}

// BenchmarkTrieMatchWorst matches what an attacker would subscribe to.
func BenchmarkTrieMatchWorst(b *testing.B) {
	b.Run("128 levels, 1000 filters", func(b *testing.B) {
		tr := NewTrie[uint64]()
		for i, f := range worstFilters(1000, 128) {
			tr.Set(f, uint64(i), 1)
		}
		topic := []byte(strings.TrimSuffix(strings.Repeat("a/", 128), "/"))
		b.ReportAllocs()
		for b.Loop() {
			tr.Match(topic, func(uint64, uint64) {})
		}
	})
	b.Run("2^14 filters, none matches", func(b *testing.B) {
		tr := NewTrie[uint64]()
		for i := range 1 << 14 {
			var f strings.Builder
			for bit := range 14 {
				f.WriteString([]string{"a/", "+/"}[i>>bit&1])
			}
			tr.Set(f.String()+"x", 1, 1)
		}
		topic := []byte(strings.Repeat("a/", 14) + "y")
		b.ReportAllocs()
		for b.Loop() {
			tr.Match(topic, func(uint64, uint64) { b.Fatal("matched") })
		}
	})
	b.Run("10000 subscribers of one filter", func(b *testing.B) {
		tr := NewTrie[uint64]()
		for i := range 10_000 {
			tr.Set("+/news", uint64(i), 1)
		}
		n := 0
		for b.Loop() {
			tr.Match([]byte("all/news"), func(uint64, uint64) { n++ })
		}
	})
}

func BenchmarkTrieSetDelete(b *testing.B) {
	tr := NewTrie[uint64]()
	filters := make([]string, 1<<16)
	for i := range filters {
		filters[i] = fmt.Sprintf("devices/d-%07d/commands", i)
		tr.Set(filters[i], 1, 1)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f := filters[i&(1<<16-1)]
		tr.Delete(f, 1)
		tr.Set(f, 1, 1)
		i++
	}
}
