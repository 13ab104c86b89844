package integration

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// markList is what a command of an operator may take, its process included.
const markList = 200 * time.Millisecond

// Sizes of the population: many durable sessions, some of them connected.
const (
	listSessions  = 100_000
	listConnected = 10_000
)

// crowd is a population of sessions, made through the broker.
type crowd struct {
	c         *harness.Cluster
	sessions  int
	connected int
	conns     []*rawClient // of the connected ones
}

// sessionName spreads ids over the alphabet, so that those that come and go meanwhile lie between them.
func sessionName(i int) string { return fmt.Sprintf("%02x-device-%06d", i*131%256, i) }

// gather makes the sessions, spread over the nodes; those that stay connected subscribe to a filter of their own.
func gather(t testing.TB, c *harness.Cluster, sessions, connected int) *crowd {
	t.Helper()
	const workers = 64
	w := &crowd{c: c, sessions: sessions, connected: connected, conns: make([]*rawClient, connected)}
	t.Cleanup(func() {
		for _, r := range w.conns {
			if r != nil {
				_ = r.Close()
			}
		}
	})
	start := time.Now()
	together(t, workers, func(k int) error {
		for i := k; i < sessions; i += workers {
			r, err := openDurable(t.Context(), c.Nodes[i%len(c.Nodes)], sessionName(i))
			if err != nil {
				return err
			}
			if i < connected {
				w.conns[i] = r
				sub := &probeSub{r, sessionName(i)}
				if err := sub.ask(&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "command/" + sessionName(i), QoS: 1}}}, mqtt.TypeSuback); err != nil {
					return err
				}
				continue
			}
			if err := r.goodbye(); err != nil {
				return fmt.Errorf("%s: %w", sessionName(i), err)
			}
		}
		return nil
	})
	t.Logf("%d durable sessions, %d of them connected, after %v; memory: %s", sessions, connected, time.Since(start).Round(time.Millisecond), memories(c))
	return w
}

func openDurable(ctx context.Context, n *harness.Node, id string) (*rawClient, error) {
	p := &mqtt.Connect{Version: mqtt.V5, ClientID: id, RequestProblemInfo: true, HasSessionExpiry: true, SessionExpiry: sessionExpiry}
	r, _, err := dialProbe(ctx, n.MQTTAddr(), p)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", id, n.ID, err)
	}
	return r, nil
}

// goodbye disconnects as a client should, and waits until the server has closed.
func (r *rawClient) goodbye() error {
	defer r.Close()
	if err := r.send(&mqtt.Disconnect{}); err != nil {
		return err
	}
	if _, err := r.next(rawTimeout); err != nil && stillOpen(err) {
		return err
	}
	return nil
}

// end ends a session for good: a clean start without expiry, and its end.
func endSession(ctx context.Context, n *harness.Node, id string) error {
	r, _, err := dialProbe(ctx, n.MQTTAddr(), &mqtt.Connect{Version: mqtt.V5, ClientID: id, CleanStart: true, RequestProblemInfo: true})
	if err != nil {
		return fmt.Errorf("%s on %s: %w", id, n.ID, err)
	}
	return r.goodbye()
}

// TestLists: what an operator looks at answers at once also with 100,000 sessions, and a walk over all pages finds everything that
// was there all the time, once, while sessions and clients come, go and move. `make lists` has the full size.
func TestLists(t *testing.T) {
	long(t)
	sessions := sized(t, "FLOTILLA_LIST_SESSIONS", 3000, listSessions)
	connected := sized(t, "FLOTILLA_LIST_CONNECTED", 300, listConnected)
	c := harness.Start(t, harness.Options{Nodes: 3})
	load := harness.Load()
	w := gather(t, c, sessions, connected)
	t.Run("times", func(t *testing.T) { w.times(t, load) })
	t.Run("pages", func(t *testing.T) { w.pages(t) })
	healthy(t, c)
}

// times runs the commands and the requests behind them.
func (w *crowd) times(t *testing.T, load float64) {
	rounds := sized(t, "FLOTILLA_LIST_ROUNDS", 3, 30)
	for _, cmd := range []string{"node ls", "status", "client ls", "session ls", "subscription ls", "group ls"} {
		var took, busy delays
		for i := range rounds {
			start := time.Now()
			out, cpu := operator(t, w.c.Nodes[i%len(w.c.Nodes)], strings.Fields(cmd)...)
			took.add(time.Since(start))
			busy.add(cpu)
			if lines := strings.Count(out, "\n"); strings.HasSuffix(cmd, "ls") && lines < 2 {
				t.Errorf("flotilla %s printed %d lines:\n%s", cmd, lines, out)
			}
		}
		q := took.take()
		t.Logf("flotilla %s: %s; of the command's own processor time %s", cmd, q, busy.take())
		mark(t, "flotilla "+cmd+", p99", q.at(.99), markList, load)
	}
	for _, path := range []string{"/api/v1/nodes", "/api/v1/status", "/api/v1/clients?limit=1000", "/api/v1/sessions?limit=1000", "/api/v1/subscriptions?limit=1000"} {
		var took delays
		for i := range rounds {
			start := time.Now()
			if err := w.c.Nodes[i%len(w.c.Nodes)].Do(t.Context(), http.MethodGet, path, nil, nil); err != nil {
				t.Fatal(err)
			}
			took.add(time.Since(start))
		}
		t.Logf("GET %s: %s", path, took.take())
	}
}

