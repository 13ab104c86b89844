package raftfsm_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

func testCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// small makes groups snapshot after little log and keep little behind.
func small(_ int, cfg *raftfsm.GroupConfig) {
	cfg.SnapshotBytes, cfg.TrailingBytes, cfg.WriteBackBytes = 64<<10, 1, 8<<10
}

// fill commits n entries of about 1 KiB, many at a time.
func fill(t testing.TB, c *raftfsmtest.Cluster, group uint32, tag string, n int) {
	t.Helper()
	pad := strings.Repeat("x", 1000)
	type answer struct {
		i   int
		err error
	}
	todo := make([]int, n)
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		g := c.Leader(group).Group(group)
		answers := make(chan answer, len(todo))
		for _, i := range todo {
			g.Propose([]byte(fmt.Sprintf("%c %s %d %s", 'a'+i%26, tag, i, pad)), func(_ any, index uint64, err error) {
				if err == nil {
					c.Oracle.Acked(group, index)
				}
				answers <- answer{i, err}
			})
		}
		var again []int
		for range todo {
			if a := <-answers; a.err != nil {
				again = append(again, a.i)
			}
		}
		todo = again
	}
}

// TestSnapshotByBytes writes much more than SnapshotBytes: the log stays short, a restart replays
// little, and the machine is the same.
func TestSnapshotByBytes(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(fmt.Sprintf("control=%v", control), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				group := uint32(1)
				if control {
					group = 0
				}
				c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 1, Control: control, Group: small})
				defer c.Close()
				fill(t, c, group, "a", 500)
				g := c.Nodes[0].Group(group)
				raftfsmtest.WaitFor(t, "snapshots", func() bool { return g.Status().SnapshotIndex > 300 })
				if err := g.Snapshot(testCtx(t)); err != nil {
					t.Fatal(err)
				}
				st := g.Status()
				if st.FirstIndex < 300 || st.LogBytes > 200<<10 {
					t.Errorf("log was not truncated: %+v", st)
				}
				_, want := c.Nodes[0].Machine(group).Digest()
				c.Kill(0, 0, rand.New(rand.NewPCG(1, 1)))
				c.Start(0)
				c.WaitEqual(group)
				if _, got := c.Nodes[0].Machine(group).Digest(); got != want {
					t.Error("machine differs after the restart")
				}
			})
		})
	}
}

// TestInstallIntoLagging catches up a replica that missed more than the leader's log holds, and goes
// on from there by log.
func TestInstallIntoLagging(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(fmt.Sprintf("control=%v", control), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Control: control, Group: small})
				defer c.Close()
				group := uint32(1)
				if control {
					group = 0
				}
				fill(t, c, group, "before", 20)
				c.WaitEqual(group)
				away := (c.Leader(group).Index + 1) % 3
				c.Kill(away, 0, rand.New(rand.NewPCG(1, 1)))
				fill(t, c, group, "while away", 400)
				leader := c.Leader(group)
				if err := leader.Group(group).Snapshot(testCtx(t)); err != nil {
					t.Fatal(err)
				}
				if st := leader.Group(group).Status(); st.FirstIndex < 100 {
					t.Fatalf("the leader's log still begins at %d", st.FirstIndex)
				}
				c.Start(away)
				c.WaitEqual(group)
				if st := c.Nodes[away].Group(group).Status(); st.SnapshotIndex < 100 {
					t.Errorf("no snapshot was installed: %+v", st)
				}
				fill(t, c, group, "after", 20)
				c.WaitEqual(group)
				c.Kill(away, 50, rand.New(rand.NewPCG(1, 1)))
				c.Start(away)
				c.WaitEqual(group)
			})
		})
	}
}

