package raftfsm

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// checkReplica holds the parts of a replica against each other before it takes part in anything
// (guards G5, G6). Each part is written by this node alone, so a part that is behind the others was
// lost, or comes from an old copy; voting with it could undo what this identity has acknowledged.
func (g *Group) checkReplica(f stableFacts, meta stateMeta, hasState bool) error {
	first, last, _ := g.log.bounds()
	marker, markerTerm := g.snaps.current()
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: group %d: %s", ErrIdentity, g.cfg.ID, fmt.Sprintf(format, args...))
	}
	lastTerm := markerTerm
	if last > 0 {
		var e raft.Log
		if err := g.log.GetLog(last, &e); err != nil {
			return err
		}
		lastTerm = max(lastTerm, e.Term)
	}
	end := max(last, marker)
	if err := g.tail.check(end, f); err != nil {
		return refuse("%v", err)
	}
	switch {
	case f.term == 0 && end > 0:
		return refuse("votes are missing, but the log ends at %d", end)
	case lastTerm > f.term:
		return refuse("votes of term %d are older than the log of term %d", f.term, lastTerm)
	case end < f.mark:
		return refuse("log ends at %d, but entries up to %d have been here", end, f.mark)
	case first > 0 && first > marker+1:
		return refuse("log begins at %d, behind the snapshot at %d", first, marker)
	case marker > 0 && (!hasState || meta.index < marker):
		return refuse("state holds entries up to %d, but the snapshot says %d", meta.index, marker)
	case f.term == 0 && hasState && meta.index > 0:
		return refuse("votes are missing, but the state holds entries up to %d", meta.index)
	}
	return nil
}

// checkMachine holds the loaded machine against what it was when its state was flushed.
func (g *Group) checkMachine(meta stateMeta) error {
	_, last, _ := g.log.bounds()
	marker, _ := g.snaps.current()
	applied := g.cfg.Machine.Applied()
	if applied < meta.machine {
		return fmt.Errorf("%w: group %d: state holds entries up to %d, but up to %d were flushed",
			ErrIdentity, g.cfg.ID, applied, meta.machine)
	}
	if newest := max(last, marker, meta.streamed); applied > newest {
		return fmt.Errorf("%w: group %d: state holds entries up to %d, but the log ends at %d",
			ErrIdentity, g.cfg.ID, applied, newest)
	}
	return nil
}

// dropSuperseded deletes a log that an installed snapshot has superseded: one that ends before it, or
// that conflicts with it (guard G2). What such a log holds behind the snapshot follows a conflicting
// entry, so none of it is committed.
func (g *Group) dropSuperseded() error {
	first, last, _ := g.log.bounds()
	marker, term := g.snaps.current()
	if marker == 0 || first == 0 {
		return nil
	}
	keep := last >= marker && first > marker // it begins behind the snapshot
	if last >= marker && first <= marker {
		var e raft.Log
		if err := g.log.GetLog(marker, &e); err != nil {
			return err
		}
		keep = e.Term == term
	}
	if keep {
		return nil
	}
	g.lg.Warn("log is superseded by the snapshot and is dropped", event("storage.recovered"), index(marker))
	return g.log.wipe(marker)
}
