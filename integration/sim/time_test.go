package sim

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// shardOfTime is the one shard of the tests below.
const shardOfTime = 1

// lender makes sessions that end by time, and asks when they did.
type lender struct {
	t  *testing.T
	w  *World
	at *machine // the node that it uses: one that stays up, or comes back
}

// lend connects a client whose session ends so long after its connection. The connection ends when the caller wants, and has
// ended for the groups, too, when hangUp returns.
func (l lender) lend(name string, expiry time.Duration) (hangUp func()) {
	c := l.w.newClient(name)
	c.edit = func(ev *checker.Event, p *mqtt.Connect) {
		p.SessionExpiry = uint32(expiry / time.Second)
		ev.Expiry = p.SessionExpiry
	}
	var mc *mqttc.Client
	if err := l.w.until(readyLimit, func() (err error) {
		mc, err = c.dial(context.Background(), l.at.id)
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	return func() {
		_ = mc.Close() // it never fails
		if err := l.w.until(readyLimit, func() error {
			if st, there := l.look(name); there && st.Connected {
				return fmt.Errorf("%s is still connected", name)
			}
			return nil
		}); err != nil {
			l.t.Error(err)
		}
	}
}

// look asks the groups for a session.
func (l lender) look(name string) (st cluster.SessionStatus, there bool) {
	if err := l.w.until(readyLimit, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var err error
		st, there, err = l.w.running(l.at).Session(ctx, name)
		return err
	}); err != nil {
		l.t.Error(err)
	}
	return st, there
}

// endsAt wants a session to be there a second before its end, and gone two seconds after it (I12), or as late as may be.
func (l lender) endsAt(name string, end time.Time, late time.Duration) {
	time.Sleep(time.Until(end.Add(-time.Second)))
	if _, there := l.look(name); !there {
		l.t.Errorf("%s has ended too early: it has a second left", name)
	}
	time.Sleep(time.Until(end.Add(late)))
	if _, there := l.look(name); there {
		l.t.Errorf("%s is still there %v after its end", name, time.Since(end))
	}
}

// led hands the shard to a node and waits until it leads.
func (l lender) led(m *machine) {
	if err := l.w.until(readyLimit, func() error {
		leader := l.w.lead.latest(shardOfTime)
		if leader == m {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := l.w.running(leader).TransferLeader(ctx, shardOfTime, m.id)
		return fmt.Errorf("%s leads, not %s (%w)", leader.id, m.id, err)
	}); err != nil {
		l.t.Fatal(err)
	}
}

// replicas are the nodes that hold the shard.
func (l lender) replicas() []string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, g := range l.w.running(l.at).Status(ctx).Groups {
		if g.ID == shardOfTime {
			return g.Replicas
		}
	}
	return nil
}

func (l lender) again(ms ...*machine) {
	l.w.Crash(false, 0, ms...)
	for _, m := range ms {
		l.w.Start(m)
	}
	if err := l.w.WaitReady(); err != nil {
		l.t.Fatal(err)
	}
}

// TestTimeOfARestartedReplica is I12 for a replica that starts again after a time in which its group had nothing to write,
// and leads then: it must know what time it is, and whoever leads after it must not know better.
func TestTimeOfARestartedReplica(t *testing.T) {
	bubble(t, 95, func(t *testing.T, o Options) {
		o.Shards = shardOfTime
		w := formed(t, o)
		first := w.lead.latest(shardOfTime)
		l := lender{t, w, first}
		var others []*machine
		for _, m := range w.nodes {
			if m != first {
				others = append(others, m)
			}
		}
		long := time.Now().Add(3 * time.Minute)
		l.lend("long", 3*time.Minute)()
		hangUp := l.lend("short", time.Minute)
		time.Sleep(time.Minute + 9*time.Second)
		l.again(others[0])
		l.led(others[0])
		short := time.Now().Add(time.Minute)
		hangUp()
		l.led(others[1])
		l.endsAt("short", short, 2*time.Second)
		l.endsAt("long", long, 2*time.Second)
		w.Close(true)
	})
}

// TestTimeOfTheMinority is I12 when two of three nodes are away for longer than a session has left: for those who come back
// time has stood still, and what they promise counts by their clock, also when the third leads, whose clock has gone on.
func TestTimeOfTheMinority(t *testing.T) {
	bubble(t, 97, func(t *testing.T, o Options) {
		o.Shards = shardOfTime
		w := formed(t, o)
		l := lender{t, w, w.nodes[0]}
		third := w.nodes[2]
		w.Crash(false, 0, w.nodes[:2]...)
		time.Sleep(time.Minute + 9*time.Second)
		w.fault("isolate " + third.id)
		w.cutPeers(third)
		for _, m := range w.nodes[:2] {
			w.Start(m)
		}
		hangUp := l.lend("c", time.Minute)
		w.Hub.HealAll()
		w.fault(healed)
		if err := w.WaitReady(); err != nil {
			t.Fatal(err)
		}
		if w.lead.latest(shardOfTime) == third {
			t.Fatal("the third leads already")
		}
		end := time.Now().Add(time.Minute)
		hangUp()
		l.led(third)
		l.endsAt("c", end, 2*time.Second)
		w.Close(true)
	})
}

// TestTimeOfANewReplica is I12 for a replica that was made from a log that had been silent, and leads at once.
func TestTimeOfANewReplica(t *testing.T) {
	bubble(t, 98, func(t *testing.T, o Options) {
		o.Shards, o.Nodes = shardOfTime, 4
		w := formed(t, o)
		l := lender{t, w, w.lead.latest(shardOfTime)}
		end := time.Now().Add(3 * time.Minute)
		l.lend("c", 3*time.Minute)()
		time.Sleep(time.Minute + 9*time.Second)
		before := l.replicas()
		var leaves, comes *machine
		for _, m := range w.nodes {
			switch {
			case !slices.Contains(before, m.id):
				comes = m
			case m != l.at:
				leaves = m
			}
		}
		if _, err := w.running(l.at).RemoveNode(t.Context(), leaves.id, "", false); err != nil {
			t.Fatal(err)
		}
		if err := w.until(readyLimit, func() error {
			if now := l.replicas(); !slices.Contains(now, comes.id) {
				return fmt.Errorf("the replicas are on %v", now)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		l.led(comes)
		l.endsAt("c", end, 2*time.Second)
		w.Close(true)
	})
}

// TestTimeOfARestartedCluster is I12 when all replicas start again at a time: nobody is left who carried the clock, and what the
// log does not tell is lost. It tells the time often enough.
func TestTimeOfARestartedCluster(t *testing.T) {
	bubble(t, 96, func(t *testing.T, o Options) {
		o.Shards = shardOfTime
		w := formed(t, o)
		l := lender{t, w, w.nodes[0]}
		end := time.Now().Add(3 * time.Minute)
		l.lend("c", 3*time.Minute)()
		time.Sleep(time.Minute + 9*time.Second)
		l.again(w.nodes...)
		l.endsAt("c", end, 40*time.Second)
		w.Close(true)
	})
}

// TestTimeOfARetainedMessage: who holds no replica of a shard asks what its time is. The group's time is not that of its wall clock,
// be it only because all nodes were away for a while.
func TestTimeOfARetainedMessage(t *testing.T) {
	bubble(t, 99, func(t *testing.T, o Options) {
		o.Shards, o.Nodes = shardOfTime, 4
		w := formed(t, o)
		l := lender{t, w, w.nodes[0]}
		w.Crash(false, 0, w.nodes...)
		time.Sleep(2 * time.Minute)
		l.again(w.nodes...)
		p := w.newClient("p")
		pub, err := p.dial(t.Context(), l.at.id)
		if err != nil {
			t.Fatal(err)
		}
		if ack, err := pub.Publish(t.Context(), &mqtt.Publish{Topic: []byte("r"), Payload: []byte("x"), QoS: 1, Retain: true, HasExpiry: true, Expiry: 60}); err != nil || ack.Code.Failed() {
			t.Errorf("publish: %v, %v", ack.Code, err)
		}
		_ = pub.Close() // it never fails
		for _, m := range w.nodes {
			c := w.newClient("s-" + m.id)
			c.clean, c.transient = true, true
			got := make(chan uint32, 1)
			c.onPacket = func(_ int32, pk mqtt.Packet) {
				if p, ok := pk.(*mqtt.Publish); ok {
					got <- p.Expiry
				}
			}
			sub, err := c.dial(t.Context(), m.id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Subscribe(t.Context(), mqtt.SubscribeFilter{Filter: "r", QoS: 1}); err != nil {
				t.Error(err)
			}
			select {
			case left := <-got:
				if left < 55 || left > 60 {
					t.Errorf("%s gives the message %d s, it has nearly 60", m.id, left)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("%s takes the message for expired", m.id)
			}
			_ = sub.Close() // it never fails
		}
		w.Close(true)
	})
}
