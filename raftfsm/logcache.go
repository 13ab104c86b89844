package raftfsm

import "github.com/hashicorp/raft"

// logCache holds the newest entries of one group, contiguous up to the last, bounded by bytes. The
// newest entry always stays.
type logCache struct {
	maxBytes int
	logs     []raft.Log
	head     int // logs[head:] are live
	bytes    int
}

func (c *logCache) add(log raft.Log, evict bool) {
	c.logs = append(c.logs, log)
	c.bytes += entrySize(&log)
	for evict && c.bytes > c.maxBytes && len(c.logs)-c.head > 1 {
		c.bytes -= entrySize(&c.logs[c.head])
		c.logs[c.head] = raft.Log{}
		c.head++
	}
	if c.head > 64 && c.head > len(c.logs)/2 {
		n := copy(c.logs, c.logs[c.head:])
		clear(c.logs[n:])
		c.logs, c.head = c.logs[:n], 0
	}
}

func (c *logCache) get(index uint64, log *raft.Log) bool {
	live := c.logs[c.head:]
	if len(live) == 0 || index < live[0].Index || index > live[len(live)-1].Index {
		return false
	}
	*log = live[index-live[0].Index]
	return true
}

func (c *logCache) dropBelow(first uint64) {
	for c.head < len(c.logs) && c.logs[c.head].Index < first {
		c.bytes -= entrySize(&c.logs[c.head])
		c.logs[c.head] = raft.Log{}
		c.head++
	}
}

func (c *logCache) dropAbove(last uint64) {
	for n := len(c.logs); n > c.head && c.logs[n-1].Index > last; n = len(c.logs) {
		c.bytes -= entrySize(&c.logs[n-1])
		c.logs[n-1] = raft.Log{}
		c.logs = c.logs[:n-1]
	}
}

func (c *logCache) clear() {
	clear(c.logs)
	c.logs, c.head, c.bytes = c.logs[:0], 0, 0
}

// sizeStep is the granularity of sizeIndex.
const sizeStep = 64 << 10

// sizeIndex knows the size of any tail of a log to within sizeStep, in little memory.
type sizeIndex struct {
	points []sizePoint
	total  int64 // bytes of every entry ever added
	last   uint64
}

// sizePoint says how many bytes were added before the entry index.
type sizePoint struct {
	index  uint64
	before int64
}

func (s *sizeIndex) add(index uint64, size int) {
	if n := len(s.points); n == 0 || s.total-s.points[n-1].before >= sizeStep {
		s.points = append(s.points, sizePoint{index: index, before: s.total})
	}
	s.total += int64(size)
	s.last = index
}

func (s *sizeIndex) bytes() int64 {
	if len(s.points) == 0 {
		return 0
	}
	return s.total - s.points[0].before
}

// after is the size of the entries above index, rounded up.
func (s *sizeIndex) after(index uint64) int64 {
	if len(s.points) == 0 || index >= s.last {
		return 0
	}
	for i := len(s.points) - 1; i > 0; i-- {
		if s.points[i].index <= index+1 {
			return s.total - s.points[i].before
		}
	}
	return s.bytes()
}

// within is how many of the newest entries take at most n bytes.
func (s *sizeIndex) within(n int64) uint64 {
	for _, p := range s.points {
		if s.total-p.before <= n {
			return s.last - p.index + 1
		}
	}
	return 0
}

func (s *sizeIndex) dropBelow(first uint64) {
	n := 0
	for n+1 < len(s.points) && s.points[n+1].index <= first {
		n++
	}
	s.points = append(s.points[:0], s.points[n:]...)
}

func (s *sizeIndex) dropAbove(last uint64) {
	for n := len(s.points); n > 0 && s.points[n-1].index > last; n = len(s.points) {
		s.total = s.points[n-1].before
		s.points = s.points[:n-1]
	}
	s.last = last
}

func (s *sizeIndex) clear() { *s = sizeIndex{} }
