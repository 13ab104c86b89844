package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// box collects what a raw client receives.
type box struct {
	*mqttc.Client

	mu       sync.Mutex
	messages []mqtt.Publish // guarded by mu; slices owned
}

type mqttcOptions = mqttc.Options

// holdPubrec keeps the client from answering PUBREC.
func holdPubrec(_ *mqttc.Client, p mqtt.Packet) bool { return p.Type() == mqtt.TypePubrec }

// connect dials a node; edit may change the options.
func connect(t testing.TB, n *harness.Node, id string, edit ...func(*mqttc.Options)) *box {
	t.Helper()
	b, err := tryConnect(t, n, id, edit...)
	if err != nil {
		t.Fatalf("connect %s to %s: %v", id, n.ID, err)
	}
	return b
}

func tryConnect(t testing.TB, n *harness.Node, id string, edit ...func(*mqttc.Options)) (*box, error) {
	t.Helper()
	b := &box{}
	o := mqttc.Options{
		URL: "mqtt://" + n.MQTTAddr(), ClientID: id, Version: mqtt.V5, SessionExpiry: 3600, KeepAlive: 30 * time.Second,
		OnMessage: func(_ *mqttc.Client, p *mqtt.Publish) {
			m := *p
			m.Topic, m.Payload, m.Props = slices.Clone(p.Topic), slices.Clone(p.Payload), slices.Clone(p.Props)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.messages = append(b.messages, m)
		},
	}
	for _, e := range edit {
		e(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := mqttc.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	b.Client = c
	t.Cleanup(func() { _ = c.Close() })
	return b, nil
}

func version(v mqtt.Version) func(*mqttc.Options) {
	return func(o *mqttc.Options) {
		o.Version = v
		if v != mqtt.V5 {
			o.SessionExpiry = 0
		}
	}
}

func clean(o *mqttc.Options)     { o.Clean = true }
func transient(o *mqttc.Options) { o.Clean, o.SessionExpiry = true, 0 }
func manual(o *mqttc.Options)    { o.ManualAck = true }

func (b *box) payloads() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, m := range b.messages {
		list = append(list, string(m.Payload))
	}
	return list
}

func (b *box) all() []mqtt.Publish {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.messages)
}

func (b *box) wait(t testing.TB, n int) []string {
	t.Helper()
	harness.Wait(t, patience, fmt.Sprintf("%d messages for %s", n, b.ClientID()), func(context.Context) error {
		if got := b.payloads(); len(got) < n {
			return fmt.Errorf("it has %d (connection: %v)", len(got), b.Err())
		}
		return nil
	})
	return b.payloads()
}

func (b *box) subscribe(t testing.TB, filters ...mqtt.SubscribeFilter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	codes, err := b.Subscribe(ctx, filters...)
	if err != nil {
		t.Fatalf("%s: SUBSCRIBE: %v", b.ClientID(), err)
	}
	for i, c := range codes {
		if byte(c) != filters[i].QoS {
			t.Fatalf("%s: SUBACK for %s: %v", b.ClientID(), filters[i].Filter, c)
		}
	}
}

func (b *box) publish(t testing.TB, topic, payload string, qos byte) mqtt.ReasonCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := b.Publish(ctx, &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos})
	if err != nil {
		t.Fatalf("%s: PUBLISH to %s: %v", b.ClientID(), topic, err)
	}
	return ack.Code
}

// waitGone waits until the connection has ended and returns why.
func (b *box) waitGone(t testing.TB, within time.Duration) error {
	t.Helper()
	select {
	case <-b.Done():
		return b.Err()
	case <-time.After(within):
		t.Fatalf("%s: the connection still stands after %v", b.ClientID(), within)
		return nil
	}
}

