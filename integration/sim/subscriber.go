package sim

import (
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// receiver notes what a session receives and acknowledges.
type receiver struct {
	c *client

	mu     sync.Mutex
	held   map[uint16]checker.ID // guarded by mu: QoS 2 messages by packet id, until PUBREL
	newest map[checker.ID]int32  // guarded by mu: the newest connection that brought a QoS 2 message
	got    int                   // guarded by mu
}

// newCrew is the members of a share of everything: durable ones with QoS 2, and one whose session ends with its connections.
func (w *World) newCrew() []*subscriber {
	var crew []*subscriber
	for _, name := range []string{"m-1", "m-2", "m-3"} {
		crew = append(crew, w.newSubscriber(name, crewFilter, 2))
	}
	guest := w.newSubscriber("m-guest", crewFilter, 1)
	guest.transient = true
	return append(crew, guest)
}

const crewFilter = "$share/crew/q/#"

func newReceiver(c *client) *receiver {
	r := &receiver{c: c, held: map[uint16]checker.ID{}, newest: map[checker.ID]int32{}}
	c.onPacket = r.packet
	return r
}

func (r *receiver) packet(conn int32, pk mqtt.Packet) {
	switch p := pk.(type) {
	case *mqtt.Publish:
		r.publish(conn, p)
	case *mqtt.Pubrel:
		r.mu.Lock()
		id, ok := r.held[p.PacketID]
		delete(r.held, p.PacketID)
		r.mu.Unlock()
		if ok {
			r.acked(conn, id, p.PacketID)
		}
	}
}

func (r *receiver) publish(conn int32, p *mqtt.Publish) {
	ev := checker.Event{
		Kind: checker.Deliver, T: r.c.w.hist.now(), Client: r.c.name, Conn: conn, Topic: string(p.Topic),
		PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain,
	}
	id, err := checker.ParsePayload(p.Payload)
	switch {
	case err != nil:
		ev.Err = err.Error()
	case id.Topic != ev.Topic:
		ev.Err = "a message of topic " + id.Topic + " came with topic " + ev.Topic
	}
	ev.Publisher, ev.Seq = id.Publisher, id.Seq
	r.mu.Lock()
	r.got++
	if p.QoS == 2 {
		// What was under way to a connection that was taken over may come after the new one has had it, and even after its
		// handshake there. A client that has a newer connection does not look at it.
		if r.newest[id] > conn {
			r.mu.Unlock()
			return
		}
		r.newest[id] = conn
		r.held[p.PacketID] = id
	}
	r.mu.Unlock()
	r.c.w.rec.Add(ev)
	if p.QoS == 1 {
		r.acked(conn, id, p.PacketID)
	}
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

func (r *receiver) acked(conn int32, id checker.ID, pid uint16) {
	r.c.w.rec.Add(checker.Event{
		Kind: checker.Acked, T: r.c.w.hist.now(), Client: r.c.name, Conn: conn, Publisher: id.Publisher, Topic: id.Topic, Seq: id.Seq, PacketID: pid,
	})
}

// subscriber is a session with one filter that comes and goes.
type subscriber struct {
	*client
	in     *receiver
	filter string
	qos    byte
	ready  chan struct{} // closed after the first SUBACK
	// twin: it comes back before its last connection has ended, which goes on reading and acknowledging until it is closed.
	twin bool
}

func (w *World) newSubscriber(name, filter string, qos byte) *subscriber {
	c := w.newClient(name)
	return &subscriber{client: c, in: newReceiver(c), filter: filter, qos: qos, ready: make(chan struct{})}
}

// run comes and goes until settle is closed, then stays until stop is.
func (s *subscriber) run(settle, stop <-chan struct{}) {
	subscribed := false
	for {
		mc := s.connect(stop)
		if mc == nil {
			return
		}
		switch {
		case subscribed && !s.transient:
		case !s.subscribe(mc, s.filter, s.qos):
			_ = mc.Close() // it never fails
			continue
		case !subscribed:
			subscribed = true
			close(s.ready)
		}
		over, taken := s.stay(mc, settle, stop)
		switch {
		case over:
			s.end(mc)
			return
		case taken:
			time.AfterFunc(2*leaseLost, func() { _ = mc.Close() }) // the server does so before, if it can
		default:
			s.end(mc)
		}
	}
}

// stay reads for a while, and now and then sends a fence; it tells whether the end has come, or another connection is to take
// this one over.
func (s *subscriber) stay(mc *mqttc.Client, settle, stop <-chan struct{}) (over, taken bool) {
	life := time.NewTimer(s.between(300*time.Millisecond, 5*time.Second))
	defer life.Stop()
	fence := time.NewTicker(700 * time.Millisecond)
	defer fence.Stop()
	for {
		select {
		case <-mc.Done():
			return false, false
		case <-stop:
			return true, false
		case <-life.C:
			select {
			case <-settle:
			default:
				return false, s.twin && s.rng.IntN(2) == 0
			}
		case <-fence.C:
			if !s.subscribe(mc, s.filter, s.qos) {
				return false, false
			}
		}
	}
}

// prober holds I5 and I6: one session subscribes to a fresh filter on one node, and at once a publisher on another node
// publishes there; then it unsubscribes, and what is published next must not come.
type prober struct {
	sub *subscriber
	pub *publisher
}

func (w *World) newProber(name string) *prober {
	return &prober{sub: w.newSubscriber(name+"-s", "", 1), pub: w.newPublisher(name+"-p", "", 1, time.Millisecond)}
}

// run probes until settle is closed. Then its publishes are answered and its session drains until stop is closed.
func (p *prober) run(settle, stop <-chan struct{}) {
	defer p.pub.report()
	for round := 0; ; round++ {
		select {
		case <-settle:
			p.settle(stop)
			return
		default:
		}
		p.round(round, stop)
		if !p.sub.pause(settle, 50*time.Millisecond, 300*time.Millisecond) {
			continue
		}
	}
}

func (p *prober) round(n int, stop <-chan struct{}) {
	sub := p.sub.connect(stop)
	if sub == nil {
		return
	}
	defer p.sub.end(sub)
	pub := p.pub.connect(stop)
	if pub == nil {
		return
	}
	defer p.pub.end(pub)
	if p.pub.resend(pub) != nil {
		return
	}
	for i := range 3 {
		topic := topicName("probe", p.sub.name, n, i)
		p.pub.topic = topic
		if !p.sub.subscribe(sub, topic, 1) {
			return
		}
		p.pub.send(pub)
		if !p.pub.pause(pub.Done(), time.Millisecond, 20*time.Millisecond) {
			return
		}
		if p.sub.rng.IntN(2) == 0 && p.sub.unsubscribe(sub, topic) {
			p.pub.send(pub)
		}
	}
}

// settle answers and drains.
func (p *prober) settle(stop <-chan struct{}) {
	for {
		sub := p.sub.connect(stop)
		if sub == nil {
			return
		}
		pub := p.pub.connect(stop)
		if pub == nil {
			_ = sub.Close() // it never fails
			return
		}
		_ = p.pub.resend(pub) // a lost connection shows below
		select {
		case <-stop:
		case <-sub.Done():
		case <-pub.Done():
		}
		_, _ = sub.Close(), pub.Close() // they never fail
		select {
		case <-stop:
			return
		default:
		}
	}
}
