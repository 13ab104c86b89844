package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// Layout of the data directory:
//
//	LOCK              held while a host is open
//	raftfsm           format and node id
//	log/              Pebble: the Raft logs of all shards
//	state/            Pebble without WAL: the state of all groups
//	groups/ID/raft.db bbolt: votes and term; the log of a control group
//	groups/ID/snapshot  marker of the last snapshot
//	groups/ID/incoming  a snapshot while it is received
const (
	lockFile   = "LOCK"
	ownerFile  = "raftfsm"
	ownerTmp   = "raftfsm.tmp"
	logDir     = "log"
	stateDir   = "state"
	groupsDir  = "groups"
	formatLine = "flotilla-raftfsm 1"
	// closeGrace is how long the databases of a failed host may take to close: a database whose
	// disk has failed may not be able to.
	closeGrace = 2 * time.Second
)

// Host owns a node's data directory: the shared log, the state database and the groups on them.
type Host struct {
	cfg     HostConfig
	born    time.Time // beats are counted from it
	fs      vfs.FS
	lg      *zap.Logger
	raftLg  *hcLogger // one for all groups: its sampler is large
	lock    interface{ Close() error }
	fst     *failStop
	wd      *watchdog
	logDB   *pebble.DB
	state   *stateDB
	metrics *hostMetrics
	trunk   atomic.Pointer[trunk]

	mu     sync.Mutex
	groups map[uint32]*Group // nil value: being opened
	closed bool
	// opening counts calls of OpenGroup under way, so that shutdown finds what they open. Add is under mu.
	opening sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

// OpenHost locks and opens the data directory. ErrLocked, ErrIdentity, ErrCorrupt.
func OpenHost(cfg HostConfig) (*Host, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, born: time.Now(), lg: cfg.Logger.Named("raftfsm"), groups: map[uint32]*Group{}}
	h.raftLg = newHCLogger(h.lg)
	h.fst = newFailStop(h.lg, cfg.Fatal)
	h.metrics = newHostMetrics(h)
	h.fs = &deadFS{FS: rigDisk(cfg.FS), dead: h.fst.isDead, fsync: h.observeFsync}
	if err := h.openDir(); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	h.wd = newWatchdog(cfg.WatchdogTimeout, h.fst)
	err := h.openDatabases()
	if err == nil && cfg.Registerer != nil {
		err = cfg.Registerer.Register(h.metrics)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) openDir() error {
	groups := h.fs.PathJoin(h.cfg.Dir, groupsDir)
	if err := h.fs.MkdirAll(groups, 0o700); err != nil {
		return err
	}
	lock, err := h.fs.Lock(h.fs.PathJoin(h.cfg.Dir, lockFile))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	h.lock = lock
	err = h.checkOwner()
	for _, dir := range []string{h.cfg.Dir, h.fs.PathDir(h.cfg.Dir)} {
		if err == nil {
			err = syncDir(h.fs, dir)
		}
	}
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	return nil
}

// checkOwner compares the persisted format and node id, or writes them into a new directory.
func (h *Host) checkOwner() error {
	want := formatLine + "\n" + h.cfg.NodeID + "\n"
	path := h.fs.PathJoin(h.cfg.Dir, ownerFile)
	b, err := readFile(h.fs, path, 4096)
	if err == nil {
		if string(b) != want {
			format, owner, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
			return fmt.Errorf("%w: it says %q of node %q, this is %q of node %q", ErrIdentity,
				format, owner, formatLine, h.cfg.NodeID)
		}
		return nil
	}
	if !oserror.IsNotExist(err) {
		return err
	}
	names, err := h.fs.List(h.fs.PathJoin(h.cfg.Dir, groupsDir))
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%w: it has groups but no file %s", ErrIdentity, ownerFile)
	}
	return writeFile(h.fs, h.cfg.Dir, ownerTmp, ownerFile, []byte(want))
}

func (h *Host) openDatabases() error {
	var err error
	if h.logDB, err = openLogDB(h.fs, h.fs.PathJoin(h.cfg.Dir, logDir), h.cfg.SyncInterval, h.fst, h.lg); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	db, err := openStateDB(h.fs, h.fs.PathJoin(h.cfg.Dir, stateDir), h.fst, h.lg)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	h.state = newStateDB(db, h.fst, h.wd)
	return h.fst.err()
}

// observeFsync measures the fsyncs of the databases.
func (h *Host) observeFsync(path string, d time.Duration) {
	switch dir := h.fs.PathBase(h.fs.PathDir(path)); dir {
	case logDir, stateDir:
		h.metrics.fsync.WithLabelValues(dir).Observe(d.Seconds())
	}
}

