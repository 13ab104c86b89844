package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// connecting is how many connections are opened or closed at a time, unless a plan says otherwise.
const connecting = 64

// openAll calls open for each subscriber, some at a time and at the rate of the plan, and returns when all calls have. tell is called
// now and then with how many were begun.
func (p *plan) openAll(ctx context.Context, open func(ctx context.Context, index int), tell func(tried int, began time.Time)) {
	slots := make(chan struct{}, p.Connecting)
	var wg sync.WaitGroup
	at := pace{began: time.Now(), rate: float64(p.Rate)}
	for i := 0; i < p.Subscribers && ctx.Err() == nil; {
		n, sleep := at.due(time.Now())
		if n == 0 {
			wait(ctx, sleep)
			continue
		}
		slots <- struct{}{}
		index := i
		wg.Go(func() {
			defer func() { <-slots }()
			open(ctx, index)
		})
		at.sent++
		if i++; i%1000 == 0 {
			tell(i, at.began)
		}
	}
	wg.Wait()
}

// progressEvery is the interval of Config.Progress.
const progressEvery = time.Second

// run is a pubsub in progress.
type run struct {
	*plan
	clock clock
	pubs  []*publisher
	subs  []*subscriber
	board *board // with Share
	phase atomic.Pointer[string]
}

// PubSub publishes for the time of the plan and counts what arrives. Fan-out is
// the same with one publisher and one topic. An error means that the run could
// not take place; losses are in the report.
func PubSub(ctx context.Context, mode string, cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &run{plan: newPlan(cfg), clock: clock{time.Now()}}
	r.enter("connecting")
	if cfg.Share {
		r.board = newBoard(len(r.streams))
	}
	for i := range cfg.Subscribers {
		s := newSubscriber(r.plan, i, r.clock)
		s.board, s.last = r.board, map[uint32]uint64{}
		r.subs = append(r.subs, s)
	}
	for i := range cfg.Publishers {
		r.pubs = append(r.pubs, newPublisher(r.plan, i, r.clock))
	}
	stopProgress := r.report()
	defer stopProgress()
	links := make([]*link, 0, len(r.subs)+len(r.pubs))
	for _, s := range r.subs {
		links = append(links, &s.link)
	}
	for _, b := range r.pubs {
		links = append(links, &b.link)
	}
	defer r.closeAll(links)
	if err := openAll(ctx, links); err != nil {
		return nil, err
	}
	return r.measure(ctx, mode)
}

func (r *run) enter(phase string) { r.phase.Store(&phase) }

// openAll connects everybody, some at a time; the first failure ends it.
func openAll(ctx context.Context, links []*link) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, connecting) // as many as connect at a time
	var wg sync.WaitGroup
	for _, l := range links {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-slots; wg.Done() }()
			if err := l.open(ctx); err != nil {
				cancel(fmt.Errorf("connect %s to %s: %w", l.opt.ClientID, l.opt.URL, err))
			}
		}()
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// closeAll says goodbye to all brokers, some at a time.
func (r *run) closeAll(links []*link) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	slots := make(chan struct{}, connecting)
	var wg sync.WaitGroup
	for _, l := range links {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-slots; wg.Done() }()
			l.close(ctx)
		}()
	}
	wg.Wait()
}

func (r *run) measure(ctx context.Context, mode string) (*Report, error) {
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	for _, s := range r.subs {
		watchers.Add(1)
		go func() { defer watchers.Done(); s.watch(watching) }()
	}
	defer watchers.Wait()
	defer stopWatching()

	r.enter("publishing")
	began := time.Now()
	r.publishAll(ctx, began)
	published := time.Since(began)
	r.enter("draining")
	r.each(func(b *publisher) { b.settle(ctx) })
	settled := time.Since(began)
	last := r.awaitDeliveries(ctx)
	stopWatching()
	watchers.Wait()
	for _, b := range r.pubs {
		_ = b.client.Load().Close() // its counters are this goroutine's from here on
	}
	for _, s := range r.subs {
		_ = s.client.Load().Close()
	}
	rep := r.count(mode)
	rep.DurationS = published.Seconds()
	inTime := published
	if r.QoS > 0 {
		inTime = settled
	}
	rep.RateIn = float64(rep.Acked) / inTime.Seconds()
	rep.RateOut = float64(rep.Received) / max(last.Sub(began), published).Seconds()
	return rep, nil
}

