package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestSharesUnderKills: a share with eight durable members of four libraries and two transient ones on three nodes, publishers
// of QoS 1 and 2, kill -9 of nodes and broken connections of members all the time: every acknowledged message is finished by a
// member, none goes twice with QoS 2, the share never stands still for long. I16, and the rules of TestFailover.
func TestSharesUnderKills(t *testing.T) {
	long(t)
	kills, alls, pauses := 2, 1, 0
	if fullScenario() {
		kills, alls, pauses = 20, 3, 3
	}
	kills, alls = envInt(t, "FLOTILLA_FAULT_KILLS", kills), envInt(t, "FLOTILLA_FAULT_ALLKILLS", alls)
	seed := newSeed(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	p := mixedPlan(20 * time.Millisecond).withShare()
	p.subscribers = p.subscribers[:1]
	p.transient = 2
	report := runFaults(t, c, seed, p, func(rng *rand.Rand) []faultKind { return schedule(rng, kills, alls, pauses) })
	if report.ShareMust == 0 {
		t.Errorf("nothing was promised to the share: %s", report)
	}
}

// liveTransient is a member whose session ends with its connection: what it has not acknowledged goes to others.
func (p *person) liveTransient(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := mqttc.Dial(ctx, mqttc.Options{
			Dial: func(ctx context.Context, _ string) (net.Conn, error) { return p.dial(ctx) }, ClientID: p.ID(), Clean: true,
			KeepAlive: 5 * time.Second, OnMessage: func(*mqttc.Client, *mqtt.Publish) {},
		})
		if err != nil {
			pause(ctx, reconnectDelay)
			continue
		}
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err = c.Subscribe(wait, p.filters...)
		cancel()
		if err == nil {
			select {
			case <-c.Done():
			case <-ctx.Done():
			}
		}
		_ = c.Close()
	}
}

// pool is a share whose members are counted.
type pool struct {
	mu       sync.Mutex
	got      map[string][]string // guarded by mu; payloads by member
	received int                 // guarded by mu
}

// join connects members of a share, spread over the nodes.
func (p *pool) join(t testing.TB, c *harness.Cluster, count int, filter string, qos byte) {
	t.Helper()
	p.got = map[string][]string{}
	for i := range count {
		id := fmt.Sprintf("member-%d", i)
		b := connect(t, c.Nodes[i%len(c.Nodes)], id, transient, func(o *mqttc.Options) {
			o.OnMessage = func(_ *mqttc.Client, m *mqtt.Publish) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.got[id] = append(p.got[id], string(m.Topic)+" "+string(m.Payload))
				p.received++
			}
		})
		b.subscribe(t, mqtt.SubscribeFilter{Filter: filter, QoS: qos})
	}
}

// wait waits until count messages have come to all members together, and a fence after them, and returns them by member.
func (p *pool) wait(t testing.TB, count int) map[string][]string {
	t.Helper()
	harness.Wait(t, patience, fmt.Sprintf("%d messages for the members of the share", count), func(context.Context) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.received < count {
			return fmt.Errorf("they have %d", p.received)
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got
}

// TestSharesEachOnce: publishers on every node, each QoS, no faults: each message reaches one member, and all members work.
func TestSharesEachOnce(t *testing.T) {
	long(t)
	const members, each = 8, 80
	c := harness.Start(t, harness.Options{Nodes: 3})
	for qos := range byte(3) {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			var p pool
			filter := fmt.Sprintf("$share/pool/each/%d/#", qos)
			p.join(t, c, members, filter, qos)
			var want []string
			for i := range each {
				for k, n := range c.Nodes {
					want = append(want, fmt.Sprintf("each/%d/x %s-%d", qos, n.ID, i))
					_ = k
				}
			}
			together(t, len(c.Nodes), func(k int) error {
				n := c.Nodes[k]
				b, err := tryConnect(t, n, fmt.Sprintf("publisher-%s-%d", n.ID, qos), transient)
				if err != nil {
					return err
				}
				for i := range each {
					ack, err := b.Publish(t.Context(), &mqtt.Publish{Topic: fmt.Appendf(nil, "each/%d/x", qos), Payload: fmt.Appendf(nil, "%s-%d", n.ID, i), QoS: qos})
					if err != nil || ack.Code.Failed() || qos > 0 && ack.Code == mqtt.NoMatchingSubscribers {
						return fmt.Errorf("message %d: %v %w", i, ack.Code, err)
					}
				}
				return b.Ping(t.Context())
			})
			got := p.wait(t, len(want))
			var all []string
			for id, list := range got {
				all = append(all, list...)
				if len(list) < len(want)/members/4 {
					t.Errorf("%s got %d of %d messages: they are not spread", id, len(list), len(want))
				}
			}
			if len(got) < members {
				t.Errorf("%d of %d members got anything", len(got), members)
			}
			slices.Sort(all)
			slices.Sort(want)
			if diff := cmp.Diff(want, all); diff != "" {
				t.Errorf("messages of all members (-want +got):\n%s", diff)
			}
		})
	}
	c.WaitAgreement(t, patience)
}

// TestSharesStrategies: sticky gives all to one member; hash_topic keeps each topic at one member, in its order.
func TestSharesStrategies(t *testing.T) {
	long(t)
	const topics, each = 20, 10
	for _, strategy := range []string{"sticky", "hash_topic"} {
		t.Run(strategy, func(t *testing.T) {
			c := harness.Start(t, harness.Options{Nodes: 3, Flags: []string{"--set", "settings.share.strategy=" + strategy}})
			var p pool
			p.join(t, c, 6, "$share/pool/s/#", 1)
			b := connect(t, c.Nodes[1], "publisher", transient)
			for i := range each {
				for k := range topics {
					b.publish(t, fmt.Sprintf("s/%d", k), fmt.Sprint(i), 1)
				}
			}
			got := p.wait(t, topics*each)
			next, home := map[string]int{}, map[string]string{}
			for id, list := range got {
				for _, m := range list {
					topic, number, _ := strings.Cut(m, " ")
					if home[topic] != "" && home[topic] != id {
						t.Fatalf("%s went to %s and to %s", topic, home[topic], id)
					}
					if home[topic] = id; number != fmt.Sprint(next[topic]) {
						t.Fatalf("%s: %s came when %d was next", topic, number, next[topic])
					}
					next[topic]++
				}
			}
			if n := len(got); strategy == "sticky" && n != 1 || strategy == "hash_topic" && n < 3 {
				t.Errorf("%d of 6 members got messages", n)
			}
		})
	}
}

// stalls says what a reader wants to know of a share.
func stalls(r *checker.Report) string {
	if r.ShareMust == 0 {
		return "no share"
	}
	return fmt.Sprintf("%d messages for the share, longest times without progress %v", r.ShareMust, r.Stalls)
}