// operator runs a command of the binary against a node and returns what it printed, and the processor time that it took.
func operator(t testing.TB, at *harness.Node, args ...string) (string, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), append(args, "-e", "http://"+at.AdminAddr())...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("flotilla %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), problems.String())
	}
	return out.String(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// pages walks over all sessions and all clients while others come, go and move.
func (w *crowd) pages(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var changes atomic.Int64
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() { w.stir(ctx, t, k, &changes) })
	}
	harness.Wait(t, patience, "changes", func(context.Context) error {
		if changes.Load() < 20 {
			return fmt.Errorf("%d", changes.Load())
		}
		return nil
	})
	for _, walk := range []struct {
		list    string
		limit   int
		members int
	}{
		{"sessions", 1000, w.sessions}, {"sessions", max(7, w.sessions/150), w.sessions},
		{"clients", 1000, w.connected}, {"clients", max(7, w.connected/150), w.connected},
	} {
		before, start := changes.Load(), time.Now()
		pages := w.walk(t, walk.list, walk.limit, walk.members)
		t.Logf("%s by %d: %d pages in %v, %d changes meanwhile", walk.list, walk.limit, pages, time.Since(start).Round(time.Millisecond), changes.Load()-before)
	}
	stop()
	wg.Wait()
}

// stir makes sessions and ends them, and lets sessions that have no connection come back elsewhere for a moment.
func (w *crowd) stir(ctx context.Context, t *testing.T, k int, changes *atomic.Int64) {
	for i := k; ctx.Err() == nil; i += 4 {
		id := fmt.Sprintf("%02x-passer-by-%d", i*37%256, i)
		node := w.c.Nodes[i%len(w.c.Nodes)]
		r, err := openDurable(ctx, node, id)
		if err == nil {
			err = r.goodbye()
		}
		if mover := w.connected + i*17; err == nil && mover < w.sessions {
			if r, err = openDurable(ctx, node, sessionName(mover)); err == nil {
				err = r.goodbye()
			}
		}
		if err == nil {
			err = endSession(ctx, w.c.Nodes[(i+1)%len(w.c.Nodes)], id)
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		changes.Add(3)
	}
}

// listed is what the walk needs of an item.
type listed struct {
	ClientID string `json:"client_id"`
	Shard    uint32 `json:"shard"`
	Node     string `json:"node"`
}

// walk follows the cursors through a list, from node to node, and holds what it saw against who was there all the time.
func (w *crowd) walk(t *testing.T, list string, limit, members int) (pages int) {
	t.Helper()
	seen, cursor := map[string]int{}, ""
	last := ""
	for {
		var page struct {
			Items []listed `json:"items"`
			Meta  struct {
				Next string `json:"next_cursor"`
			} `json:"meta"`
		}
		at := w.c.Nodes[pages%len(w.c.Nodes)] // a cursor holds on every node
		q := url.Values{"limit": {fmt.Sprint(limit)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if err := at.Do(t.Context(), http.MethodGet, "/api/v1/"+list+"?"+q.Encode(), nil, &page); err != nil {
			t.Fatal(err)
		}
		pages++
		if len(page.Items) > limit {
			t.Fatalf("a page of %d items, want at most %d", len(page.Items), limit)
		}
		for _, item := range page.Items {
			position := fmt.Sprintf("%04d %s %s", item.Shard, item.Node, item.ClientID)
			if position <= last {
				t.Errorf("%s: %q comes after %q", list, position, last)
			}
			last = position
			seen[item.ClientID]++
		}
		if cursor = page.Meta.Next; cursor == "" {
			break
		}
	}
	w.judge(t, list, seen, members)
	return pages
}

// judge names what is missing, twice there, or was never made.
func (w *crowd) judge(t *testing.T, list string, seen map[string]int, members int) {
	t.Helper()
	var missing, twice []string
	for i := range members {
		switch n := seen[sessionName(i)]; {
		case n == 0:
			missing = append(missing, sessionName(i))
		case n > 1:
			twice = append(twice, sessionName(i))
		}
		delete(seen, sessionName(i))
	}
	if len(missing) > 0 || len(twice) > 0 {
		t.Errorf("%s: %d of %d were skipped %v, %d came twice %v", list, len(missing), members, first(missing), len(twice), first(twice))
	}
	var strangers []string
	for id := range seen {
		if !strings.Contains(id, "-passer-by-") && !strings.Contains(id, "-device-") {
			strangers = append(strangers, id)
		}
	}
	if slices.Sort(strangers); len(strangers) > 0 {
		t.Errorf("%s: nobody made %v", list, first(strangers))
	}
}

// first is the beginning of a list.
func first(list []string) []string { return list[:min(len(list), 5)] }
