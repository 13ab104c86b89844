package raftfsm

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// minTrailing is kept behind a snapshot whatever the sizes say.
	minTrailing = 64
	// maxTrailing is the most entries that are kept: a start reads each of them.
	maxTrailing = 100_000
	// compactRetry is how long a snapshot that failed is not tried again.
	compactRetry = time.Second
	// marksPerSnapshot is how often between two snapshots the durable mark is raised.
	marksPerSnapshot = 8
)

// compact takes snapshots by bytes of applied log, which raft's own thresholds cannot, and by entries where those are
// small. It also raises the durable mark that a start holds the log against, and flushes the state so that restarts
// replay little.
func (g *Group) compact() {
	var marked int64
	var retry <-chan time.Time // pending after a failure
	for {
		select {
		case <-g.stop:
			return
		case reply := <-g.snapshotCh:
			reply <- g.takeSnapshot()
			continue
		case <-g.grown:
		case <-retry:
			retry = nil
		}
		if g.flushDue.Swap(false) {
			_ = g.h.state.flush() // a failure has ended the node, or the next flush repeats it
		}
		index, _ := g.snaps.current()
		many := g.snapshotDue.Swap(false)
		behind := g.log.bytesAfter(index) - g.log.bytesAfter(g.applied.get())
		if behind < marked {
			marked = 0
		}
		if behind-marked >= g.cfg.SnapshotBytes/marksPerSnapshot {
			marked = behind
			_ = g.stable.raiseMark() // a failure has ended the node
		}
		if behind < g.cfg.SnapshotBytes && !many || retry != nil {
			continue
		}
		if err := g.takeSnapshot(); err != nil && !g.isDead() {
			retry = time.After(compactRetry)
			g.lg.Warn("snapshot failed", event("raft.snapshot_taken"), errField(err))
		}
	}
}

// takeSnapshot takes a snapshot now; raft then truncates the log behind it, up to a trailing part
// that is chosen by bytes.
func (g *Group) takeSnapshot() error {
	trailing := min(max(g.log.entriesWithin(g.cfg.TrailingBytes), minTrailing), maxTrailing)
	rc := g.raft().ReloadableConfig()
	rc.TrailingLogs = trailing
	if err := g.raft().ReloadConfig(rc); err != nil {
		return err
	}
	start := time.Now()
	// This future is always answered: the snapshot goroutine that takes it does so before it ends.
	err := g.raft().Snapshot().Error()
	switch {
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		return nil
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case err != nil:
		return err
	}
	at, in := g.snaps.current()
	g.lg.Info("snapshot taken", event("raft.snapshot_taken"), index(at), term(in))
	g.metrics.snapshot.Observe(time.Since(start).Seconds())
	return g.stable.raiseMark()
}

// Snapshot takes a snapshot and truncates the log behind it.
func (g *Group) Snapshot(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case g.snapshotCh <- reply:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.stop:
		return ErrClosed
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
