package raftfsm

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

const (
	logMemTable   = 32 << 20
	stateMemTable = 32 << 20
	logBlockCache = 8 << 20
	stateCache    = 64 << 20
	// writeBatchBytes is where a large write is cut into several batches, well below the size at
	// which Pebble turns a batch into a flushable of its own.
	writeBatchBytes = 4 << 20
)

// openLogDB opens the log that all groups share. The WAL is on; its sync chunks let a reader tell a
// torn tail from corruption.
func openLogDB(fs vfs.FS, dir string, syncInterval time.Duration, fst *failStop, lg *zap.Logger) (*pebble.DB, error) {
	o := baseOptions(fs, fst, lg.Named("log"))
	o.MemTableSize = logMemTable
	o.CacheSize = logBlockCache
	if syncInterval > 0 {
		o.WALMinSyncInterval = func() time.Duration { return syncInterval }
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open log database: %w", err)
	}
	return db, nil
}

// openStateDB opens the state database. It has no WAL: the Raft logs are its redo log.
func openStateDB(fs vfs.FS, dir string, fst *failStop, lg *zap.Logger) (*pebble.DB, error) {
	o := baseOptions(fs, fst, lg.Named("state"))
	o.MemTableSize = stateMemTable
	o.CacheSize = stateCache
	o.DisableWAL = true
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open state database: %w", err)
	}
	return db, nil
}

func baseOptions(fs vfs.FS, fst *failStop, lg *zap.Logger) *pebble.Options {
	o := &pebble.Options{
		FS:                          fs,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000,
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 2 },
		Logger:                      pebbleLogger{lg: lg.Sugar(), fst: fst},
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { fst.fail(fmt.Errorf("background work of the database: %w", err)) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			fst.fail(fmt.Errorf("%w: %s: %w", ErrCorrupt, info.Path, info.Details))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			lg.Warn("database writes are stalled", zap.String("event", "raft.slow_fsync"), zap.String("reason", info.Reason))
		},
	}
	return o
}

// pebbleLogger drops Pebble's chatter and turns its fatal errors into a fail-stop. Pebble expects
// Fatalf not to return; where it does (a test's Fatal), callers check failStop after each call.
type pebbleLogger struct {
	lg  *zap.SugaredLogger
	fst *failStop
}

func (l pebbleLogger) Infof(string, ...any)              {}
func (l pebbleLogger) Errorf(format string, args ...any) { l.lg.Errorf(format, args...) }
func (l pebbleLogger) Fatalf(format string, args ...any) { l.fst.fail(fmt.Errorf(format, args...)) }
