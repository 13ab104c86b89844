package checker

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// Gap is how long one publisher got no acknowledgement around a fault.
type Gap struct {
	Fault     string
	Publisher string
	For       time.Duration
	// Moved: the publisher's connection ended meanwhile, so the gap includes its own reconnecting.
	Moved bool
}

// gapWindow is how long after a fault a gap is still its.
const gapWindow = int64(15e9)

// Gaps finds, for each fault whose text select accepts, the longest time between two acknowledgements of QoS 1 and 2 of each
// publisher that overlaps the time from the fault to the next fault, at most 15 s.
func Gaps(events []Event, accept func(fault string) bool) []Gap {
	acks := map[string][]int64{}
	closed := map[string][]int64{}
	var faults []*Event
	for i := range events {
		switch e := &events[i]; {
		case e.Kind == Publish && e.QoS > 0 && e.acked():
			acks[e.Client] = append(acks[e.Client], e.End)
		case e.Kind == Closed:
			closed[e.Client] = append(closed[e.Client], e.T)
		case e.Kind == Fault:
			faults = append(faults, e)
		}
	}
	slices.SortFunc(faults, func(a, b *Event) int { return int(min(max(a.T-b.T, -1), 1)) })
	for _, times := range []map[string][]int64{acks, closed} {
		for _, list := range times {
			slices.Sort(list)
		}
	}
	var gaps []Gap
	for i, f := range faults {
		if !accept(f.Err) {
			continue
		}
		end := f.T + gapWindow
		if i+1 < len(faults) {
			end = min(end, faults[i+1].T)
		}
		for publisher, list := range acks {
			from, to := longestGap(list, f.T, end)
			if from == 0 {
				continue
			}
			at := sort.Search(len(closed[publisher]), func(i int) bool { return closed[publisher][i] >= f.T })
			moved := at < len(closed[publisher]) && closed[publisher][at] <= to
			gaps = append(gaps, Gap{Fault: f.Err, Publisher: publisher, For: time.Duration(to - from), Moved: moved})
		}
	}
	return gaps
}

// longestGap finds the longest pair of neighbours that overlaps from-to; 0 if the list has none there.
func longestGap(acks []int64, from, to int64) (left, right int64) {
	at := max(sort.Search(len(acks), func(i int) bool { return acks[i] > from }), 1)
	for ; at < len(acks) && acks[at-1] < to; at++ {
		if acks[at]-acks[at-1] > right-left {
			left, right = acks[at-1], acks[at]
		}
	}
	return left, right
}

// Quantiles describes a set of gaps in one line.
func Quantiles(gaps []Gap) string {
	if len(gaps) == 0 {
		return "none"
	}
	d := make([]time.Duration, len(gaps))
	for i, g := range gaps {
		d[i] = g.For
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[min(int(q*float64(len(d))), len(d)-1)].Round(time.Millisecond) }
	return fmt.Sprintf("n %d p50 %v p90 %v p99 %v max %v", len(d), at(0.5), at(0.9), at(0.99), at(1))
}