func numbers(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// TestSessionMovesBetweenNodes: a durable session that comes back on another node is all there: the flag, the
// subscriptions, what waited, and the order. I1 I4 I10.
func TestSessionMovesBetweenNodes(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	publisher := connect(t, c.Nodes[0], "publisher")
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) {
			id, topic := fmt.Sprintf("mover-%d", v), fmt.Sprintf("move/%d", v)
			at := connect(t, c.Nodes[0], id, version(v))
			if at.SessionPresent() {
				t.Error("session present at the first CONNECT")
			}
			at.subscribe(t, mqtt.SubscribeFilter{Filter: topic + "/#", QoS: 2})
			sent := 0
			qos := byte(1 + v%2) // order is promised per QoS (v5:MQTT-4.6.0-6)
			for _, to := range []int{1, 2, 0, 0} {
				at.subscribe(t, mqtt.SubscribeFilter{Filter: "fence", QoS: 1}) // what was acknowledged does not come again
				_ = at.Close()                                                 // without DISCONNECT
				for range 10 {
					publisher.publish(t, topic+"/x", fmt.Sprint(sent), qos)
					sent++
				}
				at = connect(t, c.Nodes[to], id, version(v))
				if !at.SessionPresent() && v != mqtt.V31 { // 3.1 has no such flag
					t.Fatalf("on %s: no session present", c.Nodes[to].ID)
				}
				publisher.publish(t, topic+"/x", fmt.Sprint(sent), qos)
				sent++
				if diff := cmp.Diff(numbers(sent-11, sent), at.wait(t, 11)); diff != "" {
					t.Fatalf("on %s (-want +got):\n%s", c.Nodes[to].ID, diff)
				}
			}
			_ = at.Close()
			fresh := connect(t, c.Nodes[1], id, version(v), clean)
			if fresh.SessionPresent() {
				t.Error("session present after a clean start")
			}
			publisher.publish(t, topic+"/x", "nobody", 1)
			fresh.subscribe(t, mqtt.SubscribeFilter{Filter: "fence", QoS: 1})
			if got := fresh.payloads(); len(got) != 0 {
				t.Errorf("a clean start left something: %v", got)
			}
		})
	}
}

// TestTakeoverOnAnotherNode: the new connection wins at once, the old one is told, and what the old one acknowledges later
// changes nothing. I8 I9 I17.
func TestTakeoverOnAnotherNode(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	publisher := connect(t, c.Nodes[2], "publisher")
	old := connect(t, c.Nodes[0], "owner", manual)
	old.subscribe(t, mqtt.SubscribeFilter{Filter: "take/over", QoS: 1})
	for i := range 3 {
		publisher.publish(t, "take/over", fmt.Sprint(i), 1)
	}
	old.wait(t, 3)
	first := old.all()
	if err := old.Ack(1, first[0].PacketID, mqtt.Success); err != nil {
		t.Fatal(err)
	}
	old.subscribe(t, mqtt.SubscribeFilter{Filter: "fence", QoS: 1})

	next := connect(t, c.Nodes[1], "owner")
	if !next.SessionPresent() {
		t.Error("no session present after the takeover")
	}
	reason := old.waitGone(t, slack(time.Second))
	var told *mqttc.DisconnectError
	if !errors.As(reason, &told) || told.Code != mqtt.SessionTakenOver {
		t.Errorf("the old connection ended with %v, want DISCONNECT 0x8E", reason)
	}
	next.wait(t, 2)
	publisher.publish(t, "take/over", "3", 1)
	if diff := cmp.Diff([]string{"1", "2", "3"}, next.wait(t, 3)); diff != "" {
		t.Errorf("after the takeover (-want +got):\n%s", diff)
	}
	for i, m := range next.all()[:2] {
		if !m.Dup || m.PacketID != first[i+1].PacketID {
			t.Errorf("redelivery %d: DUP %v, packet id %d, want DUP and %d", i, m.Dup, m.PacketID, first[i+1].PacketID)
		}
	}
	// The same on one node, and with a client of MQTT 3.1.1, which is just closed.
	again := connect(t, c.Nodes[1], "owner", version(mqtt.V311))
	if err := next.waitGone(t, slack(time.Second)); !errors.As(err, &told) || told.Code != mqtt.SessionTakenOver {
		t.Errorf("takeover on the same node: the old connection ended with %v, want DISCONNECT 0x8E", err)
	}
	connect(t, c.Nodes[2], "owner")
	again.waitGone(t, slack(time.Second))
}

