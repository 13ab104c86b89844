package sim

import (
	"context"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// publisher sends numbered messages of one QoS to one topic, over one connection after the other, and never forgets one
// that was not answered.
type publisher struct {
	*client
	topic string
	qos   byte
	pace  time.Duration // the most between two messages
	// retain: all messages are retained.
	retain bool
	// answered, if set, is called when PUBACK or PUBREC has come, before the client goes on.
	answered func()

	mu   sync.Mutex
	seq  uint64
	open map[uint64]*checker.Event // guarded by mu: what is not answered, by sequence
}

func (w *World) newPublisher(name, topic string, qos byte, pace time.Duration) *publisher {
	p := &publisher{client: w.newClient(name), topic: topic, qos: qos, pace: pace, open: map[uint64]*checker.Event{}}
	p.onPacket = p.packet
	return p
}

// run publishes until stop is closed, then goes on until everything is answered or hurry is closed.
func (p *publisher) run(stop, hurry <-chan struct{}) {
	defer p.report()
	for {
		mc := p.connect(hurry)
		if mc == nil {
			return
		}
		if p.over(mc, stop, hurry) {
			return
		}
	}
}

// over publishes over one connection for a while, and tells whether that was all.
func (p *publisher) over(mc *mqttc.Client, stop, hurry <-chan struct{}) bool {
	defer p.end(mc)
	if p.resend(mc) != nil {
		return false
	}
	life := time.NewTimer(p.between(500*time.Millisecond, 6*time.Second))
	defer life.Stop()
	for {
		select {
		case <-mc.Done():
			return false
		case <-life.C:
			return false
		case <-hurry:
			return true
		case <-stop:
			return p.settle(mc, hurry)
		default:
		}
		p.send(mc)
		if !p.pause(mc.Done(), time.Millisecond, p.pace) {
			return false
		}
	}
}

// resend sends again what has no answer yet.
func (p *publisher) resend(mc *mqttc.Client) error {
	for _, f := range p.session.InFlight() {
		if !f.Released {
			p.w.rec.Add(checker.Event{Kind: checker.Resent, T: p.w.hist.now(), Client: p.name, Conn: p.conn, Topic: string(f.Publish.Topic), Seq: f.Token})
		}
	}
	_, err := mc.Resend(context.Background())
	return err
}

// settle waits for the answers to what was sent.
func (p *publisher) settle(mc *mqttc.Client, hurry <-chan struct{}) bool {
	for len(p.session.InFlight()) > 0 {
		select {
		case <-hurry:
			return true
		default:
		}
		if !p.pause(mc.Done(), 10*time.Millisecond, 20*time.Millisecond) {
			return false
		}
	}
	return true
}

// send sends the next message; it waits at most a second for room.
func (p *publisher) send(mc *mqttc.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.mu.Lock()
	p.seq++
	seq := p.seq
	p.open[seq] = &checker.Event{Kind: checker.Publish, T: p.w.hist.now(), Client: p.name, Conn: p.conn, Topic: p.topic, Seq: seq, QoS: p.qos, Retain: p.retain}
	p.mu.Unlock()
	payload := checker.AppendPayload(nil, checker.ID{Run: runName, Publisher: p.name, Topic: p.topic, Seq: seq}, 64+p.rng.IntN(200))
	if _, err := mc.Send(ctx, &mqtt.Publish{Topic: []byte(p.topic), Payload: payload, QoS: p.qos, Retain: p.retain}, seq); err != nil {
		p.mu.Lock()
		delete(p.open, seq) // not sent, and never will be
		p.mu.Unlock()
	}
}

// packet sees PUBACK and PUBREC, which is where a publish is promised.
func (p *publisher) packet(_ int32, pk mqtt.Packet) {
	switch a := pk.(type) {
	case *mqtt.Puback:
		p.promised(a.PacketID, a.Code)
	case *mqtt.Pubrec:
		p.promised(a.PacketID, a.Code)
	}
}

func (p *publisher) promised(id uint16, code mqtt.ReasonCode) {
	for _, f := range p.session.InFlight() {
		if f.Publish.PacketID != id || f.Released {
			continue
		}
		p.note(f.Token, code)
		if p.answered != nil {
			p.answered()
		}
	}
}

// note records a publish with its answer, once.
func (p *publisher) note(seq uint64, code mqtt.ReasonCode) {
	p.mu.Lock()
	ev := p.open[seq]
	delete(p.open, seq)
	p.mu.Unlock()
	if ev == nil {
		return
	}
	ev.End, ev.Code = p.w.hist.now(), byte(code)
	p.w.rec.Add(*ev)
}

// report records what was never answered.
func (p *publisher) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ev := range p.open {
		p.w.rec.Add(*ev)
	}
	if stuck := len(p.open); stuck > 0 {
		p.w.Failf("I27: %d publishes of %s were never answered, though all nodes are up", stuck, p.name)
	}
	clear(p.open)
}
