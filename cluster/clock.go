package cluster

import (
	"sync"
	"time"
)

// groupClock is a group's clock as this replica sees it: the time of the leader whose
// entries it has applied last, carried on by this node's monotonic clock. Leaders stamp
// entries with it, so a wall clock that is wrong changes nothing on others (I12), and a
// new leader goes on where the last one was.
//
// A replica that starts knows the time of the last entry, not how long ago that was. If
// it leads before an entry has told it, the group's time has stood still meanwhile, and
// what the machine is told to do later counts from there: so the others must take that
// time for theirs, though their own clocks are ahead, or whoever leads next ends sessions
// and fires wills too early. Late is what may happen; early is not.
type groupClock struct {
	mu   sync.Mutex
	term uint64    // of the leader whose time this is
	base int64     // unix ms of the group at at; 0 = no entry seen
	at   time.Time // when this replica saw it
}

// observe takes the time of an applied entry and the term of the leader that stamped it.
// Entries of one leader differ in how long they were on their way: the least delayed one
// is the nearest to its clock.
func (c *groupClock) observe(term uint64, ms int64) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base == 0 || ms > c.atLocked(now) || term > c.term && !planted("clock-ahead") {
		c.base, c.at = ms, now
	}
	c.term = max(c.term, term)
}

// load takes the time of a state that did not come entry by entry.
func (c *groupClock) load(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.at = ms, time.Now()
}

// lead says that this replica stamps the entries of a term: it follows nobody in it.
func (c *groupClock) lead(term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = max(c.term, term)
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
