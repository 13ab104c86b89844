package raftfsm_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOneNode is the life of a group on one node: propose, apply, restart, replay, crash.
func TestOneNode(t *testing.T) { synctest.Test(t, testOneNode) }

func testOneNode(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 1})
	defer c.Close()
	for i := range 100 {
		c.MustPropose(1, []byte(fmt.Sprintf("entry %d", i)))
	}
	_, want := c.Nodes[0].Machine(1).Digest()
	c.Stop(0)
	c.Start(0)
	c.WaitEqual(1)
	if _, got := c.Nodes[0].Machine(1).Digest(); got != want {
		t.Fatalf("digest after restart %x, want %x", got, want)
	}
	c.MustPropose(1, []byte("one more"))
	_, want = c.Nodes[0].Machine(1).Digest()
	c.Kill(0, 0, rand.New(rand.NewPCG(1, 2)))
	c.Start(0)
	c.WaitEqual(1)
	if _, got := c.Nodes[0].Machine(1).Digest(); got != want {
		t.Fatalf("digest after crash %x, want %x", got, want)
	}
}

// TestThreeNodes replicates, loses its leader, and catches the old one up.
func TestThreeNodes(t *testing.T) { synctest.Test(t, testThreeNodes) }

func testThreeNodes(t *testing.T) {
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Control: true})
	defer c.Close()
	for _, g := range []uint32{0, 1} {
		for i := range 50 {
			c.MustPropose(g, []byte(fmt.Sprintf("entry %d", i)))
		}
		c.WaitEqual(g)
	}
	old := c.Leader(1)
	c.Kill(old.Index, 0, rand.New(rand.NewPCG(1, 2)))
	for _, g := range []uint32{0, 1} {
		for i := range 50 {
			c.MustPropose(g, []byte(fmt.Sprintf("more %d", i)))
		}
	}
	c.Start(old.Index)
	c.WaitEqual(0)
	c.WaitEqual(1)
}
