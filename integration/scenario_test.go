package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// The scenarios have a short form, for CI, and a full one: FLOTILLA_SCENARIOS=1.
func fullScenario() bool { return os.Getenv("FLOTILLA_SCENARIOS") != "" }

// sized is the size of a scenario: the knob, or what its form says.
func sized(t testing.TB, knob string, short, full int) int {
	t.Helper()
	if fullScenario() {
		short = full
	}
	return envInt(t, knob, short)
}

// delays collects durations from several goroutines.
type delays struct {
	mu   sync.Mutex
	list []time.Duration // guarded by mu
}

func (d *delays) add(v time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, v)
}

// take returns what was collected, sorted, and starts anew.
func (d *delays) take() quantiles {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := quantiles(d.list)
	d.list = nil
	slices.Sort(q)
	return q
}

type quantiles []time.Duration

func (q quantiles) at(share float64) time.Duration {
	if len(q) == 0 {
		return 0
	}
	return q[min(len(q)-1, int(share*float64(len(q))))]
}

func (q quantiles) String() string {
	if len(q) == 0 {
		return "none"
	}
	r := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v of %d", r(q.at(.5)), r(q.at(.99)), r(q[len(q)-1]), len(q))
}

// witness is a pair of clients that has nothing to do with what a scenario does: one asks, the other answers, QoS 0.
type witness struct {
	rtt   delays
	lost  delays // questions without an answer, by how long it was waited for
	stop  context.CancelFunc
	ended chan struct{}
}

// witnessInterval is between two questions.
const (
	witnessInterval = 5 * time.Millisecond
	witnessPatience = 30 * time.Second
)

// watch starts a witness whose asker is on one node and whose answerer is on another, or the same.
func watch(t testing.TB, name string, asker, answerer *harness.Node) *witness {
	t.Helper()
	ask, answer := "witness/"+name+"/ask", "witness/"+name+"/answer"
	echo := connect(t, answerer, "witness-echo-"+name, transient, func(o *mqttc.Options) {
		o.OnMessage = func(c *mqttc.Client, p *mqtt.Publish) {
			_, _ = c.Send(context.Background(), &mqtt.Publish{Topic: []byte(answer), Payload: p.Payload}, 0)
		}
	})
	echo.subscribe(t, mqtt.SubscribeFilter{Filter: ask})
	got := make(chan string, 1024)
	from := connect(t, asker, "witness-"+name, transient, func(o *mqttc.Options) {
		o.OnMessage = func(_ *mqttc.Client, p *mqtt.Publish) { got <- string(p.Payload) }
	})
	from.subscribe(t, mqtt.SubscribeFilter{Filter: answer})
	ctx, cancel := context.WithCancel(context.Background())
	w := &witness{stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		tick := time.NewTicker(witnessInterval)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			w.question(ctx, from, ask, fmt.Sprint(i), got)
			<-tick.C
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *witness) question(ctx context.Context, from *box, topic, text string, got <-chan string) {
	start := time.Now()
	if _, err := from.Send(ctx, &mqtt.Publish{Topic: []byte(topic), Payload: []byte(text)}, 0); err != nil {
		if ctx.Err() == nil {
			w.lost.add(0)
			pause(ctx, time.Second)
		}
		return
	}
	late := time.NewTimer(witnessPatience)
	defer late.Stop()
	for {
		select {
		case answer := <-got:
			if answer == text {
				w.rtt.add(time.Since(start))
				return
			}
		case <-late.C:
			w.lost.add(time.Since(start))
			return
		case <-ctx.Done():
			return
		}
	}
}

func (w *witness) end() {
	w.stop()
	<-w.ended
}

// take returns the round trips since the last call, and fails the test if a question got no answer.
func (w *witness) take(t testing.TB, what string) quantiles {
	t.Helper()
	q := w.rtt.take()
	if lost := w.lost.take(); len(lost) > 0 {
		t.Errorf("%s: %d questions of a client that has nothing to do with it got no answer (after %v)", what, len(lost), lost)
	}
	return q
}

// busyMachine is the load above which a figure says nothing about a mark: other work has the cores.
const busyMachine = 3

// mark compares a figure with its mark. The short forms only print it; the full ones fail, unless the machine was busy with
// other work when the test began.
func mark(t testing.TB, what string, got, want time.Duration, loadBefore float64) {
	t.Helper()
	verdict := "reached"
	if got > want {
		verdict = "MISSED"
	}
	t.Logf("%s: %v, mark %v %s (load before %.1f, now %.1f)", what, got.Round(10*time.Microsecond), want, verdict, loadBefore, harness.Load())
	if got > want && fullScenario() && loadBefore < busyMachine {
		t.Errorf("%s: %v, want at most %v", what, got, want)
	}
}

// memories prints what the nodes hold.
func memories(c *harness.Cluster) string {
	var list []string
	for _, n := range c.Nodes {
		now, peak := n.Memory()
		list = append(list, fmt.Sprintf("%s %d MiB (peak %d)", n.ID, now>>20, peak>>20))
	}
	return strings.Join(list, ", ")
}

// healthy fails the test if a node has ended or a connection has met a panic.
func healthy(t testing.TB, c *harness.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		if !n.Running() {
			t.Fatalf("node %s ended by itself:\n%s", n.ID, strings.Join(n.Tail(), "\n"))
		}
		m, err := n.Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if panics := m.Sum("flotilla_connection_panics_total"); panics > 0 {
			t.Errorf("node %s: %v connections met a panic", n.ID, panics)
		}
	}
}
