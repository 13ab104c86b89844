package raftfsm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// Group is one replica of one Raft group.
type Group struct {
	h   *Host
	cfg GroupConfig
	lg  *zap.Logger

	r       atomic.Pointer[raft.Raft]
	layer   *gatedLayer
	trans   *serialTransport
	log     *groupLog
	stable  *guardedStable
	tail    *tail
	snaps   *snapshotStore
	members *membership
	peers   *peers
	metrics groupMetrics
	noNudge atomic.Bool // a test measures without

	replay      replayDebt  // owned by raft's FSM goroutine
	flushDue    atomic.Bool // the state was written back and is to be made durable
	snapshotDue atomic.Bool // and so many entries were applied that a snapshot is due

	proposals *proposals
	applied   appliedIndex
	events    leaderEvents
	leadTerm  atomic.Uint64 // term of a ready leadership; 0 = none

	notify      chan bool
	grown       chan struct{} // capacity 1: entries were applied
	snapshotCh  chan chan error
	ending      chan struct{} // closed when raft is about to end
	stop        chan struct{} // closed once raft has ended
	stopTelling chan struct{} // closed last
	wg          sync.WaitGroup
	telling     sync.WaitGroup
	dead        atomic.Bool
	closing     atomic.Bool
	closeOnce   sync.Once
	closeErr    error

	metaMu sync.Mutex
	meta   stateMeta
}

// ID returns the group's number.
func (g *Group) ID() uint32 { return g.cfg.ID }

// Propose appends entry to the group's log. done is called exactly once, from any goroutine and
// possibly before Propose returns, and must not block: with the machine's results and the entry's
// index once it is applied here, or with ErrNotLeader, ErrBusy, ErrTooLarge, ErrEmpty or ErrClosed
// (certainly not appended), or with ErrUnknownOutcome (it may or may not commit). Entries of calls
// that follow one another commit in that order. The group owns entry from the call on.
func (g *Group) Propose(entry []byte, done func(results any, index uint64, err error)) {
	err := ErrClosed
	if !g.isDead() {
		err = g.proposals.add(entry, done)
	}
	if err != nil {
		done(nil, 0, err)
	}
}

// WaitApplied returns once this replica has applied index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	return g.applied.wait(ctx, index)
}

// Leader returns the leader's node id ("" if unknown) and the current term.
func (g *Group) Leader() (nodeID string, term uint64) {
	_, id := g.raft().LeaderWithID()
	return string(id), g.raft().CurrentTerm()
}

// IsLeader says whether this replica leads and admits proposals.
func (g *Group) IsLeader() bool { return g.proposals.leads() }

// Status returns the group's figures.
func (g *Group) Status() Status {
	r := g.raft()
	first, last, bytes := g.log.bounds()
	snap, _ := g.snaps.current()
	leader, term := g.Leader()
	st := Status{
		Group: g.cfg.ID, Term: term, FirstIndex: first, LastIndex: max(last, snap),
		Commit: max(r.CommitIndex(), snap), Applied: g.applied.get(), SnapshotIndex: snap,
		LogBytes: bytes, SnapshotBytes: g.snaps.streamBytes(), State: stateName(r.State()),
		Leader: leader, Members: g.Members(),
	}
	if g.leadTerm.Load() != 0 {
		st.Peers = g.peers.status(g.configuration().Servers, g.self(), st.LastIndex)
	}
	return st
}

func stateName(s raft.RaftState) string {
	switch s {
	case raft.Follower:
		return "follower"
	case raft.Candidate:
		return "candidate"
	case raft.Leader:
		return "leader"
	default:
		return "shutdown"
	}
}

// Close stops the replica in order: pending proposals get ErrUnknownOutcome, the machine writes back.
// It changes no membership and is idempotent. It must not be called from OnLeader or from done.
func (g *Group) Close() error {
	g.closeOnce.Do(func() { g.closeErr = g.end() })
	return g.closeErr
}

// Kill stops the replica as a crash would: no write back, no goodbye.
func (g *Group) Kill() {
	g.dead.Store(true)
	g.layer.cut()
	g.trans.hangUp()
	_ = g.Close()
}

// end stops raft, then what depends on it. The connections go first, because raft's goroutines may
// wait on them for as long as an RPC may take.
func (g *Group) end() error {
	g.closing.Store(true)
	close(g.ending)
	g.proposals.close()
	f := g.raft().Shutdown()
	err := g.trans.Close()
	err = errors.Join(err, f.Error())
	close(g.stop)
	g.peers.close()
	g.wg.Wait()
	g.applied.close()
	if !g.isDead() {
		err = errors.Join(err, g.settle())
	}
	close(g.stopTelling)
	g.telling.Wait()
	g.h.forget(g)
	return errors.Join(ignoreClosed(err), g.tail.close(!g.isDead()), g.stable.inner.Close())
}

// settle leaves little to replay: the machine is written back, and the mark is raised to the end of
// the log, which nothing truncates until the next start lowers it.
func (g *Group) settle() error {
	if err := g.cfg.Machine.WriteBack(); err != nil {
		return fmt.Errorf("write back group %d: %w", g.cfg.ID, err)
	}
	meta := g.stateMeta()
	meta.index, meta.machine = max(meta.index, g.applied.get()), g.cfg.Machine.Applied()
	if err := g.saveMeta(meta); err != nil {
		return err
	}
	return g.stable.raiseMark()
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (g *Group) isDead() bool   { return g.dead.Load() || g.h.fst.isDead() }
func (g *Group) isClosed() bool { return g.closing.Load() }

func (g *Group) raft() *raft.Raft    { return g.r.Load() }
func (g *Group) self() raft.ServerID { return raft.ServerID(g.h.cfg.NodeID) }

func (g *Group) configuration() raft.Configuration {
	return g.raft().GetConfiguration().Configuration()
}

// termAt returns the term of an entry in the log.
func (g *Group) termAt(index uint64) (uint64, bool) {
	var e raft.Log
	if index == 0 || g.log.GetLog(index, &e) != nil {
		return 0, false
	}
	return e.Term, true
}

// marks are what the log may not lose: the fence holds deletions against them.
func (g *Group) fence() fenceMarks {
	m := fenceMarks{}
	m.snapshot, _ = g.snaps.current()
	m.applied = m.snapshot
	if r := g.raft(); r != nil {
		m.applied = max(m.applied, r.AppliedIndex(), r.CommitIndex())
	}
	return m
}

// boundary answers for the entry that the snapshot ends with. A leader's log must not answer so: it
// would replicate the stand-in.
func (g *Group) boundary(index uint64) (uint64, bool) {
	at, term := g.snaps.current()
	r := g.raft()
	if r == nil || index != at || at < 2 || r.State() != raft.Follower {
		return 0, false
	}
	return term, true
}

func (g *Group) stateMeta() stateMeta {
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	return g.meta
}

func (g *Group) saveMeta(meta stateMeta) error {
	if g.isDead() {
		return ErrClosed
	}
	if err := g.h.state.saveMeta(g.cfg.ID, meta); err != nil {
		return err
	}
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	g.meta = meta
	return nil
}

// spawn runs fn on a goroutine that Close waits for.
func (g *Group) spawn(fn func()) {
	g.wg.Add(1)
	go func() {
		defer g.wg.Done()
		fn()
	}()
}

func newNonce() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// notifyBacklog lets raft go on while a leadership notice is handled.
const notifyBacklog = 16

// never stands for a raft timer that our own triggers replace.
const never = 24 * time.Hour
