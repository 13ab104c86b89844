package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestLateShareCopy is I16 with a copy that is held up on its way: a member whose session ends with its connection was sent
// messages that its network holds; its node is lost, and another member gets them with QoS 2. Then the network lets go. What
// comes late was sent before, with QoS 1, and there is nothing that a server could do about it.
func TestLateShareCopy(t *testing.T) {
	const messages = 12
	bubble(t, 90, func(t *testing.T, o Options) {
		w := formed(t, o)
		l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
		away, near := w.nodes[0], w.nodes[1]
		guest, m := w.newSubscriber("m-guest", crewFilter, 1), w.newSubscriber("m-1", crewFilter, 2)
		guest.transient = true
		p := w.newPublisher("p", "q/2/p", 2, time.Millisecond)
		on := func(s *subscriber, node string) interface{ Close() error } {
			mc, err := s.dial(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			if !s.subscribe(mc, s.filter, s.qos) {
				t.Fatalf("%s cannot subscribe", s.name)
			}
			return mc
		}
		held, live := on(guest, away.id), on(m, near.id)
		pub, err := p.dial(t.Context(), near.id)
		if err != nil {
			t.Fatal(err)
		}
		w.fault("cut " + away.id + " to the guest")
		w.Hub.Cut(away.id, "host-"+guest.name)
		for range messages {
			p.send(pub)
		}
		before := 0 // messages that the other member has got; the guest's are on their way
		if err := w.until(readyLimit, func() error {
			st, _, err := w.running(away).Session(t.Context(), guest.name)
			if before = m.in.count(); err == nil && before+int(st.InboxDepth) < messages {
				err = fmt.Errorf("%s has %d messages, %s %d of %d", guest.name, st.InboxDepth, m.name, before, messages)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		synctest.Wait() // the gateway has sent what it has
		w.fault("isolate " + away.id)
		w.cutPeers(away)
		if err := w.until(readyLimit, func() error {
			if n := m.in.count(); n < messages {
				return fmt.Errorf("%s has %d of %d messages", m.name, n, messages)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		w.Hub.HealAll()
		w.fault(healed)
		if err := w.until(readyLimit, func() error {
			if late := guest.in.count(); before == messages || late != messages-before {
				return fmt.Errorf("%d late copies for the guest, want the %d that the other member did not have", late, messages-before)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		_, _, _ = held.Close(), live.Close(), pub.Close() // they never fail
		p.run(after(0), after(readyLimit))
		l.subs = append(l.subs, m)
		l.rest.Go(func() { m.run(l.stop, l.leave) })
		w.finish(l)
		report(t, w)
	})
}
