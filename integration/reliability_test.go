package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

// replaceBetween replaces what stands between two marks of a document.
func replaceBetween(doc, name, text string) (string, error) {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	head, rest, ok := strings.Cut(doc, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("the marks %s:begin and %s:end are not there", name, name)
	}
	return head + begin + strings.TrimSpace(text) + "\n" + end + tail, nil
}

// plantedTable is the list of planted bugs as docs/reliability.md shows it.
func plantedTable() string {
	var b strings.Builder
	b.WriteString("| bug | what it does | noticed by one of |\n|---|---|---|\n")
	for _, p := range bugs() {
		var by []string
		for _, run := range p.by {
			by = append(by, run.String())
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.name, p.does, strings.Join(by, "; "))
	}
	b.WriteString("| lease-unchecked-after-pause | a gateway that slept does not look at its lease | TestPausedGateway (real processes) |\n")
	return b.String()
}

// TestReliabilityTable holds the table of planted bugs in docs/reliability.md against the list, and writes it and, with
// FLOTILLA_REPORT=FILE[,FILE...], the figures of runs when FLOTILLA_REPORT is set ("-" for the bugs alone).
func TestReliabilityTable(t *testing.T) {
	path := filepath.Join("..", "docs", "reliability.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := replaceBetween(string(old), "planted", plantedTable())
	if err != nil {
		t.Fatal(err)
	}
	from := os.Getenv("FLOTILLA_REPORT")
	if from == "" {
		if doc != string(old) {
			t.Error("the planted bugs in docs/reliability.md are not those of the list: FLOTILLA_REPORT=- go test -run TestReliabilityTable ./integration")
		}
		return
	}
	if from != "-" {
		var tables []string
		for file := range strings.SplitSeq(from, ",") {
			var r checker.ClassReport
			b, err := os.ReadFile(filepath.Join("..", file))
			if err == nil {
				err = json.Unmarshal(b, &r)
			}
			if err != nil {
				t.Fatal(err)
			}
			tables = append(tables, strings.TrimSpace(r.Markdown()))
		}
		if doc, err = replaceBetween(doc, "faults", strings.Join(tables, "\n\n")+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
}
