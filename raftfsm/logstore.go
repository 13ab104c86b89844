package raftfsm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// logBackend is where a group's entries are stored: the shared Pebble log, or the bbolt file of a
// control group.
type logBackend interface {
	// append makes logs durable, in order. reset first deletes everything that the group has.
	append(logs []*raft.Log, reset bool) error
	// get reads one entry and verifies its checksum. raft.ErrLogNotFound says that there is none.
	get(index uint64, log *raft.Log) error
	// deleteRange deletes [lo, hi]. durable makes it survive a crash by itself.
	deleteRange(lo, hi uint64, durable bool) error
	// scan calls fn for each stored entry in order; size is its size on disk.
	scan(fn func(log *raft.Log, size int) error) error
}

// groupLog is the raft.LogStore of one group: a backend, behind a cache of the newest entries, the
// fence against deleting what is applied, and fail-stop. Only raft's main goroutine writes.
type groupLog struct {
	group   uint32
	backend logBackend
	fst     *failStop
	wd      *watchdog
	fence   func() fenceMarks
	dead    func() bool
	stored  func(logs []*raft.Log)
	ahead   func(logs []*raft.Log) // is told what is about to be written
	observe func(time.Duration)
	tail    *tail // nil: none
	// boundary answers for the entry that the snapshot ends with, on a follower. raft compares a
	// leader's previous entry with the log alone, so without it a follower whose log begins behind
	// its snapshot would fall back to an older snapshot and forget what it has acknowledged.
	boundary func(index uint64) (term uint64, ok bool)
	grown    chan struct{}

	logBytes atomic.Int64

	mu    sync.RWMutex
	first uint64 // 0 = empty
	last  uint64
	cache logCache
	sizes sizeIndex
}

var _ raft.LogStore = (*groupLog)(nil)

// fenceMarks are what deletions are held against.
type fenceMarks struct {
	applied  uint64 // no suffix at or below it is deleted
	snapshot uint64 // no prefix above it is deleted; a gap may only follow it
}

func newGroupLog(group uint32, backend logBackend, cacheBytes int, fst *failStop, wd *watchdog) *groupLog {
	return &groupLog{
		group: group, backend: backend, fst: fst, wd: wd,
		fence:  func() fenceMarks { return fenceMarks{} },
		dead:   fst.isDead,
		stored: func([]*raft.Log) {}, ahead: func([]*raft.Log) {}, observe: func(time.Duration) {},
		boundary: func(uint64) (uint64, bool) { return 0, false },
		grown:    make(chan struct{}, 1),
		cache:    logCache{maxBytes: cacheBytes},
	}
}

// load reads the whole log, verifies each checksum and that no entry is missing, and fills the cache.
func (l *groupLog) load() error {
	return l.backend.scan(func(log *raft.Log, size int) error {
		if l.last != 0 && log.Index != l.last+1 {
			return fmt.Errorf("%w: log of group %d has a hole after entry %d", ErrCorrupt, l.group, l.last)
		}
		l.noteLocked(log, size)
		return nil
	})
}

// noteLocked takes an entry that is on disk into memory.
func (l *groupLog) noteLocked(log *raft.Log, size int) {
	if l.first == 0 {
		l.first = log.Index
	}
	l.last = log.Index
	l.cache.add(*log, !l.dead())
	l.sizes.add(log.Index, size)
	l.logBytes.Store(l.sizes.bytes())
}

// FirstIndex implements raft.LogStore.
func (l *groupLog) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.first, nil
}

// LastIndex implements raft.LogStore.
func (l *groupLog) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last, nil
}

// GetLog implements raft.LogStore. Replication, apply and restarts of a follower read the newest
// entries, which the cache holds.
func (l *groupLog) GetLog(index uint64, log *raft.Log) error {
	l.mu.RLock()
	hit := l.cache.get(index, log)
	inside := index >= l.first && index <= l.last && index != 0
	l.mu.RUnlock()
	if hit {
		return nil
	}
	if !inside {
		if term, ok := l.boundary(index); ok {
			*log = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
			return nil
		}
		return raft.ErrLogNotFound
	}
	c := l.wd.begin("log read", l.group, 1)
	err := l.backend.get(index, log)
	l.wd.end(c)
	if err == nil {
		return nil
	}
	if errors.Is(err, raft.ErrLogNotFound) && !l.holds(index) {
		return err // compacted meanwhile
	}
	err = fmt.Errorf("read entry %d of group %d: %w", index, l.group, err)
	l.fst.fail(err)
	return err
}

