package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// probeForm is one way to subscribe. Filters of the churned forms are few and shared by all workers, so that a route comes and
// goes while others ask for it; the others are new with every probe.
type probeForm struct {
	name    string
	filter  func(p *prober, i uint64) string
	topic   func(p *prober, i uint64) string
	durable bool
}

// probeChurn is how many filters of a churned form there are.
const probeChurn = 4

func probeForms() []probeForm {
	own := func(p *prober, i uint64) string { return fmt.Sprintf("probe/%s/%d/x", p.run, i) }
	churn := func(p *prober, i uint64) string { return fmt.Sprintf("churn/%s/%d/x", p.run, i%probeChurn) }
	filters := []struct {
		name          string
		filter, topic func(p *prober, i uint64) string
	}{
		{"exact", own, own},
		{"plus", func(p *prober, i uint64) string { return fmt.Sprintf("probe/+/%d/x", i) }, own},
		{"hash", func(p *prober, i uint64) string { return fmt.Sprintf("probe/%s/%d/#", p.run, i) }, own},
		{"exact, churned", churn, churn},
		{"wildcard, churned", func(p *prober, i uint64) string { return fmt.Sprintf("churn/%s/%d/+", p.run, i%probeChurn) }, churn},
		{"share, exact", func(p *prober, i uint64) string { return fmt.Sprintf("$share/s%d/probe/%s/%d/x", i, p.run, i) }, own},
		{"share, wildcard", func(p *prober, i uint64) string { return fmt.Sprintf("$share/s%d/probe/+/%d/#", i, i) }, own},
	}
	var forms []probeForm
	for _, f := range filters {
		for _, durable := range []bool{true, false} {
			kind := "transient"
			if durable {
				kind = "durable"
			}
			forms = append(forms, probeForm{name: f.name + ", " + kind, filter: f.filter, topic: f.topic, durable: durable})
		}
	}
	return forms
}

// probeEnd says what became of one probe.
type probeEnd int

const (
	probeReached    probeEnd = iota
	probeMissed              // acknowledged, and the subscriber never got it
	probeUnanswered          // no SUBACK, no PUBACK, or a refusal: nothing was promised
	probeParted              // a transient session that ended before the message came: it went with its connection
	probeEnds
)

// prober asks one question over and over: does a publish that follows a SUBACK, on another node, arrive?
type prober struct {
	t     testing.TB
	c     *harness.Cluster
	run   string
	count uint64 // probes that must have been promised
	// faults: connections may break, and only what was promised counts.
	faults bool

	next    atomic.Uint64
	ends    [probeEnds]atomic.Int64
	suback  delays
	arrival delays

	mu     sync.Mutex
	forms  map[string]int // guarded by mu; promised probes by form
	reason map[string]int // guarded by mu; why probes were not answered
}

const (
	// probePatience is above everything that a fault may cost: lease, election, start of a process.
	probePatience = 90 * time.Second
	// probeQuick is enough where nothing is hurt.
	probeQuick = patience
	// probeExpiry keeps a durable session over every fault, and not for long after.
	probeExpiry = 300
)

func newProber(t testing.TB, c *harness.Cluster, count int, faults bool) *prober {
	return &prober{t: t, c: c, run: fmt.Sprintf("%x", time.Now().UnixNano()&0xFFFFFF), count: uint64(count), faults: faults, forms: map[string]int{}, reason: map[string]int{}}
}

// strict: every request must be answered. Where the machine may stand still, elections may come between; a miss is a miss there too.
func (p *prober) strict() bool { return !p.faults && slack(0) == 0 }

// promised is how many probes got both acknowledgements and were followed to their end.
func (p *prober) promised() uint64 {
	return uint64(p.ends[probeReached].Load() + p.ends[probeMissed].Load())
}

