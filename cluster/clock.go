package cluster

import (
	"sync"
	"time"
)

// groupClock is a group's clock as this replica sees it: the highest time in
// the log, carried on by this node's monotonic clock. Leaders stamp entries
// with it, so a wall clock that is wrong changes nothing on others (I12), and a
// new leader goes on where the last one was, also after hours without entries.
type groupClock struct {
	mu   sync.Mutex
	base int64     // unix ms of the group at at; 0 = no entry seen
	at   time.Time // when this replica saw it
}

// observe takes the time of an applied entry. An entry whose time is not ahead
// of the clock was on its way for a while and does not set it back.
func (c *groupClock) observe(ms int64) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base == 0 || ms > c.atLocked(now) {
		c.base, c.at = ms, now
	}
}

func (c *groupClock) atLocked(now time.Time) int64 {
	return c.base + now.Sub(c.at).Milliseconds()
}

// now is the group's time in unix ms. The first leader of a new group starts it
// with its wall clock.
func (c *groupClock) now() int64 {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base == 0 {
		c.base, c.at = now.UnixMilli(), now
	}
	return c.atLocked(now)
}
