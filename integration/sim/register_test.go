package sim

import (
	"errors"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

// TestLateRetained is I13 with a gateway that a shard's leader cannot hear for a while: its client sends a retained message
// again over another gateway, and newer ones after it, before the first sending arrives.
func TestLateRetained(t *testing.T) {
	bubble(t, 90, func(t *testing.T, o Options) {
		o.Shards = 1
		w := formed(t, o)
		l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
		l.Start()
		for round := range 3 {
			lead := w.lead.latest(1)
			var others []*machine
			for _, m := range w.nodes {
				if m != lead {
					others = append(others, m)
				}
			}
			topic := registerName(round)
			p := w.newPublisher(topicName("w", round), topic, 1, time.Millisecond)
			neighbour := w.newPublisher(topicName("n", round), topicName("beside", round), 1, time.Millisecond)
			p.retain, neighbour.retain = true, true
			old, err := p.dial(t.Context(), others[0].id)
			if err != nil {
				t.Error(err)
				continue
			}
			beside, err := neighbour.dial(t.Context(), others[0].id)
			if err != nil {
				t.Error(err)
				continue
			}
			w.fault("cut off " + others[0].id + " from the leader")
			w.Hub.Cut(others[0].id, lead.id)
			p.send(old)
			// Nothing tells that the gateway has taken it: it cannot answer.
			p.pause(old.Done(), 50*time.Millisecond, 100*time.Millisecond)
			_ = old.Close() // it never fails
			now, err := p.dial(t.Context(), others[1].id)
			if err != nil {
				t.Error(err)
			} else {
				if err := p.resend(now); err != nil {
					t.Error(err)
				}
				w.answered(t, p)
				p.send(now)
				w.answered(t, p)
				_ = now.Close() // it never fails
			}
			w.Hub.HealAll()
			w.fault(healed)
			// What comes behind it in the same lane shows that it has come.
			neighbour.send(beside)
			w.answered(t, neighbour)
			_ = beside.Close() // it never fails
			w.read(t, w.newReader(topicName("r", round)), topic)
		}
		w.finish(l)
		report(t, w)
	})
}

// TestStillRegister is I14 where nothing else goes on that could hide it: what was retained is there for every new subscription.
func TestStillRegister(t *testing.T) {
	bubble(t, 91, func(t *testing.T, o Options) {
		w := formed(t, o)
		l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
		l.Start()
		for i := range 4 {
			topic := registerName(i)
			p := w.newPublisher(topicName("w", i), topic, 1, time.Millisecond)
			p.retain = true
			mc, err := p.dial(t.Context(), p.anyNode())
			if err != nil {
				t.Error(err)
				continue
			}
			p.send(mc)
			w.answered(t, p)
			_ = mc.Close() // it never fails
			for j := range 2 {
				w.read(t, w.newReader(topicName("r", i, j)), topic)
			}
		}
		w.finish(l)
		report(t, w)
	})
}

// answered waits until a publisher has an answer to all that it sent.
func (w *World) answered(t *testing.T, p *publisher) {
	t.Helper()
	if err := w.until(leaseLost, func() error {
		if len(p.session.InFlight()) > 0 {
			return errors.New(p.name + " has no answer")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// read reads a register once.
func (w *World) read(t *testing.T, r *reader, topic string) {
	t.Helper()
	mc := r.connect(after(readyLimit))
	if mc == nil {
		t.Error("no reader")
		return
	}
	first := make(chan struct{})
	r.first, r.got = first, checker.ID{}
	begin := w.hist.now()
	if r.subscribe(mc, topic, 1) {
		r.look(mc.Done(), first, topic, begin)
	}
	_ = mc.Close() // it never fails
}