// work probes with one subscription at a time until enough probes were promised and nobody asks for more.
func (p *prober) work(ctx context.Context, worker int, seed uint64, enough func() bool) {
	w := &probeWorker{p: p, id: worker, rng: rand.New(rand.NewPCG(seed, uint64(worker))), publishers: map[*harness.Node]*rawClient{}, subscribers: map[probeSeat]*probeSub{}}
	defer w.close()
	for ctx.Err() == nil && !enough() {
		w.probe(ctx, p.next.Add(1))
	}
}

// end counts a probe.
func (p *prober) end(how probeEnd, form, why string) {
	p.ends[how].Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch how {
	case probeReached, probeMissed:
		p.forms[form]++
	default:
		p.reason[why]++
	}
}

// String sums up.
func (p *prober) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%d probes promised, %d missed; %d not answered, %d parted from their connection %v; by form %v",
		p.promised(), p.ends[probeMissed].Load(), p.ends[probeUnanswered].Load(), p.ends[probeParted].Load(), p.reason, p.forms)
}

// probeSeat is a subscriber's place: a worker has one connection of each kind on each node.
type probeSeat struct {
	node    *harness.Node
	durable bool
}

// probeSub is a subscriber. Its connection is read by its worker alone, only while it probes.
type probeSub struct {
	*rawClient
	id string
}

// probeWorker has connections to all nodes and uses them from one goroutine, so that nothing lies between a SUBACK and the
// PUBLISH that follows it but the reading of the one and the writing of the other.
type probeWorker struct {
	p           *prober
	id          int
	rng         *rand.Rand
	names       int
	publishers  map[*harness.Node]*rawClient
	subscribers map[probeSeat]*probeSub
}

func (w *probeWorker) close() {
	for _, r := range w.publishers {
		_ = r.Close()
	}
	for _, s := range w.subscribers {
		_ = s.Close()
	}
}

// freshEvery: every so many probes begin with a new session, the others use one that is there.
const freshEvery = 10

// probe subscribes on one node and publishes on another.
func (w *probeWorker) probe(ctx context.Context, i uint64) {
	forms := probeForms()
	form := forms[i%uint64(len(forms))]
	nodes := w.p.c.Nodes
	at := w.rng.IntN(len(nodes))
	from := (at + 1 + w.rng.IntN(len(nodes)-1)) % len(nodes)
	seat := probeSeat{nodes[at], form.durable}
	if i%freshEvery == 0 {
		w.leave(seat)
	}
	sub, err := w.subscriber(ctx, seat)
	if err != nil {
		w.unanswered(ctx, form, "no subscriber connection", err)
		return
	}
	pub, err := w.publisher(ctx, nodes[from])
	if err != nil {
		w.unanswered(ctx, form, "no publisher connection", err)
		return
	}
	start := time.Now()
	if err := sub.ask(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: form.filter(w.p, i), QoS: 1}}}, mqtt.TypeSuback); err != nil {
		w.leave(seat)
		w.unanswered(ctx, form, "no SUBACK", err)
		return
	}
	acked := time.Now()
	code, err := pub.promise(form.topic(w.p, i), i)
	if err != nil || code.Failed() {
		if err != nil {
			_ = pub.Close()
			delete(w.publishers, nodes[from])
		}
		w.leave(seat) // it may get the message or not
		w.unanswered(ctx, form, "no PUBACK", errors.Join(err, refusedAs(code)))
		return
	}
	w.p.suback.add(acked.Sub(start))
	w.await(ctx, i, form, seat, sub, nodes[from], code)
	w.p.arrival.add(time.Since(acked))
}

func refusedAs(code mqtt.ReasonCode) error {
	if !code.Failed() {
		return nil
	}
	return fmt.Errorf("refused with %v", code)
}

