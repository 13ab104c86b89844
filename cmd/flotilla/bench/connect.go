package bench

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
)

// Connect opens Subscribers connections at Rate a second (0: as fast as it
// goes), holds them until Duration has passed, and measures the time from dial
// to CONNACK. Lost counts connections that did not hold.
func Connect(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Publishers = 0
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := newPlan(cfg)
	began := time.Now()
	c := &connects{plan: p, histogram: newHistogram(1)}
	p.openAll(ctx, c.open, func(tried int, began time.Time) {
		if cfg.Progress != nil {
			cfg.Progress(Progress{Phase: "connecting", Elapsed: time.Since(began), Sent: uint64(tried), RateIn: float64(tried) / time.Since(began).Seconds()})
		}
	})
	opened := time.Since(began)
	wait(ctx, cfg.Duration-opened)
	rep := &Report{Mode: "connect", Subscribers: cfg.Subscribers, Durable: cfg.Durable, DurationS: opened.Seconds(), Failed: c.failed}
	for _, l := range c.links {
		if l.client.Load().Err() != nil {
			rep.Lost++
		}
	}
	rep.Expected, rep.Received = uint64(cfg.Subscribers), uint64(len(c.links))-rep.Lost
	rep.RateIn = float64(len(c.links)) / opened.Seconds()
	rep.Connect = latency([]*hdrhistogram.Histogram{c.histogram})
	(&run{plan: p}).closeAll(c.links)
	return rep, nil
}

// connects opens connections and keeps the times that it took.
type connects struct {
	plan *plan

	mu sync.Mutex
	// Under mu:
	links     []*link
	failed    uint64
	histogram *hdrhistogram.Histogram
}

func (c *connects) open(ctx context.Context, i int) {
	l := &link{plan: c.plan, index: i, opt: c.plan.options("c", i), prepare: func(context.Context, *mqttc.Client) error { return nil }}
	start := time.Now()
	err := l.open(ctx)
	took := time.Since(start)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed++
		if c.failed <= 10 {
			c.plan.log("%s: %v", l.opt.ClientID, err)
		}
		return
	}
	c.links = append(c.links, l)
	record(c.histogram, int64(took))
}
