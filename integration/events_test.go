package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// eventReader follows /events of some nodes as a program does: one endpoint after the other,
// going on where it was.
type eventReader struct {
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	events []client.Event // guarded by mu
}

func readEvents(t testing.TB, after string, nodes ...*harness.Node) *eventReader {
	t.Helper()
	var endpoints []string
	for _, n := range nodes {
		endpoints = append(endpoints, "http://"+n.AdminAddr())
	}
	c, err := client.New(client.Options{Endpoints: endpoints, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &eventReader{cancel: cancel, done: make(chan error, 1)}
	go func() {
		r.done <- c.Events(ctx, client.EventQuery{After: after}, nil, func(e client.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
			return nil
		})
	}()
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *eventReader) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("events: %v", err)
	}
	r.done <- nil // it may be stopped twice
}

// find returns the events of a type about a node or a client.
func (r *eventReader) find(what, about string) (out []client.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if (e.Type == what || what == "") && (about == "" || e.Node == about || e.Client == about) {
			out = append(out, e)
		}
	}
	return out
}

func (r *eventReader) wait(t testing.TB, what, about string) client.Event {
	t.Helper()
	var found client.Event
	harness.Wait(t, patience, fmt.Sprintf("the event %s of %q", what, about), func(context.Context) error {
		list := r.find(what, about)
		if len(list) == 0 {
			return fmt.Errorf("not among %d events", len(r.find("", "")))
		}
		found = list[0]
		return nil
	})
	return found
}

// TestEventsAcrossARestart: a reader at n1 goes on at n2 when n1 is killed, hears of it, and of
// what was decided meanwhile, exactly once; when n1 is back, it is told that what n1 alone knew
// may be gone.
func TestEventsAcrossARestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	c := harness.New(t, harness.Options{Nodes: 3})
	c.StartAll(t)
	c.WaitHealthy(t, patience)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	r := readEvents(t, "", n1, n2)
	newToken(t, n3, 1) // until the stream stands: what came before it opened is not in it
	harness.Wait(t, patience, "the stream to begin", func(context.Context) error {
		newToken(t, n3, 1)
		if len(r.find("token.created", "")) == 0 {
			return fmt.Errorf("no token was seen")
		}
		return nil
	})
	before := len(r.find("token.created", ""))
	if err := n1.Kill(); err != nil {
		t.Fatal(err)
	}
	made := newToken(t, n3, 5)
	r.wait(t, "node.down", n1.ID)
	n1.Start(t)
	n1.WaitReady(t)
	r.wait(t, "node.up", n1.ID)
	last := r.wait(t, "node.joined", n1.ID) // n1 itself says so: the reader is at its new process
	if got := r.find("node.down", n1.ID); len(got) != 1 {
		t.Errorf("node.down was told %d times", len(got))
	}
	seen := map[any]int{}
	for _, e := range r.find("token.created", "")[before:] {
		seen[e.Data["token"]]++
	}
	if seen[made] != 1 {
		t.Errorf("the token that was made while n1 was dead was told %d times, of %v", seen[made], seen)
	}
	lost := r.find(client.EventLost, n1.ID)
	if len(lost) != 1 || lost[0].Data["missed"] != nil {
		t.Errorf("of n1 one gap should be told, of a size that nobody knows: %+v", lost)
	}
	if others := len(r.find(client.EventLost, "")); others != 1 {
		t.Errorf("%d gaps", others)
	}

	// The node that was dead goes on from an id that another gave.
	later := readEvents(t, last.ID, n1)
	if again := newToken(t, n2, 1); again == "" {
		t.Fatal("no token")
	}
	later.wait(t, "token.created", "")
	if down, lost := later.find("node.down", ""), later.find(client.EventLost, ""); len(down)+len(lost) != 0 {
		t.Errorf("n1 repeats %v or loses %v", down, lost)
	}
}

// newToken makes a join token at a node, and returns its id.
func newToken(t testing.TB, at *harness.Node, uses int) string {
	t.Helper()
	var out struct {
		ID string `json:"id"`
	}
	harness.Wait(t, patience, "a join token", func(ctx context.Context) error {
		return at.Do(ctx, http.MethodPost, "/api/v1/join-tokens", map[string]any{"uses": uses, "ttl_s": 3600}, &out)
	})
	return out.ID
}

// TestOperatorsSeeWhy: explanations, settings and kicks of many, at a node that has nothing to
// do with them.
func TestOperatorsSeeWhy(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	c := harness.New(t, harness.Options{Nodes: 3})
	c.StartAll(t)
	c.WaitHealthy(t, patience)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	r := readEvents(t, "", n3)
	for i := range 5 {
		sub := fmt.Sprintf("kick-%d", i)
		connect(t, n1, sub).subscribe(t, mqtt.SubscribeFilter{Filter: "why/#", QoS: 1})
	}
	r.wait(t, "client.connected", "kick-4")
	// A node counts the sessions in its own replicas, which may be a moment behind.
	harness.Wait(t, patience, "another node to know who gets a topic", func(ctx context.Context) error {
		var topic client.TopicExplanation
		if err := n3.Do(ctx, http.MethodGet, "/api/v1/explain/topic/why%2F1", nil, &topic); err != nil {
			return err
		}
		if topic.Durable != 5 || len(topic.Refused) != 0 || len(topic.Filters) == 0 || topic.Filters[0].Filter != "why/#" {
			return fmt.Errorf("explained %+v", topic)
		}
		return nil
	})
	var op client.Operation
	if err := n2.Do(t.Context(), http.MethodPost, "/api/v1/clients/kick", map[string]any{"filter": map[string]string{"node": n1.ID}, "rate": 50}, &op); err != nil {
		t.Fatal(err)
	}
	if op.Total != 5 {
		t.Errorf("kicks %+v", op)
	}
	r.wait(t, "operation.done", "")
	for i := range 5 {
		if e := r.wait(t, "client.kicked", fmt.Sprintf("kick-%d", i)); e.Node != n1.ID {
			t.Errorf("kicked %+v", e)
		}
	}
	harness.Wait(t, patience, "the operation to be done as another node sees it", func(ctx context.Context) error {
		err := n3.Do(ctx, http.MethodGet, "/api/v1/operations/"+op.ID, nil, &op)
		if err == nil && op.State != client.OperationDone {
			err = fmt.Errorf("it is %+v", op)
		}
		return err
	})
	harness.Wait(t, patience, "another node to know why a client is not there", func(ctx context.Context) error {
		var who client.ClientExplanation
		if err := n2.Do(ctx, http.MethodGet, "/api/v1/explain/client/kick-3", nil, &who); err != nil {
			return err
		}
		if who.Session == nil || who.Session.Connected || who.Last == nil || who.Last.Type != "client.kicked" || !strings.Contains(strings.Join(who.Reasons, " "), "not connected") {
			raw, _ := json.Marshal(who)
			return fmt.Errorf("explained %s", raw)
		}
		return nil
	})
}
