package cluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
)

// reader collects the events of a stream.
type reader struct {
	*cluster.EventStream
	got []cluster.Event
}

func open(t testing.TB, n *cluster.Node, q cluster.EventQuery) *reader {
	t.Helper()
	s, err := n.OpenEvents(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &reader{EventStream: s}
}

// until reads until there was an event of a type about a client or a node, and returns its id.
func (r *reader) until(t testing.TB, what, about string) (id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for seen := 0; ; {
		for ; seen < len(r.got); seen++ {
			if e := &r.got[seen]; e.Type == what && (about == "" || e.Client == about || e.Node == about) {
				return e.ID
			}
		}
		if ctx.Err() != nil {
			break
		}
		list, _, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r.got = append(r.got, list...)
	}
	t.Fatalf("no event %s of %q: %v", what, about, r.counts())
	return ""
}

// counts says how often each type came.
func (r *reader) counts() map[string]int {
	out := map[string]int{}
	for _, e := range r.got {
		out[e.Type]++
	}
	return out
}

// TestEventsOfAllNodes: any node tells what happens anywhere, once, and a stream that ended
// goes on at another node.
func TestEventsOfAllNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	nodes, cfgs := formCluster(t, 3, nil)
	s := open(t, nodes[0], cluster.EventQuery{})
	a := dial(t, nodes[1], "there", true, nil)
	id := s.until(t, "client.connected", "there")
	for _, e := range s.got {
		if e.Type == "client.connected" && (e.Node != nodes[1].ID() || e.Peer == "") {
			t.Errorf("got %+v", e)
		}
	}
	s.Close()
	_ = a.Close()
	if _, err := nodes[0].CreateToken(t.Context(), 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	// Another node goes on behind the last event: nothing twice, nothing lost.
	s = open(t, nodes[2], cluster.EventQuery{After: id})
	s.until(t, "client.disconnected", "there")
	s.until(t, "token.created", "")
	if n := s.counts(); n["client.connected"] != 0 || n["client.disconnected"] != 1 || n["token.created"] != 1 || n[cluster.EventLost] != 0 {
		t.Errorf("events after the change of node: %v", n)
	}
	id = s.got[len(s.got)-1].ID
	s.Close()

	// A node that restarts: the control group's decisions are had from others, its own events
	// are gone, and the stream says so.
	stopNode(t, nodes[2])
	if _, err := nodes[0].CreateToken(t.Context(), 3, time.Hour); err != nil {
		t.Fatal(err)
	}
	again := startNode(t, cfgs[2])
	t.Cleanup(func() { stopNode(t, again) })
	waitReady(t, again)
	s = open(t, again, cluster.EventQuery{After: id})
	s.until(t, "node.up", nodes[2].ID())
	s.until(t, "node.joined", nodes[2].ID())
	for _, e := range s.got {
		if e.Type == cluster.EventLost && e.Node != nodes[2].ID() {
			t.Errorf("lost of another node: %+v", e)
		}
	}
	if n := s.counts(); n["token.created"] != 1 || n["node.up"] != 1 || n[cluster.EventLost] != 1 {
		t.Errorf("events after the restart: %v", n)
	}
}

func TestEventStreamsAreBounded(t *testing.T) {
	n := startNode(t, testConfig(t, t.TempDir()))
	t.Cleanup(func() { stopNode(t, n) })
	waitReady(t, n)
	var streams []*cluster.EventStream
	for {
		s, err := n.OpenEvents(t.Context(), cluster.EventQuery{})
		if err != nil {
			if !strings.Contains(err.Error(), "32 event streams") {
				t.Errorf("refused with %v", err)
			}
			break
		}
		if streams = append(streams, s); len(streams) > 100 {
			t.Fatal("no bound")
		}
	}
	for _, s := range streams {
		s.Close()
		s.Close()
	}
	s, err := n.OpenEvents(t.Context(), cluster.EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, q := range []cluster.EventQuery{{Types: []string{"nonsense"}}, {After: "nonsense"}} {
		if _, err := n.OpenEvents(t.Context(), q); err == nil {
			t.Errorf("%+v was taken", q)
		}
	}
}
