package router

import (
	"cmp"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// naiveMatch is section 4.7 of MQTT 5 word by word.
func naiveMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}
	return naiveLevels(f, t)
}

func naiveLevels(f, t []string) bool {
	if len(f) == 1 && f[0] == "#" {
		return true // the parent itself included
	}
	if len(f) == 0 || len(t) == 0 {
		return len(f) == len(t)
	}
	return (f[0] == "+" || f[0] == t[0]) && naiveLevels(f[1:], t[1:])
}

// naiveTrie is a Trie without an idea.
type naiveTrie map[string]map[uint64]int

func (n naiveTrie) set(filter string, key uint64, v int) (old int, existed bool) {
	if n[filter] == nil {
		n[filter] = map[uint64]int{}
	}
	old, existed = n[filter][key]
	n[filter][key] = v
	return old, existed
}

func (n naiveTrie) delete(filter string, key uint64) (old int, existed bool) {
	if old, existed = n[filter][key]; existed {
		if delete(n[filter], key); len(n[filter]) == 0 {
			delete(n, filter)
		}
	}
	return old, existed
}

func (n naiveTrie) match(topic string) (all []entry[int]) {
	for filter, pairs := range n {
		if naiveMatch(filter, topic) {
			for k, v := range pairs {
				all = append(all, entry[int]{k, v})
			}
		}
	}
	return sorted(all)
}

func sorted(all []entry[int]) []entry[int] {
	slices.SortFunc(all, func(a, b entry[int]) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.v, b.v))
	})
	return all
}

// genLevel draws from a small alphabet, so that things meet.
func genLevel() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "c", "ab", "", "$", "$SYS", "ä"})
}

func genTopic() *rapid.Generator[string] {
	return rapid.Custom(func(rt *rapid.T) string {
		topic := strings.Join(rapid.SliceOfN(genLevel(), 1, 6).Draw(rt, "levels"), "/")
		if topic == "" {
			return "a"
		}
		return topic
	})
}

func genFilter() *rapid.Generator[string] {
	level := rapid.OneOf(genLevel(), genLevel(), rapid.Just("+"))
	return rapid.Custom(func(rt *rapid.T) string {
		levels := rapid.SliceOfN(level, 0, 6).Draw(rt, "levels")
		if rapid.IntRange(0, 3).Draw(rt, "multi") == 0 {
			levels = append(levels, "#")
		}
		if filter := strings.Join(levels, "/"); filter != "" {
			return filter
		}
		return "+"
	})
}
