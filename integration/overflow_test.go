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

// inboxLimit is the limit in messages of the tests below.
const inboxLimit = 100

// startWithInboxes starts three nodes with small inboxes and an overflow policy.
func startWithInboxes(t *testing.T, policy string) *harness.Cluster {
	t.Helper()
	return harness.Start(t, harness.Options{Nodes: 3, Flags: []string{
		"--set", fmt.Sprintf("settings.inbox.max_messages=%d", inboxLimit), "--set", "settings.inbox.overflow=" + policy,
	}})
}

// lost sums what the cluster says that it dropped, by reason.
func lost(t testing.TB, c *harness.Cluster, reason string) int {
	t.Helper()
	m, err := c.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	label := fmt.Sprintf("reason=%q", reason)
	return int(m.Sum("flotilla_state_dropped_total", label) + m.Sum("flotilla_messages_dropped_total", label) + m.Sum("flotilla_forward_dropped_total", label))
}

// waitLost waits until the counter of a reason stands at want, and stays there: a follower that took over counts anew.
func waitLost(t testing.TB, c *harness.Cluster, reason string, want int) {
	t.Helper()
	harness.Wait(t, patience, fmt.Sprintf("%d dropped messages to be counted as %s", want, reason), func(context.Context) error {
		if got := lost(t, c, reason); got != want {
			return fmt.Errorf("counted are %d", got)
		}
		return nil
	})
}

// offline makes a durable session with one subscription that is not connected.
func offlineSession(t testing.TB, n *harness.Node, id, filter string, qos byte) {
	t.Helper()
	b := connect(t, n, id)
	b.subscribe(t, mqtt.SubscribeFilter{Filter: filter, QoS: qos})
	if err := b.Disconnect(t.Context(), mqtt.Success); err != nil {
		t.Fatal(err)
	}
}

// flood publishes count numbered messages from several clients on all nodes at once, QoS 1 and 2, and returns the payloads by
// the answer that each got.
func flood(t testing.TB, c *harness.Cluster, name, topic string, publishers, each int) (accepted, refused []string) {
	t.Helper()
	var mu sync.Mutex
	together(t, publishers, func(i int) error {
		left := make(chan struct{}, each)
		cl, err := mqttc.Dial(t.Context(), mqttc.Options{
			URL: "mqtt://" + c.Nodes[i%len(c.Nodes)].MQTTAddr(), ClientID: fmt.Sprintf("%s-%d", name, i), Clean: true,
			OnAck: func(_ *mqttc.Client, a mqttc.Ack) {
				mu.Lock()
				defer mu.Unlock()
				payload := fmt.Sprintf("%s-%d-%d", name, i, a.Token)
				if a.Code.Failed() {
					refused = append(refused, payload)
				} else {
					accepted = append(accepted, payload)
				}
				left <- struct{}{}
			},
		})
		if err != nil {
			return err
		}
		defer cl.Close()
		for k := range each {
			p := &mqtt.Publish{Topic: []byte(topic), Payload: fmt.Appendf(nil, "%s-%d-%d", name, i, k), QoS: byte(1 + i/len(c.Nodes)%2)}
			if _, err := cl.Send(t.Context(), p, uint64(k)); err != nil {
				return err
			}
		}
		for k := range each {
			select {
			case <-left:
			case <-cl.Done():
				return fmt.Errorf("%s-%d: %d of %d answers: %w", name, i, k, each, cl.Err())
			case <-time.After(patience):
				return fmt.Errorf("%s-%d: %d of %d answers in %v", name, i, k, each, patience)
			}
		}
		return nil
	})
	slices.Sort(accepted)
	return accepted, refused
}

// leaderOf is the node that leads the shard of a session.
func leaderOf(t testing.TB, c *harness.Cluster, id string) (leader *harness.Node) {
	t.Helper()
	harness.Wait(t, patience, "a leader for the session "+id, func(ctx context.Context) error {
		s, err := c.Nodes[0].Session(ctx, id)
		if err != nil {
			return err
		}
		if leader = c.Leader(ctx, s.Shard); leader == nil {
			return fmt.Errorf("shard %d has none", s.Shard)
		}
		return nil
	})
	return leader
}