// publishAll runs all publishers for the duration or until the count.
func (r *run) publishAll(ctx context.Context, began time.Time) {
	ctx, cancel := context.WithDeadline(ctx, began.Add(r.Duration))
	defer cancel()
	n := uint64(max(len(r.pubs), 1))
	var next atomic.Uint64
	r.each(func(b *publisher) {
		i := next.Add(1) - 1
		limit := r.Count / n
		if i < r.Count%n {
			limit++
		}
		if r.Count > 0 && limit == 0 {
			return
		}
		b.publish(ctx, float64(r.Rate)/float64(n), limit)
	})
	if len(r.pubs) == 0 {
		<-ctx.Done()
	}
}

// each runs fn for all publishers at the same time.
func (r *run) each(fn func(*publisher)) {
	var wg sync.WaitGroup
	for _, b := range r.pubs {
		wg.Add(1)
		go func() { defer wg.Done(); fn(b) }()
	}
	wg.Wait()
}

// awaitDeliveries waits until as many have come as could come, or none comes
// for the time of the plan. It returns when the last one came.
func (r *run) awaitDeliveries(ctx context.Context) time.Time {
	var possible uint64
	sent := r.sentByStream()
	for _, ids := range r.follow {
		for _, id := range ids {
			possible += sent[id]
		}
	}
	if r.board != nil {
		for _, n := range sent {
			possible += n
		}
	}
	last, since := r.received(), time.Now()
	for last < possible && time.Since(since) < r.Drain && ctx.Err() == nil {
		wait(ctx, 5*time.Millisecond)
		if now := r.received(); now != last {
			last, since = now, time.Now()
		}
	}
	return since
}

func (r *run) sentByStream() map[uint32]uint64 {
	sent := map[uint32]uint64{}
	for _, b := range r.pubs {
		for i, id := range b.streams {
			sent[id] = b.seqs[i]
		}
	}
	return sent
}

func (r *run) received() (n uint64) {
	for _, s := range r.subs {
		n += s.received.Load()
	}
	return n
}

// count makes the report. All connections have ended.
func (r *run) count(mode string) *Report {
	rep := &Report{
		Mode: mode, QoS: r.QoS, Size: r.Size, Publishers: r.Publishers, Subscribers: r.Subscribers, Topics: r.Topics, Durable: r.Durable,
	}
	sent, open := r.sentByStream(), map[uint32][]uint64{}
	var acks, deliveries []*hdrhistogram.Histogram
	for _, b := range r.pubs {
		o, unacked, refused := b.unsettled()
		for id, list := range o {
			open[id] = list
		}
		rep.Sent += b.sent.Load()
		rep.Unacked, rep.Refused = rep.Unacked+unacked, rep.Refused+refused
		rep.Reconnects += b.lost.Load()
		acks = append(acks, b.acks)
	}
	rep.Acked = rep.Sent - rep.Unacked - rep.Refused
	for i, s := range r.subs {
		rep.Received += s.received.Load()
		rep.Duplicated, rep.OutOfOrder, rep.Foreign = rep.Duplicated+s.duplicated, rep.OutOfOrder+s.unordered, rep.Foreign+s.foreign
		rep.Reconnects += s.lost.Load()
		deliveries = append(deliveries, s.delivery)
		for _, id := range r.follow[i] {
			expected, lost := lostOf(&s.seen[id-s.first], sent[id], open[id])
			rep.Expected, rep.Lost = rep.Expected+expected, rep.Lost+lost
		}
	}
	if r.board != nil {
		for id := range r.board.seen {
			expected, lost := lostOf(&r.board.seen[id], sent[uint32(id)], open[uint32(id)])
			rep.Expected, rep.Lost = rep.Expected+expected, rep.Lost+lost
		}
	}
	rep.Delivery, rep.Ack = latency(deliveries), latency(acks)
	return rep
}

// lostOf counts what should have come of a stream, and did not.
func lostOf(g *gaps, sent uint64, open []uint64) (expected, lost uint64) {
	got := g.count()
	for _, seq := range open {
		if g.has(seq) {
			got-- // it came, but nobody promised so
		}
	}
	expected = sent - uint64(len(open))
	return expected, expected - min(got, expected)
}

// report calls Progress at intervals until the returned function is called.
func (r *run) report() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	done, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		var before Progress
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := Progress{Phase: *r.phase.Load(), Elapsed: time.Since(r.clock.began), Received: r.received()}
			for _, b := range r.pubs {
				now.Sent += b.sent.Load()
				now.Acked += b.acked.Load()
			}
			span := (now.Elapsed - before.Elapsed).Seconds()
			now.RateIn = float64(now.Sent-before.Sent) / span
			now.RateOut = float64(now.Received-before.Received) / span
			r.Progress(now)
			before = now
		}
	}()
	return func() { close(done); <-joined }
}
