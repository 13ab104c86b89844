package qos

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestAliasIn(t *testing.T) {
	a := NewAliasIn(3)
	for _, c := range []struct {
		name  string
		alias uint16
		topic string
		want  string
		err   error
	}{
		{"no alias", 0, "a/b", "a/b", nil},
		{"neither", 0, "", "", ErrAliasUnknown},
		{"not set", 2, "", "", ErrAliasUnknown},
		{"set", 2, "x", "x", nil},
		{"below one that is set", 1, "", "", ErrAliasUnknown},
		{"use", 2, "", "x", nil},
		{"change", 2, "longer/topic", "longer/topic", nil},
		{"use after change", 2, "", "longer/topic", nil},
		{"last one", 3, "z", "z", nil},
		{"above the maximum", 4, "z", "", ErrAliasInvalid},
		{"above the maximum, no topic", 4, "", "", ErrAliasInvalid},
		{"far above", 65535, "z", "", ErrAliasInvalid},
	} {
		got, err := a.Resolve(c.alias, []byte(c.topic))
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: Resolve(%d, %q) = %q, %v, want %q, %v", c.name, c.alias, c.topic, got, err, c.want, c.err)
		}
	}
	if _, err := NewAliasIn(0).Resolve(1, []byte("a")); !errors.Is(err, ErrAliasInvalid) {
		t.Errorf("no aliases announced: got %v, want ErrAliasInvalid", err)
	}
}

func TestAliasInKeepsNothingOfThePacket(t *testing.T) {
	a, packet := NewAliasIn(1), []byte("topic")
	if _, err := a.Resolve(1, packet); err != nil {
		t.Fatal(err)
	}
	copy(packet, "XXXXX") // the reader's buffer is used again
	if got, _ := a.Resolve(1, nil); string(got) != "topic" {
		t.Errorf("got %q, want topic", got)
	}
}

// TestAliasOutAgainstClient lets a client resolve what the broker sends, with
// packets that are not sent in between.
func TestAliasOutAgainstClient(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := uint16(rapid.IntRange(0, 5).Draw(rt, "limit"))
		out, client := NewAliasOut(limit), NewAliasIn(limit)
		for range rapid.IntRange(0, 200).Draw(rt, "packets") {
			topic := []byte(fmt.Sprint("t/", rapid.IntRange(0, 9).Draw(rt, "topic")))
			alias, known := out.Use(topic)
			if alias > limit || known && alias == 0 {
				rt.Fatalf("Use(%s) = %d, %v with %d aliases", topic, alias, known, limit)
			}
			if rapid.IntRange(0, 5).Draw(rt, "dropped") == 0 {
				if !known {
					out.Forget(alias)
				}
				continue
			}
			sent := topic
			if known {
				sent = nil
			}
			got, err := client.Resolve(alias, sent)
			if err != nil || !bytes.Equal(got, topic) {
				rt.Fatalf("client sees %q, %v, want %q", got, err, topic)
			}
		}
	})
}

func TestAliasOutKeepsHotTopics(t *testing.T) {
	out := NewAliasOut(4)
	for i := range 4 {
		out.Use([]byte(fmt.Sprint("hot/", i)))
	}
	misses := 0
	for i := range 1000 {
		out.Use([]byte(fmt.Sprint("once/", i)))
		if _, known := out.Use([]byte(fmt.Sprint("hot/", i%4))); !known {
			misses++
		}
	}
	if misses > 20 {
		t.Errorf("topics seen once evict hot ones: %d misses of 1,000", misses)
	}
	moved := 0
	for i := range 100 {
		if _, known := out.Use([]byte(fmt.Sprint("new/", i%4))); known {
			moved++
		}
	}
	if moved < 90 {
		t.Errorf("new hot topics do not get aliases: %d of 100 known", moved)
	}
}

func TestAliasOutAllocatesNothing(t *testing.T) {
	out, topics := NewAliasOut(2), [][]byte{[]byte("a/1"), []byte("a/2"), []byte("a/3")}
	step := func() {
		for _, topic := range topics {
			out.Use(topic)
			out.Use(topic)
		}
	}
	step()
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations per round, want 0", n)
	}
}

func BenchmarkAliasOut(b *testing.B) {
	out, topic := NewAliasOut(32), []byte(nil)
	for i := range 32 {
		topic = []byte(fmt.Sprint("devices/4711/telemetry/", i))
		out.Use(topic)
	}
	b.ReportAllocs()
	for b.Loop() {
		out.Use(topic)
	}
}
