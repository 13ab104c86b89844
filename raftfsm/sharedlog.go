package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// sharedLog is one group's part of the shared Pebble log.
type sharedLog struct {
	db    *pebble.DB
	group uint32
}

func (s *sharedLog) append(logs []*raft.Log, reset bool) error {
	b := s.db.NewBatch()
	if reset {
		if err := b.DeleteRange(s.key(0), s.key(logs[0].Index), nil); err != nil {
			return err
		}
	}
	for i, log := range logs {
		op := b.SetDeferred(logKeyLen, entrySize(log)-logKeyLen)
		putLogKey(op.Key, s.group, log.Index)
		putEntry(op.Value, op.Key, log)
		if err := op.Finish(); err != nil {
			return err
		}
		// Batches reach the WAL in order, so one fsync at the end covers them all and a crash
		// leaves a prefix.
		if i < len(logs)-1 && b.Len() >= writeBatchBytes {
			if err := b.Commit(pebble.NoSync); err != nil {
				return err
			}
			b = s.db.NewBatch()
		}
	}
	sync := pebble.Sync
	if planted("log-unsynced") {
		sync = pebble.NoSync
	}
	if err := b.Commit(sync); err != nil {
		return err
	}
	return b.Close()
}

func (s *sharedLog) get(index uint64, log *raft.Log) error {
	key := s.key(index)
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return err
	}
	v = append([]byte(nil), v...)
	if err := closer.Close(); err != nil {
		return err
	}
	return getEntry(key, v, log)
}

// deleteRange needs no fsync to be safe: entries that come back after a crash were stored once, and
// what is stored later follows the deletion in the WAL.
func (s *sharedLog) deleteRange(lo, hi uint64, durable bool) error {
	o := pebble.NoSync
	if durable {
		o = pebble.Sync
	}
	return s.db.DeleteRange(s.key(lo), s.key(hi+1), o)
}

func (s *sharedLog) scan(fn func(log *raft.Log, size int) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: s.key(0), UpperBound: s.end()})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		var log raft.Log
		v, err := it.ValueAndErr()
		if err == nil {
			err = getEntry(it.Key(), append([]byte(nil), v...), &log)
		}
		if err == nil {
			err = fn(&log, entrySize(&log))
		}
		if err != nil {
			return errors.Join(fmt.Errorf("log of group %d: %w", s.group, err), it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

func (s *sharedLog) key(index uint64) []byte {
	k := make([]byte, logKeyLen)
	putLogKey(k, s.group, index)
	return k
}

func (s *sharedLog) end() []byte {
	return binary.BigEndian.AppendUint32(nil, s.group+1)
}
