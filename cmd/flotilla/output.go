package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// column is one column of a table of T.
type column[T any] struct {
	title string
	wide  bool // printed with -o wide only
	cell  func(T) string
}

// maxTable is the most columns of characters that a table takes.
const maxTable = 100

// printList prints a list in the format of -o.
func printList[T any](ad *admin, list client.List[json.RawMessage], name func(T) string, cols []column[T]) error {
	switch ad.format {
	case "json", "yaml":
		raw, err := json.Marshal(list)
		if err != nil {
			return fmt.Errorf("encode the list: %w", err)
		}
		return ad.printRaw(raw)
	}
	items, err := client.Items[T](list)
	if err != nil {
		return err
	}
	if ad.format == "name" {
		for _, x := range items {
			if _, err := fmt.Fprintln(ad.app.out, name(x)); err != nil {
				return err
			}
		}
		return nil
	}
	return printTable(ad, items, cols)
}

// printOne prints one thing: as a table of fields unless told otherwise.
func printOne(ad *admin, raw []byte, name string) error {
	switch ad.format {
	case "json", "yaml":
		return ad.printRaw(raw)
	case "name":
		_, err := fmt.Fprintln(ad.app.out, name)
		return err
	}
	var object yaml.Node // keeps the order of the members
	if err := yaml.Unmarshal(raw, &object); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var rows [][]string
	members := object.Content[0].Content
	for i := 0; i+1 < len(members); i += 2 {
		rows = append(rows, []string{strings.ToUpper(members[i].Value), flat(members[i+1])})
	}
	return writeRows(ad.app.out, rows)
}

// flat is a value of any kind in one line.
func flat(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "-"
		}
		return n.Value
	case yaml.SequenceNode:
		parts := make([]string, len(n.Content))
		for i, e := range n.Content {
			parts[i] = flat(e)
		}
		return strings.Join(parts, ",")
	default:
		var parts []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			parts = append(parts, n.Content[i].Value+"="+flat(n.Content[i+1]))
		}
		return strings.Join(parts, " ")
	}
}

// printRaw prints a body of the API, nothing added.
func (ad *admin) printRaw(raw []byte) error {
	if ad.format == "yaml" {
		var node yaml.Node
		if err := yaml.Unmarshal(raw, &node); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		blockStyle(&node)
		enc := yaml.NewEncoder(ad.app.out)
		enc.SetIndent(2)
		if err := enc.Encode(&node); err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
		return enc.Close()
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, raw, "", "  "); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	buf.WriteByte('\n')
	_, err := buf.WriteTo(ad.app.out)
	return err
}

// blockStyle makes YAML out of what JSON wrote with brackets.
func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, e := range n.Content {
		blockStyle(e)
	}
}

func printTable[T any](ad *admin, items []T, cols []column[T]) error {
	var rows [][]string
	var titles []string
	for _, c := range cols {
		if !c.wide || ad.format == "wide" {
			titles = append(titles, c.title)
		}
	}
	if !ad.c.Bool("no-headers") {
		rows = append(rows, titles)
	}
	for _, x := range items {
		var row []string
		for _, c := range cols {
			if !c.wide || ad.format == "wide" {
				row = append(row, c.cell(x))
			}
		}
		rows = append(rows, row)
	}
	switch {
	case ad.columns > 0:
		fit(rows, ad.columns)
	case ad.format != "wide":
		fit(rows, maxTable)
	}
	if ad.colour() {
		return writeRows(colourStates{ad.app.out}, rows)
	}
	return writeRows(ad.app.out, rows)
}

// fit shortens the longest column until the table fits.
func fit(rows [][]string, most int) {
	w := widths(rows)
	total, longest := 2*(len(w)-1), 0
	for i, n := range w {
		total += n
		if n > w[longest] {
			longest = i
		}
	}
	if total <= most || len(w) == 0 {
		return
	}
	room := max(w[longest]-(total-most), 8)
	for _, row := range rows {
		if cell := []rune(row[longest]); len(cell) > room {
			row[longest] = string(cell[:room-1]) + "…"
		}
	}
}

func widths(rows [][]string) []int {
	var w []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(w) {
				w = append(w, 0)
			}
			w[i] = max(w[i], utf8.RuneCountInString(cell))
		}
	}
	return w
}

// writeRows aligns columns with two spaces between them.
func writeRows(out io.Writer, rows [][]string) error {
	w := widths(rows)
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", w[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// colourStates colours the words for states on their way to a terminal.
type colourStates struct{ w io.Writer }

func (c colourStates) Write(p []byte) (int, error) {
	const green, red, yellow, plain = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
	r := strings.NewReplacer(
		" ready ", " "+green+"ready"+plain+" ", " down ", " "+red+"down"+plain+" ",
		" joining ", " "+yellow+"joining"+plain+" ", " draining ", " "+yellow+"draining"+plain+" ",
	)
	if _, err := r.WriteString(c.w, string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// orDash prints what may be unknown.
func orDash(s *string) string {
	if s == nil || *s == "" {
		return "-"
	}
	return *s
}

func dash(s string) string { return orDash(&s) }

func count(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func since(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
