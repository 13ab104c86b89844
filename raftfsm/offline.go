package raftfsm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// Offline reads the data directory of a stopped node. It changes nothing there: the file system that its databases get refuses
// every change. It is not for concurrent use.
type Offline struct {
	dir   string
	node  string
	fs    vfs.FS
	lock  io.Closer // nil if there was nothing to lock
	fst   *failStop
	wd    *watchdog
	logDB *pebble.DB
	state *stateDB
	open  []*OfflineGroup
}

// offlineWatchdog is far off: nobody waits for an election.
const offlineWatchdog = time.Hour

// OpenOffline locks a data directory and opens it for reading. ErrLocked: a node runs in it. ErrNoData: it is none. ErrCorrupt.
func OpenOffline(dir string, lg *zap.Logger) (*Offline, error) {
	if lg == nil {
		lg = zap.NewNop()
	}
	o := &Offline{dir: dir, fs: readOnlyFS{vfs.Default}}
	o.fst = newFailStop(zap.NewNop(), func(error) {}) // the caller is told what failed
	owner := o.fs.PathJoin(dir, ownerFile)
	b, err := readFile(o.fs, owner, 4096)
	if oserror.IsNotExist(err) {
		return nil, fmt.Errorf("%w: %s has no file %s", ErrNoData, dir, ownerFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", owner, err)
	}
	format, rest, _ := strings.Cut(string(b), "\n")
	if o.node = strings.TrimSpace(rest); format != formatLine || o.node == "" {
		return nil, fmt.Errorf("%w: %s says %q, this program knows %q", ErrIdentity, owner, format, formatLine)
	}
	if o.lock, err = lockExisting(dir); err != nil {
		return nil, err
	}
	o.wd = newWatchdog(offlineWatchdog, o.fst)
	if err := o.openDatabases(lg); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// lockExisting keeps a node from starting meanwhile. A copy of a directory may lack the file; then nobody can run in it, since the
// first thing that a node does is to make it, and making it here would change the directory.
func lockExisting(dir string) (io.Closer, error) {
	path := vfs.Default.PathJoin(dir, lockFile)
	if _, err := vfs.Default.Stat(path); oserror.IsNotExist(err) {
		return nil, nil
	}
	lock, err := vfs.Default.Lock(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLocked, dir, err)
	}
	return lock, nil
}

func (o *Offline) openDatabases(lg *zap.Logger) error {
	open := func(name string, withWAL bool) (*pebble.DB, error) {
		opt := baseOptions(o.fs, o.fst, lg.Named(name))
		opt.ReadOnly, opt.DisableWAL = true, !withWAL
		path := o.fs.PathJoin(o.dir, name)
		db, err := pebble.Open(path, opt)
		if err != nil {
			return nil, fmt.Errorf("%w: database %s: %w", ErrCorrupt, path, err)
		}
		return db, nil
	}
	var err error
	if o.logDB, err = open(logDir, true); err != nil {
		return err
	}
	db, err := open(stateDir, false)
	if err != nil {
		return err
	}
	o.state = newStateDB(db, o.fst, o.wd)
	return nil
}

// Close closes everything and lets a node start again.
func (o *Offline) Close() error {
	var err error
	for _, g := range o.open {
		err = errors.Join(err, g.stable.inner.Close())
	}
	o.open = nil
	if o.state != nil {
		o.state.shut()
		err = errors.Join(err, o.state.db.Close())
	}
	if o.logDB != nil {
		err = errors.Join(err, o.logDB.Close())
	}
	if o.wd != nil {
		o.wd.close()
	}
	if o.lock != nil {
		err = errors.Join(err, o.lock.Close())
	}
	*o = Offline{dir: o.dir, node: o.node, fs: o.fs}
	return err
}

// NodeID is the node that the directory belongs to.
func (o *Offline) NodeID() string { return o.node }

// Dir is the directory.
func (o *Offline) Dir() string { return o.dir }

// Groups lists the groups that have something in the directory.
func (o *Offline) Groups() ([]uint32, error) {
	names, err := o.fs.List(o.fs.PathJoin(o.dir, groupsDir))
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var ids []uint32
	for _, n := range names {
		if id, err := strconv.ParseUint(n, 10, 32); err == nil {
			ids = append(ids, uint32(id))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Group opens a replica. control says that its log is in its bbolt file.
func (o *Offline) Group(id uint32, control bool) (*OfflineGroup, error) {
	dir := o.fs.PathJoin(o.dir, groupsDir, strconv.FormatUint(uint64(id), 10))
	path := o.fs.PathJoin(dir, boltFile)
	if _, err := o.fs.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err := checkBolt(path); err != nil {
		return nil, fmt.Errorf("group %d: %w", id, err)
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: boltLockTimeout}})
	if err != nil {
		return nil, fmt.Errorf("%w: open %s: %w", ErrCorrupt, path, err)
	}
	g := &OfflineGroup{o: o, ID: id, dir: dir, control: control}
	alive := func() bool { return false }
	g.stable = &guardedStable{group: id, inner: store, fst: o.fst, wd: o.wd, dead: alive, observe: func(time.Duration) {}}
	g.log = &sharedLog{db: o.logDB, group: id}
	if control {
		g.log = &stableBackend{group: id, store: store}
	}
	o.open = append(o.open, g)
	if err := g.read(); err != nil {
		return nil, err
	}
	return g, nil
}

// readOnlyFS refuses everything that changes a file.
type readOnlyFS struct{ vfs.FS }

var _ vfs.FS = readOnlyFS{}

// errReadOnly stands for a change that must not happen.
var errReadOnly = errors.New("the directory is read only")

// Create implements vfs.FS.
func (readOnlyFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }

// Link implements vfs.FS.
func (readOnlyFS) Link(string, string) error { return errReadOnly }

// OpenReadWrite implements vfs.FS.
func (readOnlyFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

// Remove implements vfs.FS.
func (readOnlyFS) Remove(string) error { return errReadOnly }

// RemoveAll implements vfs.FS.
func (readOnlyFS) RemoveAll(string) error { return errReadOnly }

// Rename implements vfs.FS.
func (readOnlyFS) Rename(string, string) error { return errReadOnly }

// ReuseForWrite implements vfs.FS.
func (readOnlyFS) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}

// MkdirAll implements vfs.FS.
func (readOnlyFS) MkdirAll(string, os.FileMode) error { return errReadOnly }

// Lock implements vfs.FS. The directory above is locked for all of it.
func (readOnlyFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (f readOnlyFS) Unwrap() vfs.FS { return f.FS }
