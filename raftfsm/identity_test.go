package raftfsm_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/hashicorp/raft"
)

// cloneInto copies a tree between file systems.
func cloneInto(t *testing.T, from, to vfs.FS, dir string) {
	t.Helper()
	if err := to.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if ok, err := vfs.Clone(from, to, dir, dir, vfs.CloneSync); err != nil || !ok {
		t.Fatalf("clone %s: %v, %v", dir, ok, err)
	}
}

// TestG6RefusesOlderDisk loses or ages each part of a replica in turn: it never starts, so it never
// votes.
func TestG6RefusesOlderDisk(t *testing.T) {
	for name, tc := range map[string]struct {
		want error
		harm func(t *testing.T, c *raftfsmtest.Cluster, n *raftfsmtest.Node, old vfs.FS)
	}{
		"votes lost": {raftfsm.ErrIdentity, func(_ *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			n.Disk.DropStable(1)
		}},
		"log lost": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			if err := n.Disk.FS().RemoveAll("/data/log"); err != nil {
				t.Fatal(err)
			}
		}},
		"older log": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, old vfs.FS) {
			cloneInto(t, old, n.Disk.FS(), "/data/log")
		}},
		"older log and tail": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, old vfs.FS) {
			cloneInto(t, old, n.Disk.FS(), "/data/log")
			cloneInto(t, old, n.Disk.FS(), "/data/groups")
		}},
		"everything but votes is older": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, old vfs.FS) {
			cloneInto(t, old, n.Disk.FS(), "/data")
		}},
		"state lost": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			if err := n.Disk.FS().RemoveAll("/data/state"); err != nil {
				t.Fatal(err)
			}
		}},
		"older state": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, old vfs.FS) {
			cloneInto(t, old, n.Disk.FS(), "/data/state")
		}},
		"snapshot marker lost": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			if err := n.Disk.FS().Remove("/data/groups/1/snapshot"); err != nil {
				t.Fatal(err)
			}
		}},
		"term damaged": {raftfsm.ErrCorrupt, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			if !n.Disk.FlipStable(1, "CurrentTerm", 60) {
				t.Fatal("no term is stored")
			}
		}},
		"vote damaged": {raftfsm.ErrCorrupt, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			if !n.Disk.FlipStable(1, "LastVoteCand", 3) {
				t.Fatal("no vote is stored")
			}
		}},
		"owner file lost": {raftfsm.ErrIdentity, func(t *testing.T, _ *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			if err := n.Disk.FS().Remove("/data/raftfsm"); err != nil {
				t.Fatal(err)
			}
		}},
		"another node's": {raftfsm.ErrIdentity, func(_ *testing.T, c *raftfsmtest.Cluster, n *raftfsmtest.Node, _ vfs.FS) {
			n.ID = "n9"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small})
				defer c.Close()
				fill(t, c, 1, "a", 100)
				n := c.Nodes[0]
				if err := n.Group(1).Snapshot(testCtx(t)); err != nil {
					t.Fatal(err)
				}
				c.Stop(0)
				old := vfs.NewMem()
				cloneInto(t, n.Disk.FS(), old, "/data")
				c.Start(0)
				// A new term, much log and a snapshot follow the copy.
				if l := c.Leader(1); l.Index != 0 {
					c.WaitEqual(1)
					if err := l.Group(1).TransferLeadership(testCtx(t), n.ID); err != nil {
						t.Fatal(err)
					}
				}
				fill(t, c, 1, "b", 200)
				if err := n.Group(1).Snapshot(testCtx(t)); err != nil {
					t.Fatal(err)
				}
				fill(t, c, 1, "c", 30)
				c.WaitEqual(1)
				c.Kill(0, 100, rand.New(rand.NewPCG(1, 1)))
				tc.harm(t, c, n, old)
				if err := c.TryStart(0); !errors.Is(err, tc.want) {
					t.Fatalf("start: %v, want %v", err, tc.want)
				} else {
					t.Log(err)
				}
			})
		})
	}
}

