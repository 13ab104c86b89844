package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
)

// orderLog is an orderNet that notes what it is asked, and answers when it is told to.
type orderLog struct {
	calls   []string
	answers map[string]doneFn
	refuse  error
}

func (l *orderLog) storeFirst(o *outgoing, done doneFn) error {
	l.calls = append(l.calls, "store "+string(o.msg.Payload))
	if l.answers == nil {
		l.answers = map[string]doneFn{}
	}
	l.answers[string(o.msg.Payload)] = done
	return l.refuse
}

func (l *orderLog) routeOrdered(o *outgoing, done func(session.Outcome)) {
	l.calls = append(l.calls, "route "+string(o.msg.Payload))
	done(session.Outcome{})
}

func (l *orderLog) take() []string {
	out := l.calls
	l.calls = nil
	return out
}

// orderRig gives messages to a topicOrder, in a buffer that is used again.
type orderRig struct {
	*topicOrder
	log      orderLog
	mu       sync.Mutex // callers are answered by timers, too
	outcomes map[string]session.Outcome
	told     chan string // names, as they are answered
}

func newOrderRig() *orderRig {
	r := &orderRig{outcomes: map[string]session.Outcome{}, told: make(chan string, 16)}
	r.topicOrder = newTopicOrder(&r.log)
	return r
}

func (r *orderRig) send(topic, name string, retained bool, limit time.Duration) bool {
	m := &command.Message{Topic: []byte(topic), Payload: []byte(name), QoS: 1, Retain: retained}
	o := &outgoing{msg: m, raw: m.Append(nil)}
	done := func(out session.Outcome) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, ok := r.outcomes[name]; ok {
			panic(name + " is answered twice")
		}
		r.outcomes[name] = out
		r.told <- name
	}
	defer func() {
		clear(o.raw)
		clear(m.Topic)
		clear(m.Payload)
	}()
	if retained {
		r.add(o, limit, done)
		return true
	}
	return r.behind(o, limit, done)
}

func (r *orderRig) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := r.log.take(); !slices.Equal(got, want) {
		t.Fatalf("calls: %q, want %q", got, want)
	}
}

// TestTopicOrder_I14 checks that subscribers of a retained message are looked up once it is stored,
// and that the order of a topic holds meanwhile (I4).
func TestTopicOrder_I14(t *testing.T) {
	r := newOrderRig()
	if r.send("t", "early", false, 0) {
		t.Fatal("a message waits for nothing")
	}
	r.send("t", "r1", true, 0)
	r.send("t", "r2", true, 0)
	r.expect(t, "store r1", "store r2")
	if r.send("other", "o1", false, 0) {
		t.Fatal("a message waits for another topic")
	}
	if !r.send("t", "p1", false, 0) {
		t.Fatal("a message overtakes a retained one of its topic")
	}
	r.send("t", "r3", true, 0)
	r.expect(t) // r3 has p1 in front of it, also at the subscribers of the topic's own shard
	r.log.answers["r2"](command.Result{}, 1, nil)
	r.expect(t)
	r.log.answers["r1"](command.Result{}, 2, nil)
	r.expect(t, "route r1", "route r2", "route p1", "store r3")
	r.log.answers["r3"](command.Result{}, 3, nil)
	r.expect(t, "route r3")
	if len(r.outcomes) != 4 || len(r.queues) != 0 || r.busy.Load() != 0 {
		t.Errorf("outcomes %v, %d queues, %d busy", r.outcomes, len(r.queues), r.busy.Load())
	}
}

// TestTopicOrderFails_I4 checks that what is behind a message that was not stored fails with it.
func TestTopicOrderFails_I4(t *testing.T) {
	r := newOrderRig()
	r.send("t", "r1", true, 0)
	r.send("t", "r2", true, 0)
	r.send("t", "p1", false, 0)
	r.log.take()
	r.log.answers["r2"](command.Result{}, 0, ErrLaneReset)
	if len(r.outcomes) != 2 || r.outcomes["p1"].Err == nil || r.outcomes["r2"].Err == nil {
		t.Fatalf("outcomes: %v", r.outcomes)
	}
	r.log.answers["r1"](command.Result{}, 1, nil)
	r.expect(t, "route r1")
	r.log.refuse = ErrLaneReset
	r.send("t", "r3", true, 0)
	r.expect(t, "store r3")
	if !errors.Is(r.outcomes["r3"].Err, ErrLaneReset) || len(r.queues) != 0 || r.busy.Load() != 0 {
		t.Errorf("outcome %v, %d queues, %d busy", r.outcomes["r3"], len(r.queues), r.busy.Load())
	}
}

