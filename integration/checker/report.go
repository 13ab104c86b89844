package checker

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"
)

// Violation is one broken promise with the few events that show it.
type Violation struct {
	Rule string // I1, I2, ...
	Text string
	// Slice is sorted by time.
	Slice []Event
}

// String prints the rule, the sentence and the slice, an event a line.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Rule, v.Text)
	for _, e := range v.Slice {
		line, err := json.Marshal(e)
		if err != nil {
			line = fmt.Appendf(nil, "%+v", e)
		}
		fmt.Fprintf(&b, "\n    %s", line)
	}
	return b.String()
}

// violationsKept is how many violations of a rule a report keeps; all are counted.
const violationsKept = 5

// Report is what a history shows.
type Report struct {
	// Count has every violation by rule, Violations the first few of each.
	Count      map[string]int
	Violations []Violation

	Events      int
	Connects    int
	Faults      int
	Acked       [3]int // publishes by QoS that were promised
	Refused     int
	Unknown     int // publishes without an answer
	Deliveries  int
	MustReach   int            // pairs of an acked publish and a session that it must reach
	Duplicates  map[string]int // repeated deliveries of QoS 1, by explanation
	Retransmits int            // QoS 2 deliveries that repeat one packet id with DUP
	ClientFault int            // QoS 2 duplicates that follow from a publisher that broke the protocol
	ShareMust   int            // pairs of an acked publish and a share one of whose members must process it
	Excused     int            // of them: perhaps sent with QoS 2 to a member whose session then ended (v5:MQTT-4.8.2-5)
	Stalls      []Stall        // the longest ones of all shares, longest first
	Wills       int            // connections with a will whose outcome is certain
	Reads       int            // of retained messages
	Undrained   []string       // sessions with durable subscriptions that never drained: I1 says nothing of them
}

// Check reads a history and holds it against the rules. The error is a history that cannot be one.
func Check(events []Event) (*Report, error) { return CheckSlow(events, 0) }

// CheckSlow is Check for a machine that may stand still for so long, which limits of time do not count.
func CheckSlow(events []Event, standstill time.Duration) (*Report, error) {
	x, err := newIndex(events)
	if err != nil {
		return nil, err
	}
	x.standstill = int64(standstill)
	r := &Report{Count: map[string]int{}, Duplicates: map[string]int{}, Events: len(events), Faults: len(x.faults)}
	x.checkSessions(r)
	seen := x.checkDeliveries(r)
	x.checkLoss(r, seen)
	x.checkShares(r, seen)
	x.checkWills(r, seen)
	x.checkRegisters(r, seen)
	return r, nil
}

// OK tells that no rule was broken.
func (r *Report) OK() bool { return len(r.Count) == 0 }

func (r *Report) add(rule, text string, slice ...*Event) {
	r.Count[rule]++
	if r.Count[rule] > violationsKept {
		return
	}
	v := Violation{Rule: rule, Text: text}
	for _, e := range slice {
		if e != nil {
			v.Slice = append(v.Slice, *e)
		}
	}
	sort.SliceStable(v.Slice, func(i, j int) bool { return v.Slice[i].T < v.Slice[j].T })
	r.Violations = append(r.Violations, v)
}

// String is the summary and the violations.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events, %d connects, %d faults; acked %d QoS 1 and %d QoS 2 (%d QoS 0 sent), %d refused, %d without an answer; "+
		"%d deliveries for %d promised; QoS 1 duplicates by explanation %v; %d QoS 2 retransmits, %d QoS 2 duplicates by the publisher's fault",
		r.Events, r.Connects, r.Faults, r.Acked[1], r.Acked[2], r.Acked[0], r.Refused, r.Unknown, r.Deliveries, r.MustReach, r.Duplicates, r.Retransmits, r.ClientFault)
	if n := r.Acked[1] + r.Acked[2]; n > 0 && r.Count["I1"] == 0 {
		fmt.Fprintf(&b, "; 0 lost of %d acked: the rate is below %.1e (95 %%)", n, 3/float64(n))
	}
	if r.ShareMust > 0 {
		fmt.Fprintf(&b, "; shares: %d promised to a member, %d of them excused, longest stalls %v", r.ShareMust, r.Excused, r.Stalls)
	}
	if r.Wills+r.Reads > 0 {
		fmt.Fprintf(&b, "; %d wills judged, %d retained reads", r.Wills, r.Reads)
	}
	if len(r.Undrained) > 0 {
		fmt.Fprintf(&b, "\nnot drained, so not checked for loss: %v", r.Undrained)
	}
	if r.OK() {
		b.WriteString("\nno violation")
		return b.String()
	}
	fmt.Fprintf(&b, "\nVIOLATIONS %v", r.Count)
	for _, v := range r.Violations {
		b.WriteString("\n")
		b.WriteString(v.String())
	}
	return b.String()
}
