package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/api/client"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flotilla": func() { os.Exit(realMain()) }})
}

// TestScripts runs the command line as a user does, against an API of paper
// and, in the scripts that say so, real nodes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			healthy, degraded, headless := serveFake(t, 0), serveFake(t, 1), serveFake(t, 2)
			for k, v := range map[string]string{"API": healthy, "DEGRADED": degraded, "HEADLESS": headless} {
				env.Setenv(k, v)
			}
			ports := freePorts(t, 12)
			for i, p := range ports {
				env.Setenv("PORT"+strconv.Itoa(i), strconv.Itoa(p))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"awaits": awaits, "exits": exits},
		Condition: func(cond string) (bool, error) {
			if cond == "short" {
				return testing.Short(), nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
	})
}

// exits runs a command and wants that exit code: "exits 2 flotilla start x".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(err, &coded):
		got = coded.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// awaits waits until a file, which a command in the background writes, has a
// text: "awaits dev.log ready". A signal sent before that would meet a command
// that has not got there yet.
func awaits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: awaits FILE TEXT")
	}
	for deadline := time.Now().Add(devPatience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(b), args[1]) {
			return
		}
	}
	ts.Fatalf("%s did not say %q within %s:\n%s", args[0], args[1], devPatience, ts.ReadFile(args[0]))
}

// freePorts finds a run of n ports that are free now, as dev needs.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first := l.Addr().(*net.TCPAddr).Port
		held := []net.Listener{l}
		for i := 1; i < n; i++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i))
			if err != nil {
				break
			}
			held = append(held, l)
		}
		for _, l := range held {
			_ = l.Close()
		}
		if len(held) == n {
			ports := make([]int, n)
			for i := range ports {
				ports[i] = first + i
			}
			return ports
		}
	}
	t.Fatal("no run of free ports")
	return nil
}

// paperNode answers the API. Lack 1 is a node that is down, 2 a group without leader.
type paperNode struct{ lack int }

func serveFake(t *testing.T, lack int) string {
	t.Helper()
	s, err := api.NewServer(api.Options{Node: paperNode{lack}, NodeID: "n1", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h.URL
}

func (p paperNode) Status(context.Context) (client.Status, error) {
	leader := "n1"
	st := client.Status{
		ClusterID: "c1", Healthy: p.lack == 0, FeatureLevel: 1,
		Nodes: []client.Node{
			{ID: "n1", State: "ready", Roles: []string{"gateway", "store"}, MQTTAddr: "127.0.0.1:1883", ClusterAddr: "127.0.0.1:7400", Clients: 3},
			{ID: "n2", State: "ready", Roles: []string{"store"}, ClusterAddr: "127.0.0.1:7401", LastContactMS: 12},
		},
		Groups: []client.Group{
			{ID: 0, Kind: "control", Leader: &leader, Replicas: []string{"n1", "n2"}, Term: 3, AppliedIndex: 99},
			{ID: 1, Kind: "shard", Leader: &leader, Replicas: []string{"n1", "n2"}},
		},
	}
	switch p.lack {
	case 1:
		st.Nodes[1].State = "down"
		st.Reasons = []string{"node n2 is down"}
	case 2:
		st.Groups[1].Leader = nil
		st.Reasons = []string{"group 1 has no leader"}
	}
	return st, nil
}

func (p paperNode) Health(api.Probe) []client.Check {
	return []client.Check{{Name: "store", OK: p.lack == 0}}
}

func (p paperNode) Clients(_ context.Context, q api.Query) (api.Page[client.ClientInfo], error) {
	return api.Page[client.ClientInfo]{Items: []client.ClientInfo{{
		ClientID: "dev/1", Node: "n1", Peer: "127.0.0.1:5000", Transport: "tcp", MQTTVersion: "5", KeepaliveS: 60,
		ConnectedAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}}}, nil
}

func (p paperNode) Sessions(_ context.Context, q api.Query) (api.Page[client.Session], error) {
	page := api.Page[client.Session]{Count: 3}
	for i, id := range []string{"a", "b", "dev/1"} {
		if (q.ID != "" && q.ID != id) || id <= q.After {
			continue
		}
		if len(page.Items) == q.Limit {
			page.Next = page.Items[q.Limit-1].ClientID
			break
		}
		page.Items = append(page.Items, client.Session{ClientID: id, Durable: true, Shard: uint32(i + 1), InboxDepth: uint64(10 - i)})
	}
	return page, nil
}

func (p paperNode) Subscriptions(_ context.Context, q api.Query) (api.Page[client.Subscription], error) {
	return api.Page[client.Subscription]{Items: []client.Subscription{{ClientID: "a", Filter: "match=" + q.Match, QoS: 1}}}, nil
}

func (p paperNode) Retained(_ context.Context, q api.Query) (api.Page[client.Retained], error) {
	if p.lack == 2 {
		return api.Page[client.Retained]{}, api.ErrNoLeader
	}
	return api.Page[client.Retained]{Items: []client.Retained{{Topic: q.Filter, QoS: 1, PayloadBytes: 4}}}, nil
}

func (p paperNode) Publish(context.Context, client.Message) (client.Published, error) {
	return client.Published{}, nil
}
