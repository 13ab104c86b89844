package bench

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Backlog subscribes with durable sessions, takes their connections away, publishes
// Count messages (or for Duration) and connects the subscribers again. RateOut is
// that of the messages that waited, from the first connect to the last message;
// Replay is that time of each subscriber.
func Backlog(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Durable, cfg.QoS = true, max(cfg.QoS, 1)
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &run{plan: newPlan(cfg), clock: clock{time.Now()}}
	r.enter("connecting")
	var pubs, subs []*link
	for i := range cfg.Subscribers {
		s := newSubscriber(r.plan, i, r.clock)
		r.subs, subs = append(r.subs, s), append(subs, &s.link)
	}
	for i := range cfg.Publishers {
		b := newPublisher(r.plan, i, r.clock)
		r.pubs, pubs = append(r.pubs, b), append(pubs, &b.link)
	}
	stopProgress := r.report()
	defer stopProgress()
	defer r.closeAll(append(pubs, subs...))
	if err := openAll(ctx, append(pubs, subs...)); err != nil {
		return nil, err
	}
	for _, s := range r.subs {
		_ = s.client.Load().Close() // as a crash does: the session stays
	}
	r.enter("publishing")
	began := time.Now()
	r.publishAll(ctx, began)
	r.each(func(b *publisher) { b.settle(ctx) })
	settled := time.Since(began)

	r.enter("draining")
	drained, replay, err := r.drain(ctx, subs)
	if err != nil {
		return nil, err
	}
	for _, b := range r.pubs {
		_ = b.client.Load().Close() // its counters are this goroutine's from here on
	}
	for _, s := range r.subs {
		_ = s.client.Load().Close()
	}
	rep := r.count("backlog")
	rep.DurationS = settled.Seconds()
	rep.RateIn = float64(rep.Acked) / settled.Seconds()
	rep.RateOut = float64(rep.Received) / drained.Seconds()
	rep.Delivery = nil // it is the time that they waited
	rep.Replay = latency([]*hdrhistogram.Histogram{replay})
	return rep, nil
}

// drain connects the subscribers and waits for what is queued. It returns the time
// until the last message, of all and of each.
func (r *run) drain(ctx context.Context, subs []*link) (time.Duration, *hdrhistogram.Histogram, error) {
	began := time.Now()
	for _, l := range subs {
		l.opt.Clean, l.attempts = false, 0
	}
	if err := openAll(ctx, subs); err != nil {
		return 0, nil, err
	}
	last := r.awaitDeliveries(ctx)
	replay := newHistogram(1)
	for _, s := range r.subs {
		if at := s.newest.Load(); at > 0 {
			record(replay, at-int64(began.Sub(r.clock.began)))
		}
	}
	return max(last.Sub(began), time.Millisecond), replay, nil
}
