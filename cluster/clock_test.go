package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestGroupClockFollowsTheLog_I12: the clock goes on from the log's time at the
// rate of the monotonic clock; entries that were under way do not set it back,
// and this node's wall clock has no say once the log has one.
func TestGroupClockFollowsTheLog_I12(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c groupClock
		const logTime = 5_000 // far from the bubble's wall clock
		c.observe(1, logTime)
		time.Sleep(time.Hour)
		if got := c.now(); got != logTime+3_600_000 {
			t.Fatalf("after an hour without entries: %d", got)
		}
		c.observe(1, logTime+3_599_000) // proposed a second ago
		if got := c.now(); got != logTime+3_600_000 {
			t.Fatalf("an entry that was under way set the clock to %d", got)
		}
		c.observe(1, logTime+3_700_000)
		if got := c.now(); got != logTime+3_700_000 {
			t.Fatalf("a later entry did not move the clock: %d", got)
		}
		var fresh groupClock
		if got := fresh.now(); got != time.Now().UnixMilli() {
			t.Fatalf("a new group starts at %d", got)
		}
	})
}

// TestGroupClockFollowsTheLeader_I12: a leader that has lost time takes the others with it, also those that know better,
// and also by a snapshot; a leader's own entries do not set its clock back by the time that they took.
func TestGroupClockFollowsTheLeader_I12(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c groupClock
		c.observe(1, 5_000)
		time.Sleep(time.Hour)
		c.observe(2, 6_000) // the leader of term 2 started again
		if got := c.now(); got != 6_000 {
			t.Fatalf("the clock is at %d, that of its leader at 6000", got)
		}
		time.Sleep(time.Second)
		c.load(6_500)
		if got := c.now(); got != 6_500 {
			t.Fatalf("the clock is at %d behind a snapshot of 6500", got)
		}
		c.lead(3)
		stamp := c.now()
		time.Sleep(30 * time.Millisecond)
		c.observe(3, stamp)
		if got := c.now(); got != stamp+30 {
			t.Fatalf("an entry that took 30 ms set its leader's clock to %d, it was stamped at %d", got, stamp)
		}
	})
}
