package raftfsm_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestRestartReplaysLittle: the state is made durable while it changes little, too, so that a crash does not replay
// all that the log holds.
func TestRestartReplaysLittle(t *testing.T) {
	const entries, debt = 400, 50
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{
			Nodes: 1, Group: func(_ int, cfg *raftfsm.GroupConfig) { cfg.ReplayEntries = debt },
		})
		defer c.Close()
		for range entries {
			c.MustPropose(1, []byte("x")) // one slot: hardly any dirty state
		}
		synctest.Wait() // the last flush is over
		last := c.Nodes[0].Group(1).Status().LastIndex
		c.Kill(0, 0, rand.New(rand.NewPCG(1, 2)))
		if err := c.TryStart(0); err != nil {
			t.Fatal(err)
		}
		if loaded := c.Nodes[0].Machine(1).Loaded(); last-loaded > 2*debt {
			t.Errorf("%d of %d entries were applied again", last-loaded, last)
		}
	})
}
