package raftfsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"go.uber.org/goleak"
)

// TestProposeOrder has many proposals in flight: they are applied and answered in order.
func TestProposeOrder(t *testing.T) { synctest.Test(t, testProposeOrder) }

func testProposeOrder(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
	defer c.Close()
	g := c.Leader(1).Group(1)
	const n = 2000
	var mu sync.Mutex
	var got []uint64
	var last uint64
	done := make(chan struct{})
	for i := range n {
		g.Propose([]byte(fmt.Sprintf("entry %d", i)), func(results any, index uint64, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil || index <= last {
				t.Errorf("entry %d at %d after %d: %v", i, index, last, err)
				close(done)
				return
			}
			last = index
			if got = append(got, results.(uint64)); len(got) == n {
				close(done)
			}
		})
	}
	<-done
	for i, r := range got {
		if r != uint64(i) {
			t.Fatalf("entry %d was applied as number %d", i, r)
		}
	}
	c.WaitEqual(1)
}

// TestProposeRefusals are the answers that mean: certainly not appended.
func TestProposeRefusals(t *testing.T) { synctest.Test(t, testProposeRefusals) }

func testProposeRefusals(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: func(_ int, cfg *raftfsm.GroupConfig) {
		cfg.MaxInflightBytes, cfg.MaxEntryBytes = 10_000, 2<<20
	}})
	defer c.Close()
	leader := c.Leader(1)
	g := leader.Group(1)
	follower := c.Nodes[(leader.Index+1)%3].Group(1)
	for _, tc := range []struct {
		g     *raftfsm.Group
		entry []byte
		want  error
	}{
		{g, nil, raftfsm.ErrEmpty},
		{g, make([]byte, 2<<20+1), raftfsm.ErrTooLarge},
		{follower, []byte("x"), raftfsm.ErrNotLeader},
	} {
		if _, err := raftfsmtest.Propose(tc.g, tc.entry); !errors.Is(err, tc.want) {
			t.Errorf("got %v, want %v", err, tc.want)
		}
	}
	// Cut off, nothing is answered until the leadership ends: the bound on bytes in flight holds.
	c.Net.Isolate(leader.ID, c.IDs(), true)
	answers := make(chan error, 20)
	for range 20 {
		g.Propose(make([]byte, 1000), func(_ any, _ uint64, err error) { answers <- err })
	}
	busy, unknown := 0, 0
	for range 20 {
		switch err := <-answers; {
		case errors.Is(err, raftfsm.ErrBusy):
			busy++
		case errors.Is(err, raftfsm.ErrUnknownOutcome):
			unknown++
		default:
			t.Errorf("answer %v", err)
		}
	}
	if busy != 10 || unknown != 10 {
		t.Errorf("%d busy and %d unknown", busy, unknown)
	}
	c.Net.Isolate(leader.ID, c.IDs(), false)
	c.Stop(leader.Index)
	if _, err := raftfsmtest.Propose(g, []byte("late")); !errors.Is(err, raftfsm.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// TestProposeLargeEntry passes a single message above the cap that merging callers keep to.
func TestProposeLargeEntry(t *testing.T) { synctest.Test(t, testProposeLargeEntry) }

func testProposeLargeEntry(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
	defer c.Close()
	for _, size := range []int{512 << 10, 1<<20 + 4096, 4 << 20} {
		c.MustPropose(1, bytes.Repeat([]byte("L"), size))
	}
	c.WaitEqual(1)
	c.Kill(0, 0, rand.New(rand.NewPCG(1, 1)))
	c.Start(0)
	c.WaitEqual(1)
}

// TestProposeAnsweredOnce ends groups under load, in order and as a crash: each proposal is answered
// exactly once, what was acknowledged survives, and no goroutine stays.
func TestProposeAnsweredOnce(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%v", kill), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Heartbeat: time.Second})
			leader := c.Leader(1)
			g := leader.Group(1)
			const n = 3000
			var answers [n]atomic.Int32
			var acked atomic.Int64
			started := make(chan struct{})
			var wg sync.WaitGroup
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range n {
					if i == n/3 {
						close(started)
					}
					g.Propose([]byte(fmt.Sprintf("entry %d", i)), func(_ any, index uint64, err error) {
						answers[i].Add(1)
						if err == nil {
							acked.Add(1)
							c.Oracle.Acked(1, index)
						}
					})
				}
			}()
			<-started
			if kill {
				c.Kill(leader.Index, 0, rand.New(rand.NewPCG(1, 1)))
			} else {
				c.Stop(leader.Index)
			}
			wg.Wait()
			for i := range answers {
				if k := answers[i].Load(); k != 1 {
					t.Fatalf("proposal %d was answered %d times", i, k)
				}
			}
			c.Start(leader.Index)
			c.WaitEqual(1)
			t.Logf("%d of %d acknowledged", acked.Load(), n)
			c.Close()
		})
	}
}

// TestOnLeader is told of leaderships in turn, after everything before is applied.
func TestOnLeader(t *testing.T) { synctest.Test(t, testOnLeader) }

func testOnLeader(t *testing.T) {
	type call struct {
		node  int
		leads bool
		term  uint64
	}
	var mu sync.Mutex
	var calls []call
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: func(node int, cfg *raftfsm.GroupConfig) {
		cfg.OnLeader = func(leads bool, term uint64) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, call{node, leads, term})
		}
	}})
	defer c.Close()
	for range 3 {
		c.MustPropose(1, []byte("x"))
		if err := c.Leader(1).Group(1).TransferLeadership(testCtx(t), ""); err != nil {
			t.Log(err)
		}
	}
	c.Leader(1)
	raftfsmtest.WaitFor(t, "a call for the last leader", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(calls) > 0 && calls[len(calls)-1].leads
	})
	mu.Lock()
	defer mu.Unlock()
	leads := map[int]uint64{}
	for _, k := range calls {
		if k.leads == (leads[k.node] != 0) || !k.leads && leads[k.node] != k.term {
			t.Fatalf("calls out of turn: %+v", calls)
		}
		if leads[k.node] = 0; k.leads {
			leads[k.node] = k.term
		}
	}
}

// TestLoneLeaderKeepsServing is a group of one: a commit needs nobody else.
func TestLoneLeaderKeepsServing(t *testing.T) { synctest.Test(t, testLoneLeaderKeepsServing) }

func testLoneLeaderKeepsServing(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 1})
	defer c.Close()
	start := time.Now()
	for range 100 {
		c.MustPropose(1, []byte("x"))
	}
	if _, err := c.Leader(1).Group(1).ReadIndex(testCtx(t)); err != nil {
		t.Error(err)
	}
	t.Logf("100 commands in %v", time.Since(start))
}
