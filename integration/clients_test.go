package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/tap"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// library is an MQTT client that the traffic of a run uses.
type library string

const (
	raw     library = "raw"   // ours, MQTT 5, pipelined
	raw3    library = "raw3"  // ours, MQTT 3.1.1, pipelined
	paho311 library = "paho3" // paho.mqtt.golang, MQTT 3.1.1
	paho5   library = "paho5" // autopaho, MQTT 5
)

const (
	// sessionExpiry is longer than any run.
	sessionExpiry = 24 * 3600
	dialTimeout   = 10 * time.Second
)

// endpoint is a broker that clients may use.
type endpoint struct {
	node string
	addr func() string
}

// person is one client id of a run: it publishes to one topic, or subscribes to filters, or both, and reconnects until the
// run ends.
type person struct {
	*tap.Client
	lib       library
	endpoints []endpoint
	filters   []mqtt.SubscribeFilter
	topic     string
	qos       byte
	size      int
	interval  time.Duration // between two publishes
	run       string

	mu      sync.Mutex
	rng     *rand.Rand         // guarded by mu
	away    bool               // guarded by mu; stays offline until it is false
	dialled bool               // guarded by mu
	conns   map[*tap.Conn]bool // guarded by mu
	first   int                // index of the first endpoint
	seq     uint64             // of the publisher's goroutine
	stop    chan struct{}      // closed: publish nothing new
}

func newPerson(rec *checker.Recorder, run, id string, lib library, endpoints []endpoint, seed uint64) *person {
	return &person{
		Client: tap.New(rec, run, id), lib: lib, endpoints: endpoints, run: run, size: 256,
		rng: rand.New(rand.NewPCG(seed, uint64(len(id))+uint64(id[len(id)-1])<<8)), conns: map[*tap.Conn]bool{}, stop: make(chan struct{}),
	}
}

// dial opens a tapped connection: the first to a given node, so that the clients are spread, the others at random.
func (p *person) dial(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	e := p.endpoints[p.first%len(p.endpoints)]
	if p.dialled {
		e = p.endpoints[p.rng.IntN(len(p.endpoints))]
	}
	p.dialled = true
	away := p.away
	p.mu.Unlock()
	if away {
		return nil, errors.New("offline on purpose")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", e.addr())
	if err != nil {
		return nil, err
	}
	t := p.Wrap(conn, e.node)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[t] = true
	return t, nil
}

// leave breaks the connection and stays offline until back is called.
func (p *person) leave() {
	p.mu.Lock()
	p.away = true
	p.mu.Unlock()
	p.drop()
}

func (p *person) back() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

// drop breaks the connections, as a crash of the network does.
func (p *person) drop() {
	p.mu.Lock()
	conns := p.conns
	p.conns = map[*tap.Conn]bool{}
	p.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
}

// live runs the client until ctx ends.
func (p *person) live(ctx context.Context, t testing.TB) {
	switch p.lib {
	case raw, raw3:
		p.liveRaw(ctx)
	case paho311:
		p.livePaho3(ctx)
	case paho5:
		p.livePaho5(ctx, t)
	}
	p.drop()
}

// next builds the next message, nil when nothing new is to be published.
func (p *person) next(ctx context.Context, tick <-chan time.Time) []byte {
	select {
	case <-ctx.Done():
		return nil
	case <-p.stop:
		return nil
	case <-tick:
	}
	p.seq++
	return checker.AppendPayload(nil, checker.ID{Run: p.run, Publisher: p.ID(), Topic: p.topic, Seq: p.seq}, p.size)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// reconnectDelay keeps a storm of reconnects from eating the machine.
const reconnectDelay = 100 * time.Millisecond

// userProps are properties that must arrive unchanged.
func userProps() []byte {
	props := []byte{0x26, 0, 1, 'k', 0, 5, 'v', 'a', 'l', 'u', 'e', 0x03, 0, 4, 't', 'e', 's', 't'}
	return slices.Clone(props)
}

func (p *person) liveRaw(ctx context.Context) {
	version := mqtt.V5
	if p.lib == raw3 {
		version = mqtt.V311
	}
	session := mqttc.NewSession()
	subscribed := false
	for ctx.Err() == nil {
		c, err := mqttc.Dial(ctx, mqttc.Options{
			Dial: func(ctx context.Context, _ string) (net.Conn, error) { return p.dial(ctx) }, Version: version, ClientID: p.ID(),
			SessionExpiry: map[mqtt.Version]uint32{mqtt.V5: sessionExpiry}[version], KeepAlive: 5 * time.Second, Session: session, Window: 32,
			OnMessage: func(*mqttc.Client, *mqtt.Publish) {},
		})
		if err != nil {
			pause(ctx, reconnectDelay)
			continue
		}
		if !c.SessionPresent() {
			subscribed = false
		}
		p.rawConnection(ctx, c, &subscribed)
		_ = c.Close()
		if !c.SessionPresent() && ctx.Err() == nil && !subscribed {
			pause(ctx, reconnectDelay)
		}
	}
}

// rawConnection uses one connection until it ends.
func (p *person) rawConnection(ctx context.Context, c *mqttc.Client, subscribed *bool) {
	if !*subscribed && len(p.filters) > 0 {
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err := c.Subscribe(wait, p.filters...)
		cancel()
		if err != nil {
			return
		}
		*subscribed = true
	}
	if _, err := c.Resend(ctx); err != nil {
		return
	}
	done, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-c.Done()
		cancel()
	}()
	if p.topic != "" {
		tick := time.NewTicker(p.interval)
		defer tick.Stop()
		for {
			payload := p.next(done, tick.C)
			if payload == nil {
				break
			}
			pub := &mqtt.Publish{Topic: []byte(p.topic), Payload: payload, QoS: p.qos}
			if c.Version() == mqtt.V5 {
				pub.Props = userProps()
			}
			if _, err := c.Send(done, pub, p.seq); err != nil {
				return
			}
		}
	}
	<-done.Done()
}

func (p *person) livePaho3(ctx context.Context) {
	o := paho3.NewClientOptions().AddBroker("tcp://any:1").SetClientID(p.ID()).SetCleanSession(false).SetProtocolVersion(4).
		SetAutoReconnect(true).SetConnectRetry(true).SetConnectRetryInterval(reconnectDelay).SetMaxReconnectInterval(500 * time.Millisecond).
		SetKeepAlive(5 * time.Second).SetPingTimeout(5 * time.Second).SetOrderMatters(true).SetWriteTimeout(10 * time.Second).
		SetDefaultPublishHandler(func(paho3.Client, paho3.Message) {}).
		SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (net.Conn, error) { return p.dial(ctx) })
	c := paho3.NewClient(o)
	token := c.Connect()
	defer c.Disconnect(0)
	if !waitToken(ctx, token) {
		return
	}
	for _, f := range p.filters {
		for !waitToken(ctx, c.Subscribe(f.Filter, f.QoS, nil)) {
			if ctx.Err() != nil {
				return
			}
			pause(ctx, reconnectDelay)
		}
	}
	if p.topic != "" {
		tick := time.NewTicker(p.interval)
		defer tick.Stop()
		for {
			payload := p.next(ctx, tick.C)
			if payload == nil {
				break
			}
			// The token ends with the acknowledgement, however many connections that takes.
			if !waitToken(ctx, c.Publish(p.topic, p.qos, false, payload)) && ctx.Err() != nil {
				return
			}
		}
	}
	<-ctx.Done()
}

