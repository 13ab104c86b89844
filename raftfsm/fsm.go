package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// fsm is the shim between raft and a Machine. All its methods but fsmSnapshot's run on raft's FSM
// goroutine.
type fsm struct{ g *Group }

var (
	_ raft.BatchingFSM = (*fsm)(nil)
	_ raft.FSMSnapshot = (*fsmSnapshot)(nil)
)

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. raft's futures carry no results: callers are answered from
// the group's own table, whose key travels in the entry's extensions. Entries without data are the
// group's barriers. The applied index comes from the entries.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	g := f.g
	none := make([]any, len(logs))
	start := time.Now()
	for _, l := range logs {
		if g.isDead() {
			return none
		}
		var results any
		switch {
		case l.Type == raft.LogConfiguration:
			g.members.committed(l.Index, raft.DecodeConfiguration(l.Data))
		case len(l.Data) > 0 && (l.Index > g.cfg.Machine.Applied() || planted("replay-applied-again")):
			var err error
			if results, err = g.cfg.Machine.Apply(l.Index, l.Term, l.Data); err != nil {
				g.h.fst.fail(fmt.Errorf("apply entry %d of group %d: %w", l.Index, g.cfg.ID, err))
				return none
			}
		}
		g.applied.set(l.Index)
		g.replay.bytes += len(l.Data)
		g.replay.entries++
		if seq, ok := g.proposals.mine(l.Extensions); ok && !g.isDead() {
			g.proposals.applied(seq, results, l.Index, l.Term)
		}
	}
	g.metrics.apply.Observe(time.Since(start).Seconds())
	f.writeBack()
	g.peers.announce()
	select {
	case g.grown <- struct{}{}:
	default:
	}
	return none
}

// writeBack moves dirty state to the state database before it grows large, and before a restart would have to repeat
// much: what the hot tails spare the database, the log has to give back; and raft hands every entry behind the last
// snapshot to the machine again, which costs a read even where the machine has applied it.
func (f *fsm) writeBack() {
	g := f.g
	many, long := g.replay.entries >= g.cfg.ReplayEntries, g.replay.bytes >= g.cfg.ReplayBytes
	if !many && !long && g.cfg.Machine.DirtyBytes() < g.cfg.WriteBackBytes {
		return
	}
	if err := g.cfg.Machine.WriteBack(); err != nil {
		g.h.fst.fail(fmt.Errorf("write back group %d: %w", g.cfg.ID, err))
		return
	}
	switch { // compact does the rest
	case many:
		g.replay = replayDebt{}
		g.snapshotDue.Store(true)
	case long:
		g.replay.bytes = 0
		g.flushDue.Store(true)
	}
}

// replayDebt is what was applied since a snapshot was last taken, or the state made durable, for the sake of restarts.
type replayDebt struct{ bytes, entries int }

// Snapshot implements raft.FSM: it captures the machine by writing it back. Persist makes that
// durable beside later applies, so the state behind a snapshot may be ahead of its index; replay
// skips what the machine has applied.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	g := f.g
	if planted("snapshot-without-tail") {
		// what is hot stays out of the state database
	} else if err := g.cfg.Machine.WriteBack(); err != nil {
		g.h.fst.fail(fmt.Errorf("write back group %d: %w", g.cfg.ID, err))
		return nil, err
	}
	meta := g.stateMeta()
	meta.index, meta.machine = g.applied.get(), g.cfg.Machine.Applied()
	if err := g.saveMeta(meta); err != nil {
		return nil, err
	}
	return &fsmSnapshot{g: g, index: meta.index}, nil
}

// Restore implements raft.FSM: it loads the snapshot that was just received into a new generation.
// An error ends the process, because raft would go on with the old state (guard G5).
func (f *fsm) Restore(src io.ReadCloser) error {
	g := f.g
	m := g.snaps.taken()
	if m == nil {
		return errors.New("no snapshot was received")
	}
	start := time.Now()
	divergent := g.snaps.diverges(m)
	if err := f.restore(src, m); err != nil {
		if g.isDead() {
			return err
		}
		err = fmt.Errorf("restore snapshot %d of group %d: %w", m.index, g.cfg.ID, err)
		g.h.fst.fail(err)
		return err
	}
	g.metrics.restore.Observe(time.Since(start).Seconds())
	g.lg.Info("snapshot restored", event("raft.snapshot_restored"), index(m.index), term(m.term))
	if divergent {
		g.h.fst.fail(fmt.Errorf("%w: entry %d of group %d", ErrDivergent, m.index, g.cfg.ID))
	}
	return nil
}

// restore fills and flushes a new generation before it swaps to it, so that a crash at any point
// leaves either state whole; only then the marker says that the snapshot is here.
func (f *fsm) restore(src io.Reader, m *snapMarker) error {
	g := f.g
	meta := g.stateMeta()
	old := meta.generation
	meta.generation++
	if err := g.h.state.dropGeneration(g.cfg.ID, meta.generation); err != nil {
		return err
	}
	st := g.h.state.store(g.cfg.ID, meta.generation)
	if err := fillStore(src, st); err != nil {
		return err
	}
	if g.isDead() {
		return ErrClosed
	}
	if planted("restore-into-a-copy") {
		// the machine goes on with what it had
	} else if err := g.cfg.Machine.Load(st); err != nil {
		return fmt.Errorf("load machine: %w", err)
	}
	meta.machine = g.cfg.Machine.Applied()
	meta.index, meta.streamed = max(m.index, meta.machine), meta.machine
	if err := g.saveMeta(meta); err != nil {
		return err
	}
	if err := g.h.state.flush(); err != nil {
		return err
	}
	if err := g.snaps.commit(m); err != nil {
		return err
	}
	g.members.committed(m.confIndex, m.conf)
	g.applied.set(meta.index)
	return errors.Join(g.snaps.finish(), g.h.state.dropGeneration(g.cfg.ID, old))
}

func fillStore(src io.Reader, st Store) error {
	b := st.NewBatch()
	_, err := readStream(src, func(k, v []byte) error {
		b.Set(k, v)
		if b.Len() < writeBatchBytes {
			return nil
		}
		err := b.Commit()
		b = st.NewBatch()
		return err
	})
	if err != nil {
		return err
	}
	return b.Commit()
}

// fsmSnapshot is a snapshot that only has to become durable.
type fsmSnapshot struct {
	g     *Group
	index uint64
}

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	k, ok := sink.(*snapshotSink)
	if !ok {
		return fmt.Errorf("snapshot sink is a %T", sink)
	}
	if k.m.index > s.index {
		err := fmt.Errorf("snapshot %d of group %d is ahead of the applied entry %d", k.m.index, s.g.cfg.ID, s.index)
		s.g.h.fst.fail(err)
		return err
	}
	if planted("log-cut-before-flush") {
		k.local = true
		return nil
	}
	if err := s.g.h.state.flush(); err != nil {
		return err
	}
	k.local = true
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *fsmSnapshot) Release() {}

// extension is what a proposal carries in its entry: the nonce of the proposing group's run and the
// proposal's number in it.
const extensionLen = 16

func putExtension(nonce, seq uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, extensionLen), nonce)
	return binary.BigEndian.AppendUint64(b, seq)
}
