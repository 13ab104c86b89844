package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// trace joins statements and tests: the text of TRACEABILITY.md, and what is wrong.
func trace(specs []specification, proofs []proof) (text string, faults []string) {
	known := map[string]bool{}
	for _, sp := range specs {
		for _, s := range sp.statements {
			known[s.key()] = true
		}
	}
	by := map[string][]proof{}
	for _, p := range proofs {
		for _, k := range p.keys {
			if !known[k] {
				faults = append(faults, fmt.Sprintf("%s: %s names a statement that does not exist: %s", p.dir, p.name, k))
			}
			by[k] = append(by[k], p)
		}
	}
	var tables strings.Builder
	var b strings.Builder
	b.WriteString(preface)
	for _, sp := range specs {
		n, bad := table(&tables, sp, by)
		faults = append(faults, bad...)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d |\n", sp.title, len(sp.statements), n.proved, n.client, n.reason, n.open)
	}
	return b.String() + tables.String(), faults
}

const preface = `# Traceability

<!-- Written by "make trace" from integration/conformance/statements and the names of the tests. Do not edit. -->

Every numbered statement of both specifications, and the tests that prove it. A test names what it proves:
` + "`TestXxx_v5_MQTT_3_1_2_24`" + `; integration/conformance/doc.go has the rules. The words are ours; the numbers are those of the standards.

| specification | statements | proved by tests | bind the client only | cannot be tested, see there | open |
|---|---|---|---|---|---|
`

// counts are the totals of a table. A statement for clients counts as proved where a test shows how the server takes it.
type counts struct{ proved, client, reason, open int }

func table(b *strings.Builder, sp specification, by map[string][]proof) (n counts, faults []string) {
	fmt.Fprintf(b, "\n## %s\n", sp.title)
	section := ""
	for _, s := range sp.statements {
		if head := s.id[len("MQTT-"):strings.LastIndexByte(s.id, '-')]; head != section {
			section = head
			fmt.Fprintf(b, "\n### %s\n\n| statement | binds | asks | proved by |\n|---|---|---|---|\n", strings.TrimSuffix(section, ".0"))
		}
		var tests, bugs []string
		for _, p := range by[s.key()] {
			if p.bug != "" {
				bugs = append(bugs, p.bug)
				continue
			}
			tests = append(tests, p.dir+": `"+p.name+"`")
		}
		cell := strings.Join(tests, "<br>")
		switch {
		case len(tests) > 0:
			n.proved++
			if s.reason != "" {
				faults = append(faults, s.key()+" has a test and a reason why it has none")
			}
		case s.reason != "":
			n.reason++
			cell = s.reason
		case !s.bindsServer():
			n.client++
			cell = "binds the client only"
		default:
			n.open++
			cell = "**open**"
			faults = append(faults, s.key()+" binds a server and has neither a test nor a reason: "+s.asks)
		}
		if slices.Sort(bugs); len(bugs) > 0 {
			cell += "; known bug: " + strings.Join(slices.Compact(bugs), "; ")
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", s.id, s.binds, s.asks, cell)
	}
	return n, faults
}
