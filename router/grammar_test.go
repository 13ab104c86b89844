package router

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

func TestCheckTopic_MQTT_4_7_3(t *testing.T) {
	long := strings.Repeat("x", 65536)
	for _, c := range []struct {
		name, topic      string
		bytes, maxLevels int
		want             error
	}{
		{"empty", "", 0, 0, ErrTopicEmpty},
		{"one byte", "a", 0, 0, nil},
		{"separator alone", "/", 0, 0, nil},
		{"space", "a b/ c", 0, 0, nil},
		{"dollar", "$SYS/x", 0, 0, nil},
		{"plus", "a/+/b", 0, 0, ErrTopicWildcard},
		{"hash", "a/#", 0, 0, ErrTopicWildcard},
		{"plus inside a level", "a+", 0, 0, ErrTopicWildcard},
		{"null", "a\x00b", 0, 0, ErrTopicNUL},
		{"umlaut", "ä/ö", 0, 0, nil},
		{"not UTF-8", "a\xff", 0, 0, ErrTopicUTF8},
		{"surrogate", "\xed\xa0\x80", 0, 0, ErrTopicUTF8},
		{"overlong", "\xc0\x80", 0, 0, ErrTopicUTF8},
		{"at the byte limit", "abcd", 4, 0, nil},
		{"above the byte limit", "abcde", 4, 0, ErrTopicTooLong},
		{"at the level limit", "a//b", 0, 3, nil},
		{"above the level limit", "a//b", 0, 2, ErrTopicTooDeep},
		{"at the protocol's limit", long[:65535], 0, 0, nil},
		{"above the protocol's limit", long, 0, 0, ErrTopicTooLong},
		{"above the protocol's limit, limit higher", long, 70000, 0, ErrTopicTooLong},
	} {
		if err := CheckTopic([]byte(c.topic), c.bytes, c.maxLevels); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCheckFilter_MQTT_4_7_1(t *testing.T) {
	long := strings.Repeat("x", 65536)
	for _, c := range []struct {
		name, filter     string
		bytes, maxLevels int
		want             error
	}{
		{"empty", "", 0, 0, ErrFilterEmpty},
		{"separator", "/", 0, 0, nil},
		{"hash", "#", 0, 0, nil},
		{"plus", "+", 0, 0, nil},
		{"hash last", "a/b/#", 0, 0, nil},
		{"plus and hash", "+/tennis/#", 0, 0, nil},
		{"empty levels and hash", "//#", 0, 0, nil},
		{"hash not last", "a/#/b", 0, 0, ErrFilterHash},
		{"hash first", "#/a", 0, 0, ErrFilterHash},
		{"hash and separator", "#/", 0, 0, ErrFilterHash},
		{"hash behind text", "a#", 0, 0, ErrFilterHash},
		{"hash before text", "a/#b", 0, 0, ErrFilterHash},
		{"two hashes", "##", 0, 0, ErrFilterHash},
		{"plus behind text", "a+", 0, 0, ErrFilterPlus},
		{"plus before text", "a/+b/c", 0, 0, ErrFilterPlus},
		{"two pluses", "++", 0, 0, ErrFilterPlus},
		{"plus and hash in one level", "+#", 0, 0, ErrFilterHash},
		{"null", "a\x00/#", 0, 0, ErrFilterNUL},
		{"not UTF-8", "\xff/#", 0, 0, ErrFilterUTF8},
		{"at the byte limit", "abc/", 4, 0, nil},
		{"above the byte limit", "abc/#", 4, 0, ErrFilterTooLong},
		{"at the level limit", "a/+/#", 0, 3, nil},
		{"above the level limit", "a/+/#", 0, 2, ErrFilterTooDeep},
		{"above the protocol's limit", long, 0, 0, ErrFilterTooLong},
		{"share", "$share/g/a/#", 0, 0, nil},
		{"share, levels of the inner filter", "$share/g/a/#", 0, 2, nil},
		{"share, too many levels", "$share/g/a/b/#", 0, 2, ErrFilterTooDeep},
		{"share, bytes of all", "$share/g/a", 9, 0, ErrFilterTooLong},
		{"share, inner hash not last", "$share/g/#/a", 0, 0, ErrFilterHash},
		{"share, null in the name", "$share/g\x00/a", 0, 0, ErrFilterNUL},
		{"share, name not UTF-8", "$share/\xff/a", 0, 0, ErrFilterUTF8},
		{"share without filter", "$share/g", 0, 0, ErrShareFilter},
		{"no share", "$share", 0, 0, nil},
		{"no share", "$shared/g", 0, 0, nil},
	} {
		if err := CheckFilter(c.filter, c.bytes, c.maxLevels); !errors.Is(err, c.want) {
			t.Errorf("%s: CheckFilter(%.20q) = %v, want %v", c.name, c.filter, err, c.want)
		}
	}
}

func TestSplitShare_v5_MQTT_4_8_2(t *testing.T) {
	for _, c := range []struct {
		filter, group, inner string
		shared               bool
		err                  error
	}{
		{"a/b", "", "a/b", false, nil},
		{"$share", "", "$share", false, nil},
		{"$SHARE/g/a", "", "$SHARE/g/a", false, nil},
		{"x/$share/g/a", "", "x/$share/g/a", false, nil},
		{"$share/g/a", "g", "a", true, nil},
		{"$share/g/#", "g", "#", true, nil},
		{"$share/g//", "g", "/", true, nil},
		{"$share/g//a", "g", "/a", true, nil},
		{"$share/a b/$SYS/#", "a b", "$SYS/#", true, nil},
		{"$share/", "", "", true, ErrShareName},
		{"$share//", "", "", true, ErrShareName},
		{"$share//a", "", "", true, ErrShareName},
		{"$share/+/a", "", "", true, ErrShareName},
		{"$share/#/a", "", "", true, ErrShareName},
		{"$share/#", "", "", true, ErrShareName},
		{"$share/g+/a", "", "", true, ErrShareName},
		{"$share/g", "", "", true, ErrShareFilter},
		{"$share/g/", "", "", true, ErrShareFilter},
		{"$share/g/$share/h/a", "", "", true, ErrShareFilter},
	} {
		group, inner, shared, err := SplitShare(c.filter)
		if group != c.group || inner != c.inner || shared != c.shared || !errors.Is(err, c.err) {
			t.Errorf("SplitShare(%q) = %q, %q, %v, %v, want %q, %q, %v, %v", c.filter, group, inner, shared, err, c.group, c.inner, c.shared, c.err)
		}
		if shared && err == nil && JoinShare(group, inner) != c.filter {
			t.Errorf("JoinShare(%q, %q) = %q, want %q", group, inner, JoinShare(group, inner), c.filter)
		}
	}
}

// TestSlotIsFrozen must never change: data on disk is placed by it.
func TestSlotIsFrozen(t *testing.T) {
	for _, c := range []struct {
		tenant, key string
		want        uint16
	}{
		{"", "", 1896},
		{"", "a", 1310},
		{"a", "", 3990},
		{"t1", "client-1", 2301},
		{"t1", "client-2", 24},
		{"t2", "client-1", 2077},
		{"", "sensors/7/temperature", 67},
		{"acme", "$share/workers/jobs/#", 1599},
		{"", "ä", 1586},
		{"x", "0123456789abcdef0123456789abcdef0123456789abcdef", 3605},
	} {
		if got := Slot(c.tenant, c.key); got != c.want {
			t.Errorf("Slot(%q, %q) = %d, want %d", c.tenant, c.key, got, c.want)
		}
		if got := SlotBytes(c.tenant, []byte(c.key)); got != c.want {
			t.Errorf("SlotBytes(%q, %q) = %d, want %d", c.tenant, c.key, got, c.want)
		}
		if want := xxhash.Sum64String(c.tenant+"\x00"+c.key) % Slots; Slot(c.tenant, c.key) != uint16(want) {
			t.Errorf("Slot(%q, %q) is not xxhash64 of both, %d", c.tenant, c.key, want)
		}
	}
	// The hash itself, by the published test value of XXH64 with seed 0.
	if got := xxhash.Sum64String("abc"); got != 0x44bc2cf5ad770999 {
		t.Errorf("xxhash64 of abc is %#x", got)
	}
	key := []byte("devices/4711/state")
	if n := testing.AllocsPerRun(100, func() { Slot("tenant", "client-4711"); SlotBytes("tenant", key) }); n != 0 {
		t.Errorf("%v allocations per Slot, want 0", n)
	}
}

func TestSlotSpreads(t *testing.T) {
	var counts [Slots]int
	const n = Slots * 100
	for i := range n {
		counts[Slot("t", "client-"+strings.Repeat("x", i%7)+strconv.Itoa(i))]++
	}
	if lo, hi := slices.Min(counts[:]), slices.Max(counts[:]); lo < 50 || hi > 160 {
		t.Errorf("%d keys give slots of %d to %d", n, lo, hi)
	}
}

// FuzzGrammar holds what is accepted against the words of the specification, and
// puts everything into a trie.
func FuzzGrammar(f *testing.F) {
	for _, s := range []string{"a/b", "+/#", "#", "/", "//#", "$SYS/+", "a+", "a#/b", "$share/g/a/+", "$share/", "\x00", "\xff", "a/+/+/#", "+", ""} {
		f.Add(s, "a/b/c")
		f.Add(s, s)
		f.Add("a/#", s)
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		okTopic := topic != "" && len(topic) <= 65535 && utf8.ValidString(topic) && !strings.ContainsAny(topic, "+#\x00")
		if err := CheckTopic([]byte(topic), 0, 0); (err == nil) != okTopic {
			t.Fatalf("CheckTopic(%q) = %v", topic, err)
		}
		_, inner, shared, err := SplitShare(filter)
		if okFilter := err == nil && plainFilter(inner) && len(filter) <= 65535 && utf8.ValidString(filter) && !strings.Contains(filter, "\x00"); (CheckFilter(filter, 0, 0) == nil) != okFilter {
			t.Fatalf("CheckFilter(%q) = %v, want valid: %v", filter, CheckFilter(filter, 0, 0), okFilter)
		}
		if CheckFilter(filter, 0, 0) == nil && shared != strings.HasPrefix(filter, "$share/") {
			t.Fatalf("SplitShare(%q) says shared = %v", filter, shared)
		}
		tr := NewTrie[int]()
		for i, s := range []string{"a/b/c", filter, topic, "a/+/c"} {
			tr.Set(s, 7, i)
		}
		matched := 0
		tr.Match([]byte(topic), func(uint64, int) { matched++ })
		if okTopic && plainFilter(filter) && !slices.Contains([]string{"a/b/c", topic, "a/+/c"}, filter) {
			want := 1 // topic itself
			for _, s := range []string{"a/b/c", filter, "a/+/c"} {
				if s != topic && naiveMatch(s, topic) {
					want++
				}
			}
			if matched != want || Matches(filter, []byte(topic)) != naiveMatch(filter, topic) {
				t.Fatalf("%q and %q: %d filters match, want %d", filter, topic, matched, want)
			}
		}
		seen := map[string]bool{}
		tr.Walk(func(s string, _ uint64, _ int) bool { seen[s] = true; return true })
		if !seen[filter] || !seen[topic] {
			t.Fatalf("%q or %q is not in %v", filter, topic, seen)
		}
		checkTrie(t, tr)
		for s := range seen {
			if _, ok := tr.Delete(s, 7); !ok {
				t.Fatalf("%q cannot be deleted", s)
			}
			checkTrie(t, tr)
		}
		if tr.Len() != 0 {
			t.Fatalf("%d pairs are left", tr.Len())
		}
	})
}

// plainFilter is sections 4.7.1 and 4.7.3 word by word.
func plainFilter(s string) bool {
	levels := strings.Split(s, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) || strings.Contains(level, "+") && level != "+" {
			return false
		}
	}
	return s != ""
}