// await follows a promised message to its subscriber.
func (w *probeWorker) await(ctx context.Context, i uint64, form probeForm, seat probeSeat, sub *probeSub, from *harness.Node, code mqtt.ReasonCode) {
	patience := probeQuick
	if w.p.faults {
		patience = probePatience
	}
	err := sub.until(i, patience)
	where := fmt.Sprintf("probe %d of %s, %s on %s, published on %s (PUBACK 0x%02X)", i, form.name, sub.id, seat.node.ID, from.ID, byte(code))
	switch {
	case err == nil:
		w.p.end(probeReached, form.name, "")
		w.unsubscribe(ctx, seat, sub, form.filter(w.p, i))
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.p.t.Errorf("I5: %s: nothing came in %v on a connection that lives", where, patience)
		w.p.end(probeMissed, form.name, "")
	case !form.durable:
		w.p.end(probeParted, form.name, "transient: "+short(err))
	default:
		w.comeBack(ctx, i, form, sub, where)
	}
	w.leave(seat)
}

// comeBack looks for a message in the durable session whose connection broke.
func (w *probeWorker) comeBack(ctx context.Context, i uint64, form probeForm, sub *probeSub, where string) {
	var last error
	found := harness.Until(ctx, probePatience, "the session to come back", func(ctx context.Context) error {
		node := w.p.c.Nodes[w.rng.IntN(len(w.p.c.Nodes))]
		r, present, err := w.dial(ctx, node, sub.id, true, false)
		if err != nil {
			return err
		}
		defer r.Close()
		if !present {
			return harness.Never(fmt.Errorf("on %s its session is gone", node.ID))
		}
		last = (&probeSub{r, sub.id}).until(i, probePatience)
		if errors.Is(last, os.ErrDeadlineExceeded) {
			return harness.Never(last)
		}
		return last
	})
	switch {
	case found == nil:
		w.p.end(probeReached, form.name, "")
	case ctx.Err() != nil:
		w.p.end(probeUnanswered, form.name, "the run ended")
	default:
		w.p.t.Errorf("I5: %s: not found after the connection broke: %v", where, found)
		w.p.end(probeMissed, form.name, "")
	}
}

// unsubscribe takes the filter away, so that the next probe of the seat has its own. Without faults it must work.
func (w *probeWorker) unsubscribe(ctx context.Context, seat probeSeat, sub *probeSub, filter string) {
	err := sub.ask(&mqtt.Unsubscribe{PacketID: 2, Filters: []string{filter}}, mqtt.TypeUnsuback)
	if err == nil {
		return
	}
	w.leave(seat)
	if w.p.strict() && ctx.Err() == nil {
		w.p.t.Errorf("%s: UNSUBSCRIBE %s: %v", sub.id, filter, err)
	}
}

// unanswered counts a probe of which nothing was promised. Without faults there is none.
func (w *probeWorker) unanswered(ctx context.Context, form probeForm, why string, err error) {
	if ctx.Err() != nil {
		return
	}
	w.p.end(probeUnanswered, form.name, why)
	if w.p.strict() {
		w.p.t.Errorf("%s: %s: %v", form.name, why, err)
	}
	pause(ctx, reconnectDelay)
}

// leave gives a seat up; what was subscribed there stays behind in a session that nobody uses again.
func (w *probeWorker) leave(seat probeSeat) {
	if s := w.subscribers[seat]; s != nil {
		_ = s.Close()
		delete(w.subscribers, seat)
	}
}

func (w *probeWorker) subscriber(ctx context.Context, seat probeSeat) (*probeSub, error) {
	if s := w.subscribers[seat]; s != nil {
		return s, nil
	}
	w.names++
	id := fmt.Sprintf("probe-%s-%d-%d", w.p.run, w.id, w.names)
	r, _, err := w.dial(ctx, seat.node, id, seat.durable, true)
	if err != nil {
		return nil, err
	}
	w.subscribers[seat] = &probeSub{r, id}
	return w.subscribers[seat], nil
}

func (w *probeWorker) publisher(ctx context.Context, n *harness.Node) (*rawClient, error) {
	if r := w.publishers[n]; r != nil {
		return r, nil
	}
	w.names++
	r, _, err := w.dial(ctx, n, fmt.Sprintf("probing-%s-%d-%d", w.p.run, w.id, w.names), false, true)
	if err == nil {
		w.publishers[n] = r
	}
	return r, err
}

