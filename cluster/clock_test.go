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
		c.observe(logTime)
		time.Sleep(time.Hour)
		if got := c.now(); got != logTime+3_600_000 {
			t.Fatalf("after an hour without entries: %d", got)
		}
		c.observe(logTime + 3_599_000) // proposed a second ago
		if got := c.now(); got != logTime+3_600_000 {
			t.Fatalf("an entry that was under way set the clock to %d", got)
		}
		c.observe(logTime + 3_700_000)
		if got := c.now(); got != logTime+3_700_000 {
			t.Fatalf("a later entry did not move the clock: %d", got)
		}
		var fresh groupClock
		if got := fresh.now(); got != time.Now().UnixMilli() {
			t.Fatalf("a new group starts at %d", got)
		}
	})
}
