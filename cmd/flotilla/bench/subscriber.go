package bench

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// subscriber counts what comes.
type subscriber struct {
	link
	clock    clock
	warm     int64
	first    uint32 // id of seen[0]
	seen     []gaps // by stream id; those that it does not follow stay empty
	board    *board // of a share; nil: every subscriber gets everything
	delivery *hdrhistogram.Histogram
	received atomic.Uint64     // different messages
	newest   atomic.Int64      // when the last one came
	last     map[uint32]uint64 // of a share: the highest number per stream
	// The reader's own until it has ended:
	duplicated, unordered, foreign uint64
}

func newSubscriber(p *plan, i int, clk clock) *subscriber {
	s := &subscriber{clock: clk, warm: int64(p.Warmup), delivery: newHistogram(p.Subscribers)}
	if ids := p.follow[i]; len(ids) > 0 {
		lo, hi := ids[0], ids[0]
		for _, id := range ids {
			lo, hi = min(lo, id), max(hi, id)
		}
		s.first, s.seen = lo, make([]gaps, hi-lo+1)
	}
	s.link = link{plan: p, index: i + 1, opt: p.options("s", i)}
	s.opt.Session, s.opt.OnMessage = mqttc.NewSession(), s.onMessage
	s.prepare = func(ctx context.Context, c *mqttc.Client) error {
		if c.SessionPresent() {
			return nil
		}
		return subscribe(ctx, c, p.filters[i], p.QoS)
	}
	return s
}

// maxFilters is how many filters go into one SUBSCRIBE.
const maxFilters = 50

func subscribe(ctx context.Context, c *mqttc.Client, filters []string, qos byte) error {
	for len(filters) > 0 {
		n := min(maxFilters, len(filters))
		request := make([]mqtt.SubscribeFilter, n)
		for i, f := range filters[:n] {
			request[i] = mqtt.SubscribeFilter{Filter: f, QoS: qos}
		}
		codes, err := c.Subscribe(ctx, request...)
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		for i, code := range codes {
			if code.Failed() {
				return fmt.Errorf("subscribe to %s: %s (0x%02x)", filters[i], code, byte(code))
			}
		}
		filters = filters[n:]
	}
	return nil
}

// onMessage runs on the reader.
func (s *subscriber) onMessage(_ *mqttc.Client, p *mqtt.Publish) {
	h, ok := readHeader(p.Payload)
	if s.board != nil {
		s.onShared(&h, ok)
		return
	}
	if !ok || h.run != s.plan.run || h.stream < s.first || int(h.stream-s.first) >= len(s.seen) {
		s.foreign++
		return
	}
	switch s.seen[h.stream-s.first].add(h.seq) {
	case duplicated:
		s.duplicated++
		return
	case late:
		s.unordered++
	}
	s.count(h.at)
}

// count takes a message that was sent at a time of the clock.
func (s *subscriber) count(sent int64) {
	now := s.clock.now()
	s.newest.Store(now)
	s.received.Add(1)
	if sent >= s.warm {
		record(s.delivery, now-sent)
	}
}

// onShared counts a message that one member of the share gets.
func (s *subscriber) onShared(h *header, ok bool) {
	if !ok || h.run != s.plan.run || int(h.stream) >= len(s.plan.streams) {
		s.foreign++
		return
	}
	if !s.board.add(h.stream, h.seq) {
		s.duplicated++
		return
	}
	if s.last[h.stream] > h.seq {
		s.unordered++ // at this member: between members there is no order
	}
	s.last[h.stream] = max(s.last[h.stream], h.seq)
	s.count(h.at)
}

// watch connects again when the connection is lost, until ctx ends.
func (s *subscriber) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.client.Load().Done():
			if s.again(ctx) != nil {
				return
			}
		}
	}
}
