package router

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios yield into testdata")

// A scenario file is a list of blocks between empty lines: a command with
// arguments, lines of input, "----", and the lines that it yields. Lines that
// start with # outside of a block are comments.
type block struct {
	comments, args, input, want []string
	line                        int
}

func readScenario(t *testing.T, path string) (blocks []block) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b block
	inBody, inWant := false, false
	for i, line := range append(strings.Split(strings.TrimSpace(string(data)), "\n"), "") {
		switch {
		case line == "":
			if inBody {
				blocks = append(blocks, b)
				b, inBody, inWant = block{}, false, false
			} else {
				b.comments = append(b.comments, line)
			}
		case !inBody && strings.HasPrefix(line, "# "):
			b.comments = append(b.comments, line)
		case !inBody:
			b.args, b.line, inBody = strings.Fields(line), i+1, true
		case line == "----" && !inWant:
			inWant = true
		case inWant:
			b.want = append(b.want, line)
		default:
			b.input = append(b.input, line)
		}
	}
	return blocks
}

func (b *block) write(w *strings.Builder, got []string) {
	for _, c := range b.comments {
		fmt.Fprintln(w, c)
	}
	fmt.Fprintln(w, strings.Join(b.args, " "))
	for _, l := range b.input {
		fmt.Fprintln(w, l)
	}
	fmt.Fprintln(w, "----")
	for _, l := range got {
		fmt.Fprintln(w, l)
	}
	fmt.Fprintln(w)
}

// TestScenarios runs testdata/*.txt. Each file starts with an empty trie and an
// empty table.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			w := &world{trie: NewTrie[string](), table: NewTable()}
			var out strings.Builder
			for _, b := range readScenario(t, path) {
				got := w.run(b.args, b.input)
				b.write(&out, got)
				if !*rewrite && !slices.Equal(got, b.want) {
					t.Errorf("%s:%d: %s\ngot:\n%s\nwant:\n%s", path, b.line, strings.Join(b.args, " "), strings.Join(got, "\n"), strings.Join(b.want, "\n"))
				}
			}
			if *rewrite {
				if err := os.WriteFile(path, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type world struct {
	trie  *Trie[string]
	table *Table
}

func (w *world) run(args, input []string) (out []string) {
	say := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	switch args[0] {
	case "check-filters":
		for _, f := range input {
			group, inner, shared, _ := SplitShare(f)
			if err := CheckFilter(f, 0, 128); err != nil {
				say("%s: %v", f, err)
			} else if shared {
				say("%s: share %s of %s", f, group, inner)
			} else {
				say("%s: ok, prefix %q", f, LiteralPrefix(f))
			}
		}
	case "check-topics":
		for _, topic := range input {
			if err := CheckTopic([]byte(topic), 0, 128); err != nil {
				say("%s: %v", topic, err)
			} else {
				say("%s: ok", topic)
			}
		}
	case "set", "delete": // filter key
		for _, l := range input {
			f := strings.Fields(l)
			w.change(args[0], f[0], number(f[1]))
		}
		say("%d pairs at %d filters, %d nodes", w.trie.Len(), w.trie.Filters(), int(w.trie.nodes.used)-len(w.trie.nodes.free))
	case "match":
		for _, topic := range input {
			var got []string
			w.trie.Match([]byte(topic), func(_ uint64, v string) { got = append(got, v) })
			slices.Sort(got)
			say("%s: %s", topic, strings.Join(got, " "))
		}
	case "walk":
		w.trie.Walk(func(_ string, _ uint64, v string) bool { say("%s", v); return true })
	default:
		return w.runTable(args, input, say, func() []string { return out })
	}
	return out
}

func (w *world) change(op, filter string, key uint64) {
	if op == "set" {
		w.trie.Set(filter, key, fmt.Sprintf("%s=%d", filter, key))
	} else {
		w.trie.Delete(filter, key)
	}
}

func (w *world) runTable(args, input []string, say func(string, ...any), out func() []string) []string {
	switch args[0] {
	case "apply", "reset": // shard index; lines: tenant filter [durable] [share=name[@node:incarnation:members]] [node:incarnation:any|transient]
		var changes []RouteChange
		for _, l := range input {
			changes = append(changes, parseChange(l))
		}
		do := w.table.Apply
		if args[0] == "reset" {
			do = w.table.Reset
		}
		shard := uint32(number(args[1]))
		done := do(shard, number(args[2]), changes)
		say("done %v, shard %d at %d, %d records", done, shard, w.table.Index(shard), w.table.Len())
	case "drop": // node incarnation
		w.table.DropNode(args[1], number(args[2]))
		say("ok")
	case "route": // tenant
		for _, topic := range input {
			for range 2 { // the second comes from the cache
				w.table.Match(args[1], []byte(topic))
			}
			m := w.table.Match(args[1], []byte(topic))
			say("%s: durable %v shares %v nodes%s%s", topic, m.Durable, m.Shares, spellNodes(m.Nodes), spellRoutes(m.Groups))
		}
	case "explain": // tenant topic
		for _, e := range w.table.Explain(args[1], []byte(args[2])) {
			say("%s, hidden %v", spellChange(e.Shard, e.Change), e.Hidden)
		}
	case "walk-table":
		w.table.Walk(func(shard uint32, c RouteChange) bool { say("%s", spellChange(shard, c)); return true })
	default:
		say("unknown command %s", args[0])
	}
	return out()
}

func parseChange(line string) RouteChange {
	f := strings.Fields(line)
	c := RouteChange{Tenant: f[0], Filter: f[1]}
	for _, word := range f[2:] {
		switch node := strings.Split(word, ":"); {
		case word == "durable":
			c.Durable = true
		case strings.HasPrefix(word, "share="):
			c.Groups = append(c.Groups, parseGroup(strings.TrimPrefix(word, "share=")))
		default:
			n := NodeRoute{Node: node[0], Incarnation: number(node[1])}
			n.Any, n.Transient = slices.Contains(node, "any"), slices.Contains(node, "transient")
			c.Nodes = append(c.Nodes, n)
		}
	}
	return c
}

func spellChange(shard uint32, c RouteChange) string {
	return fmt.Sprintf("shard %d %s %s: durable %v nodes%s%s", shard, c.Tenant, c.Filter, c.Durable, spellNodes(c.Nodes), spellGroups(c.Groups))
}

func parseGroup(word string) ShareGroup {
	parts := strings.Split(word, "@")
	g := ShareGroup{Name: parts[0]}
	for _, p := range parts[1:] {
		f := strings.Split(p, ":")
		g.Nodes = append(g.Nodes, ShareNode{f[0], number(f[1]), uint32(number(f[2]))})
	}
	return g
}

func spellGroups(groups []ShareGroup) string {
	var s strings.Builder
	for _, g := range groups {
		s.WriteString(" share=" + g.Name)
		for _, n := range g.Nodes {
			fmt.Fprintf(&s, "@%s:%d:%d", n.Node, n.Incarnation, n.Members)
		}
	}
	return s.String()
}

func spellRoutes(groups []ShareRoute) string {
	var s strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&s, " [%d %s]%s", g.Shard, g.Filter, spellGroups([]ShareGroup{{g.Name, g.Nodes}}))
	}
	return s.String()
}

func spellNodes(nodes []NodeRoute) string {
	var s strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&s, " %s:%d", n.Node, n.Incarnation)
		if n.Any {
			s.WriteString(":any")
		}
		if n.Transient {
			s.WriteString(":transient")
		}
	}
	return s.String()
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}
