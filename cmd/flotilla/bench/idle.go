package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Idle opens Subscribers connections, each subscribed to a topic of its own, and
// does nothing with them but keep-alive for Duration after the last has come.
// It measures connects, the answers to PINGREQ, and how many connections hold. The
// clients are bare, one small goroutine each, so that tens of thousands fit beside
// the broker that is measured. Memory and CPU of the broker are the caller's to read.
func Idle(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Publishers, cfg.Topics = 0, max(cfg.Subscribers, 1)
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &idle{plan: newPlan(cfg), conns: make([]*idleConn, cfg.Subscribers), connected: newHistogram(1), pinged: newHistogram(1)}
	defer h.end()
	began := time.Now()
	h.openAll(ctx, h.open, func(_ int, began time.Time) { h.show("connecting", began) })
	opened := time.Since(began)
	h.hold(ctx)
	rep := &Report{
		Mode: "idle", QoS: cfg.QoS, Subscribers: cfg.Subscribers, Durable: cfg.Durable,
		DurationS: time.Since(began).Seconds() - opened.Seconds(),
		Expected:  uint64(cfg.Subscribers), Failed: h.failed.Load(),
	}
	for _, c := range h.conns {
		if c == nil {
			continue
		}
		if c.lost.Load() {
			rep.Lost++
		} else {
			rep.Received++
		}
	}
	rep.RateIn = float64(rep.Received+rep.Lost) / opened.Seconds()
	h.mu.Lock()
	defer h.mu.Unlock()
	rep.Connect = latency([]*hdrhistogram.Histogram{h.connected})
	rep.Ping = latency([]*hdrhistogram.Histogram{h.pinged})
	return rep, nil
}

// idle is a run of idle connections.
type idle struct {
	*plan
	conns  []*idleConn // by index, nil where none could be opened
	failed atomic.Uint64
	opened atomic.Uint64
	wg     sync.WaitGroup

	mu sync.Mutex
	// Under mu:
	connected, pinged *hdrhistogram.Histogram
}

// idleConn is one of them.
type idleConn struct {
	conn   net.Conn
	asked  atomic.Int64 // when PINGREQ was sent, ns of the monotonic clock; 0: none is open
	lost   atomic.Bool
	ending atomic.Bool
}

func (h *idle) show(phase string, began time.Time) {
	if h.Progress == nil {
		return
	}
	up := h.opened.Load()
	h.Progress(Progress{Phase: phase, Elapsed: time.Since(began), Sent: up, RateIn: float64(up) / time.Since(began).Seconds()})
}

func (h *idle) open(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	start := time.Now()
	opt := h.options("s", i)
	conn, err := h.dial(ctx, i, opt.URL)
	if err == nil {
		err = h.greet(conn, &opt, h.filters[i])
	}
	if err != nil {
		if conn != nil {
			_ = conn.Close() // err says why
		}
		if h.failed.Add(1) <= 10 {
			h.log("%s: %v", opt.ClientID, err)
		}
		return
	}
	took := time.Since(start)
	c := &idleConn{conn: conn}
	h.conns[i] = c
	h.opened.Add(1)
	h.mu.Lock()
	record(h.connected, int64(took))
	h.mu.Unlock()
	h.wg.Add(1)
	go func() { defer h.wg.Done(); h.read(c) }()
}

// dial opens the byte stream of connection i.
func (h *idle) dial(ctx context.Context, i int, url string) (net.Conn, error) {
	t, err := mqttc.ParseURL(url)
	if err != nil {
		return nil, err
	}
	if t.Scheme != "mqtt" {
		return nil, fmt.Errorf("%w: idle connections are bare: use mqtt://", ErrPlan)
	}
	return h.from(i)(ctx, t.Addr)
}

// errNoAnswer means that a broker answered a handshake with another packet.
var errNoAnswer = errors.New("unexpected answer")

