package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// OfflineGroup is one replica in the data directory of a stopped node.
type OfflineGroup struct {
	ID      uint32
	Replica ReplicaFacts

	o       *Offline
	dir     string
	control bool
	stable  *guardedStable
	log     logBackend
	marker  *snapMarker
	meta    stateMeta
}

// ReplicaFacts are what the files of a replica say, before anything is made of them.
type ReplicaFacts struct {
	// Term, VoteTerm and VotedFor are the votes; Mark is the index below which neither log nor snapshot may end.
	Term, VoteTerm uint64
	VotedFor       string
	Mark           uint64
	// TailLast, TailTerm and TailVote are what was noted last as durable, 0 if nothing was.
	TailLast, TailTerm, TailVote uint64
	// First and Last bound the log, 0 if it is empty; LastTerm is the term of its last entry.
	First, Last, LastTerm uint64
	// Snapshot is the marker of the last snapshot, nil if there is none.
	Snapshot *SnapshotFacts
	// HasState says that the state database knows the group; then Generation counts, StateIndex is the index up to which it holds
	// entries, StateApplied that of the machine, and Streamed that of an installed snapshot, which may be ahead of the log.
	HasState                           bool
	Generation                         uint32
	StateIndex, StateApplied, Streamed uint64
	// Incoming says that a snapshot was being received.
	Incoming bool
}

// SnapshotFacts are what a snapshot marker says.
type SnapshotFacts struct {
	Index, Term, ConfigurationIndex uint64
	Members                         []Member
}

// LogEntry is an entry of a Raft log.
type LogEntry struct {
	Index, Term uint64
	// Type is command, noop, barrier, configuration or another word of raft.
	Type string
	// AppendedAt is the leader's clock, zero if it is not known.
	AppendedAt time.Time
	// Data is the command; Members are those of a configuration.
	Data    []byte
	Members []Member
	// Bytes is the size on disk.
	Bytes int
}

// Empty says that the replica has neither log nor snapshot: it was about to be filled.
func (f *ReplicaFacts) Empty() bool { return f.Last == 0 && f.Snapshot == nil }

// End is the index and the term of the last entry that the replica can vouch for: its log's, or its snapshot's.
func (f *ReplicaFacts) End() (index, term uint64) {
	index, term = f.Last, f.LastTerm
	if s := f.Snapshot; s != nil && s.Index > index {
		index, term = s.Index, s.Term
	}
	return index, term
}

// Applied is the highest index that the state database holds.
func (f *ReplicaFacts) Applied() uint64 { return max(f.StateApplied, f.Streamed) }

func membersOf(conf raft.Configuration) []Member {
	out := make([]Member, len(conf.Servers))
	for i, s := range conf.Servers {
		out[i] = Member{ID: string(s.ID), Voter: s.Suffrage == raft.Voter}
	}
	return out
}

// read gathers the facts.
func (g *OfflineGroup) read() error {
	f := &g.Replica
	if err := g.readVotes(f); err != nil {
		return fmt.Errorf("votes of group %d: %w", g.ID, err)
	}
	b, err := readFile(g.o.fs, g.path(tailFile), tailLen+1)
	if err != nil && !oserror.IsNotExist(err) {
		return fmt.Errorf("read %s: %w", g.path(tailFile), err)
	}
	if r, ok := decodeTail(g.ID, b); ok {
		f.TailLast, f.TailTerm, f.TailVote = r.last, r.term, r.voteTerm
	}
	if err := g.readMarker(f); err != nil {
		return err
	}
	if err := g.readMeta(f); err != nil {
		return err
	}
	return g.readBounds(f)
}

func (g *OfflineGroup) path(name string) string { return g.o.fs.PathJoin(g.dir, name) }

func (g *OfflineGroup) readVotes(f *ReplicaFacts) error {
	for key, to := range map[string]*uint64{keyTerm: &f.Term, keyVoteTerm: &f.VoteTerm, keyMark: &f.Mark} {
		v, err := g.stable.loadUint(key)
		if err != nil && !isKeyNotFound(err) {
			return err
		}
		*to = v
	}
	who, err := g.stable.read([]byte(keyVoteCand))
	if err != nil && !isKeyNotFound(err) {
		return err
	}
	f.VotedFor = string(who)
	owner, err := g.stable.read([]byte(keyOwner))
	if err == nil && string(owner) != g.o.node {
		return fmt.Errorf("%w: they belong to node %q, the directory to %q", ErrIdentity, owner, g.o.node)
	}
	if err != nil && !isKeyNotFound(err) {
		return err
	}
	return nil
}

func (g *OfflineGroup) readMarker(f *ReplicaFacts) error {
	_, err := g.o.fs.Stat(g.path(incomingFile))
	f.Incoming = err == nil
	b, err := readFile(g.o.fs, g.path(markerFile), maxMarkerBytes)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err == nil {
		g.marker, err = decodeMarker(g.ID, b)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", g.path(markerFile), err)
	}
	f.Snapshot = &SnapshotFacts{
		Index: g.marker.index, Term: g.marker.term, ConfigurationIndex: g.marker.confIndex, Members: membersOf(g.marker.conf),
	}
	return nil
}

func (g *OfflineGroup) readMeta(f *ReplicaFacts) error {
	g.meta = stateMeta{generation: 1}
	v, closer, err := g.o.state.db.Get(metaKey(g.ID))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: state record of group %d: %w", ErrCorrupt, g.ID, err)
	}
	g.meta, err = decodeStateMeta(g.ID, v)
	if err = errors.Join(err, closer.Close()); err != nil {
		return err
	}
	f.HasState, f.Generation, f.StateIndex = true, g.meta.generation, g.meta.index
	f.StateApplied, f.Streamed = g.meta.machine, g.meta.streamed
	return nil
}

