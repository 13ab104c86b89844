package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrReports means that there is nothing to make a table of.
var ErrReports = errors.New("reports")

// Table is what several brokers did in the same shapes.
type Table struct {
	Brokers []string // columns, the first is what the others are compared with
	Shapes  []string // rows
	cells   map[[2]string]*Report
}

// ReadTable reads the reports of a folder, from files named BROKER--SHAPE.json. Brokers come in the
// order that first names begin; the rest, and the shapes, in that of the alphabet.
func ReadTable(dir string, first []string) (*Table, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*--*.json"))
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrReports, dir, err)
	}
	t := &Table{cells: map[[2]string]*Report{}}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReports, err)
		}
		rep := new(Report)
		if err := json.Unmarshal(b, rep); err != nil {
			return nil, fmt.Errorf("%w: %s holds no report of flotilla bench -o json: %w", ErrReports, file, err)
		}
		broker, shape, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), "--")
		t.cells[[2]string{broker, shape}] = rep
		t.Brokers, t.Shapes = append(t.Brokers, broker), append(t.Shapes, shape)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: %s has no file named BROKER--SHAPE.json", ErrReports, dir)
	}
	rank := func(b string) int {
		if i := slices.Index(first, b); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortFunc(t.Brokers, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	slices.Sort(t.Shapes)
	t.Brokers, t.Shapes = slices.Compact(t.Brokers), slices.Compact(t.Shapes)
	return t, nil
}

// Print writes the table in Markdown: of each broker the rate, p50 and p99, what it lost, and how many
// times its rate that of the first is.
func (t *Table) Print(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| shape |")
	for _, broker := range t.Brokers {
		b.WriteString(" " + broker + " |")
	}
	b.WriteString("\n|---|")
	b.WriteString(strings.Repeat("---|", len(t.Brokers)))
	for _, shape := range t.Shapes {
		b.WriteString("\n| " + shape + " |")
		base := t.cells[[2]string{t.Brokers[0], shape}]
		for i, broker := range t.Brokers {
			rep := t.cells[[2]string{broker, shape}]
			b.WriteString(" " + cell(rep))
			if i > 0 && base != nil && rep != nil && rep.rate() > 0 {
				fmt.Fprintf(&b, " (x %.1f)", base.rate()/rep.rate())
			}
			b.WriteString(" |")
		}
	}
	b.WriteString("\n\nRates a second: of deliveries, or of connections; p50 and p99 of the acknowledgement, else of the delivery, the connect, the replay. " +
		"(x n): the first column does n times as many.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// rate is the figure that a shape is about.
func (r *Report) rate() float64 {
	if r.Mode == "connect" || r.Mode == "idle" {
		return r.RateIn
	}
	return r.RateOut
}

func cell(r *Report) string {
	if r == nil {
		return "-"
	}
	text := fmt.Sprintf("%.0f/s", r.rate())
	for _, l := range []*Latency{r.Ack, r.Delivery, r.Connect, r.Replay} {
		if l != nil {
			text += fmt.Sprintf(", %.2f / %.2f ms", l.P50, l.P99)
			break
		}
	}
	if r.Lost > 0 {
		text += fmt.Sprintf(", **%d lost**", r.Lost)
	}
	if r.Failed > 0 {
		text += fmt.Sprintf(", **%d failed**", r.Failed)
	}
	return text
}
