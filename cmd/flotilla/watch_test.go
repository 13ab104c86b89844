package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// TestScreenFitsTheWindow: as many lines as there are rows, each wiped to its end, and the
// rest of the screen, too, so that nothing of an earlier picture stays.
func TestScreenFitsTheWindow(t *testing.T) {
	var out bytes.Buffer
	rows := 3
	s := &screen{out: &out, size: func() (int, int) { return 80, rows }}
	if err := s.draw("1\n2\n3\n4\n5\n"); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "\x1b[H1\x1b[K\r\n2\x1b[K\r\n... 3 more lines") || !strings.HasSuffix(got, "\x1b[J") || strings.Count(got, "\n") != 2 {
		t.Errorf("drew %q", got)
	}
	out.Reset()
	rows = 0 // unknown
	if err := s.draw("1\n2"); err != nil || out.String() != "\x1b[H1\x1b[K\r\n2\x1b[K\x1b[J" {
		t.Errorf("drew %q, %v", out.String(), err)
	}
}

func TestWatchTellsWhatChanged(t *testing.T) {
	seen := map[string]string{}
	name := func(n client.Node) string { return n.ID }
	look := func(nodes ...client.Node) (marks string) {
		t.Helper()
		raws := make([]json.RawMessage, len(nodes))
		for i, n := range nodes {
			raws[i], _ = json.Marshal(n)
		}
		for _, c := range diffItems(seen, raws, nodes, name, nodeColumns()) {
			marks += c.mark + c.name + " "
		}
		return marks
	}
	n1, n2 := client.Node{ID: "n1", State: "ready"}, client.Node{ID: "n2", State: "ready"}
	if got := look(n1, n2); got != "+n1 +n2 " {
		t.Errorf("at first %q", got)
	}
	if got := look(n1, n2); got != "" {
		t.Errorf("nothing changed: %q", got)
	}
	n2.State = "down"
	if got := look(n2); got != "~n2 -n1 " {
		t.Errorf("then %q", got)
	}
	if got := look(n1, n2); got != "+n1 " {
		t.Errorf("and back %q", got)
	}
}

// TestLiveStatusRates: differences over time, none across a restart, and the last picture
// stays while nobody answers.
func TestLiveStatusRates(t *testing.T) {
	at := time.Now()
	count := func(n uint64) *uint64 { return &n }
	st := func(inc, in uint64) client.Status {
		return client.Status{Nodes: []client.Node{{ID: "n1", State: "ready", Incarnation: inc, MessagesReceived: count(in), MessagesSent: count(2 * in), Clients: 3}}}
	}
	l := &liveStatus{}
	l.take(st(1, 1000), at)
	if got := l.nodeRate(l.st.Nodes[0], received); got != "-" {
		t.Errorf("at first %s", got)
	}
	l.take(st(1, 3000), at.Add(2*time.Second))
	if got := l.nodeRate(l.st.Nodes[0], received); got != "1000" {
		t.Errorf("rate %s", got)
	}
	if clients, _, in, out := l.sums(); clients != 3 || in != 1000 || out != 2000 {
		t.Errorf("sums %d %v %v", clients, in, out)
	}
	l.take(st(2, 10), at.Add(3*time.Second))
	if got := l.nodeRate(l.st.Nodes[0], sent); got != "-" {
		t.Errorf("after a restart %s", got)
	}
}

func TestLogLevelsByName(t *testing.T) {
	var buf bytes.Buffer
	lg, levels, err := newLogger(&buf, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	wrote := func(name string) bool {
		buf.Reset()
		lg.Named(name).Debug("x")
		return buf.Len() > 0
	}
	if wrote("session") {
		t.Error("debug at level info")
	}
	if err := levels.SetLevel("session", "debug"); err != nil {
		t.Fatal(err)
	}
	if !wrote("session") || !wrote("session.conn") || wrote("raftfsm") || wrote("sessions") {
		t.Error("the level of session is that of session and what is below it")
	}
	if err := levels.SetLevel("", "debug"); err != nil || !wrote("raftfsm") {
		t.Errorf("root: %v", err)
	}
	if err := levels.SetLevel("", ""); err != nil || wrote("raftfsm") || !wrote("session") {
		t.Errorf("taken back: %v", err)
	}
	if got := levels.Levels(); got[""] != "info" || got["session"] != "debug" || got["raftfsm"] != "info" {
		t.Errorf("levels %v", got)
	}
	for name, level := range map[string]string{"nobody": "debug", "session": "loud", "raftfsm": "panic"} {
		if err := levels.SetLevel(name, level); err == nil {
			t.Errorf("%s=%s was taken", name, level)
		}
	}
}