// readBounds finds the ends of the log without reading what is between.
func (g *OfflineGroup) readBounds(f *ReplicaFacts) error {
	switch log := g.log.(type) {
	case *stableBackend:
		var err error
		if f.First, err = log.store.FirstIndex(); err == nil {
			f.Last, err = log.store.LastIndex()
		}
		if err != nil {
			return fmt.Errorf("%w: log of group %d: %w", ErrCorrupt, g.ID, err)
		}
	case *sharedLog:
		it, err := log.db.NewIter(&pebble.IterOptions{LowerBound: log.key(0), UpperBound: log.end()})
		if err != nil {
			return fmt.Errorf("%w: log of group %d: %w", ErrCorrupt, g.ID, err)
		}
		if it.First() && len(it.Key()) == logKeyLen {
			f.First = indexOfKey(it.Key())
		}
		if it.Last() && len(it.Key()) == logKeyLen {
			f.Last = indexOfKey(it.Key())
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("%w: log of group %d: %w", ErrCorrupt, g.ID, err)
		}
	}
	if f.Last == 0 {
		return nil
	}
	var e raft.Log
	if err := g.log.get(f.Last, &e); err != nil {
		return fmt.Errorf("log of group %d, entry %d: %w", g.ID, f.Last, err)
	}
	f.LastTerm = e.Term
	return nil
}

// Entries gives the entries in [from, to] to fn, in order, until fn answers false; to 0 means up to the end. Each checksum is
// verified: an error names the entry that is damaged or missing.
func (g *OfflineGroup) Entries(from, to uint64, fn func(e *LogEntry) bool) error {
	if g.Replica.Last == 0 {
		return nil
	}
	if to == 0 || to > g.Replica.Last {
		to = g.Replica.Last
	}
	for i := max(from, g.Replica.First); i <= to; i++ {
		var l raft.Log
		if err := g.log.get(i, &l); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) {
				err = fmt.Errorf("%w: it is missing", ErrCorrupt)
			}
			return fmt.Errorf("log of group %d (%d to %d), entry %d: %w", g.ID, g.Replica.First, g.Replica.Last, i, err)
		}
		e := LogEntry{Index: i, Term: l.Term, Type: typeName(l.Type), AppendedAt: l.AppendedAt, Bytes: entrySize(&l)}
		if l.Type == raft.LogConfiguration {
			conf, err := decodeConfiguration(l.Data)
			if err != nil {
				return fmt.Errorf("log of group %d, entry %d: %w", g.ID, i, err)
			}
			e.Members = membersOf(conf)
		} else {
			e.Data = l.Data
		}
		if !fn(&e) {
			return nil
		}
	}
	return nil
}

// decodeConfiguration turns the panic of raft into an error.
func decodeConfiguration(data []byte) (conf raft.Configuration, err error) {
	err = catchPanic(func() error { conf = raft.DecodeConfiguration(data); return nil })
	return conf, err
}

func typeName(t raft.LogType) string {
	switch t {
	case raft.LogCommand:
		return "command"
	case raft.LogNoop:
		return "noop"
	case raft.LogBarrier:
		return "barrier"
	case raft.LogConfiguration:
		return "configuration"
	default:
		return fmt.Sprintf("type-%d", t)
	}
}

// Members is the newest membership that the replica knows of, committed or not, and the index at which it stands.
func (g *OfflineGroup) Members() (members []Member, index uint64, err error) {
	if s := g.Replica.Snapshot; s != nil {
		members, index = s.Members, s.ConfigurationIndex
	}
	err = g.Entries(0, 0, func(e *LogEntry) bool {
		if e.Type == "configuration" {
			members, index = e.Members, e.Index
		}
		return true
	})
	return members, index, err
}

// Store is the machine's stored state. Batches of it fail.
func (g *OfflineGroup) Store() Store { return g.o.state.store(g.ID, g.meta.generation) }

// Keys counts the keys of the stored state and their bytes.
func (g *OfflineGroup) Keys() (keys int, bytes int64, err error) {
	err = g.Store().Iterate(nil, nil, func(k, v []byte) bool {
		keys++
		bytes += int64(len(k) + len(v))
		return true
	})
	return keys, bytes, err
}

// Load makes a machine what the replica would be after a start, with every entry of its log applied: the stored state, and what
// is behind it in the log. Entries that were never committed are among them, as a recovery would commit them. stored is the index of
// the stored state. The machine must not write back.
func (g *OfflineGroup) Load(m Machine) (stored uint64, err error) {
	if err := m.Load(g.Store()); err != nil {
		return 0, fmt.Errorf("load the state of group %d: %w", g.ID, err)
	}
	stored = m.Applied()
	if s := g.Replica.Snapshot; s != nil && max(stored, g.Replica.StateIndex) < s.Index {
		return stored, fmt.Errorf("%w: group %d: the state holds entries up to %d, but the snapshot says %d", ErrIdentity, g.ID, stored, s.Index)
	}
	var failed error
	err = g.Entries(stored+1, 0, func(e *LogEntry) bool {
		if e.Type != "command" || len(e.Data) == 0 {
			return true
		}
		if _, failed = m.Apply(e.Index, e.Term, e.Data); failed != nil {
			failed = fmt.Errorf("apply entry %d of group %d: %w", e.Index, g.ID, failed)
		}
		return failed == nil
	})
	return stored, errors.Join(failed, err)
}

func indexOfKey(k []byte) uint64 { return binary.BigEndian.Uint64(k[4:]) }
