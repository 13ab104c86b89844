package bench

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// publisher sends on its streams in turn.
type publisher struct {
	link
	clock   clock
	warm    int64 // latencies before it do not count
	streams []uint32
	topics  [][]byte
	seqs    []uint64            // sent so far, per stream
	refused map[uint32][]uint64 // per stream; only of the reader until it has ended
	acks    *hdrhistogram.Histogram
	sent    atomic.Uint64
	acked   atomic.Uint64
	session *mqttc.Session
}

func newPublisher(p *plan, i int, clk clock) *publisher {
	b := &publisher{
		clock: clk, warm: int64(p.Warmup), streams: p.publish[i], refused: map[uint32][]uint64{},
		acks: newHistogram(p.Publishers), session: mqttc.NewSession(),
	}
	for _, id := range b.streams {
		b.topics = append(b.topics, []byte(p.streams[id].topic))
	}
	b.seqs = make([]uint64, len(b.streams))
	b.link = link{plan: p, index: i, opt: p.options("p", i)}
	b.opt.Session, b.opt.OnAck = b.session, b.onAck
	b.prepare = func(ctx context.Context, c *mqttc.Client) error {
		_, err := c.Resend(ctx)
		return err
	}
	return b
}

// onAck runs on the reader. The token is the time of sending.
func (b *publisher) onAck(_ *mqttc.Client, a mqttc.Ack) {
	if a.Code.Failed() && a.Code != mqtt.PacketIdentifierNotFound { // that one ends a QoS 2 publish that was taken
		if h, ok := readHeader(a.Payload); ok {
			b.refused[h.stream] = append(b.refused[h.stream], h.seq)
		}
		return
	}
	b.acked.Add(1)
	if at := int64(a.Token); at >= b.warm {
		record(b.acks, b.clock.now()-at)
	}
}

// pace keeps to a rate.
type pace struct {
	began time.Time
	rate  float64 // messages a second; 0: none
	sent  float64
}

// due is how many messages may go now, and if none, how long to wait.
func (p *pace) due(now time.Time) (n int, sleep time.Duration) {
	if p.rate == 0 {
		return batch, 0
	}
	allowed := now.Sub(p.began).Seconds()*p.rate - p.sent
	if allowed >= 1 {
		return min(int(allowed), batch), 0
	}
	return 0, max(time.Duration((1-allowed)/p.rate*float64(time.Second)), 200*time.Microsecond)
}

// batch is how many messages are sent between looks at the clock and the end.
const batch = 64

// publish sends until ctx ends or limit messages are out (0: no limit).
func (b *publisher) publish(ctx context.Context, rate float64, limit uint64) {
	payload := make([]byte, b.plan.Size)
	for i := headerBytes; i < len(payload); i++ {
		payload[i] = 'a' + byte(i%26)
	}
	pub := mqtt.Publish{QoS: b.plan.QoS, Retain: b.plan.Retain, Payload: payload}
	p := pace{began: time.Now(), rate: rate}
	turn, total := 0, uint64(0)
	for ctx.Err() == nil && (limit == 0 || total < limit) {
		n, sleep := p.due(time.Now())
		if n == 0 {
			wait(ctx, sleep)
			continue
		}
		for range n {
			if limit > 0 && total == limit {
				return
			}
			if !b.one(ctx, &pub, turn) {
				break
			}
			p.sent++
			total++
			turn = (turn + 1) % len(b.streams)
		}
	}
}

// one sends the next message of a stream, over a new connection if it must.
func (b *publisher) one(ctx context.Context, pub *mqtt.Publish, turn int) bool {
	h := header{run: b.plan.run, stream: b.streams[turn], seq: b.seqs[turn] + 1, at: b.clock.now()}
	h.put(pub.Payload)
	pub.Topic = b.topics[turn]
	c := b.client.Load()
	if _, err := c.Send(ctx, pub, uint64(h.at)); err != nil {
		if ctx.Err() == nil {
			_ = b.again(ctx) // it fails only when ctx ends
		}
		return false
	}
	b.seqs[turn]++
	b.sent.Add(1)
	return true
}

// settle waits until everything is acknowledged, or nothing moves for the
// time of the plan.
func (b *publisher) settle(ctx context.Context) {
	if b.plan.QoS == 0 {
		_ = b.client.Load().Flush(ctx) // what a lost connection takes along counts as lost
		return
	}
	last, since := b.acked.Load(), time.Now()
	for b.session.Len() > 0 && ctx.Err() == nil {
		if b.client.Load().Err() != nil && b.again(ctx) != nil {
			return
		}
		if now := b.acked.Load(); now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > b.plan.Drain {
			return
		}
		wait(ctx, 5*time.Millisecond)
	}
}

// unsettled returns, per stream, what need not have been delivered: refused or
// never acknowledged. It is to be called after the connection has ended.
func (b *publisher) unsettled() (open map[uint32][]uint64, unacked, refused uint64) {
	open = b.refused
	for _, list := range b.refused {
		refused += uint64(len(list))
	}
	for _, f := range b.session.InFlight() {
		if h, ok := readHeader(f.Publish.Payload); ok && !f.Released {
			open[h.stream] = append(open[h.stream], h.seq)
			unacked++
		}
	}
	return open, unacked, refused
}
