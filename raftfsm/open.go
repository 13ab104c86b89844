package raftfsm

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// open brings a replica up: stores, checks, machine, raft, goroutines. On an error everything that was
// opened is closed.
func (g *Group) open() (err error) {
	dir, err := g.h.groupDir(g.cfg.ID)
	if err != nil {
		return err
	}
	stable, err := g.h.cfg.Stable(dir, g.cfg.ID)
	if err != nil {
		return fmt.Errorf("open votes: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stable.Close())
			if g.tail != nil {
				err = errors.Join(err, g.tail.close(false))
			}
		}
	}()
	if err := g.openStores(dir, stable); err != nil {
		return err
	}
	if err := g.loadMachine(); err != nil {
		return err
	}
	return g.startRaft()
}

// openStores loads and checks log, votes, snapshot marker and state record.
func (g *Group) openStores(dir string, stable StableLog) error {
	h := g.h
	g.stable = &guardedStable{
		group: g.cfg.ID, inner: stable, fst: h.fst, wd: h.wd, dead: g.isDead, mayVote: g.mayVote,
		marks: func() uint64 { return g.fence().applied },
	}
	var backend logBackend = &sharedLog{db: h.logDB, group: g.cfg.ID}
	if g.cfg.Control {
		backend = &stableBackend{group: g.cfg.ID, store: stable}
	}
	g.log = newGroupLog(g.cfg.ID, backend, h.cfg.LogCacheBytes, h.fst, h.wd)
	g.log.dead, g.log.fence, g.log.boundary, g.log.stored = g.isDead, g.fence, g.boundary, g.proposals.stored
	g.log.observe = func(d time.Duration) { g.metrics.appended.Observe(d.Seconds()) }
	g.stable.observe = func(d time.Duration) { h.metrics.fsync.WithLabelValues("stable").Observe(d.Seconds()) }
	g.snaps = &snapshotStore{
		group: g.cfg.ID, dir: dir, fs: h.fs, state: h.state, log: g.log, fst: h.fst, dead: g.isDead,
		generation: func() uint32 { return g.stateMeta().generation },
	}
	var err error
	if g.tail, err = openTail(h.fs, dir, g.cfg.ID, h.fst, g.isDead); err != nil {
		return err
	}
	g.log.tail, g.stable.tail = g.tail, g.tail
	facts, err := g.stable.load(h.cfg.NodeID)
	if err != nil {
		return err
	}
	if facts.term == 0 {
		if facts, err = g.stable.resume(h, facts); err != nil {
			return err
		}
	}
	if err := g.snaps.load(); err != nil {
		return err
	}
	if err := g.log.load(); err != nil {
		return err
	}
	meta, found, err := h.state.loadMeta(g.cfg.ID)
	if err != nil {
		return err
	}
	g.meta = meta
	if err := g.checkReplica(facts, meta, found); err != nil {
		return err
	}
	return g.dropSuperseded()
}

// loadMachine rebuilds the machine from the state database.
func (g *Group) loadMachine() error {
	if err := g.cfg.Machine.Load(g.h.state.store(g.cfg.ID, g.meta.generation)); err != nil {
		return fmt.Errorf("load machine: %w", err)
	}
	if err := g.checkMachine(g.meta); err != nil {
		return err
	}
	marker, _ := g.snaps.current()
	g.applied.set(max(marker, g.cfg.Machine.Applied()))
	return nil
}