func (w *probeWorker) dial(ctx context.Context, n *harness.Node, id string, durable, clean bool) (r *rawClient, present bool, err error) {
	if n.Paused() || !n.Running() {
		return nil, false, fmt.Errorf("%s is down", n.ID)
	}
	p := &mqtt.Connect{Version: mqtt.V5, ClientID: id, CleanStart: clean, RequestProblemInfo: true}
	if durable {
		p.HasSessionExpiry, p.SessionExpiry = true, probeExpiry
	}
	return dialProbe(ctx, n.MQTTAddr(), p)
}

// dialProbe connects and tells whether the session was there.
func dialProbe(ctx context.Context, addr string, p *mqtt.Connect) (r *rawClient, present bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rawTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, false, err
	}
	r = &rawClient{Conn: conn, reader: mqtt.NewReader(conn, mqtt.Limits{}), version: p.Version}
	r.reader.SetVersion(p.Version)
	if err := r.send(p); err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	answer, err := r.next(rawTimeout)
	if err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	ack, ok := answer.(*mqtt.Connack)
	if !ok || ack.Code != mqtt.Success {
		return nil, false, errors.Join(fmt.Errorf("CONNECT was answered with %v %+v", answer.Type(), answer), conn.Close())
	}
	return r, ack.SessionPresent, nil
}

// ask sends a request and reads until its answer; messages of filters that others use, too, are acknowledged on the way.
func (s *probeSub) ask(p mqtt.Packet, want mqtt.Type) error {
	if err := s.send(p); err != nil {
		return err
	}
	for {
		answer, err := s.next(probePatience)
		if err != nil {
			return err
		}
		switch a := answer.(type) {
		case *mqtt.Publish:
			if err := s.answer(a); err != nil {
				return err
			}
			continue
		case *mqtt.Suback:
			if a.Codes[0].Failed() {
				return refusedAs(a.Codes[0])
			}
		}
		if answer.Type() != want {
			return fmt.Errorf("%v instead of %v: %+v", answer.Type(), want, answer)
		}
		return nil
	}
}

// until reads until message i has come.
func (s *probeSub) until(i uint64, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		p, err := s.next(time.Until(deadline))
		if err != nil {
			return err
		}
		switch m := p.(type) {
		case *mqtt.Publish:
			got := len(m.Payload) == 8 && binary.BigEndian.Uint64(m.Payload) == i
			if err := s.answer(m); err != nil && !got {
				return err
			}
			if got {
				return nil
			}
		case *mqtt.Disconnect:
			return fmt.Errorf("DISCONNECT %v", m.Code)
		default:
			return fmt.Errorf("an unexpected %v", p.Type())
		}
	}
}

func (s *probeSub) answer(m *mqtt.Publish) error {
	if m.QoS == 0 {
		return nil
	}
	return s.send(&mqtt.Puback{PacketID: m.PacketID})
}

// promise publishes with QoS 1 and waits for PUBACK.
func (r *rawClient) promise(topic string, i uint64) (mqtt.ReasonCode, error) {
	pub := &mqtt.Publish{Topic: []byte(topic), Payload: binary.BigEndian.AppendUint64(nil, i), QoS: 1, PacketID: 1}
	if err := r.send(pub); err != nil {
		return 0, err
	}
	p, err := r.next(probePatience)
	if err != nil {
		return 0, err
	}
	ack, ok := p.(*mqtt.Puback)
	if !ok {
		return 0, fmt.Errorf("PUBLISH was answered with %v %+v", p.Type(), p)
	}
	return ack.Code, nil
}

// short is an error without what differs from connection to connection.
func short(err error) string {
	text := err.Error()
	if at := len(text) - 40; at > 0 {
		return text[at:]
	}
	return text
}
