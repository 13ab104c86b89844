package sim

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	dialLimit = 3 * time.Second
	keepAlive = 2 * time.Second
	// runName is the run in all payloads: a world has one run.
	runName = "sim"
)

// client is one session and what the history learns of it. One goroutine uses it; callbacks of its connection run
// on another, and touch only conn.
type client struct {
	w        *World
	name     string
	rng      *rand.Rand
	session  *mqttc.Session
	conn     int32                           // written before Dial
	onPacket func(conn int32, p mqtt.Packet) // the owner's
	clean    bool                            // the next CONNECT asks for a clean start
	// transient: the session ends with each connection.
	transient bool
	// forgets: each connection has a state of its own, so that two may live at a time.
	forgets bool
	// edit, if set, may change a CONNECT and what the history says of it.
	edit func(ev *checker.Event, c *mqtt.Connect)
	// bye is the connection over which DISCONNECT 0x00 was sent.
	bye atomic.Int32
}

func (w *World) newClient(name string) *client {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	for _, m := range w.nodes {
		w.Hub.SetDelay(m.id, "host-"+name, linkDelay, linkDelay)
		w.Hub.SetDelay("host-"+name, m.id, linkDelay, linkDelay)
	}
	return &client{w: w, name: name, rng: rand.New(rand.NewPCG(w.opt.Seed, h.Sum64())), session: mqttc.NewSession()}
}

// anyNode picks a node, up or not: clients do not know.
func (c *client) anyNode() string { return c.w.nodes[c.rng.IntN(len(c.w.nodes))].id }

// dial connects to a node and notes what came of it.
func (c *client) dial(ctx context.Context, node string) (*mqttc.Client, error) {
	c.conn++
	conn, expiry := c.conn, uint32(checker.Never)
	if c.transient {
		c.session, c.clean, expiry = mqttc.NewSession(), true, 0
	}
	if c.forgets {
		c.session = mqttc.NewSession()
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	ev := checker.Event{Kind: checker.Connect, T: c.w.hist.now(), Client: c.name, Conn: conn, Node: node, Expiry: expiry, Clean: c.clean}
	mc, err := mqttc.Dial(ctx, mqttc.Options{
		EditConnect: func(p *mqtt.Connect) {
			if c.edit != nil {
				c.edit(&ev, p)
			}
		},
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			return c.w.Hub.Node("host-"+c.name).Dial(ctx, node+":1883")
		},
		ClientID: c.name, SessionExpiry: expiry, KeepAlive: keepAlive, Session: c.session, Window: 8, Clean: c.clean,
		OnPacket: func(_ *mqttc.Client, p mqtt.Packet) bool {
			if c.onPacket != nil {
				c.onPacket(conn, p)
			}
			return false
		},
		OnClose: func(_ *mqttc.Client, err error) {
			c.w.rec.Add(checker.Event{Kind: checker.Closed, T: c.w.hist.now(), Client: c.name, Conn: conn, Err: err.Error(), Bye: c.bye.Load() == conn})
		},
	})
	if err != nil {
		ev.Err = err.Error()
		c.w.rec.Add(ev)
		return nil, err
	}
	ev.End, ev.Present = c.w.hist.now(), mc.SessionPresent()
	c.w.rec.Add(ev)
	return mc, nil
}

// connect dials one node after the other until one accepts, or stop is closed.
func (c *client) connect(stop <-chan struct{}) *mqttc.Client {
	for {
		mc, err := c.dial(context.Background(), c.anyNode())
		if err == nil {
			return mc
		}
		if !c.pause(stop, 50*time.Millisecond, 300*time.Millisecond) {
			return nil
		}
	}
}

// pause waits for a random time; false if stop was closed.
func (c *client) pause(stop <-chan struct{}, least, most time.Duration) bool {
	t := time.NewTimer(c.between(least, most))
	defer t.Stop()
	select {
	case <-stop:
		return false
	case <-t.C:
		return true
	}
}

func (c *client) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.rng.Int64N(int64(most-least)+1))
}

// end ends a connection as clients do: mostly they vanish.
func (c *client) end(mc *mqttc.Client) {
	if c.rng.IntN(3) > 0 {
		_ = mc.Close() // it never fails
		return
	}
	c.goodbye(mc)
}

// goodbye is an end by DISCONNECT 0x00.
func (c *client) goodbye(mc *mqttc.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.bye.Store(c.conn)
	_ = mc.Disconnect(ctx, mqtt.Success) // the connection may be gone already
}

// subscribe is one SUBSCRIBE of one filter, as the history wants it.
func (c *client) subscribe(mc *mqttc.Client, filter string, qos byte) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ev := checker.Event{Kind: checker.Subscribe, T: c.w.hist.now(), Client: c.name, Conn: c.conn, Topic: filter, QoS: qos}
	codes, err := mc.Subscribe(ctx, mqtt.SubscribeFilter{Filter: filter, QoS: qos})
	if err != nil {
		ev.Err = err.Error()
	} else {
		ev.Code, ev.End = byte(codes[0]), c.w.hist.now()
	}
	c.w.rec.Add(ev)
	return err == nil && ev.Code < 0x80
}

func (c *client) unsubscribe(mc *mqttc.Client, filter string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ev := checker.Event{Kind: checker.Unsubscribe, T: c.w.hist.now(), Client: c.name, Conn: c.conn, Topic: filter}
	_, err := mc.Unsubscribe(ctx, filter)
	if err != nil {
		ev.Err = err.Error()
	} else {
		ev.End = c.w.hist.now()
	}
	c.w.rec.Add(ev)
	return err == nil
}