// TestOverflowRefuse: a publish that would enter a full inbox is refused with 0x97 and reaches nobody; what was acknowledged
// is delivered, all of it; the refusals are counted; room makes it work again.
func TestOverflowRefuse(t *testing.T) {
	long(t)
	c := startWithInboxes(t, "refuse")
	offlineSession(t, c.Nodes[0], "full", "over/#", 2)
	other := connect(t, c.Nodes[1], "other")
	other.subscribe(t, mqtt.SubscribeFilter{Filter: "over/#", QoS: 2})
	var sent []string
	// A node asks its own replica whether there is room. That of the leader lacks nothing, so that the limit holds to the message.
	publisher := connect(t, leaderOf(t, c, "full"), "publisher", transient)
	const published = 3 * inboxLimit
	for i := range published {
		switch code := publisher.publish(t, "over/x", fmt.Sprint(i), byte(1+i%2)); code {
		case mqtt.Success:
			sent = append(sent, fmt.Sprint(i))
		case mqtt.QuotaExceeded:
		default:
			t.Fatalf("message %d: %v", i, code)
		}
	}
	if over := len(sent) - inboxLimit; over < 0 || over > 10 {
		t.Errorf("%d of %d were accepted, the inbox holds %d", len(sent), published, inboxLimit)
	}
	m, err := c.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := int(m.Sum("flotilla_publish_refused_total")); got != published-len(sent) {
		t.Errorf("counted are %d refusals, want %d", got, published-len(sent))
	}
	accepted, refused := flood(t, c, "flood", "over/y", 6, 100)
	t.Logf("%d in turn: %d accepted; 600 at once: %d accepted, %d refused", published, len(sent), len(accepted), len(refused))
	if len(refused) == 0 {
		t.Error("none of the flood was refused although the inbox is full")
	}
	want := append(slices.Clone(sent), accepted...)
	slices.Sort(want)
	for name, b := range map[string]*box{"who was connected": other, "who was full": connect(t, c.Nodes[1], "full")} {
		got := b.wait(t, len(want))
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-accepted +received):\n%s", name, diff)
		}
	}
	harness.Wait(t, patience, "a publish to be accepted again", func(context.Context) error {
		if code := publisher.publish(t, "over/x", "again", 1); code != mqtt.Success {
			return fmt.Errorf("it is answered with %v", code)
		}
		return nil
	})
	for _, reason := range []string{"inbox_full", "session_ended"} {
		if n := lost(t, c, reason); n != 0 {
			t.Errorf("%d messages were dropped as %s", n, reason)
		}
	}
	c.WaitAgreement(t, patience)
}