// TestTopicOrderSuperseded_I13 checks that a message of an old connection goes no further.
func TestTopicOrderSuperseded_I13(t *testing.T) {
	r := newOrderRig()
	r.send("t", "r1", true, 0)
	r.send("t", "p1", false, 0)
	r.log.take()
	r.log.answers["r1"](command.Result{Code: command.StaleEpoch}, 1, nil)
	r.expect(t, "route p1")
	if !errors.Is(r.outcomes["r1"].Err, session.ErrStale) {
		t.Errorf("outcome: %v", r.outcomes["r1"])
	}
}

// TestTopicOrderLimit_I26 checks that callers are answered in time, and that what was given keeps its
// place and reaches the subscribers later.
func TestTopicOrderLimit_I26(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newOrderRig()
		r.send("t", "r1", true, time.Second)
		r.send("t", "p1", false, time.Second)
		start := time.Now()
		<-r.told
		<-r.told
		if took := time.Since(start); took != time.Second {
			t.Errorf("answered after %s", took)
		}
		synctest.Wait()
		for _, name := range []string{"r1", "p1"} {
			if !errors.Is(r.outcomes[name].Err, ErrNoLeader) {
				t.Errorf("outcome of %s: %v", name, r.outcomes[name])
			}
		}
		r.log.take()
		r.log.answers["r1"](command.Result{}, 1, nil)
		r.expect(t, "route r1", "route p1")
	})
}

// TestTopicOrderConcurrent_I4 lets publishers and answers run at the same time.
func TestTopicOrderConcurrent_I4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &asyncOrder{routed: make(chan string, 1000)}
		order := newTopicOrder(net)
		const each = 200
		done := make(chan struct{})
		for range each {
			go func() {
				m := &command.Message{Topic: []byte("t"), QoS: 1, Retain: true}
				order.add(&outgoing{msg: m, raw: m.Append(nil)}, 0, func(session.Outcome) { done <- struct{}{} })
			}()
		}
		for range each {
			<-done
		}
		// One publisher: its messages arrive in the order in which it sent them.
		var want, got []string
		for i := range each {
			name := fmt.Sprint(i)
			m := &command.Message{Topic: []byte("t"), Payload: []byte(name), QoS: 1, Retain: i%3 == 0}
			o := &outgoing{msg: m, raw: m.Append(nil)}
			if want = append(want, name); m.Retain {
				order.add(o, 0, func(session.Outcome) {})
			} else if !order.behind(o, 0, func(session.Outcome) {}) {
				net.routeOrdered(o, func(session.Outcome) {})
			}
		}
		synctest.Wait()
		for len(net.routed) > 0 {
			if name := <-net.routed; name != "" {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("order: %v", got)
		}
		if len(order.queues) != 0 || order.busy.Load() != 0 {
			t.Errorf("%d queues, %d busy", len(order.queues), order.busy.Load())
		}
	})
}

type asyncOrder struct{ routed chan string }

func (a *asyncOrder) storeFirst(_ *outgoing, done doneFn) error {
	go done(command.Result{}, 1, nil)
	return nil
}

func (a *asyncOrder) routeOrdered(o *outgoing, done func(session.Outcome)) {
	a.routed <- string(o.msg.Payload)
	done(session.Outcome{})
}

// TestLaneRoom checks the ways past a full lane.
func TestLaneRoom(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &lane{space: make(chan struct{}), open: new(laneBatch), inc: 1, wake: make(chan struct{}, 1), giveUpAfter: time.Hour}
	if err := l.room(ctx); err != nil {
		t.Fatal(err)
	}
	l.bytes = laneMaxBytes
	if err := l.room(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("room of a full lane: %v", err)
	}
	if err := l.addOver(publishOf("a"), nil); err != nil || len(l.open.dones) != 1 {
		t.Errorf("over the bound: %v", err)
	}
	l.inc = 0
	if err := l.addOver(publishOf("a"), nil); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("closed lane: %v", err)
	}
}
