package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// counting is a durable subscriber that counts what it receives by payload, over all its connections. What the protocol lets
// a server repeat counts apart: QoS 1 on a later connection.
type counting struct {
	id      string
	qos     byte
	session *mqttc.Session
	client  *mqttc.Client

	mu    sync.Mutex
	conns int            // guarded by mu
	came  map[string]int // guarded by mu
	last  map[string]int // guarded by mu; connection of the last one
}

func newCounting(id string, qos byte) *counting {
	return &counting{id: id, qos: qos, session: mqttc.NewSession(), came: map[string]int{}, last: map[string]int{}}
}

// connect opens the next connection of the session.
func (k *counting) connect(t testing.TB, n *harness.Node) {
	t.Helper()
	if k.client != nil {
		_ = k.client.Close()
	}
	k.mu.Lock()
	k.conns++
	conn := k.conns
	k.mu.Unlock()
	var err error
	harness.Wait(t, patience, k.id+" to connect", func(ctx context.Context) error {
		k.client, err = mqttc.Dial(ctx, mqttc.Options{
			URL: "mqtt://" + n.MQTTAddr(), ClientID: k.id, SessionExpiry: sessionExpiry, KeepAlive: time.Minute, Session: k.session,
			OnMessage: func(_ *mqttc.Client, p *mqtt.Publish) { k.take(p, conn) },
		})
		return err
	})
	t.Cleanup(func() { _ = k.client.Close() })
}

func (k *counting) take(p *mqtt.Publish, conn int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	payload := string(p.Payload)
	if p.QoS < 2 && k.came[payload] == 1 && k.last[payload] < conn {
		return // its acknowledgement may have died with the connection
	}
	k.came[payload]++
	k.last[payload] = conn
}

func (k *counting) subscribe(t testing.TB, filter string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	codes, err := k.client.Subscribe(ctx, mqtt.SubscribeFilter{Filter: filter, QoS: k.qos})
	if err != nil || byte(codes[0]) != k.qos {
		t.Fatalf("%s: SUBSCRIBE: %v %v", k.id, codes, err)
	}
}

// seen is how many different payloads came.
func (k *counting) seen() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.came)
}

// verify compares what came with what had to come: each payload once.
func (k *counting) verify(t testing.TB, want map[string]bool) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	var missing, twice, unwanted []string
	for p := range want {
		if k.came[p] == 0 {
			missing = append(missing, p)
		}
	}
	for p, n := range k.came {
		if n > 1 {
			twice = append(twice, p)
		}
		if !want[p] {
			unwanted = append(unwanted, p)
		}
	}
	for what, list := range map[string][]string{"missing": missing, "came twice": twice, "unwanted": unwanted} {
		if len(list) > 0 {
			slices.Sort(list)
			t.Errorf("%s: %d %s of %d, the first: %v", k.id, len(list), what, len(want), list[:min(len(list), 10)])
		}
	}
}

// wills is a population of clients with wills, and subscribers of QoS 1 and 2 on other nodes that count them.
type wills struct {
	t       testing.TB
	c       *harness.Cluster
	prefix  string
	clients map[string]*mqttc.Client
	want    map[string]bool // payloads that have to come
	counts  []*counting
}

// newWills subscribes on the first two nodes.
func newWills(t testing.TB, c *harness.Cluster, prefix string) *wills {
	t.Helper()
	w := &wills{t: t, c: c, prefix: prefix, clients: map[string]*mqttc.Client{}, want: map[string]bool{}}
	for i, qos := range []byte{1, 2} {
		k := newCounting(fmt.Sprintf("%s-watch-qos%d", prefix, qos), qos)
		k.connect(t, c.Nodes[i])
		k.subscribe(t, prefix+"/#")
		w.counts = append(w.counts, k)
	}
	return w
}

// open connects count clients whose wills say their names; even ones ask for QoS 1, odd ones for QoS 2, and every third has a
// session that ends with its connection if that is all the same.
func (w *wills) open(group string, count int, at func(i int) *harness.Node, delay uint32) {
	w.t.Helper()
	const width = 16
	var mu sync.Mutex
	together(w.t, width, func(worker int) error {
		for i := worker; i < count; i += width {
			id := fmt.Sprintf("%s-%s-%d", w.prefix, group, i)
			expiry := uint32(3600)
			if delay == 0 && i%3 == 0 {
				expiry = 0
			}
			c, err := w.dial(at(i), id, expiry, &mqtt.Will{Topic: w.prefix + "/" + id, Payload: []byte(id), QoS: byte(1 + i%2), Delay: delay})
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			mu.Lock()
			if old := w.clients[id]; old != nil {
				_ = old.Close()
			}
			w.clients[id] = c
			mu.Unlock()
		}
		return nil
	})
}

