package raftfsm_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// TestReturnAfterLongAbsence: a replica that was away for a minute, for which raft alone would wait up to ten seconds more, has the
// entries of that minute as soon as it can be reached: from the log, and by a snapshot.
func TestReturnAfterLongAbsence(t *testing.T) {
	const away, soon = time.Minute, 500 * time.Millisecond
	for _, snapshot := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small})
			defer c.Close()
			fill(t, c, 1, "a", 20)
			c.WaitEqual(1)
			lead := c.Leader(1)
			i := 0
			for c.Nodes[i] == lead {
				i++
			}
			c.Kill(i, 0, rand.New(rand.NewPCG(1, 1)))
			fill(t, c, 1, "b", 200)
			if snapshot {
				if err := lead.Group(1).Snapshot(testCtx(t)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(away)
			c.Start(i)
			begin := time.Now()
			c.WaitEqual(1)
			if took := time.Since(begin); took > soon {
				t.Errorf("by snapshot %v: equal %v after its return", snapshot, took)
			}
		})
	}
}