// TestOlderSnapshotDoesNotReplaceNewer: a snapshot that a replica had begun when a newer one was installed changes nothing; with
// its marker in place of the newer one, and the log cut behind that, the replica would not start again.
func TestOlderSnapshotDoesNotReplaceNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small})
		defer c.Close()
		fill(t, c, 1, "a", 400)
		n := c.Leader(1)
		if err := n.Group(1).Snapshot(testCtx(t)); err != nil {
			t.Fatal(err)
		}
		want := n.Group(1).Status().SnapshotIndex
		if err := raftfsm.TakeOlderSnapshot(n.Group(1), 20); err == nil {
			t.Error("the older snapshot was taken")
		}
		if got := n.Group(1).Status().SnapshotIndex; got != want {
			t.Errorf("snapshot at %d, want %d", got, want)
		}
		c.Kill(n.Index, 0, rand.New(rand.NewPCG(1, 1)))
		c.Start(n.Index)
		c.WaitEqual(1)
	})
}

// TestInstallIntoEmpty adds a node to a group whose log begins behind a snapshot.
func TestInstallIntoEmpty(t *testing.T) { synctest.Test(t, testInstallIntoEmpty) }

func testInstallIntoEmpty(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 4, Voters: 3, Group: small})
	defer c.Close()
	fill(t, c, 1, "a", 300)
	leader := c.Leader(1).Group(1)
	if err := leader.Snapshot(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if err := leader.AddVoter(testCtx(t), "n4"); err != nil {
		t.Fatal(err)
	}
	fill(t, c, 1, "b", 10)
	c.WaitEqual(1)
	n4 := c.Nodes[3]
	if st := n4.Group(1).Status(); st.SnapshotIndex == 0 || len(st.Members) != 4 {
		t.Errorf("joined node: %+v", st)
	}
	c.Kill(3, 0, rand.New(rand.NewPCG(1, 1)))
	c.Start(3)
	c.WaitEqual(1)
	if members := n4.Group(1).Members(); len(members) != 4 || !members[3].Voter {
		t.Errorf("members after the restart: %v", members)
	}
}

// TestG2DivergentFollower gives an old leader a snapshot that ends at an entry which it has otherwise.
// Stock raft then rejects the leader's entries and receives the same snapshot for ever; this replica
// ends, and is whole after its next start.
func TestG2DivergentFollower(t *testing.T) { synctest.Test(t, testG2DivergentFollower) }

func testG2DivergentFollower(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small})
	defer c.Close()
	fill(t, c, 1, "common", 20)
	c.WaitEqual(1)
	old := c.Leader(1)
	c.Net.Isolate(old.ID, c.IDs(), true)
	stray := make(chan error, 600)
	for i := range 600 {
		old.Group(1).Propose([]byte(fmt.Sprintf("stray %d", i)), func(_ any, _ uint64, err error) { stray <- err })
	}
	for range 600 {
		if err := <-stray; !errors.Is(err, raftfsm.ErrUnknownOutcome) {
			t.Fatalf("stray entry: %v", err)
		}
	}
	if st := old.Group(1).Status(); st.LastIndex < 600 {
		t.Fatalf("old leader appended too little: %+v", st)
	}
	fill(t, c, 1, "elsewhere", 300)
	for _, n := range c.Nodes {
		if n == old {
			continue
		}
		if err := n.Group(1).Snapshot(testCtx(t)); err != nil {
			t.Fatal(err)
		}
	}
	// What the leader holds for the follower since before its log was cut would repair the follower's
	// log: it is lost with the leadership.
	lead := c.Leader(1)
	heir := c.Nodes[3-old.Index-lead.Index]
	if err := lead.Group(1).TransferLeadership(testCtx(t), heir.ID); err != nil {
		t.Fatal(err)
	}
	c.Leader(1)
	c.Net.Reset(old.ID)
	<-time.After(2 * time.Second)
	c.Net.Isolate(old.ID, c.IDs(), false)
	select {
	case <-old.FatalCh():
	case <-time.After(20 * time.Second):
		t.Fatal("the divergent replica went on")
	}
	if err := old.Fatal(); !errors.Is(err, raftfsm.ErrDivergent) {
		t.Fatalf("cause: %v", err)
	}
	c.Kill(old.Index, 0, rand.New(rand.NewPCG(1, 1)))
	c.Start(old.Index)
	c.WaitEqual(1)
	fill(t, c, 1, "after", 10)
	c.WaitEqual(1)
}