func (w *wills) dial(n *harness.Node, id string, expiry uint32, will *mqtt.Will) (*mqttc.Client, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	c, err := mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + n.MQTTAddr(), ClientID: id, SessionExpiry: expiry, KeepAlive: time.Minute, Will: will})
	if err == nil {
		w.t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// leave ends the connections of a group with DISCONNECT.
func (w *wills) leave(group string, code mqtt.ReasonCode, count int) {
	w.t.Helper()
	const width = 16
	together(w.t, width, func(worker int) error {
		for i := worker; i < count; i += width {
			id := fmt.Sprintf("%s-%s-%d", w.prefix, group, i)
			if err := w.clients[id].Disconnect(w.t.Context(), code); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
		}
		return nil
	})
}

func (w *wills) expect(group string, from, to, step int) {
	for i := from; i < to; i += step {
		w.want[fmt.Sprintf("%s-%s-%d", w.prefix, group, i)] = true
	}
}

// arrived waits until every subscriber has all wills that have to come.
func (w *wills) arrived(timeout time.Duration) time.Duration {
	w.t.Helper()
	start := time.Now()
	for _, k := range w.counts {
		harness.Wait(w.t, timeout, "all wills to reach "+k.id, func(context.Context) error {
			if n := k.seen(); n < len(w.want) {
				return fmt.Errorf("it has %d of %d", n, len(w.want))
			}
			return nil
		})
	}
	return time.Since(start)
}

// settle sends a message that follows every will that was sent by now, and verifies what came until then.
func (w *wills) settle(name string) {
	w.t.Helper()
	end := w.prefix + "-end-" + name
	for i, n := range w.c.Nodes {
		payload := fmt.Sprintf("%s-%d", end, i)
		connect(w.t, n, payload, transient).publish(w.t, w.prefix+"/"+payload, payload, 1)
		w.want[payload] = true
	}
	w.arrived(30 * time.Second)
	for _, k := range w.counts {
		k.verify(w.t, w.want)
	}
}

// willTimeout covers the loss of a node's lease, the will delay of these tests, and a busy machine.
const willTimeout = 60 * time.Second

// TestWillsOfAKilledNode: the clients of a node that is killed leave one will each, to subscribers on other nodes; clients
// that disconnected with 0x00 before leave none, those with 0x04 left theirs; the node's return changes nothing. I15.
func TestWillsOfAKilledNode(t *testing.T) {
	long(t)
	count := sized(t, "FLOTILLA_WILL_CLIENTS", 150, 1000)
	load := harness.Load()
	c := harness.Start(t, harness.Options{Nodes: 3})
	victim := c.Nodes[2]
	at := func(int) *harness.Node { return victim }

	now := newWills(t, c, "now")
	now.open("polite", 20, at, 0)
	now.open("asking", 20, at, 0)
	now.open("killed", count, at, 0)
	now.leave("polite", mqtt.Success, 20)
	now.leave("asking", mqtt.DisconnectWithWill, 20)
	now.expect("asking", 0, 20, 1)
	now.arrived(willTimeout)
	now.expect("killed", 0, count, 1)
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	took := now.arrived(willTimeout)
	t.Logf("%d wills of a killed node with two subscribers each: the last %v after the kill (load %.1f)", count, took.Round(time.Millisecond), load)
	victim.Start(t)
	now.settle("back")
}

// TestWillsDelayed: with a will delay of 5 s (3 s in the short form), clients that are back on another node in time leave no will, the others one each;
// those that came back and disconnected with 0x00 never leave any. I15. Where they were not back in time it is done again with a longer delay.
func TestWillsDelayed(t *testing.T) {
	long(t)
	count := sized(t, "FLOTILLA_WILL_CLIENTS", 150, 1000)
	delay := uint32(sized(t, "FLOTILLA_WILL_DELAY", 3, 5))
	c := harness.Start(t, harness.Options{Nodes: 3})
	for attempt := range 3 {
		w := newWills(t, c, fmt.Sprintf("delayed%d", attempt))
		if w.delayed(c.Nodes[2], count, delay) {
			return
		}
		delay *= 5
		c.Nodes[2].Start(t)
	}
	t.Fatalf("the machine is too slow for this test: half of %d clients did not come back within a will delay", count)
}

// delayed kills the node of all clients, of which every second one comes back to another with the same will. It is false where those
// were late, which shows nothing.
func (w *wills) delayed(victim *harness.Node, count int, delay uint32) bool {
	w.t.Helper()
	w.open("client", count, func(int) *harness.Node { return victim }, delay)
	if err := victim.Kill(); err != nil {
		w.t.Fatal(err)
	}
	killed := time.Now()
	const width = 16
	var mu sync.Mutex
	together(w.t, width, func(worker int) error {
		for i := 2 * worker; i < count; i += 2 * width {
			id := fmt.Sprintf("%s-client-%d", w.prefix, i)
			var cl *mqttc.Client
			err := harness.Until(w.t.Context(), patience, id+" to come back", func(context.Context) (err error) {
				cl, err = w.dial(w.c.Nodes[i/2%2], id, 3600, &mqtt.Will{Topic: w.prefix + "/" + id, Payload: []byte(id), QoS: 1, Delay: delay})
				return err // also a refusal, while a shard that the node led has no leader
			})
			if err != nil {
				return err
			}
			if !cl.SessionPresent() {
				return fmt.Errorf("%s: no session present", id)
			}
			mu.Lock()
			w.clients[id] = cl
			mu.Unlock()
		}
		return nil
	})
	back := time.Since(killed)
	delayed := time.Duration(delay) * time.Second
	if back > 5*time.Second+delayed { // the lease of the node comes before
		w.t.Logf("the first of %d clients needed %v to come back", count/2, back)
		return false
	}
	w.expect("client", 1, count, 2)
	w.arrived(willTimeout + delayed)
	all := time.Since(killed)
	if all < delayed {
		w.t.Errorf("the wills came %v after the kill, before their delay of %v", all, delayed)
	}
	w.t.Logf("%d of %d clients were back %v after the kill; the last will of the others came %v after it", count/2, count, back.Round(time.Millisecond), all.Round(time.Millisecond))
	for i := 0; i < count; i += 2 {
		if err := w.clients[fmt.Sprintf("%s-client-%d", w.prefix, i)].Disconnect(w.t.Context(), mqtt.Success); err != nil {
			w.t.Fatal(err)
		}
	}
	victim.Start(w.t)
	pause(w.t.Context(), delayed+time.Second) // no state shows that a will will never come
	w.settle("back")
	return true
}

// TestWillsSurviveAll: clients on all nodes, and all nodes are killed: once at a random time around the one at which the wills
// of a node that was killed first go out, so that some wills are on their way. Each arrives once. I15.
func TestWillsSurviveAll(t *testing.T) {
	long(t)
	count, rounds := sized(t, "FLOTILLA_WILL_CLIENTS", 150, 1000), 1
	if fullScenario() {
		rounds = 5
	}
	seed := newSeed(t)
	rng := rand.New(rand.NewPCG(seed, 15))
	c := harness.Start(t, harness.Options{Nodes: 3})
	for round := range rounds {
		w := newWills(t, c, fmt.Sprintf("all%d", round))
		w.open("early", count/2, func(int) *harness.Node { return c.Nodes[2] }, 0)
		w.open("late", count/2, func(i int) *harness.Node { return c.Nodes[i%2] }, 0)
		w.expect("early", 0, count/2, 1)
		w.expect("late", 0, count/2, 1)
		if err := c.Nodes[2].Kill(); err != nil {
			t.Fatal(err)
		}
		some := rng.IntN(count / 2) // how many wills the first subscriber has when everything dies
		harness.Wait(t, willTimeout, "the first wills", func(context.Context) error {
			if n := w.counts[0].seen(); n < some {
				return fmt.Errorf("%d of %d", n, some)
			}
			return nil
		})
		pause(t.Context(), time.Duration(rng.IntN(20))*time.Millisecond)
		c.KillAll(t)
		t.Logf("round %d: all nodes killed when %d wills had come", round, w.counts[0].seen())
		c.StartAll(t)
		for i, k := range w.counts {
			k.connect(t, c.Nodes[(i+1)%3])
		}
		w.arrived(willTimeout)
		w.settle("end")
	}
	c.WaitAgreement(t, patience)
}
