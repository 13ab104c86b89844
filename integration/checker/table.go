package checker

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ClassRow is what a run showed for one class of faults.
type ClassRow struct {
	Class string `json:"class"`
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	// Faults are the injuries, Refused how many damaged nodes said no and were given their disk back.
	Faults  int `json:"faults"`
	Refused int `json:"refused,omitempty"`

	Acked      int `json:"acked"`
	MustReach  int `json:"must_reach"`
	Lost       int `json:"lost"`
	Twice      int `json:"qos2_duplicates"`
	Disordered int `json:"order_violations"`
	// Others counts violations of all other rules.
	Others int `json:"other_violations"`
	// Duplicates are explained repeated deliveries of QoS 1.
	Duplicates int `json:"qos1_duplicates"`

	// GapP50, GapP99 and GapWorst are how long publishers got no acknowledgement around a fault.
	GapP50   time.Duration `json:"gap_p50_ns"`
	GapP99   time.Duration `json:"gap_p99_ns"`
	GapWorst time.Duration `json:"gap_worst_ns"`
	// Skipped is why the class was not run.
	Skipped string `json:"skipped,omitempty"`
}

// ClassReport is a whole run.
type ClassReport struct {
	Seed    uint64        `json:"seed"`
	Version string        `json:"version"`
	Started time.Time     `json:"started"`
	Took    time.Duration `json:"took_ns"`
	Cores   int           `json:"cores"`
	Load    float64       `json:"load_at_start"`
	Rows    []ClassRow    `json:"rows"`
}

// Row makes the row of a class of what the checker and the gaps of its history say.
func Row(class, name string, nodes, faults, refused int, r *Report, gaps []Gap) ClassRow {
	row := ClassRow{
		Class: class, Name: name, Nodes: nodes, Faults: faults, Refused: refused,
		Acked: r.Acked[1] + r.Acked[2], MustReach: r.MustReach,
		Lost: r.Count["I1"], Twice: r.Count["I2"], Disordered: r.Count["I4"],
	}
	for rule, n := range r.Count {
		if rule != "I1" && rule != "I2" && rule != "I4" {
			row.Others += n
		}
	}
	for _, n := range r.Duplicates {
		row.Duplicates += n
	}
	if len(gaps) > 0 {
		d := make([]time.Duration, len(gaps))
		for i, g := range gaps {
			d[i] = g.For
		}
		slices.Sort(d)
		at := func(q float64) time.Duration { return d[min(int(q*float64(len(d))), len(d)-1)] }
		row.GapP50, row.GapP99, row.GapWorst = at(0.5), at(0.99), d[len(d)-1]
	}
	return row
}

// Total adds all rows.
func (r *ClassReport) Total() ClassRow {
	t := ClassRow{Class: "all"}
	for i := range r.Rows {
		row := &r.Rows[i]
		t.Faults, t.Refused, t.Acked, t.MustReach = t.Faults+row.Faults, t.Refused+row.Refused, t.Acked+row.Acked, t.MustReach+row.MustReach
		t.Lost, t.Twice, t.Disordered, t.Others = t.Lost+row.Lost, t.Twice+row.Twice, t.Disordered+row.Disordered, t.Others+row.Others
		t.Duplicates += row.Duplicates
		t.GapWorst = max(t.GapWorst, row.GapWorst)
	}
	return t
}

// Markdown is the report as docs/reliability.md shows it.
func (r *ClassReport) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Seed %d, version %s, %s, %d cores, load %.1f at the start, %v.\n\n", r.Seed, r.Version,
		r.Started.UTC().Format("2006-01-02"), r.Cores, r.Load, r.Took.Round(time.Second))
	b.WriteString("| class | nodes | faults | acknowledged | had to arrive | lost | QoS 2 twice | out of order | other | QoS 1 again, explained | gap p50 | p99 | worst |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range append(slices.Clone(r.Rows), r.Total()) {
		if row.Skipped != "" {
			fmt.Fprintf(&b, "| %s %s | | not run: %s | | | | | | | | | | |\n", row.Class, row.Name, row.Skipped)
			continue
		}
		faults := fmt.Sprint(row.Faults)
		if row.Refused > 0 {
			faults += fmt.Sprintf(" (%d refused to start)", row.Refused)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %d | %d | %d | %d | %d | %d | %d | %v | %v | %v |\n", strings.TrimSpace(row.Class+" "+row.Name), row.Nodes, faults,
			row.Acked, row.MustReach, row.Lost, row.Twice, row.Disordered, row.Others, row.Duplicates, round(row.GapP50), round(row.GapP99), round(row.GapWorst))
	}
	t := r.Total()
	if t.Acked > 0 && t.Faults > 0 && t.Lost == 0 {
		fmt.Fprintf(&b, "\n0 lost of %d acknowledged bounds the rate at %.1e, 0 of %d faults that lost something bounds that at %.1f %% (95 %% each).\n",
			t.Acked, 3/float64(t.Acked), t.Faults, 300/float64(t.Faults))
	}
	return b.String()
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
