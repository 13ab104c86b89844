package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	boltFile        = "raft.db"
	boltLockTimeout = time.Second

	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVoteCand = "LastVoteCand"
	keyMark     = "flotilla.mark"
	keyOwner    = "flotilla.owner"
)

// errKeyNotFound has the text by which raft tells a missing key from a broken store.
var errKeyNotFound = errors.New("not found")

// openBolt opens the bbolt file of a group. The free list is not written: it is rebuilt at the start
// and would only cost bytes at each commit. fsync stays on.
func openBolt(dir string, _ uint32) (StableLog, error) {
	path := filepath.Join(dir, boltFile)
	if err := checkBolt(path); err != nil {
		return nil, err
	}
	s, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: boltLockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: false,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", boltFile, err)
	}
	return s, nil
}

// guardedStable is the raft.StableStore of one group: a StableLog, with a CRC behind each value, the
// watchdog and fail-stop around it, and the guard against votes of an empty replica (guard G6).
type guardedStable struct {
	group uint32
	inner StableLog
	fst   *failStop
	wd    *watchdog
	dead  func() bool
	// mayVote says whether this replica has anything that its vote could stand for.
	mayVote func() bool
	// marks returns the floor below which neither log nor snapshot may ever end again.
	marks func() uint64
	tail  *tail // nil: none
	// observe is told how long a write took.
	observe func(time.Duration)

	mu   sync.Mutex
	mark uint64 // persisted
}

var _ raft.StableStore = (*guardedStable)(nil)

var errEmptyVote = errors.New("an empty replica does not vote")

// Set implements raft.StableStore.
func (s *guardedStable) Set(key, val []byte) error {
	if s.dead() {
		return nil // raft panics on an error here, and nothing that it says gets out any more
	}
	if k := string(key); (k == keyVoteTerm || k == keyVoteCand) && !s.mayVote() {
		return errEmptyVote
	}
	return s.put(key, val)
}

func (s *guardedStable) put(key, val []byte) (err error) {
	v := append(append(make([]byte, 0, len(val)+4), val...), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(v[len(val):], stableCRC(s.group, key, val))
	c := s.wd.begin("stable store write", s.group, 1)
	err = catchPanic(func() error { return s.inner.Set(key, v) })
	s.observe(s.wd.end(c))
	if err == nil {
		err = s.noteTail(string(key), val)
	}
	if err == nil {
		return nil
	}
	s.fst.fail(fmt.Errorf("write %s of group %d: %w", key, s.group, err))
	return nil // as above: the node is dead now
}

// noteTail bounds what was just written. Marks are not in the tail, and they alone are written beside raft's main
// goroutine: they must not touch it.
func (s *guardedStable) noteTail(key string, val []byte) error {
	if s.tail == nil || key != keyTerm && key != keyVoteTerm && key != keyVoteCand {
		return nil
	}
	return s.tail.raise(func(r *tailRecord) {
		switch key {
		case keyTerm:
			r.term = binary.BigEndian.Uint64(val)
		case keyVoteTerm:
			r.voteTerm, r.voteSum = binary.BigEndian.Uint64(val), 0
		case keyVoteCand:
			r.voteSum = voteSum(val)
		}
	})
}

func voteSum(candidate []byte) uint32 { return max(1, crc32.Checksum(candidate, castagnoli)) }

// Get implements raft.StableStore.
func (s *guardedStable) Get(key []byte) ([]byte, error) {
	val, err := s.read(key)
	if err != nil && !isKeyNotFound(err) && !s.dead() {
		s.fst.fail(err)
	}
	return val, err
}

func (s *guardedStable) read(key []byte) ([]byte, error) {
	var v []byte
	c := s.wd.begin("stable store read", s.group, 1)
	err := catchPanic(func() (err error) { v, err = s.inner.Get(key); return err })
	s.wd.end(c)
	if isKeyNotFound(err) {
		return nil, errKeyNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of group %d: %w", key, s.group, err)
	}
	n := len(v) - 4
	if n < 0 || binary.LittleEndian.Uint32(v[n:]) != stableCRC(s.group, key, v[:n]) {
		return nil, fmt.Errorf("%w: %s of group %d", ErrCorrupt, key, s.group)
	}
	return v[:n:n], nil
}

// SetUint64 implements raft.StableStore. A new term first raises the mark: it is what a later start
// holds the log against before this replica takes part in elections.
func (s *guardedStable) SetUint64(key []byte, val uint64) error {
	if string(key) == keyTerm && val > 0 && !s.dead() {
		if err := s.raiseMark(); err != nil {
			return nil // the node is dead now
		}
	}
	return s.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 implements raft.StableStore.
func (s *guardedStable) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: %s of group %d", ErrCorrupt, key, s.group)
	}
	return binary.BigEndian.Uint64(v), nil
}

// raiseMark persists the current floor of log and snapshot.
func (s *guardedStable) raiseMark() error { return s.setMark(s.marks()) }

func (s *guardedStable) setMark(index uint64) error {
	s.mu.Lock()
	known := s.mark
	s.mu.Unlock()
	if index <= known || s.dead() {
		return nil
	}
	if err := s.put([]byte(keyMark), binary.BigEndian.AppendUint64(nil, index)); err != nil {
		return err
	}
	if err := s.fst.err(); err != nil {
		return err
	}
	s.mu.Lock()
	s.mark = max(s.mark, index)
	s.mu.Unlock()
	return nil
}

// stableFacts is what the stable store knows at a start.
type stableFacts struct {
	term, voteTerm uint64
	hasVote        bool
	voteSum        uint32
	mark           uint64
}

