package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func typesOf(events []Event) string {
	names := make([]string, len(events))
	for i := range events {
		names[i] = events[i].Type
	}
	return strings.Join(names, " ")
}

// TestEventRingTellsWhatIsGone: a reader that is too slow learns how many events it missed,
// and goes on with the oldest that is left.
func TestEventRingTellsWhatIsGone(t *testing.T) {
	r := newEventRing(ringNode, 4, true)
	all := &eventFilter{}
	for i := range 3 {
		r.add(&Event{Type: fmt.Sprint("e", i+1)}, 0)
	}
	got, next, gap := r.after(1, 10, all)
	if typesOf(got) != "e2 e3" || next != 3 || gap != nil {
		t.Errorf("behind 1: %s, next %d, gap %v", typesOf(got), next, gap)
	}
	for i := 3; i < 10; i++ {
		r.add(&Event{Type: fmt.Sprint("e", i+1)}, 0)
	}
	got, next, gap = r.after(3, 2, all)
	if typesOf(got) != "e7 e8" || next != 8 || gap == nil || gap.Missed != 3 {
		t.Errorf("behind 3 of 10 with room for 4: %s, next %d, gap %+v", typesOf(got), next, gap)
	}
	got, next, gap = r.after(next, 2, all)
	if typesOf(got) != "e9 e10" || next != 10 || gap != nil {
		t.Errorf("then: %s, next %d, gap %+v", typesOf(got), next, gap)
	}
	// What is passed over moves the position, too.
	if got, next, _ = r.after(6, 10, &eventFilter{Types: []string{"e9"}}); typesOf(got) != "e9" || next != 10 {
		t.Errorf("filtered: %s, next %d", typesOf(got), next)
	}
	wake := r.changed()
	r.add(&Event{Type: "e11"}, 0)
	select {
	case <-wake:
	default:
		t.Error("an event did not wake who waits")
	}
}

