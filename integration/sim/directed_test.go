package sim

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// formed starts a cluster and waits until it serves.
func formed(t *testing.T, o Options) *World {
	w := NewWorld(t, o)
	if err := w.form(); err != nil {
		t.Errorf("the cluster does not form: %v", err)
	}
	return w
}

// lightsOut takes the power from all nodes in this very moment and drops everything that is not synced; then all start.
func (w *World) lightsOut() {
	w.Crash(true, 0, w.nodes...)
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		for _, m := range w.nodes {
			w.Start(m)
		}
	}()
}

// TestPowerLossAfterAck is I22: all nodes lose power in the moment in which a client has its PUBACK or PUBREC.
func TestPowerLossAfterAck(t *testing.T) {
	const rounds = 8
	for qos := byte(1); qos <= 2; qos++ {
		bubble(t, 40+uint64(qos), func(t *testing.T, o Options) {
			o.Sync = 20 * time.Millisecond // a wide window for what is acknowledged too early
			w := formed(t, o)
			l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
			l.subs = []*subscriber{w.newSubscriber("s", "t/#", qos)}
			p := w.newPublisher("p", "t/p", qos, 2*time.Millisecond)
			var acks, outages atomic.Int32
			p.answered = func() {
				if n := acks.Add(1); n%17 == 0 && n/17 <= rounds {
					outages.Add(1)
					w.lightsOut()
				}
			}
			l.pubs = []*publisher{p}
			l.Start()
			if err := w.until(5*time.Minute, func() error {
				if outages.Load() < rounds {
					return errors.New("too few outages")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			w.wg.Wait()
			w.finish(l)
			report(t, w)
		})
	}
}

// TestPowerLossAfterSuback is I22 for SUBACK and CONNACK: what they said holds after the power is back.
func TestPowerLossAfterSuback(t *testing.T) {
	bubble(t, 50, func(t *testing.T, o Options) {
		o.Sync = 20 * time.Millisecond
		w := formed(t, o)
		l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
		l.Start()
		for i := range 8 {
			// A session that is lost shows as session present 0, a subscription as a message that never comes.
			s := w.newSubscriber(topicName("s", i), topicName("t", i), 1)
			in, afterConnack := s.onPacket, i%2 == 0
			s.onPacket = func(conn int32, pk mqtt.Packet) {
				in(conn, pk)
				if _, ok := pk.(*mqtt.Suback); ok && conn < 3 && !afterConnack {
					w.lightsOut()
				}
			}
			mc := s.connect(after(readyLimit))
			switch {
			case mc == nil:
				w.Failf("I27: %s cannot connect", s.name)
			case afterConnack:
				w.lightsOut()
			default:
				s.subscribe(mc, s.filter, s.qos)
			}
			if mc != nil {
				_ = mc.Close() // it never fails
			}
			w.wg.Wait()
			if err := w.WaitReady(); err != nil {
				t.Error(err)
			}
			l.subs = append(l.subs, s)
			l.rest.Go(func() { s.run(l.stop, l.leave) })
			p := w.newPublisher(topicName("p", i), topicName("t", i), 1, 2*time.Millisecond)
			p.run(after(200*time.Millisecond), after(readyLimit))
		}
		w.finish(l)
		report(t, w)
	})
}

// TestCrashAfterVote crashes voters right after they voted, while leaders keep falling: no vote may be forgotten (I21, I25).
func TestCrashAfterVote(t *testing.T) {
	bubble(t, 60, func(t *testing.T, o Options) {
		w := formed(t, o)
		w.votes.mu.Lock()
		w.votes.crash = 60
		w.votes.mu.Unlock()
		l := NewWorkload(w)
		l.Start()
		for i := range 12 {
			if m := w.lead.latest(int64(i % 3)); m != nil {
				w.fault("cut off the leader " + m.id)
				w.cutPeers(m)
				time.Sleep(4 * heartbeat)
				w.Hub.HealAll()
				w.fault(healed)
			}
			time.Sleep(2 * heartbeat)
		}
		w.finish(l)
		t.Log(w.votes)
		report(t, w)
	})
}

// TestIsolatedGateway is I5 with a gateway that the others cannot reach, while its clients can: a SUBACK that waited for
// the end of its lease is a promise, so the gateway must not acknowledge by its old routes any more.
func TestIsolatedGateway(t *testing.T) {
	bubble(t, 70, func(t *testing.T, o Options) {
		w := formed(t, o)
		l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
		for i, m := range w.nodes {
			other := w.nodes[(i+1)%len(w.nodes)]
			s := w.newSubscriber(topicName("s", i), topicName("fresh", i), 1)
			p := w.newPublisher(topicName("p", i), s.filter, 1, time.Millisecond)
			pub, err := p.dial(t.Context(), m.id)
			if err != nil {
				t.Error(err)
				continue
			}
			w.fault("isolate " + m.id)
			w.cutPeers(m)
			for deadline := after(readyLimit); ; {
				sub, err := s.dial(t.Context(), other.id)
				if err == nil {
					ok := s.subscribe(sub, s.filter, 1)
					_ = sub.Close() // it never fails
					if ok {
						break
					}
				}
				if !s.pause(deadline, 50*time.Millisecond, 100*time.Millisecond) {
					w.Failf("I27: %s cannot subscribe on %s", s.name, other.id)
					break
				}
			}
			p.send(pub)
			p.pause(pub.Done(), 100*time.Millisecond, 200*time.Millisecond)
			_ = pub.Close() // it never fails
			w.Hub.HealAll()
			w.fault(healed)
			if err := w.WaitReady(); err != nil {
				t.Error(err)
			}
			p.run(after(0), after(readyLimit)) // what was not answered is sent again
			l.subs = append(l.subs, s)
			l.rest.Go(func() { s.run(l.stop, l.leave) })
		}
		w.finish(l)
		report(t, w)
	})
}

// TestSnapshots keeps a node away until the others have cut their logs, so that it comes back by a snapshot; then the power goes,
// and at last a node stops politely and starts again. What it has then must be what the others have (I20), and nothing may be
// lost, or come twice (I1, I2, I8).
func TestSnapshots(t *testing.T) {
	bubble(t, 80, func(t *testing.T, o Options) {
		o.SnapshotAfter = 24 << 10
		w := formed(t, o)
		l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
		l.subs = []*subscriber{w.newSubscriber("s", "t/#", 2)}
		var acks atomic.Int32
		for qos := byte(1); qos <= 2; qos++ {
			p := w.newPublisher(topicName("p", qos), topicName("t", qos), qos, 8*time.Millisecond)
			p.answered = func() { acks.Add(1) }
			l.pubs = append(l.pubs, p)
		}
		l.Start()
		more := func(n int32) {
			before := acks.Load()
			if err := w.until(5*time.Minute, func() error {
				if acks.Load() < before+n {
					return errors.New("too few acknowledgements")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		more(50)
		away := w.nodes[2]
		w.Crash(false, 0, away)
		more(800)
		w.Start(away)
		if err := w.WaitReady(); err != nil {
			t.Error(err)
		}
		more(50)
		// What was restored must be what the others have, before a restart reads it from the disk again.
		if err := w.Equal(); err != nil {
			t.Error(err)
		}
		w.lightsOut()
		w.wg.Wait()
		more(200)
		w.Stop(w.nodes[1])
		more(20)
		w.Start(w.nodes[1])
		more(20)
		w.finish(l)
		report(t, w)
	})
}