func (l *groupLog) holds(index uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return index >= l.first && index <= l.last && index != 0
}

// StoreLog implements raft.LogStore.
func (l *groupLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: it returns when logs are fsynced. An append that does not
// continue the log means that raft's view and the disk differ, which ends the process; only the first
// entry after an installed snapshot may leave a gap, and it replaces what was before.
func (l *groupLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	last, _ := l.LastIndex()
	reset := false
	if next := logs[0].Index; last != 0 && next != last+1 {
		if next < last+1 || next != l.fence().snapshot+1 {
			return l.refuse("append at %d to a log that ends at %d", next, last)
		}
		reset = true
	}
	if !l.dead() {
		l.ahead(logs)
		c := l.wd.begin("log write", l.group, 1)
		err := l.backend.append(logs, reset)
		l.observe(l.wd.end(c))
		if err == nil {
			err = l.fst.err()
		}
		if err == nil && l.tail != nil {
			err = l.tail.raise(func(r *tailRecord) { r.last = logs[len(logs)-1].Index })
		}
		if err != nil {
			err = fmt.Errorf("append %d entries at %d to group %d: %w", len(logs), logs[0].Index, l.group, err)
			l.fst.fail(err)
			return err
		}
	}
	l.mu.Lock()
	if reset {
		l.first, l.last = 0, 0
		l.cache.clear()
		l.sizes.clear()
	}
	for _, log := range logs {
		l.noteLocked(log, entrySize(log))
	}
	l.mu.Unlock()
	l.stored(logs)
	return nil
}

// DeleteRange implements raft.LogStore. raft deletes a prefix after a snapshot and a suffix that
// conflicts with a leader; the fence refuses both where they would touch what must stay.
func (l *groupLog) DeleteRange(lo, hi uint64) error {
	if l.dead() {
		return nil
	}
	l.mu.RLock()
	first, last := l.first, l.last
	l.mu.RUnlock()
	lo, hi = max(lo, first), min(hi, last)
	if lo > hi || first == 0 {
		return nil
	}
	marks := l.fence()
	prefix := lo == first && hi <= marks.snapshot
	if suffix := hi == last && lo > marks.applied; !prefix && !suffix {
		return l.refuse("delete entries %d to %d (log %d to %d, applied %d, snapshot %d)",
			lo, hi, first, last, marks.applied, marks.snapshot)
	}
	c := l.wd.begin("log truncation", l.group, 1)
	var err error
	if !prefix && l.tail != nil {
		err = l.tail.lower(lo - 1)
	}
	if err == nil {
		err = l.backend.deleteRange(lo, hi, !prefix)
	}
	l.wd.end(c)
	if err == nil {
		err = l.fst.err()
	}
	if err != nil {
		err = fmt.Errorf("delete entries %d to %d of group %d: %w", lo, hi, l.group, err)
		l.fst.fail(err)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetLocked(lo, hi)
	return nil
}

func (l *groupLog) forgetLocked(lo, hi uint64) {
	switch {
	case lo <= l.first && hi >= l.last:
		l.first, l.last = 0, 0
		l.cache.clear()
		l.sizes.clear()
	case lo <= l.first:
		l.first = hi + 1
		l.cache.dropBelow(l.first)
		l.sizes.dropBelow(l.first)
	default:
		l.last = lo - 1
		l.cache.dropAbove(l.last)
		l.sizes.dropAbove(l.last)
	}
	l.logBytes.Store(l.sizes.bytes())
}

func (l *groupLog) refuse(format string, args ...any) error {
	err := fmt.Errorf("log of group %d: refused to "+format, append([]any{l.group}, args...)...)
	l.fst.fail(err)
	return err
}

// wipe deletes the whole log, which a snapshot at index has superseded. Only before raft runs.
func (l *groupLog) wipe(index uint64) error {
	if l.first == 0 {
		return nil
	}
	if l.tail != nil {
		if err := l.tail.lower(index); err != nil {
			return err
		}
	}
	if err := l.backend.deleteRange(l.first, l.last, true); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetLocked(l.first, l.last)
	return nil
}

// bytesAfter is the size of the entries above index.
func (l *groupLog) bytesAfter(index uint64) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sizes.after(index)
}

// entriesWithin is how many of the newest entries fit into n bytes.
func (l *groupLog) entriesWithin(n int64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sizes.within(n)
}

func (l *groupLog) bounds() (first, last uint64, bytes int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.first, l.last, l.sizes.bytes()
}