// greet sends CONNECT and SUBSCRIBE, and reads both answers. What follows is only
// PINGRESP, so the reader's buffer is given up with it.
func (h *idle) greet(conn net.Conn, opt *mqttc.Options, filters []string) error {
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	hello := &mqtt.Connect{
		Version: opt.Version, ClientID: opt.ClientID, CleanStart: opt.Clean, KeepAlive: uint16(h.KeepAlive / time.Second),
		Username: opt.Username, HasUsername: opt.Username != "", Password: opt.Password, HasPassword: opt.Password != nil,
		SessionExpiry: opt.SessionExpiry, HasSessionExpiry: opt.SessionExpiry != 0,
	}
	r := mqtt.NewReader(conn, mqtt.DefaultLimits())
	r.SetVersion(opt.Version)
	if err := mqtt.WritePacket(conn, opt.Version, hello); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	p, err := r.Next()
	if err != nil {
		return fmt.Errorf("read CONNACK: %w", err)
	}
	if ack, ok := p.(*mqtt.Connack); !ok || ack.Code != mqtt.Success {
		return fmt.Errorf("%w to CONNECT: %+v", errNoAnswer, p)
	}
	sub := &mqtt.Subscribe{PacketID: 1}
	for _, f := range filters {
		sub.Filters = append(sub.Filters, mqtt.SubscribeFilter{Filter: f, QoS: h.QoS})
	}
	if err := mqtt.WritePacket(conn, opt.Version, sub); err != nil {
		return fmt.Errorf("send SUBSCRIBE: %w", err)
	}
	if p, err = r.Next(); err != nil {
		return fmt.Errorf("read SUBACK: %w", err)
	}
	if ack, ok := p.(*mqtt.Suback); !ok || len(ack.Codes) == 0 || ack.Codes[0].Failed() {
		return fmt.Errorf("%w to SUBSCRIBE: %+v", errNoAnswer, p)
	}
	return conn.SetDeadline(time.Time{})
}

// read takes the answers to PINGREQ until the connection ends.
func (h *idle) read(c *idleConn) {
	var b [8]byte
	for {
		_, err := c.conn.Read(b[:])
		if err != nil {
			c.lost.Store(!c.ending.Load())
			return
		}
		if at := c.asked.Swap(0); at != 0 {
			h.mu.Lock()
			record(h.pinged, int64(time.Since(h.born))-at)
			h.mu.Unlock()
		}
	}
}

// hold keeps the connections alive for the time of the plan. Each is pinged after
// half of its keep-alive, all of them evenly spread.
func (h *idle) hold(ctx context.Context) {
	began := time.Now()
	until := began.Add(h.Duration)
	p := pace{began: began, rate: float64(len(h.conns)) / (h.KeepAlive / 2).Seconds()}
	ping := []byte{0xC0, 0x00}
	shown := began
	for i := 0; ctx.Err() == nil && time.Now().Before(until); {
		if time.Since(shown) >= progressEvery {
			h.show("holding", began)
			shown = time.Now()
		}
		n, sleep := p.due(time.Now())
		if h.KeepAlive == 0 || len(h.conns) == 0 {
			n, sleep = 0, progressEvery
		}
		if n == 0 {
			wait(ctx, min(sleep, time.Until(until)))
			continue
		}
		for range n {
			c := h.conns[i%len(h.conns)]
			i++
			p.sent++
			if c == nil || c.lost.Load() {
				continue
			}
			c.asked.Store(max(int64(time.Since(h.born)), 1))
			if _, err := c.conn.Write(ping); err != nil {
				c.lost.Store(true)
			}
		}
	}
}

// end says goodbye to the broker; durable sessions are ended.
func (h *idle) end() {
	goodbye, err := mqtt.Append(nil, h.Version, h.goodbye())
	slots := make(chan struct{}, connecting)
	var wg sync.WaitGroup
	for _, c := range h.conns {
		if c == nil {
			continue
		}
		c.ending.Store(true)
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-slots; wg.Done() }()
			if err == nil {
				_, _ = c.conn.Write(goodbye) // the run is over either way
			}
			_ = c.conn.Close()
		}()
	}
	wg.Wait()
	h.wg.Wait()
}

// goodbye ends a durable session of MQTT 5 with its connection. One of 3.1.1 stays:
// ending it takes another connection.
func (h *idle) goodbye() *mqtt.Disconnect {
	d := &mqtt.Disconnect{}
	if h.Version == mqtt.V5 && h.Durable {
		d.HasSessionExpiry, d.SessionExpiry = true, 0
	}
	return d
}
