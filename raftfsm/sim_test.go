package raftfsm_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// simSeeds is how many seeds a run of the tests tries; RAFTFSM_SEEDS asks for more, as N or FROM-TO.
const simSeeds = 8

// TestSimulation runs clusters in fake time under random power losses, partitions, delays, hand-overs
// and snapshots. The oracle holds each replica of each run to one history; every proposal is answered
// exactly once; what was acknowledged is in the end everywhere.
func TestSimulation(t *testing.T) {
	from, to := 1, simSeeds
	if s := os.Getenv("RAFTFSM_SEEDS"); s != "" {
		a, b, found := strings.Cut(s, "-")
		if found {
			from, _ = strconv.Atoi(a)
			to, _ = strconv.Atoi(b)
		} else {
			to, _ = strconv.Atoi(a)
		}
	}
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed)) })
		})
	}
}

// sim is one run.
type sim struct {
	t       *testing.T
	c       *raftfsmtest.Cluster
	rng     *rand.Rand
	groups  []uint32
	open    atomic.Int64 // proposals without an answer
	acked   atomic.Int64
	unknown atomic.Int64
	refused atomic.Int64
	faults  int
	stopped chan struct{}
	done    chan struct{}
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 99))
	nodes := 3 + 2*rng.IntN(2)
	s := &sim{t: t, rng: rng, groups: []uint32{0, 1}, stopped: make(chan struct{}), done: make(chan struct{})}
	s.c = raftfsmtest.NewCluster(t, raftfsmtest.Options{
		Nodes: nodes, Control: true, Heartbeat: 200 * time.Millisecond,
		Group: func(_ int, cfg *raftfsm.GroupConfig) {
			cfg.SnapshotBytes, cfg.TrailingBytes, cfg.WriteBackBytes = 16<<10, 1, 2<<10
		},
	})
	defer s.c.Close()
	for _, n := range s.c.Nodes {
		n.Disk.SetDelay(time.Duration(rng.IntN(3)) * time.Millisecond)
	}
	go s.load(rand.New(rand.NewPCG(seed, 100)))
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		s.fault()
		s.faults++
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
	}
	close(s.stopped)
	<-s.done
	s.heal()
	for _, g := range s.groups {
		s.c.WaitEqual(g)
	}
	for i, n := range s.c.Nodes {
		if err := n.Fatal(); err != nil {
			t.Errorf("node %d: %v", i, err)
		}
	}
	s.c.Close()
	if n := s.open.Load(); n != 0 {
		t.Errorf("%d proposals were not answered exactly once", n)
	}
	if err := s.c.Oracle.Err(); err != nil {
		t.Error(err)
	}
	if s.acked.Load() < 100 {
		t.Errorf("only %d proposals were acknowledged", s.acked.Load())
	}
	t.Logf("%d nodes, %d faults, %d acknowledged, %d unknown, %d refused",
		nodes, s.faults, s.acked.Load(), s.unknown.Load(), s.refused.Load())
}

// load proposes at whoever says that it leads, also at leaders of a minority.
func (s *sim) load(rng *rand.Rand) {
	defer close(s.done)
	for i := 0; ; i++ {
		select {
		case <-s.stopped:
			return
		case <-time.After(time.Duration(rng.IntN(60)) * time.Millisecond):
		}
		group := s.groups[rng.IntN(len(s.groups))]
		for _, n := range s.c.Nodes {
			g := n.Group(group)
			if g == nil || !g.IsLeader() {
				continue
			}
			for range 1 + rng.IntN(6) {
				s.propose(group, g, fmt.Sprintf("%c entry %d %s", 'a'+rng.IntN(26), i, strings.Repeat("x", rng.IntN(400))))
			}
		}
	}
}

func (s *sim) propose(group uint32, g *raftfsm.Group, entry string) {
	s.open.Add(1)
	g.Propose([]byte(entry), func(_ any, index uint64, err error) {
		s.open.Add(-1)
		switch {
		case err == nil:
			s.acked.Add(1)
			s.c.Oracle.Acked(group, index)
		case strings.Contains(err.Error(), raftfsm.ErrUnknownOutcome.Error()):
			s.unknown.Add(1)
		default:
			s.refused.Add(1)
		}
	})
}

// fault does one thing to the cluster. Fewer than half of the nodes are down at a time, but all may be
// lost at once and come back.
func (s *sim) fault() {
	c, rng := s.c, s.rng
	i := rng.IntN(len(c.Nodes))
	a, b := c.Nodes[i], c.Nodes[(i+1+rng.IntN(len(c.Nodes)-1))%len(c.Nodes)]
	switch rng.IntN(12) {
	case 0, 1:
		s.restartOthers(i)
		c.Kill(i, rng.IntN(101), rng)
	case 2:
		c.Ensure(i)
	case 3: // a crash and a start at once
		c.Kill(i, rng.IntN(101), rng)
		c.Ensure(i)
	case 4:
		c.Net.Isolate(a.ID, c.IDs(), true)
	case 5:
		c.Net.Cut(a.ID, b.ID)
	case 6:
		s.healLinks()
	case 7:
		c.Net.SetDelay(a.ID, b.ID, time.Duration(rng.IntN(50))*time.Millisecond)
	case 8:
		for k := range c.Nodes {
			c.Kill(k, rng.IntN(101), rng)
		}
		for k := range c.Nodes {
			c.Ensure(k)
		}
	case 9:
		c.Net.Reset(a.ID)
	case 10:
		if a.Running() {
			g := a.Group(s.groups[rng.IntN(2)])
			go func() { _ = g.TransferLeadership(testCtx(s.t), b.ID) }()
		}
	case 11:
		if a.Running() {
			c.Stop(i)
			c.Ensure(i)
		}
	}
	// A minority may be down, and a replica whose log diverged may have ended itself.
	for k, n := range c.Nodes {
		if n.Running() && n.Fatal() != nil {
			c.Kill(k, 0, rng)
			c.Ensure(k)
		}
	}
}

// restartOthers keeps a majority running before node i goes down.
func (s *sim) restartOthers(i int) {
	down := 0
	for k, n := range s.c.Nodes {
		if k != i && !n.Running() {
			if down++; down >= len(s.c.Nodes)/2 {
				s.c.Ensure(k)
			}
		}
	}
}

func (s *sim) healLinks() {
	for _, a := range s.c.IDs() {
		for _, b := range s.c.IDs() {
			s.c.Net.Heal(a, b)
			s.c.Net.SetDelay(a, b, 0)
		}
	}
}

func (s *sim) heal() {
	s.healLinks()
	for k := range s.c.Nodes {
		s.c.Ensure(k)
	}
}