func waitToken(ctx context.Context, token paho3.Token) bool {
	select {
	case <-token.Done():
		return token.Error() == nil
	case <-ctx.Done():
		return false
	}
}

func (p *person) livePaho5(ctx context.Context, t testing.TB) {
	server, err := url.Parse("mqtt://any:1")
	if err != nil {
		t.Error(err)
		return
	}
	up := make(chan struct{}, 1)
	cm, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{server}, KeepAlive: 5, SessionExpiryInterval: sessionExpiry, ConnectTimeout: dialTimeout,
		ReconnectBackoff: func(int) time.Duration { return reconnectDelay },
		AttemptConnection: func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) {
			conn, err := p.dial(ctx)
			if err != nil {
				return nil, err
			}
			return packets.NewThreadSafeConn(conn), nil // it writes a packet in parts
		},
		OnConnectionUp: func(_ *autopaho.ConnectionManager, ack *paho.Connack) {
			if !ack.SessionPresent {
				select {
				case up <- struct{}{}:
				default: // a request to subscribe stands already
				}
			}
		},
		ClientConfig: paho.ClientConfig{ClientID: p.ID(), PacketTimeout: 10 * time.Second},
	})
	if err != nil {
		t.Error(fmt.Errorf("autopaho: %w", err))
		return
	}
	defer func() { <-cm.Done() }()
	if len(p.filters) > 0 {
		go p.subscribePaho5(ctx, cm, up)
	}
	if p.topic != "" {
		tick := time.NewTicker(p.interval)
		defer tick.Stop()
		for {
			payload := p.next(ctx, tick.C)
			if payload == nil {
				break
			}
			if cm.AwaitConnection(ctx) != nil {
				break
			}
			// An error is a broken connection: the session sends the message again on the next one.
			_, _ = cm.Publish(ctx, &paho.Publish{
				Topic: p.topic, QoS: p.qos, Payload: payload,
				Properties: &paho.PublishProperties{ContentType: "test", User: paho.UserProperties{{Key: "k", Value: "value"}}},
			})
		}
	}
	<-ctx.Done()
}

// subscribePaho5 subscribes whenever the server had no session.
func (p *person) subscribePaho5(ctx context.Context, cm *autopaho.ConnectionManager, up <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-up:
		}
		for ctx.Err() == nil {
			s := &paho.Subscribe{}
			for _, f := range p.filters {
				s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f.Filter, QoS: f.QoS})
			}
			if cm.AwaitConnection(ctx) == nil {
				if _, err := cm.Subscribe(ctx, s); err == nil {
					break
				}
			}
			pause(ctx, reconnectDelay)
		}
	}
}
