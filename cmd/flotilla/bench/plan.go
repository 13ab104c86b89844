package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// ErrPlan means that a Config cannot be run.
var ErrPlan = errors.New("plan")

// Config says what to measure. Begin with DefaultConfig.
type Config struct {
	// URLs are brokers; connections are spread over them in turn.
	URLs []string
	// Publishers, Subscribers and Topics are numbers of each. Publishers share
	// the topics, or each has several; so do subscribers.
	Publishers, Subscribers, Topics int
	// QoS of publishes and subscriptions.
	QoS byte
	// Size of a payload in bytes, at least 28.
	Size int
	// Window is the most QoS 1 and 2 publishes in flight per publisher.
	Window int
	// Rate is messages a second of all publishers together. 0: as fast as it goes.
	Rate int
	// Duration of publishing. Count, if above 0, ends it earlier: after that
	// many messages of all publishers together.
	Duration time.Duration
	Count    uint64
	// Warmup is left out of latencies.
	Warmup time.Duration
	// Drain is how long to wait for the rest without any progress.
	Drain time.Duration
	// Durable gives all clients sessions that outlive their connections, which
	// are ended when the run is over.
	Durable bool
	// Retain sets the flag on publishes.
	Retain bool
	// ReceiveMaximum of subscribers (MQTT 5). 0: 65,535.
	ReceiveMaximum uint16
	// KeepAlive of all connections.
	KeepAlive time.Duration
	// Connecting is how many connections of Connect and Idle are opened at a time.
	Connecting int
	// Sources spreads connections over that many addresses of the loopback network,
	// from 127.0.0.2 on: the ports of one address end at 28,000. 0: the system's choice.
	Sources int
	// Share makes all subscribers members of one share of each topic: a message
	// goes to one of them.
	Share bool
	// Version, Username and Password of all connections.
	Version  mqtt.Version
	Username string
	Password []byte
	// Prefix of client ids and topics. Empty: a random one.
	Prefix string
	// Progress is called about once a second. Nil: never.
	Progress func(Progress)
	// Log is called for what is worth a line, such as a lost connection. Nil: never.
	Log func(string)
}

// DefaultConfig is one publisher and one subscriber for ten seconds.
func DefaultConfig() Config {
	return Config{
		URLs: []string{"mqtt://127.0.0.1:1883"}, Publishers: 1, Subscribers: 1, Topics: 1,
		Size: 256, Window: 100, Duration: 10 * time.Second, Drain: 5 * time.Second, Version: mqtt.V5,
		KeepAlive: 30 * time.Second, Connecting: connecting,
	}
}

// maxClients bounds the numbers of a plan, maxSources the addresses that they come from.
const maxClients, maxSources = 1_000_000, 250