// TestG6EmptyReplicaDoesNotVote asks a replica that has nothing for its vote, which stock raft grants.
func TestG6EmptyReplicaDoesNotVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 4, Voters: 3})
		defer c.Close()
		c.MustPropose(1, []byte("x"))
		for _, tc := range []struct {
			node  string
			grant bool
		}{{"n4", false}, {"n3", true}} {
			// n1 and n2 are gone for n3, so that only the emptiness of n4 can matter.
			asker := raftfsm.NewSerialTransport(raftfsm.NewGatedLayer(c.Net.Layer("n1x", 1), "n1"))
			req := &raft.RequestVoteRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("n1")},
				Term:      99, LastLogIndex: 1000, LastLogTerm: 98, LeadershipTransfer: true,
			}
			var resp raft.RequestVoteResponse
			if err := asker.RequestVote(raft.ServerID(tc.node), raft.ServerAddress(tc.node), req, &resp); err != nil {
				t.Fatal(err)
			}
			if resp.Granted != tc.grant {
				t.Errorf("%s granted its vote: %v", tc.node, resp.Granted)
			}
			if err := asker.(raft.WithClose).Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLock keeps a second process out of the directory.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	cfg := raftfsm.HostConfig{Dir: dir, NodeID: "n1", Fatal: func(error) {}}
	h, err := raftfsm.OpenHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raftfsm.OpenHost(cfg); !errors.Is(err, raftfsm.ErrLocked) {
		t.Errorf("second host: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if h, err = raftfsm.OpenHost(cfg); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDropGroup removes a replica for good; others stay.
func TestDropGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 1, Groups: []uint32{1, 2}})
		defer c.Close()
		for _, g := range []uint32{1, 2} {
			c.MustPropose(g, []byte("x"))
		}
		n := c.Nodes[0]
		if err := n.Host.DropGroup(1); err == nil {
			t.Error("an open group was dropped")
		}
		if err := n.Group(1).Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.Host.DropGroup(1); err != nil {
			t.Fatal(err)
		}
		n.Disk.DropStable(1)
		if got := n.Host.Groups(); len(got) != 1 || got[0] != 2 {
			t.Errorf("groups %v", got)
		}
		c.Stop(0)
		c.Start(0)
		c.WaitEqual(2)
		if n := c.Nodes[0].Machine(1).Count(); n != 0 {
			t.Errorf("dropped group still has %d entries", n)
		}
	})
}

// TestG8DivergenceEndsReplica applies an entry that the machine calls impossible, as it does when a
// digest differs: each replica that applies it ends before it
// answers.
func TestG8DivergenceEndsReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{})
		defer c.Close()
		c.MustPropose(1, []byte("good"))
		g := c.Leader(1).Group(1)
		answered := make(chan error, 1)
		g.Propose([]byte("bad entry"), func(_ any, _ uint64, err error) { answered <- err })
		// The leader ends before it tells anybody of the commit; its successor commits and applies
		// the entry as well; the last replica has no majority to learn that from.
		raftfsmtest.WaitFor(t, "two replicas to end", func() bool {
			ended := 0
			for _, n := range c.Nodes {
				if err := n.Fatal(); errors.Is(err, raftfsmtest.ErrImpossible) {
					ended++
				} else if err != nil {
					t.Fatalf("%s: %v", n.ID, err)
				}
			}
			return ended >= 2 // the last one may have heard of the commit before its leader ended
		})
		select {
		case err := <-answered:
			if err == nil {
				t.Error("the entry was acknowledged")
			}
		case <-time.After(time.Second):
		}
		for i := range c.Nodes {
			c.Kill(i, 0, rand.New(rand.NewPCG(1, 1)))
		}
		if err := c.TryStart(0); err != nil {
			t.Fatal(err)
		}
		if got := c.Nodes[0].Machine(1).Applied(); got > 10 {
			t.Errorf("applied %d", got)
		}
	})
}
