package raftfsm

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Repair is a replica that is open for the offline recovery: its stores, with all the checks of a start, and no raft.
type Repair struct {
	g     *Group
	facts stableFacts
}

// OpenRepair opens a replica that no group runs on. One that is not there begins empty. ErrIdentity and ErrCorrupt say that a node
// would refuse it, too.
func (h *Host) OpenRepair(id uint32, control bool) (_ *Repair, err error) {
	if _, open := h.Group(id); open {
		return nil, fmt.Errorf("group %d is open", id)
	}
	g := &Group{
		h: h, cfg: GroupConfig{ID: id, Control: control}, lg: h.lg.With(groupField(id)), members: newMembership(),
		metrics: h.metrics.group(id),
	}
	g.proposals = newProposals(0, 1, 1, func(time.Duration) {}, func(uint64) {})
	dir, err := h.groupDir(id)
	if err != nil {
		return nil, err
	}
	stable, err := h.cfg.Stable(dir, id)
	if err != nil {
		return nil, fmt.Errorf("open votes of group %d: %w", id, err)
	}
	r := &Repair{g: g}
	if err := g.openStores(dir, stable); err != nil {
		err = errors.Join(err, stable.Close())
		if g.tail != nil {
			err = errors.Join(err, g.tail.close(false))
		}
		return nil, fmt.Errorf("open group %d: %w", id, err)
	}
	if r.facts, err = g.stable.load(h.cfg.NodeID); err != nil {
		return nil, errors.Join(fmt.Errorf("votes of group %d: %w", id, err), r.Close())
	}
	return r, nil
}

// End is the index and the term of the last entry.
func (r *Repair) End() (index, term uint64) {
	_, last, _ := r.g.log.bounds()
	index, term = r.g.snaps.current()
	if last <= index {
		return index, term
	}
	term, _ = r.g.termAt(last)
	return last, term
}

// Store is the machine's stored state, to be changed by tests of damage.
func (r *Repair) Store() Store {
	return r.g.h.state.store(r.g.cfg.ID, r.g.stateMeta().generation)
}

// Adopt makes members the group's only ones and puts one more entry behind that, in a term that nobody has seen: once one of them
// leads, it commits everything that its log holds. applied is the index that the machine has; it is beyond the log if a snapshot
// was installed whose state is younger than its index.
func (r *Repair) Adopt(members []Member, applied uint64, entry []byte) error {
	g := r.g
	end, lastTerm := r.End()
	term := max(r.facts.term, lastTerm) + 1
	var conf raft.Configuration
	for _, m := range members {
		s := raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.ID), Suffrage: raft.Nonvoter}
		if m.Voter {
			s.Suffrage = raft.Voter
		}
		conf.Servers = append(conf.Servers, s)
	}
	if err := g.stable.SetUint64([]byte(keyTerm), term); err != nil {
		return err
	}
	if applied > end {
		if err := r.skipTo(applied, term, conf); err != nil {
			return err
		}
		end = applied
	}
	now := time.Now()
	logs := []*raft.Log{
		{Index: end + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf), AppendedAt: now},
		{Index: end + 2, Term: term, Type: raft.LogCommand, Data: entry, AppendedAt: now},
	}
	if err := g.log.StoreLogs(logs); err != nil {
		return fmt.Errorf("adopt group %d: %w", g.cfg.ID, err)
	}
	return g.h.fst.err()
}

// skipTo makes the flushed state the snapshot, where it is ahead of the log: the entries between are in it.
func (r *Repair) skipTo(applied, term uint64, conf raft.Configuration) error {
	g := r.g
	meta := g.stateMeta()
	meta.index, meta.machine = max(meta.index, applied), max(meta.machine, applied)
	if err := g.saveMeta(meta); err != nil {
		return err
	}
	if err := g.h.state.flush(); err != nil {
		return err
	}
	if err := g.snaps.commit(&snapMarker{index: applied, term: term, confIndex: applied, conf: conf}); err != nil {
		return err
	}
	return g.log.wipe(applied)
}

// Close closes the replica.
func (r *Repair) Close() error {
	return errors.Join(r.g.tail.close(!r.g.isDead()), r.g.stable.inner.Close())
}