// startRaft bootstraps a new group and starts raft and the group's goroutines.
func (g *Group) startRaft() error {
	if m := g.snaps.marker; m != nil {
		g.members.committed(m.confIndex, m.conf)
	}
	lg := g.h.raftLg.With("group", g.cfg.ID)
	g.layer = newGatedLayer(g.cfg.Layer, g.h.cfg.NodeID, 2*g.cfg.Heartbeat)
	g.h.fst.register(g.layer)
	g.trans = newSerialTransport(networkConfig(g.layer, rpcTimeout(g.cfg.Heartbeat), lg))
	g.trans.replied, g.trans.hold, g.trans.carry, g.trans.answer = g.peers.replied, g.hold, g.peers.carry, g.peers.answerAhead
	trunk := g.h.trunk.Load()
	if g.cfg.Alone || trunk != nil {
		g.trans.openInbox()
	}
	if trunk != nil {
		g.trans.trunk = trunk.join(&trunkEnd{
			group: g.cfg.ID, inbox: g.trans.inbox, dead: g.isDead, patience: rpcTimeout(g.cfg.Heartbeat), dial: 2 * g.cfg.Heartbeat,
		})
	}
	g.trans.beat = g.awaitBeat
	g.log.ahead = g.peers.sendAhead
	conf := raftConfig(g.h.cfg.NodeID, g.cfg, g.notify, lg)
	err := g.bootstrap(conf)
	if err == nil {
		var r *raft.Raft
		if r, err = raft.NewRaft(conf, &fsm{g: g}, g.log, g.stable, g.snaps, g.trans); err == nil {
			g.r.Store(r)
			err = g.h.fst.err()
		}
	}
	if err != nil {
		if r := g.raft(); r != nil {
			_ = r.Shutdown().Error()
		}
		g.h.fst.unregister(g.layer)
		return errors.Join(fmt.Errorf("start raft: %w", err), ignoreClosed(g.trans.Close()))
	}
	if g.trans.inbox != nil {
		g.spawn(func() { g.trans.forward(g.stop) })
	}
	if g.cfg.Alone {
		g.electAlone()
	}
	g.spawn(g.watchLeadership)
	g.spawn(func() { g.proposals.feed(g.raft(), g.stop) })
	g.spawn(g.compact)
	g.telling.Add(1)
	go func() {
		defer g.telling.Done()
		g.tellLeadership()
	}()
	return nil
}

// electAlone lets a group whose only voter is this replica elect it at once: there is nobody whose
// leader's silence it would have to wait for.
func (g *Group) electAlone() {
	voters, self := 0, false
	for _, s := range g.configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == g.self()
		}
	}
	if self && voters == 1 {
		g.trans.timeoutNow()
	}
}

// bootstrap writes the initial membership into an empty replica. All initial voters write the same
// entry, so the one of a bootstrap that a crash cut short (a term, but no entry yet) is written too.
func (g *Group) bootstrap(conf *raft.Config) error {
	if len(g.cfg.Bootstrap) == 0 {
		return nil
	}
	_, last, _ := g.log.bounds()
	if marker, _ := g.snaps.current(); last > 0 || marker > 0 {
		return nil
	}
	if f, err := g.stable.load(g.h.cfg.NodeID); err != nil || f.term > 1 || f.hasVote {
		return err
	}
	var members raft.Configuration
	for _, m := range g.cfg.Bootstrap {
		s := raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.ID), Suffrage: raft.Nonvoter}
		if m.Voter {
			s.Suffrage = raft.Voter
		}
		members.Servers = append(members.Servers, s)
	}
	err := raft.BootstrapCluster(conf, g.log, g.stable, g.snaps, g.trans, members)
	if errors.Is(err, raft.ErrCantBootstrap) {
		err = g.log.StoreLog(&raft.Log{
			Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(members),
		})
	}
	return err
}

// mayVote refuses the vote of a replica that has nothing: neither log nor snapshot.
func (g *Group) mayVote() bool {
	_, last, _ := g.log.bounds()
	marker, _ := g.snaps.current()
	return last > 0 || marker > 0
}

// rpcTimeout is how long a raft stream may make no progress. Dead peers are found by heartbeats, so
// it need not be short; it bounds how long a connection into a partition is held.
func rpcTimeout(heartbeat time.Duration) time.Duration { return 5 * heartbeat }

// maxAppendEntries bounds entries per AppendEntries and per fsync of a leader.
const maxAppendEntries = 64

// raftConfig is the configuration of every group; a test holds its pins.
func raftConfig(self string, cfg GroupConfig, notify chan<- bool, lg hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(self)
	c.HeartbeatTimeout, c.ElectionTimeout = cfg.Heartbeat, cfg.Heartbeat
	// A leader without a majority steps down before a follower may be elected, and its heartbeats
	// wait behind fsyncs (guard G1), so the lease is not much shorter than the timeout.
	c.LeaderLeaseTimeout = cfg.Heartbeat * 3 / 4
	// What an idle leader has to tell goes with the nudge and with its heartbeats (nudge.go): a
	// message of raft's own for the same, as often as heartbeats, was half of an idle cluster's CPU.
	c.CommitTimeout = cfg.Heartbeat
	c.MaxAppendEntries = maxAppendEntries
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false
	// Snapshots are triggered by bytes (compact.go), never by raft's counts.
	c.SnapshotInterval, c.SnapshotThreshold = never, math.MaxUint64
	c.TrailingLogs = math.MaxUint32
	// The machine recovers from the state database.
	c.NoSnapshotRestoreOnStart = true
	c.PreVoteDisabled = false
	c.NoLegacyTelemetry = true
	c.NotifyCh = notify
	c.Logger = lg
	return c
}
