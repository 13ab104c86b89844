package sim

import (
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// registerCount is how many topics hold retained messages.
const registerCount = 2

// readPatience is how long a reader waits for a retained message until it takes the topic for empty: above a lease, after
// which a node that cannot answer has closed the connection.
const readPatience = 3 * leaseLost

func registerName(i int) string { return topicName("reg", i) }

// newWriters makes two publishers of retained messages for each register. With QoS 2 a message takes effect after its PUBREC, so
// nobody can say when the register must hold it.
func (w *World) newWriters() []*publisher {
	var list []*publisher
	for i := range registerCount {
		for j := range 2 {
			p := w.newPublisher(topicName("w", i, j), registerName(i), 1, 400*time.Millisecond)
			p.retain = true
			list = append(list, p)
		}
	}
	return list
}

// reader reads registers: each time a fresh subscription, over a session that ends with its connection, which then stays for a
// while and sees what is published.
type reader struct {
	*client
	in *receiver

	mu    sync.Mutex
	first chan struct{} // guarded by mu: closed when the retained message has come
	got   checker.ID    // guarded by mu: what it was
	live  int64         // guarded by mu: when the first live message came, which no older retained one may follow; 0: none has
}

func (w *World) newReader(name string) *reader {
	c := w.newClient(name)
	c.transient = true
	r := &reader{client: c, in: newReceiver(c)}
	below := c.onPacket
	c.onPacket = func(conn int32, pk mqtt.Packet) {
		if p, ok := pk.(*mqtt.Publish); ok && p.Retain {
			r.retained(p)
		} else if ok {
			r.mu.Lock()
			if r.live == 0 {
				r.live = r.w.hist.now()
			}
			r.mu.Unlock()
		}
		below(conn, pk)
	}
	return r
}

func (r *reader) retained(p *mqtt.Publish) {
	id, err := checker.ParsePayload(p.Payload)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.first == nil {
		return // the receiver notes what is wrong with it
	}
	r.got = id
	close(r.first)
	r.first = nil
}

// run reads until stop is closed.
func (r *reader) run(stop <-chan struct{}) {
	for {
		mc := r.connect(stop)
		if mc == nil {
			return
		}
		topic := registerName(r.rng.IntN(registerCount))
		first := make(chan struct{})
		r.mu.Lock()
		r.first, r.got, r.live = first, checker.ID{}, 0
		r.mu.Unlock()
		begin := r.w.hist.now()
		if r.subscribe(mc, topic, byte(1+r.rng.IntN(2))) {
			r.look(mc.Done(), first, topic, begin)
			r.pause(either(mc.Done(), stop), time.Second, 15*time.Second)
		}
		r.end(mc)
		select {
		case <-stop:
			return
		default:
		}
	}
}

// besideSuback is how long behind SUBACK a live message may come that was sent with it.
const besideSuback = int64(20 * time.Millisecond)

// look waits for the retained message and notes the read, unless the connection ends before. Nothing is no read when a live
// message came before SUBACK or with it: it has taken the place of the retained one. Nor is it if there was a fault: the node
// may have been cut off from the shard's leader until a live one came, or be gone without the client having noticed.
func (r *reader) look(gone, first <-chan struct{}, topic string, begin int64) {
	granted := r.w.hist.now()
	late := time.NewTimer(readPatience)
	defer late.Stop()
	select {
	case <-first:
	case <-late.C:
	case <-gone:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first = nil
	nothing := r.got == checker.ID{}
	if nothing && (r.live != 0 && r.live <= granted+besideSuback || r.w.faultSince(begin-int64(readPatience))) {
		return
	}
	r.w.rec.Add(checker.Event{
		Kind: checker.RetainedRead, T: begin, End: r.w.hist.now(), Client: r.name, Conn: r.conn, Topic: topic, Publisher: r.got.Publisher, Seq: r.got.Seq,
	})
}

// either is closed when one of two channels is.
func either(a, b <-chan struct{}) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		select {
		case <-a:
		case <-b:
		}
	}()
	return ch
}