// load reads and cross-checks everything that the store holds; owner is written into a new one.
func (s *guardedStable) load(owner string) (stableFacts, error) {
	var f stableFacts
	term, termErr := s.loadUint(keyTerm)
	vote, voteErr := s.loadUint(keyVoteTerm)
	mark, markErr := s.loadUint(keyMark)
	cand, candErr := s.read([]byte(keyVoteCand))
	who, whoErr := s.read([]byte(keyOwner))
	for _, err := range []error{termErr, voteErr, markErr, candErr, whoErr} {
		if err != nil && !isKeyNotFound(err) {
			return f, err
		}
	}
	f = stableFacts{term: term, voteTerm: vote, hasVote: voteErr == nil, mark: mark}
	if candErr == nil {
		f.voteSum = voteSum(cand)
	}
	s.mark = mark
	switch {
	case whoErr != nil && (termErr == nil || voteErr == nil || markErr == nil || candErr == nil):
		return f, fmt.Errorf("%w: group %d has votes without an owner", ErrIdentity, s.group)
	case whoErr == nil && string(who) != owner:
		return f, fmt.Errorf("%w: votes of group %d belong to node %q", ErrIdentity, s.group, who)
	case whoErr == nil && termErr != nil && (voteErr == nil || candErr == nil || markErr == nil):
		return f, fmt.Errorf("%w: group %d has votes without a term", ErrIdentity, s.group)
	case candErr == nil && voteErr != nil:
		return f, fmt.Errorf("%w: group %d has a vote without its term", ErrIdentity, s.group)
	case vote > term:
		return f, fmt.Errorf("%w: group %d voted in term %d beyond its term %d", ErrIdentity, s.group, vote, term)
	}
	if whoErr != nil {
		if err := s.put([]byte(keyOwner), []byte(owner)); err != nil {
			return f, err
		}
	}
	return f, s.fst.err()
}

func (s *guardedStable) loadUint(key string) (uint64, error) {
	v, err := s.read([]byte(key))
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: %s of group %d", ErrCorrupt, key, s.group)
	}
	return binary.BigEndian.Uint64(v), nil
}

func isKeyNotFound(err error) bool { return err != nil && err.Error() == errKeyNotFound.Error() }

// catchPanic turns a panic of a store into an error: bbolt panics on damaged pages.
func catchPanic(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: store panicked: %v", ErrCorrupt, r)
		}
	}()
	return fn()
}

func stableCRC(group uint32, key, val []byte) uint32 {
	crc := crc32.Checksum(binary.BigEndian.AppendUint32(nil, group), castagnoli)
	return crc32.Update(crc32.Update(crc, castagnoli, key), castagnoli, val)
}

// stableBackend keeps a control group's log in its StableLog. A CRC travels behind the extensions.
type stableBackend struct {
	group uint32
	store StableLog
}

func (b *stableBackend) append(logs []*raft.Log, reset bool) error {
	return catchPanic(func() error {
		if reset {
			first, err := b.store.FirstIndex()
			if err != nil {
				return err
			}
			if err := b.store.DeleteRange(first, logs[0].Index-1); err != nil {
				return err
			}
		}
		sealed := make([]*raft.Log, len(logs))
		for i, log := range logs {
			c := *log
			c.Extensions = binary.LittleEndian.AppendUint32(append([]byte(nil), log.Extensions...), b.crc(log))
			sealed[i] = &c
		}
		return b.store.StoreLogs(sealed)
	})
}

func (b *stableBackend) get(index uint64, log *raft.Log) error {
	if err := catchPanic(func() error { return b.store.GetLog(index, log) }); err != nil {
		return err
	}
	n := len(log.Extensions) - 4
	if n < 0 || log.Index != index {
		return fmt.Errorf("%w: entry %d of group %d", ErrCorrupt, index, b.group)
	}
	sum := binary.LittleEndian.Uint32(log.Extensions[n:])
	log.Extensions = log.Extensions[:n:n]
	if n == 0 {
		log.Extensions = nil
	}
	if sum != b.crc(log) {
		return fmt.Errorf("%w: checksum of entry %d of group %d", ErrCorrupt, index, b.group)
	}
	return nil
}

func (b *stableBackend) crc(log *raft.Log) uint32 {
	key := make([]byte, logKeyLen)
	putLogKey(key, b.group, log.Index)
	head := binary.LittleEndian.AppendUint64(nil, log.Term)
	head = binary.LittleEndian.AppendUint64(head, uint64(unixNano(log.AppendedAt)))
	head = append(head, byte(log.Type))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(log.Extensions)))
	crc := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, head)
	return crc32.Update(crc32.Update(crc, castagnoli, log.Extensions), castagnoli, log.Data)
}

func (b *stableBackend) deleteRange(lo, hi uint64, _ bool) error {
	return catchPanic(func() error { return b.store.DeleteRange(lo, hi) })
}

func (b *stableBackend) scan(fn func(log *raft.Log, size int) error) error {
	first, err := b.store.FirstIndex()
	if err != nil {
		return err
	}
	last, err := b.store.LastIndex()
	if err != nil {
		return err
	}
	for i := first; i != 0 && i <= last; i++ {
		var log raft.Log
		if err := b.get(i, &log); err != nil {
			return fmt.Errorf("log of group %d, entry %d: %w", b.group, i, err)
		}
		if err := fn(&log, entrySize(&log)); err != nil {
			return err
		}
	}
	return nil
}
