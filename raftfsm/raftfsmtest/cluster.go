package raftfsmtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"go.uber.org/zap"
)

// Options describe a Cluster. Zero values have defaults.
type Options struct {
	Nodes     int           // default 3
	Groups    []uint32      // default {1}
	Control   bool          // group 0 exists and keeps its log with its votes
	Heartbeat time.Duration // default 100 ms
	Dir       string        // real files below it; "" = disks in memory
	Logger    *zap.Logger
	// NoOracle leaves the oracle out, for benchmarks.
	NoOracle bool
	// Voters is how many of the nodes bootstrap the groups; default all.
	Voters int
	// NoTrunk says which nodes have none; nil: all have one.
	NoTrunk func(node int) bool
	// Host and Group change configurations before they are used.
	Host  func(node int, cfg *raftfsm.HostConfig)
	Group func(node int, cfg *raftfsm.GroupConfig)
}

// Cluster is a set of hosts, each with a replica of every group.
type Cluster struct {
	tb     testing.TB
	o      Options
	Net    *Network
	Nodes  []*Node
	Oracle *Oracle
}

// Node is one host of a Cluster.
type Node struct {
	Index int
	ID    string
	Disk  *Disk
	Host  *raftfsm.Host

	mu       sync.Mutex
	groups   map[uint32]*raftfsm.Group
	machines map[uint32]*Machine
	fatal    error
	fatalCh  chan struct{}
	killed   func() // what a Kill does to the disk
}

// waitLimit bounds every wait of the harness.
const waitLimit = 30 * time.Second

// NewCluster starts the hosts and groups. They are closed at the end of the test.
func NewCluster(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Voters == 0 {
		o.Voters = o.Nodes
	}
	if len(o.Groups) == 0 {
		o.Groups = []uint32{1}
	}
	if o.Control {
		o.Groups = append([]uint32{0}, o.Groups...)
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 100 * time.Millisecond
	}
	c := &Cluster{tb: tb, o: o, Net: NewNetwork(), Oracle: NewOracle()}
	for i := range o.Nodes {
		c.Nodes = append(c.Nodes, &Node{Index: i, ID: fmt.Sprintf("n%d", i+1), Disk: NewDisk()})
	}
	for i := range c.Nodes {
		c.Start(i)
	}
	return c
}

// IDs lists the nodes' ids.
func (c *Cluster) IDs() []string {
	var ids []string
	for _, n := range c.Nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

// Start starts a node that is not running.
func (c *Cluster) Start(i int) {
	c.tb.Helper()
	if err := c.TryStart(i); err != nil {
		c.tb.Fatalf("start %s: %v", c.Nodes[i].ID, err)
	}
}

// Ensure starts a node unless it is running.
func (c *Cluster) Ensure(i int) {
	c.tb.Helper()
	if !c.Nodes[i].Running() {
		c.Start(i)
	}
}

// TryStart starts a node and returns why it could not.
func (c *Cluster) TryStart(i int) error {
	n := c.Nodes[i]
	fatal := make(chan struct{})
	cfg := raftfsm.HostConfig{
		Dir: "/data", NodeID: n.ID, Logger: c.o.Logger, Killed: n.powerLoss,
		Fatal: func(err error) {
			n.mu.Lock()
			n.fatal = err
			n.mu.Unlock()
			close(fatal)
		},
	}
	if c.o.Dir != "" {
		cfg.Dir = filepath.Join(c.o.Dir, n.ID)
	} else {
		cfg.FS, cfg.Stable = vfs.FS(n.Disk.FS()), n.Disk.Stable
	}
	if c.o.Host != nil {
		c.o.Host(i, &cfg)
	}
	h, err := raftfsm.OpenHost(cfg)
	if err != nil {
		return err
	}
	if c.o.NoTrunk == nil || !c.o.NoTrunk(i) {
		h.OpenTrunk(c.Net.Layer(n.ID, raftfsm.TrunkGroup))
	}
	n.mu.Lock()
	n.Host, n.fatal, n.fatalCh = h, nil, fatal
	n.groups, n.machines = map[uint32]*raftfsm.Group{}, map[uint32]*Machine{}
	n.mu.Unlock()
	for _, id := range c.o.Groups {
		if err := c.openGroup(n, h, id); err != nil {
			return errors.Join(err, h.Close())
		}
	}
	return nil
}

func (c *Cluster) openGroup(n *Node, h *raftfsm.Host, id uint32) error {
	m := NewMachine()
	if !c.o.NoOracle {
		c.Oracle.Watch(n.ID, id, m)
	}
	cfg := raftfsm.GroupConfig{
		ID: id, Control: c.o.Control && id == 0, Machine: m, Layer: c.Net.Layer(n.ID, id), Heartbeat: c.o.Heartbeat,
	}
	if n.Index < c.o.Voters {
		for _, v := range c.Nodes[:c.o.Voters] {
			cfg.Bootstrap = append(cfg.Bootstrap, raftfsm.Member{ID: v.ID, Voter: true})
		}
	}
	if c.o.Group != nil {
		c.o.Group(n.Index, &cfg)
	}
	g, err := h.OpenGroup(cfg)
	if err != nil {
		return errors.Join(err, cfg.Layer.Close())
	}
	c.Oracle.Check(n.ID, id, m)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups[id], n.machines[id] = g, m
	return nil
}

// Group returns a node's replica.
func (n *Node) Group(id uint32) *raftfsm.Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.groups[id]
}

// Machine returns the machine of a node's replica.
func (n *Node) Machine(id uint32) *Machine {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.machines[id]
}

// Fatal returns what the node's Fatal was called with.
func (n *Node) Fatal() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fatal
}

// FatalCh is closed when the node's Fatal has been called.
func (n *Node) FatalCh() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fatalCh
}