// TestSessionEventsAllocateNothing: every connection makes some, and mostly nobody listens.
func TestSessionEventsAllocateNothing(t *testing.T) {
	ev := newEvents("n1", 1, newEventMetrics(nil))
	peer := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000}
	fields := []zap.Field{zap.String("client", "c"), zap.String("user", "u"), zap.String("listener", "mqtt"), zap.Uint64("epoch", 3), zap.Stringer("peer", peer)}
	if n := testing.AllocsPerRun(1000, func() { ev.sessionEvent("client.connected", fields) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	got, ok := ev.clients.latest("c")
	if !ok || got.Peer != "127.0.0.1:5000" || got.User != "u" || got.Node != "n1" {
		t.Errorf("got %+v", got)
	}
	ev.sessionEvent("message.dropped", fields)
	if got, _ := ev.clients.latest("c"); got.Type != "client.connected" {
		t.Errorf("%s is no event of the API", got.Type)
	}
}

// TestClientsDoNotPushOutLeaders: a storm of connections leaves the other events alone.
func TestClientsDoNotPushOutLeaders(t *testing.T) {
	ev := newEvents("n1", 1, newEventMetrics(nil))
	ev.add(&Event{Type: "raft.leadership_lost"})
	for range 3 * eventsClients {
		ev.add(&Event{Type: "client.connected"})
	}
	got, _, gap := ev.local.after(0, 10, &eventFilter{})
	if typesOf(got) != "raft.leadership_lost" || gap != nil {
		t.Errorf("%s, gap %+v", typesOf(got), gap)
	}
}

func TestEventVectorIsOpaqueAndRoundTrips(t *testing.T) {
	v := eventVector{control: 123456789, nodes: map[string]eventPos{"n1": {Start: 3, Node: 7, Clients: 1 << 40}, "a b=|ü": {Start: 1}}}
	got, ok := parseEventVector(v.String())
	if !ok || got.control != v.control || len(got.nodes) != 2 || got.nodes["n1"] != v.nodes["n1"] || got.nodes["a b=|ü"] != v.nodes["a b=|ü"] {
		t.Errorf("got %+v, %v", got, ok)
	}
	for _, bad := range []string{"", "x", "MQ", "MSAh", "MiAx", "MSAxIG4x", "MSAxIG4xPTEuMg", strings.Repeat("M", maxEventID+1)} {
		if _, ok := parseEventVector(bad); ok {
			t.Errorf("%.20q was taken", bad)
		}
	}
}

func TestEventFilterNames(t *testing.T) {
	f, err := newEventFilter([]string{"node.down", "client.*", "raft"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"node.down": true, "node.up": false, "client.kicked": true, "raft.leader_elected": true, "alarm.raised": false} {
		if f.selects(&Event{Type: name}) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	for _, bad := range []string{"nonsense", "node.nonsense", "no", "clien"} {
		if _, err := newEventFilter([]string{bad}, ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	f, _ = newEventFilter(nil, "dev/1")
	if f.selects(&Event{Type: "node.down"}) || !f.selects(&Event{Type: "client.connected", Client: "dev/1"}) {
		t.Error("client= selects what concerns the client")
	}
}

// TestControlEventsAreAFunctionOfTheStates: every node that applies the same entry tells the
// same events at the same positions, so that a stream goes on at any of them.
func TestControlEventsAreAFunctionOfTheStates(t *testing.T) {
	node := func(id string, st command.NodeState, inc uint64, up bool) *state.NodeInfo {
		return &state.NodeInfo{Node: command.Node{ID: id}, State: st, Incarnation: inc, Up: up}
	}
	before := &state.ControlView{
		Index: 10, ClusterID: "c", Settings: map[string]string{"a": "1"}, Placement: map[uint32][]string{1: {"n1"}},
		Nodes: map[string]*state.NodeInfo{"n1": node("n1", command.NodeReady, 1, true), "n2": node("n2", command.NodeReady, 2, true), "n3": node("n3", command.NodeJoining, 3, true)},
	}
	after := &state.ControlView{
		Index: 11, ClusterID: "c", Settings: map[string]string{"a": "2", formedPrefix + "a": "1"}, Placement: map[uint32][]string{1: {"n1", "n2"}},
		Nodes: map[string]*state.NodeInfo{
			"n1": node("n1", command.NodeDraining, 1, true), "n2": node("n2", command.NodeReady, 2, false),
			"n3": node("n3", command.NodeReady, 3, true), "n4": node("n4", command.NodeJoining, 0, false), "n2b": node("n2b", command.NodeRemoved, 4, false),
		},
		Operations: []command.Operation{{ID: "op-1", Kind: "drain", Node: "n1", State: command.OperationRunning}},
		Tokens:     map[string]*command.JoinToken{"t-1": {ID: "t-1", Uses: 2}},
	}
	const want = "node.draining node.down node.joining node.promoted node.joining operation.started settings.changed token.created raft.replica_added"
	for range 20 {
		if got := typesOf(controlEvents(before, after)); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	ev := newEvents("n1", 1, newEventMetrics(nil))
	ev.controlLoaded(before)
	ev.controlChanged(before, after)
	got, next, gap := ev.control.after(controlPos(10, maxOrdinal), 100, &eventFilter{})
	if typesOf(got) != want || gap != nil || next != controlPos(11, 9) {
		t.Errorf("%s, next %x, gap %v", typesOf(got), next, gap)
	}
	if _, _, gap := ev.control.after(controlPos(9, 1), 100, &eventFilter{}); gap == nil || gap.Missed >= 0 {
		t.Errorf("what was before the load is gone, and nobody can count it: %+v", gap)
	}
	if got := controlEvents(&state.ControlView{}, after); typesOf(got) != "cluster.formed" {
		t.Errorf("forming tells %s", typesOf(got))
	}
}

// TestKeyEvents: an API key that is made or taken back is told by its name, never by its secret's hash.
func TestKeyEvents(t *testing.T) {
	root := &command.APIKey{ID: "k1", Name: "root", Role: command.RoleAdmin, Hash: []byte("hash-of-root")}
	scraper := &command.APIKey{ID: "k2", Name: "scraper", Role: command.RoleViewer, Scopes: []string{"metrics"}, Hash: []byte("hash-of-scraper"), CreatedAt: 1, ExpiresAt: 1000}
	view := func(keys ...*command.APIKey) *state.ControlView {
		v := &state.ControlView{ClusterID: "c", Nodes: map[string]*state.NodeInfo{"n1": {Node: command.Node{ID: "n1"}}}, APIKeys: map[string]*command.APIKey{}}
		for _, k := range keys {
			v.APIKeys[k.ID] = k
		}
		return v
	}
	for _, c := range []struct {
		name          string
		before, after *state.ControlView
		want          string
	}{
		{"the first", view(), view(root), `[{"type":"apikey.created","data":{"key":"k1","name":"root","role":"admin"}}]`},
		{"with a scope and an end", view(root), view(root, scraper),
			`[{"type":"apikey.created","data":{"expires_at":"1970-01-01T00:00:01Z","key":"k2","name":"scraper","role":"viewer","scopes":["metrics"]}}]`},
		{"the same", view(root), view(root), `null`},
		{"one for another", view(root), view(scraper),
			`[{"type":"apikey.created","data":{"expires_at":"1970-01-01T00:00:01Z","key":"k2","name":"scraper","role":"viewer","scopes":["metrics"]}},{"type":"apikey.revoked","data":{"key":"k1","name":"root"}}]`},
	} {
		events := controlEvents(c.before, c.after)
		type told struct {
			Type string         `json:"type"`
			Data map[string]any `json:"data"`
		}
		var got []told
		for _, e := range events {
			got = append(got, told{e.Type, e.Data})
			if _, known := eventTypes()[e.Type]; !known {
				t.Errorf("%s: nobody can ask for %s", c.name, e.Type)
			}
		}
		raw, err := json.Marshal(got)
		if err != nil || string(raw) != c.want {
			t.Errorf("%s: got %s, %v\nwant %s", c.name, raw, err, c.want)
		}
	}
}

func TestTapTakesStableNamesOnly(t *testing.T) {
	ev := newEvents("n1", 1, newEventMetrics(nil))
	lg := ev.tapLog(zap.New(zapcore.NewNopCore())).With(zap.Uint32("group", 3))
	lg.Info("leads a group", zap.String("event", "raft.leader_elected"), zap.Uint64("term", 7), zap.Error(fmt.Errorf("why")))
	lg.Info("node is down", zap.String("event", "node.down")) // the control group tells it
	lg.Info("placement changes", zap.String("event", "raft.replica_added"))
	lg.Info("anything")
	lg.Info("lost one", zap.String("event", "message.dropped"))
	lg.Debug("lease", zap.String("event", "lease.acquired"))
	got, _, _ := ev.local.after(0, 10, &eventFilter{})
	if typesOf(got) != "raft.leader_elected" {
		t.Fatalf("took %s", typesOf(got))
	}
	e := got[0].readable()
	if e.Group == nil || *e.Group != 3 || e.Term != 7 || e.Data["err"] != "why" || e.Message != "leads a group" {
		t.Errorf("got %+v", e)
	}
	if _, err := json.Marshal(e); err != nil {
		t.Error(err)
	}
}

// TestRestartedNodeLosesWhatItKnew: who was at an earlier process is told, and gets what the
// new one knows.
func TestRestartedNodeLosesWhatItKnew(t *testing.T) {
	ev := newEvents("n1", 5, newEventMetrics(nil))
	ev.add(&Event{Type: "server.start"})
	p := ev.page(t.Context(), &eventQuery{Pos: &eventPos{Start: 4, Node: 100, Clients: 100}})
	if typesOf(p.Events) != "server.start" || len(p.Gaps) != 1 || p.Gaps[0].Missed >= 0 || p.Pos != (eventPos{Start: 5, Node: 1}) {
		t.Errorf("after a restart: %s, gaps %+v, at %+v", typesOf(p.Events), p.Gaps, p.Pos)
	}
	p = ev.page(t.Context(), &eventQuery{Pos: &eventPos{Start: 5, Node: 1}})
	if len(p.Events)+len(p.Gaps) != 0 {
		t.Errorf("nothing new: %+v", p)
	}
	p = ev.page(t.Context(), &eventQuery{Pos: &eventPos{Node: uint64(time.Now().Add(-time.Hour).UnixMilli())}})
	if typesOf(p.Events) != "server.start" || len(p.Gaps) != 0 {
		t.Errorf("a node that was never reached: %+v", p)
	}
}

// TestEventsKeepShortNames: where everybody may come in, the name that a client gives itself does not make the rings, or
// a page of them, larger than they may be.
func TestEventsKeepShortNames(t *testing.T) {
	ev := newEvents("n1", 1, newEventMetrics(nil))
	long := strings.Repeat("ü", 32<<10-1)
	for range 2 * eventPageMax {
		ev.sessionEvent("client.connected", []zap.Field{zap.String("client", strings.Repeat("c", 256)), zap.String("user", long)})
	}
	p := ev.page(t.Context(), &eventQuery{Pos: &eventPos{Start: 1}})
	raw, err := json.Marshal(p)
	if err != nil || len(p.Events) != eventPageMax || len(raw) > peer.MaxPayload {
		t.Fatalf("a page of %d events has %d bytes, %v", len(p.Events), len(raw), err)
	}
	if got := p.Events[0].User; len(got) > maxEventUser || !utf8.ValidString(got) || !strings.HasPrefix(got, "üü") || !strings.HasSuffix(got, "…") {
		t.Errorf("a long name is kept as %d bytes: %.20q", len(got), got)
	}
	if got := shortUser("meter"); got != "meter" {
		t.Errorf("a short name becomes %q", got)
	}
}