// TestQoS2EndsOnAnotherNode: a durable publisher starts the handshake on one node and ends it on another; the message
// arrives once. A PUBREL for an unknown packet id is answered. I2 I19.
func TestQoS2EndsOnAnotherNode(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	sub := connect(t, c.Nodes[2], "receiver")
	sub.subscribe(t, mqtt.SubscribeFilter{Filter: "once/#", QoS: 2})

	got := make(chan mqtt.Packet, 16) // answers of one handshake
	keep := func(o *mqttc.Options) {
		o.OnPacket = func(_ *mqttc.Client, p mqtt.Packet) bool {
			switch p := p.(type) {
			case *mqtt.Pubrec:
				ack := *p
				got <- &ack
				return true // and no PUBREL by itself
			case *mqtt.Pubcomp:
				ack := *p
				got <- &ack
				return true
			}
			return false
		}
	}
	expect := func(what string, typ mqtt.Type) {
		t.Helper()
		select {
		case p := <-got:
			if p.Type() != typ {
				t.Fatalf("%s: got %v, want %v", what, p.Type(), typ)
			}
		case <-time.After(patience):
			t.Fatalf("%s: no answer", what)
		}
	}
	message := func(payload string, dup bool) *mqtt.Publish {
		return &mqtt.Publish{Topic: []byte("once/x"), Payload: []byte(payload), QoS: 2, PacketID: 77, Dup: dup}
	}
	send := func(b *box, p mqtt.Packet) {
		t.Helper()
		if err := b.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	a := connect(t, c.Nodes[0], "sender", keep)
	send(a, message("one", false))
	expect("PUBLISH on n1", mqtt.TypePubrec)
	_ = a.Close()
	b := connect(t, c.Nodes[1], "sender", keep)
	send(b, message("one", true)) // PUBREC was lost
	expect("PUBLISH again on n2", mqtt.TypePubrec)
	_ = b.Close()
	d := connect(t, c.Nodes[2], "sender", keep)
	send(d, &mqtt.Pubrel{PacketID: 77})
	expect("PUBREL on n3", mqtt.TypePubcomp)
	_ = d.Close()
	e := connect(t, c.Nodes[0], "sender", keep)
	send(e, &mqtt.Pubrel{PacketID: 77}) // PUBCOMP was lost
	expect("PUBREL again on n1", mqtt.TypePubcomp)
	for _, payload := range []string{"one", "end"} { // the id is free: new messages, in order on one topic and QoS
		send(e, message(payload, false))
		expect("a new PUBLISH", mqtt.TypePubrec)
		send(e, &mqtt.Pubrel{PacketID: 77})
		expect("its PUBREL", mqtt.TypePubcomp)
	}
	if diff := cmp.Diff([]string{"one", "one", "end"}, sub.wait(t, 3)); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

// TestSubscriptionIsEffectiveEverywhere: a publish that starts after SUBACK, on any node, arrives. I5.
func TestSubscriptionIsEffectiveEverywhere(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	var publishers []*box
	for _, n := range c.Nodes {
		publishers = append(publishers, connect(t, n, "probe-"+n.ID))
	}
	for round := range 60 {
		durable := round%2 == 0
		id := fmt.Sprintf("s%d", round)
		edit := func(*mqttc.Options) {}
		if !durable {
			edit = transient
		}
		sub := connect(t, c.Nodes[round%3], id, edit)
		topic := fmt.Sprintf("probe/%d", round)
		qos := byte(round / 2 % 3)
		sub.subscribe(t, mqtt.SubscribeFilter{Filter: topic, QoS: qos})
		var wg sync.WaitGroup
		for _, p := range publishers {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				ack, err := p.Publish(ctx, &mqtt.Publish{Topic: []byte(topic), Payload: []byte(p.ClientID()), QoS: 1})
				if err != nil || ack.Code == mqtt.NoMatchingSubscribers {
					t.Errorf("round %d: probe of %s: %v %v", round, p.ClientID(), ack.Code, err)
				}
			})
		}
		wg.Wait()
		got := sub.wait(t, 3)
		slices.Sort(got)
		if diff := cmp.Diff([]string{"probe-n1", "probe-n2", "probe-n3"}, got); diff != "" {
			t.Fatalf("round %d, durable %v, QoS %d (-want +got):\n%s", round, durable, qos, diff)
		}
		_ = sub.Close()
	}
	if code := publishers[0].publish(t, "probe/nobody", "x", 1); code != mqtt.NoMatchingSubscribers {
		t.Errorf("PUBACK without a subscriber: %v, want 0x10", code)
	}
}