// Running says whether the node is started.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Host != nil
}

func (n *Node) take() *raftfsm.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.Host
	n.Host = nil
	return h
}

// Stop closes a node in order.
func (c *Cluster) Stop(i int) {
	c.tb.Helper()
	if h := c.Nodes[i].take(); h != nil {
		if err := h.Close(); err != nil {
			c.tb.Errorf("close %s: %v", c.Nodes[i].ID, err)
		}
	}
}

// Kill ends a node as a power loss would: of what is not synced, unsyncedPercent survives.
func (c *Cluster) Kill(i, unsyncedPercent int, rng *rand.Rand) {
	n := c.Nodes[i]
	h := n.take()
	if h == nil {
		return
	}
	n.mu.Lock()
	n.killed = func() { n.Disk.Crash(unsyncedPercent, rng) }
	n.mu.Unlock()
	h.Kill()
}

// powerLoss is called once the dying host can say nothing more.
func (n *Node) powerLoss() {
	n.mu.Lock()
	killed := n.killed
	n.killed = nil
	n.mu.Unlock()
	if killed != nil {
		killed()
	}
}

// Close stops every node.
func (c *Cluster) Close() {
	c.tb.Helper()
	for i := range c.Nodes {
		c.Stop(i)
	}
}

// WaitFor polls until cond holds. A wait that takes too long fails the test with what.
func WaitFor(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(waitLimit)
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("timed out: %s", what)
		}
		<-t.C
	}
}

// Leader waits for a leader of the group that admits proposals and that a majority follows.
func (c *Cluster) Leader(group uint32) *Node {
	c.tb.Helper()
	var leader *Node
	WaitFor(c.tb, fmt.Sprintf("a leader of group %d", group), func() bool {
		leader = nil
		var term uint64
		for _, n := range c.Nodes {
			if !n.Running() || n.Group(group) == nil {
				continue
			}
			if _, t := n.Group(group).Leader(); n.Group(group).IsLeader() && t >= term {
				leader, term = n, t
			}
		}
		return leader != nil
	})
	return leader
}

// ErrNoAnswer says that a proposal was not answered in time, which it must always be.
var ErrNoAnswer = errors.New("proposal was not answered")

// Propose proposes at one replica and waits for the answer.
func Propose(g *raftfsm.Group, entry []byte) (uint64, error) {
	type answer struct {
		index uint64
		err   error
	}
	ch := make(chan answer, 1)
	g.Propose(entry, func(_ any, index uint64, err error) { ch <- answer{index, err} })
	t := time.NewTimer(waitLimit)
	defer t.Stop()
	select {
	case a := <-ch:
		return a.index, a.err
	case <-t.C:
		return 0, ErrNoAnswer
	}
}

// MustPropose proposes at the leader, whoever it is, until the entry is committed; it may commit more
// than once.
func (c *Cluster) MustPropose(group uint32, entry []byte) uint64 {
	c.tb.Helper()
	deadline := time.Now().Add(waitLimit)
	for {
		index, err := Propose(c.Leader(group).Group(group), append([]byte(nil), entry...))
		if err == nil {
			c.Oracle.Acked(group, index)
			return index
		}
		if errors.Is(err, ErrNoAnswer) || time.Now().After(deadline) {
			c.tb.Fatalf("propose to group %d: %v", group, err)
		}
	}
}

// WaitEqual waits until all running replicas of a group have applied what the leader has committed,
// and fails unless their digests are equal.
func (c *Cluster) WaitEqual(group uint32) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	var index uint64
	WaitFor(c.tb, "a read index", func() bool {
		var err error
		index, err = c.Leader(group).Group(group).ReadIndex(ctx)
		return err == nil
	})
	if err := c.Oracle.Err(); err != nil {
		c.tb.Fatal(err)
	}
	if floor := c.Oracle.Floor(group); index < floor {
		c.tb.Fatalf("read index %d of group %d is below the acknowledged %d", index, group, floor)
	}
	var running []*Node
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		running = append(running, n)
		if err := c.waitApplied(ctx, n, group, index); err != nil {
			st := n.Group(group).Status()
			c.tb.Fatalf("%s does not apply %d of group %d: %v (%+v)", n.ID, index, group, err, st)
		}
	}
	c.sameDigest(group, running)
	if err := c.Oracle.Err(); err != nil {
		c.tb.Fatal(err)
	}
}

// waitApplied waits until n has applied index. A replica whose log conflicts with a snapshot that it
// was sent ends its node and is whole after the next start (raftfsm.ErrDivergent): n is started again
// then, as a supervisor would.
func (c *Cluster) waitApplied(ctx context.Context, n *Node, group uint32, index uint64) error {
	for {
		alive, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-n.FatalCh():
				cancel()
			case <-alive.Done():
			}
		}()
		err := n.Group(group).WaitApplied(alive, index)
		cancel()
		if err == nil || !errors.Is(n.Fatal(), raftfsm.ErrDivergent) {
			return err
		}
		c.Kill(n.Index, 100, rand.New(rand.NewPCG(1, 1)))
		c.Start(n.Index)
	}
}

// sameDigest compares machines once they have applied the same entries: late ones may still come.
func (c *Cluster) sameDigest(group uint32, running []*Node) {
	c.tb.Helper()
	WaitFor(c.tb, fmt.Sprintf("one applied index in group %d", group), func() bool {
		var want [16]byte
		var at uint64
		for i, n := range running {
			index, d := n.Machine(group).Digest()
			if i == 0 {
				at, want = index, d
			}
			if index != at {
				return false
			}
			if d != want {
				c.tb.Fatalf("group %d: %s and %s differ at %d", group, running[0].ID, n.ID, index)
			}
		}
		return true
	})
}