// TestOverflowDropOldest: every publish is accepted, the inbox keeps the newest, and the counter holds exactly what is missing;
// what a connected client has not acknowledged is not dropped.
func TestOverflowDropOldest(t *testing.T) {
	long(t)
	c := startWithInboxes(t, "drop_oldest")
	offlineSession(t, c.Nodes[0], "full", "over/#", 1)
	publisher := connect(t, c.Nodes[2], "publisher", transient)
	const published = 3 * inboxLimit
	for i := range published {
		if code := publisher.publish(t, "over/x", fmt.Sprint(i), 1); code != mqtt.Success {
			t.Fatalf("message %d: %v", i, code)
		}
	}
	waitLost(t, c, "inbox_full", published-inboxLimit)
	back := connect(t, c.Nodes[1], "full")
	if diff := cmp.Diff(numbers(published-inboxLimit, published), back.wait(t, inboxLimit)); diff != "" {
		t.Errorf("after the return (-want +got):\n%s", diff)
	}
	_ = back.Disconnect(t.Context(), mqtt.Success)

	// A client that is connected and does not acknowledge keeps what is under way.
	const window = 10
	slow := connect(t, c.Nodes[1], "slow", manual, func(o *mqttc.Options) { o.ReceiveMaximum = window })
	slow.subscribe(t, mqtt.SubscribeFilter{Filter: "slow/#", QoS: 1})
	before := lost(t, c, "inbox_full")
	accepted, refused := flood(t, c, "flood", "slow/x", 6, 100)
	if len(refused) > 0 {
		t.Errorf("%d were refused", len(refused))
	}
	acked := 0
	harness.Wait(t, patience, "the slow client to have read all", func(context.Context) error {
		got := slow.all()
		for ; acked < len(got); acked++ {
			if err := slow.Ack(1, got[acked].PacketID, mqtt.Success); err != nil {
				return harness.Never(err)
			}
		}
		if missing := lost(t, c, "inbox_full") - before; acked+missing != len(accepted) {
			return fmt.Errorf("%d received, %d counted as dropped, %d accepted", acked, missing, len(accepted))
		}
		return nil
	})
	if acked < inboxLimit {
		t.Errorf("the slow client got %d of %d, its inbox holds %d", acked, len(accepted), inboxLimit)
	}
	t.Logf("%d in turn, %d dropped; %d at once to a slow client: %d received, %d dropped", published, published-inboxLimit, len(accepted), acked, len(accepted)-acked)
	slow.subscribe(t, mqtt.SubscribeFilter{Filter: "fence", QoS: 1}) // nothing is left that could still come
	if all := slow.all(); len(all) != acked {
		distinct := map[string]int{}
		for _, m := range all {
			distinct[string(m.Payload)]++
		}
		t.Errorf("%d more messages came: %d received, %d of them different, %d counted as dropped, %d accepted; the last ones %q",
			len(all)-acked, len(all), len(distinct), lost(t, c, "inbox_full")-before, len(accepted), slow.payloads()[acked:])
	}
	c.WaitAgreement(t, patience)
}

// TestOverflowEndSession: the message that does not fit ends the session; its client is told, a new connection finds no
// session, and the counter holds what was in the inbox and the message.
func TestOverflowEndSession(t *testing.T) {
	long(t)
	c := startWithInboxes(t, "end_session")
	offlineSession(t, c.Nodes[0], "offline", "over/#", 1)
	publisher := connect(t, c.Nodes[2], "publisher", transient)
	for i := range inboxLimit {
		if code := publisher.publish(t, "over/x", fmt.Sprint(i), 1); code != mqtt.Success {
			t.Fatalf("message %d: %v", i, code)
		}
	}
	waitLost(t, c, "session_ended", 0)
	publisher.publish(t, "over/x", "one more", 1)
	waitLost(t, c, "session_ended", inboxLimit+1)
	harness.Wait(t, patience, "the end of the session to be known", func(context.Context) error {
		if code := publisher.publish(t, "over/x", "nobody", 1); code != mqtt.NoMatchingSubscribers {
			return fmt.Errorf("a publish is answered with %v", code)
		}
		return nil
	})
	if connect(t, c.Nodes[1], "offline").SessionPresent() {
		t.Error("the session is still present")
	}
	slow := connect(t, c.Nodes[0], "connected", manual, func(o *mqttc.Options) { o.ReceiveMaximum = 10 })
	slow.subscribe(t, mqtt.SubscribeFilter{Filter: "slow/#", QoS: 1})
	before := lost(t, c, "session_ended")
	for i := range inboxLimit + 1 {
		publisher.publish(t, "slow/x", fmt.Sprint(i), 1)
	}
	var told *mqttc.DisconnectError
	if err := slow.waitGone(t, patience); !errors.As(err, &told) || told.Code != mqtt.QuotaExceeded {
		t.Errorf("the connected client's connection ended with %v, want DISCONNECT 0x97", err)
	}
	waitLost(t, c, "session_ended", before+inboxLimit+1)
	c.WaitAgreement(t, patience)
}