// groupDir makes the directory of a group.
func (h *Host) groupDir(id uint32) (string, error) {
	parent := h.fs.PathJoin(h.cfg.Dir, groupsDir)
	dir := h.fs.PathJoin(parent, strconv.FormatUint(uint64(id), 10))
	if err := h.fs.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, syncDir(h.fs, parent)
}

// OpenGroup opens a group: it verifies its stores, loads the machine and joins the group.
// ErrIdentity and ErrCorrupt say that this replica must not run.
func (h *Host) OpenGroup(cfg GroupConfig) (*Group, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	_, taken := h.groups[cfg.ID]
	closed := h.closed
	if !taken && !closed {
		h.groups[cfg.ID] = nil
		h.opening.Add(1)
		defer h.opening.Done()
	}
	h.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if taken {
		return nil, fmt.Errorf("group %d is open already", cfg.ID)
	}
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	g := &Group{
		h: h, cfg: cfg, lg: h.lg.With(groupField(cfg.ID)), members: newMembership(),
		metrics: h.metrics.group(cfg.ID),
		notify:  make(chan bool, notifyBacklog), grown: make(chan struct{}, 1), snapshotCh: make(chan chan error),
		ending: make(chan struct{}), stop: make(chan struct{}), stopTelling: make(chan struct{}),
		events: leaderEvents{wake: make(chan struct{}, 1)},
	}
	observe := func(d time.Duration) { g.metrics.commit.Observe(d.Seconds()) }
	g.proposals = newProposals(nonce, cfg.MaxInflightBytes, cfg.MaxEntryBytes, observe, g.led)
	g.peers = newPeers(g)
	err = g.open()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		delete(h.groups, cfg.ID)
		return nil, fmt.Errorf("open group %d: %w", cfg.ID, err)
	}
	h.groups[cfg.ID] = g
	return g, nil
}

// forget removes a closed group.
func (h *Host) forget(g *Group) {
	h.fst.unregister(g.layer)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.groups, g.cfg.ID)
}

// Groups lists the groups that have state in the data directory.
func (h *Host) Groups() []uint32 {
	names, err := h.fs.List(h.fs.PathJoin(h.cfg.Dir, groupsDir))
	if err != nil {
		h.lg.Error("cannot list groups", errField(err))
		return nil
	}
	var ids []uint32
	for _, n := range names {
		if id, err := strconv.ParseUint(n, 10, 32); err == nil {
			ids = append(ids, uint32(id))
		}
	}
	slices.Sort(ids)
	return ids
}

// Group returns an open group.
func (h *Host) Group(id uint32) (*Group, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[id]
	return g, g != nil
}

func (h *Host) openGroups() []*Group {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*Group, 0, len(h.groups))
	for _, g := range h.groups {
		if g != nil {
			out = append(out, g)
		}
	}
	return out
}

// Close closes every group, flushes the state and unlocks the directory. It is idempotent.
func (h *Host) Close() error {
	h.closeOnce.Do(func() { h.closeErr = h.shutdown() })
	return h.closeErr
}

// Kill ends the host as a crash would: it is cut off first, nothing is flushed. It must not be called
// on a goroutine that is inside a group's callbacks or Fatal.
func (h *Host) Kill() {
	h.fst.cut()
	if h.cfg.Killed != nil {
		h.cfg.Killed()
	}
	_ = h.Close()
}

func (h *Host) shutdown() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.opening.Wait()
	var err error
	for _, g := range h.openGroups() {
		if h.fst.isDead() {
			g.Kill()
			continue
		}
		err = errors.Join(err, g.Close())
	}
	if t := h.trunk.Load(); t != nil {
		err = errors.Join(err, t.close())
	}
	if h.cfg.Registerer != nil {
		h.cfg.Registerer.Unregister(h.metrics)
	}
	if h.state != nil && !h.fst.isDead() {
		err = errors.Join(err, h.state.flush())
	}
	h.wd.close()
	return errors.Join(err, h.closeDatabases(), h.lock.Close())
}

// closeDatabases closes both databases. One whose disk has failed may panic or hang in its own locks:
// then it is left behind, in a process that must end anyway.
func (h *Host) closeDatabases() error {
	if h.state != nil {
		h.state.shut()
	}
	if h.fst.err() == nil {
		return h.closeBoth()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- catchPanic(h.closeBoth) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("a failed database does not close")
	}
}

func (h *Host) closeBoth() error {
	var err error
	if h.state != nil {
		err = h.state.db.Close()
	}
	if h.logDB != nil {
		err = errors.Join(err, h.logDB.Close())
	}
	return err
}
