package conformance

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// site starts the shared brokers at their first use.
type site struct {
	dir   string
	one   func() (*cluster.Node, error)
	three func() ([]*cluster.Node, error)
	mu    sync.Mutex
	nodes []*cluster.Node
}

// shared is set once, by TestMain.
var shared *site

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	flag.Parse()
	// Tests wait for the broker and for intervals, hardly ever for a processor. (A fuzzer starts so many processes.)
	if f := flag.Lookup("test.fuzz"); f == nil || f.Value.String() == "" {
		_ = flag.Set("test.parallel", "40")
	}
	dir, err := os.MkdirTemp("", "flotilla-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared = &site{dir: dir}
	shared.one = sync.OnceValues(shared.startOne)
	shared.three = sync.OnceValues(shared.startThree)
	extras = newExtra(shared)
	defer shared.stop()
	return m.Run()
}

// broker returns the shared node.
func broker(t testing.TB) *cluster.Node {
	t.Helper()
	n, err := shared.one()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// trio returns the nodes of the shared cluster.
func trio(t testing.TB) []*cluster.Node {
	t.Helper()
	if testing.Short() {
		t.Skip("starts three nodes: skipped with -short")
	}
	nodes, err := shared.three()
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// newBroker starts a node with a configuration of its own, for this test.
func newBroker(t testing.TB, change func(*cluster.Config)) *cluster.Node {
	t.Helper()
	cfg, err := config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	change(&cfg)
	n, err := start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNode(n) })
	if err := ready(n); err != nil {
		t.Fatal(err)
	}
	return n
}

func config(dir string) (cluster.Config, error) {
	port, err := harness.FreePort() // the nodes of a cluster must know each other's before they start
	if err != nil {
		return cluster.Config{}, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cfg := cluster.DefaultConfig()
	cfg.DataDir, cfg.ClusterAddr, cfg.MQTTAddr, cfg.AdminAddr = dir, addr, "127.0.0.1:0", "none"
	cfg.Settings.Shards = 4
	cfg.Raft.Heartbeat = 500 * time.Millisecond
	// On a machine that is busy with other things a broker must be slow, not unavailable.
	cfg.Lease.LostAfter, cfg.Session.BackendTimeout = patience-5*time.Second, patience-5*time.Second
	cfg.Fatal = func(err error) { panic(fmt.Sprintf("fail-stop: %v", err)) }
	return cfg, nil
}

func start(cfg cluster.Config) (*cluster.Node, error) {
	cfg.Registerer = prometheus.NewRegistry()
	return cluster.Start(context.Background(), cfg)
}

func (s *site) keep(n *cluster.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
}

func (s *site) startOne() (*cluster.Node, error) {
	return s.startWith("one", func(*cluster.Config) {})
}

func (s *site) startThree() ([]*cluster.Node, error) {
	const size = 3
	cfgs, join := make([]cluster.Config, size), make([]string, size)
	for i := range cfgs {
		var err error
		if cfgs[i], err = config(filepath.Join(s.dir, fmt.Sprint("n", i))); err != nil {
			return nil, err
		}
		join[i] = cfgs[i].ClusterAddr
	}
	nodes := make([]*cluster.Node, size)
	for i := range cfgs {
		cfgs[i].NodeID, cfgs[i].Join, cfgs[i].BootstrapExpect = fmt.Sprint("n", i), join, size
		cfgs[i].Raft.Heartbeat = time.Second
		var err error
		if nodes[i], err = start(cfgs[i]); err != nil {
			return nil, err
		}
		s.keep(nodes[i])
	}
	for _, n := range nodes {
		if err := ready(n); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (s *site) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wg sync.WaitGroup
	for _, n := range s.nodes {
		wg.Go(func() { stopNode(n) })
	}
	wg.Wait()
}

// stopNode ends a node that nobody needs any more, without the manners of a drain.
func stopNode(n *cluster.Node) { n.Kill() }

// ready waits until a node serves clients.
func ready(n *cluster.Node) error {
	late := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		lack := ""
		for _, c := range n.ReadyChecks() {
			if !c.OK {
				lack = c.Name + ": " + c.Detail
			}
		}
		if lack == "" {
			return nil
		}
		select {
		case <-late:
			return fmt.Errorf("node %s is not ready: %s", n.ID(), lack)
		case <-tick.C:
		}
	}
}

// knownBug skips a test that fails for a reason that is not its own. The table of statements shows the reason.
//
//lint:ignore U1000 there is not always one
func knownBug(t *testing.T, why string) {
	t.Helper()
	t.Skip("known bug: " + why)
}