// Validate checks every field. Its errors wrap ErrPlan.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrPlan}, args...)...))
	}
	for _, n := range []struct {
		name   string
		v, low int
	}{{"publishers", c.Publishers, 0}, {"subscribers", c.Subscribers, 0}, {"topics", c.Topics, 1}, {"connecting", c.Connecting, 1}} {
		if n.v < n.low || n.v > maxClients {
			bad("--%s is %d: it must be %d to %d", n.name, n.v, n.low, maxClients)
		}
	}
	if c.Publishers+c.Subscribers == 0 {
		bad("there is neither a publisher nor a subscriber")
	}
	if c.QoS > 2 {
		bad("--qos is %d: it must be 0, 1 or 2", c.QoS)
	}
	if c.Size < headerBytes || c.Size > 1<<28 {
		bad("--size is %d: it must be %d bytes at least, for sequence and time", c.Size, headerBytes)
	}
	if c.Window < 1 || c.Window > 65535 {
		bad("--window is %d: it must be 1 to 65535", c.Window)
	}
	if c.Rate < 0 || c.Duration <= 0 || c.Warmup < 0 || c.Warmup >= c.Duration {
		bad("--rate, --duration and --warmup must not be negative, and the warm-up shorter than the duration")
	}
	if c.KeepAlive < 0 || c.KeepAlive > 65535*time.Second || c.KeepAlive%time.Second != 0 {
		bad("--keep-alive is %s: it must be whole seconds, 65,535 at most", c.KeepAlive)
	}
	if c.Sources < 0 || c.Sources > maxSources {
		bad("--sources is %d: it must be 0 to %d", c.Sources, maxSources)
	}
	if len(c.URLs) == 0 {
		bad("there is no broker: name one with --broker")
	}
	for _, u := range c.URLs {
		if _, err := mqttc.ParseURL(u); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stream is one publisher on one topic: within it, order is promised.
type stream struct {
	id    uint32
	topic string
}

// plan is a Config worked out.
type plan struct {
	Config
	run     uint64
	born    time.Time
	prefix  string
	streams []stream
	publish [][]uint32 // streams of each publisher
	filters [][]string // topics of each subscriber
	follow  [][]uint32 // streams of each subscriber
}

func newPlan(c Config) *plan {
	p := &plan{Config: c, run: rand.Uint64(), born: time.Now(), prefix: c.Prefix}
	if p.prefix == "" {
		p.prefix = fmt.Sprintf("bench/%08x", uint32(p.run))
	}
	byTopic := make([][]uint32, c.Topics)
	p.publish = make([][]uint32, c.Publishers)
	for i := range p.publish {
		for _, t := range deal(i, c.Publishers, c.Topics) {
			id := uint32(len(p.streams))
			p.streams = append(p.streams, stream{id: id, topic: p.topic(t)})
			p.publish[i] = append(p.publish[i], id)
			byTopic[t] = append(byTopic[t], id)
		}
	}
	p.filters, p.follow = make([][]string, c.Subscribers), make([][]uint32, c.Subscribers)
	for i := range p.filters {
		if c.Share {
			for t := range c.Topics {
				p.filters[i] = append(p.filters[i], "$share/"+p.clientPrefix()+"/"+p.topic(t))
			}
			continue
		}
		for _, t := range deal(i, c.Subscribers, c.Topics) {
			p.filters[i] = append(p.filters[i], p.topic(t))
			p.follow[i] = append(p.follow[i], byTopic[t]...)
		}
	}
	return p
}

func (p *plan) topic(i int) string { return fmt.Sprintf("%s/t%d", p.prefix, i) }

// deal says which of n things belong to hand i of m: each hand has one at
// least, and each thing a hand, so far as there are any hands.
func deal(i, m, n int) []int {
	if m >= n {
		return []int{i % n}
	}
	var out []int
	for t := i; t < n; t += m {
		out = append(out, t)
	}
	return out
}

// url spreads connections over the brokers; subscribers are one further, so
// that messages have to travel between nodes.
func (p *plan) url(i int) string { return p.URLs[i%len(p.URLs)] }

func (p *plan) options(role string, i int) mqttc.Options {
	at, receive := i, uint16(0)
	if role == "s" {
		at, receive = i+1, p.ReceiveMaximum
	}
	o := mqttc.Options{
		URL: p.url(at), Version: p.Version, ClientID: fmt.Sprintf("%s-%s%d", p.clientPrefix(), role, i),
		Clean: !p.Durable, KeepAlive: p.KeepAlive, Window: p.Window, ReceiveMaximum: receive, Username: p.Username, Password: p.Password,
	}
	if p.Sources > 0 {
		o.Dial = p.from(i)
	}
	if p.Durable && p.Version == mqtt.V5 {
		o.SessionExpiry = uint32(time.Hour / time.Second)
	}
	return o
}

// from returns how the i-th connection is dialled: from one of Sources addresses.
func (p *plan) from(i int) func(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if p.Sources > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%p.Sources))}
	}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

func (p *plan) clientPrefix() string { return fmt.Sprintf("bench-%08x", uint32(p.run)) }

func (p *plan) log(format string, args ...any) {
	if p.Log != nil {
		p.Log(fmt.Sprintf(format, args...))
	}
}
