package harness

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Metrics is one scrape: each series by its text, for example `flotilla_publish_refused_total{reason="inbox_full"}`.
type Metrics map[string]float64

// Metrics scrapes the node.
func (n *Node) Metrics(ctx context.Context) (Metrics, error) {
	var text rawText
	if err := n.Do(ctx, http.MethodGet, "/metrics", nil, &text); err != nil {
		return nil, err
	}
	return ParseMetrics(text)
}

// ParseMetrics reads the text format: series, space, value. Comments and histogram lines are series like any other.
func ParseMetrics(text []byte) (Metrics, error) {
	m := Metrics{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return nil, fmt.Errorf("metrics: no value in %q", line)
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		m[line[:at]] = v
	}
	return m, lines.Err()
}

// Sum adds all series of a name that carry the given labels, each written as `key="value"`.
func (m Metrics) Sum(name string, labels ...string) (sum float64) {
	for series, v := range m {
		base, rest, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains("{"+rest, l)
		}
		if all {
			sum += v
		}
	}
	return sum
}

// Metrics scrapes all nodes that run and adds the series up: counts of replicated state come from one node each, so that
// sums are right.
func (c *Cluster) Metrics(ctx context.Context) (Metrics, error) {
	sum := Metrics{}
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		m, err := n.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		for series, v := range m {
			sum[series] += v
		}
	}
	return sum, nil
}

// rawText takes an answer that is no JSON as it is.
type rawText []byte
