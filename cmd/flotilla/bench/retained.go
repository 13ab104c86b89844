package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Retained stores a retained message on each of Topics topics, then subscribes
// to all of them with each of Subscribers clients, one after the other, and
// measures the time until the last one has come. At the end it deletes them.
func Retained(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Publishers, cfg.Retain, cfg.Count = 1, true, uint64(cfg.Topics)
	cfg.Size = max(cfg.Size, headerBytes)
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := newPlan(cfg)
	r := &retained{plan: p, clock: clock{time.Now()}, replay: newHistogram(1)}
	pub := newPublisher(p, 0, r.clock)
	if err := pub.open(ctx); err != nil {
		return nil, err
	}
	defer func() {
		r.clean(pub)
		pub.close(context.WithoutCancel(ctx))
	}()
	began := time.Now()
	storing, cancel := context.WithTimeout(ctx, cfg.Duration)
	pub.publish(storing, float64(cfg.Rate), cfg.Count)
	cancel()
	pub.settle(ctx)
	stored := time.Since(began)
	rep := &Report{
		Mode: "retained", QoS: cfg.QoS, Size: cfg.Size, Publishers: 1, Subscribers: cfg.Subscribers, Topics: cfg.Topics,
		DurationS: stored.Seconds(), Sent: pub.sent.Load(),
	}
	rep.Unacked = uint64(pub.session.Len())
	rep.Acked = rep.Sent - rep.Unacked
	rep.RateIn = float64(rep.Acked) / stored.Seconds()
	replaying := time.Now()
	for i := range cfg.Subscribers {
		got, err := r.read(ctx, i, rep.Acked)
		if err != nil {
			return nil, err
		}
		rep.Expected += rep.Acked
		rep.Received += got
		rep.Lost += rep.Acked - min(got, rep.Acked)
	}
	rep.RateOut = float64(rep.Received) / time.Since(replaying).Seconds()
	rep.Replay = latency([]*hdrhistogram.Histogram{r.replay})
	rep.Ack = latency([]*hdrhistogram.Histogram{pub.acks})
	return rep, nil
}

type retained struct {
	*plan
	clock  clock
	replay *hdrhistogram.Histogram
}

// read subscribes and waits for all messages, or until none comes any more.
func (r *retained) read(ctx context.Context, i int, want uint64) (uint64, error) {
	var mu sync.Mutex
	seen := make([]bool, len(r.streams)) // under mu
	var got uint64                       // under mu
	var last int64                       // under mu
	opt := r.options("s", i)
	opt.Clean, opt.SessionExpiry = true, 0
	opt.OnMessage = func(_ *mqttc.Client, p *mqtt.Publish) {
		h, ok := readHeader(p.Payload)
		if !ok || h.run != r.run || int(h.stream) >= len(seen) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !seen[h.stream] {
			seen[h.stream] = true
			got++
			last = r.clock.now()
		}
	}
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := mqttc.Dial(dialing, opt)
	if err != nil {
		return 0, fmt.Errorf("connect %s to %s: %w", opt.ClientID, opt.URL, err)
	}
	defer c.Disconnect(context.WithoutCancel(ctx), mqtt.Success) //nolint:errcheck // the answer is in already
	began := r.clock.now()
	if err := subscribe(ctx, c, []string{r.prefix + "/+"}, r.QoS); err != nil {
		return 0, err
	}
	before, since := uint64(0), time.Now()
	for ctx.Err() == nil {
		mu.Lock()
		now := got
		mu.Unlock()
		if now >= want || (now == before && time.Since(since) > r.Drain) {
			break
		}
		if now != before {
			before, since = now, time.Now()
		}
		wait(ctx, time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	if got > 0 {
		record(r.replay, last-began)
	}
	return got, nil
}

// clean deletes what was stored: an empty retained payload does.
func (r *retained) clean(pub *publisher) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	for _, topic := range pub.topics {
		p := mqtt.Publish{Topic: topic, QoS: r.QoS, Retain: true}
		if _, err := pub.client.Load().Send(ctx, &p, uint64(pub.clock.now())); err != nil {
			r.log("delete retained messages: %v", err)
			return
		}
	}
	pub.settle(ctx)
}
