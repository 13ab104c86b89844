package bench

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Progress is the state of a run at a moment.
type Progress struct {
	Phase    string // connecting, publishing, draining
	Elapsed  time.Duration
	Sent     uint64
	Acked    uint64
	Received uint64
	// RateIn and RateOut are messages a second since the last progress.
	RateIn, RateOut float64
}

// Report is the result of a run.
type Report struct {
	Mode        string  `json:"mode"`
	QoS         byte    `json:"qos"`
	Size        int     `json:"size"`
	Publishers  int     `json:"publishers"`
	Subscribers int     `json:"subscribers"`
	Topics      int     `json:"topics"`
	Durable     bool    `json:"durable"`
	DurationS   float64 `json:"duration_s"` // of publishing, or of the phase measured

	Sent       uint64 `json:"sent"`
	Acked      uint64 `json:"acked"` // QoS 0: handed to the operating system
	Refused    uint64 `json:"refused"`
	Unacked    uint64 `json:"unacked"`
	Expected   uint64 `json:"expected"` // deliveries of what was acknowledged
	Received   uint64 `json:"received"` // different deliveries
	Lost       uint64 `json:"lost"`     // acknowledged (QoS 0: sent) and not delivered
	Duplicated uint64 `json:"duplicated"`
	OutOfOrder uint64 `json:"out_of_order"`
	Foreign    uint64 `json:"foreign"` // messages that are not of this run
	Reconnects uint64 `json:"reconnects"`
	Failed     uint64 `json:"failed"` // connections that could not be made

	RateIn  float64 `json:"rate_in"`  // messages a second acknowledged (QoS 0: sent)
	RateOut float64 `json:"rate_out"` // messages a second delivered

	Delivery *Latency `json:"delivery,omitempty"` // publish to deliver
	Ack      *Latency `json:"ack,omitempty"`      // publish to acknowledgement
	Connect  *Latency `json:"connect,omitempty"`  // dial to CONNACK, or to SUBACK of idle connections
	Ping     *Latency `json:"ping,omitempty"`     // PINGREQ to PINGRESP
	Replay   *Latency `json:"replay,omitempty"`   // SUBSCRIBE to the last retained message
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

// Histograms hold microseconds up to ten minutes.
const maxLatency = 600_000_000

// newHistogram returns one of n: many share the memory of few.
func newHistogram(n int) *hdrhistogram.Histogram {
	digits := 3
	if n > 32 {
		digits = 2
	}
	return hdrhistogram.New(1, maxLatency, digits)
}

// record keeps a time in nanoseconds.
func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(ns/1000, 1), maxLatency)) // the range is the histogram's own
}

func latency(hs []*hdrhistogram.Histogram) *Latency {
	if len(hs) == 0 {
		return nil
	}
	all := hdrhistogram.New(1, maxLatency, 3)
	for _, h := range hs {
		all.Merge(h)
	}
	if all.TotalCount() == 0 {
		return nil
	}
	ms := func(q float64) float64 { return float64(all.ValueAtQuantile(q)) / 1000 }
	return &Latency{
		Count: all.TotalCount(), Mean: all.Mean() / 1000, P50: ms(50), P90: ms(90), P99: ms(99), P999: ms(99.9),
		Max: float64(all.Max()) / 1000,
	}
}

// OK says whether nothing that was acknowledged is lost, and the run as a
// whole took place.
func (r *Report) OK() bool {
	return (r.QoS == 0 || r.Lost == 0) && r.Failed == 0
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  qos %d  %d B  %d publishers  %d subscribers  %d topics  %.1f s\n", r.Mode, r.QoS, r.Size, r.Publishers, r.Subscribers, r.Topics, r.DurationS)
	fmt.Fprintf(&b, "rate      in %.0f/s  out %.0f/s\n", r.RateIn, r.RateOut)
	fmt.Fprintf(&b, "messages  sent %d  acked %d  refused %d  unacked %d  received %d of %d\n", r.Sent, r.Acked, r.Refused, r.Unacked, r.Received, r.Expected)
	for _, l := range []struct {
		name string
		l    *Latency
	}{{"delivery", r.Delivery}, {"ack", r.Ack}, {"connect", r.Connect}, {"ping", r.Ping}, {"replay", r.Replay}} {
		if l.l != nil {
			fmt.Fprintf(&b, "%-9s p50 %.3f ms  p90 %.3f ms  p99 %.3f ms  max %.3f ms\n", l.name, l.l.P50, l.l.P90, l.l.P99, l.l.Max)
		}
	}
	fmt.Fprintf(&b, "lost %d  duplicated %d  out of order %d", r.Lost, r.Duplicated, r.OutOfOrder)
	if r.Reconnects > 0 || r.Failed > 0 {
		fmt.Fprintf(&b, "  reconnects %d  failed connections %d", r.Reconnects, r.Failed)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
