package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Options describe a cluster. The zero value is one node with the defaults of the binary.
type Options struct {
	// Nodes is how many nodes there are, 1 if it is 0.
	Nodes int
	// Flags are given to every node in addition.
	Flags []string
	// Env is added to the environment of every node, as KEY=VALUE.
	Env []string
	// Proxied puts a Proxy in front of each node's cluster port.
	Proxied bool
	// Bin is another binary than the one of this tree.
	Bin string
	// FreePorts gives every address port 0, which only a cluster of one node can have.
	FreePorts bool
}

// Cluster is a set of nodes on loopback.
type Cluster struct {
	Nodes []*Node
	// Proxies stand before the cluster port of the node of the same index, if Options.Proxied is set.
	Proxies []*Proxy
	// Dir holds a data directory and a log per node.
	Dir string

	diallers diallers
	made     int // nodes that there ever were: ids are not used again
}

// New prepares a cluster and starts nothing. The cleanup of the test kills what runs, and keeps the logs if the test failed.
func New(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	dir, err := os.MkdirTemp("", "flotilla-"+safeName(tb.Name())+"-")
	if err != nil {
		tb.Fatal(err)
	}
	c := &Cluster{Dir: dir}
	c.diallers.pids = c.pids
	tb.Cleanup(func() { c.cleanup(tb) })
	for i := range o.Nodes {
		c.Nodes = append(c.Nodes, c.newNode(tb, i, o))
	}
	var join []string
	for _, n := range c.Nodes {
		addr := n.cluster
		if o.Proxied {
			p, err := NewProxy(addr, c.diallers.of)
			if err != nil {
				tb.Fatal(err)
			}
			c.Proxies = append(c.Proxies, p)
			addr = p.Addr()
			n.args = append(n.args, "--advertise-addr", addr)
		}
		join = append(join, addr)
	}
	if o.Nodes > 1 {
		for _, n := range c.Nodes {
			n.args = append(n.args, "--bootstrap-expect", fmt.Sprint(o.Nodes), "--join", strings.Join(join, ","))
		}
	}
	return c
}

// Start prepares a cluster, starts all nodes and waits until each is ready.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c := New(tb, o)
	c.StartAll(tb)
	return c
}

func (c *Cluster) newNode(tb testing.TB, i int, o Options) *Node {
	tb.Helper()
	id := fmt.Sprintf("n%d", i+1)
	c.made = i + 1
	n := &Node{
		ID: id, DataDir: filepath.Join(c.Dir, id), LogPath: filepath.Join(c.Dir, id+".log"),
		bin: o.Bin, args: append([]string(nil), o.Flags...), env: append([]string{"FLOTILLA_DISK=" + c.order(id)}, o.Env...),
		mqtt: "127.0.0.1:0", cluster: "127.0.0.1:0", admin: "127.0.0.1:0",
	}
	if n.bin == "" {
		n.bin = Binary(tb)
	}
	if !o.FreePorts {
		for _, a := range []*string{&n.mqtt, &n.cluster, &n.admin} {
			*a = fmt.Sprintf("127.0.0.1:%d", ports.Port(tb))
		}
	}
	return n
}

// Add prepares one more node, which joins the cluster of the nodes that are there. It is not started.
func (c *Cluster) Add(tb testing.TB, flags ...string) *Node {
	tb.Helper()
	n := c.newNode(tb, c.made, Options{Flags: flags})
	var join []string
	for _, other := range c.Nodes {
		join = append(join, other.cluster)
	}
	n.args = append(n.args, "--join", strings.Join(join, ","))
	c.Nodes = append(c.Nodes, n)
	return n
}

// Forget kills a node that is no member any more and takes it out of the list.
func (c *Cluster) Forget(tb testing.TB, n *Node) {
	tb.Helper()
	if err := n.Kill(); err != nil {
		tb.Fatal(err)
	}
	c.Nodes = slices.DeleteFunc(slices.Clone(c.Nodes), func(other *Node) bool { return other == n })
}

// StartAll launches every node that does not run, then waits until all are ready.
func (c *Cluster) StartAll(tb testing.TB) {
	tb.Helper()
	for _, n := range c.Nodes {
		if n.Running() {
			continue
		}
		if err := n.Launch(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, n := range c.Nodes {
		n.WaitReady(tb)
	}
}

// KillAll kills every node at once.
func (c *Cluster) KillAll(tb testing.TB) {
	tb.Helper()
	if err := KillAll(c.Nodes...); err != nil {
		tb.Fatal(err)
	}
}

// Node returns the node with this id.
func (c *Cluster) Node(id string) *Node {
	for _, n := range c.Nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// Leader returns the node that leads a group, as the first node that answers sees it, or nil.
func (c *Cluster) Leader(ctx context.Context, group uint32) *Node {
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		groups, err := n.Groups(ctx)
		if err != nil {
			continue
		}
		for _, g := range groups {
			if g.ID == group && g.Leader != nil {
				return c.Node(*g.Leader)
			}
		}
	}
	return nil
}

// Leaders maps each group to its leader as the nodes see it; groups without a known leader are missing.
func (c *Cluster) Leaders(ctx context.Context) map[uint32]*Node {
	leaders := map[uint32]*Node{}
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		groups, err := n.Groups(ctx)
		if err != nil {
			continue
		}
		for _, g := range groups {
			if g.Leader != nil && leaders[g.ID] == nil {
				leaders[g.ID] = c.Node(*g.Leader)
			}
		}
	}
	return leaders
}

// WaitHealthy waits until a node reports a healthy cluster.
func (c *Cluster) WaitHealthy(tb testing.TB, timeout time.Duration) {
	tb.Helper()
	Wait(tb, timeout, "the cluster to be healthy", func(ctx context.Context) error {
		s, err := c.Nodes[0].Status(ctx)
		if err != nil {
			return err
		}
		if !s.Healthy {
			return fmt.Errorf("not healthy: %s", strings.Join(s.Reasons, "; "))
		}
		return nil
	})
}

// cleanup ends every process first and deletes directories last: a directory outlives its node.
func (c *Cluster) cleanup(tb testing.TB) {
	for _, n := range c.Nodes {
		if n.Paused() {
			_ = n.Resume()
		}
	}
	if err := KillAll(c.Nodes...); err != nil {
		tb.Error(err)
	}
	for _, p := range c.Proxies {
		p.Close()
	}
	if !tb.Failed() {
		_ = os.RemoveAll(c.Dir)
		return
	}
	for _, n := range c.Nodes {
		if lines := n.Tail(); len(lines) > 0 {
			tb.Logf("last lines of %s:\n%s", n.ID, strings.Join(lines, "\n"))
		}
		if os.Getenv("FLOTILLA_KEEP_DATA") == "" {
			_ = os.RemoveAll(n.DataDir)
		}
	}
	tb.Logf("logs kept in %s (FLOTILLA_KEEP_DATA=1 keeps the data, too)", c.Dir)
}

func safeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}
