package raftfsmtest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/hashicorp/raft"
)

// Disk is a node's disk in memory, with a synced and a volatile image: Crash drops what no fsync has
// covered. Handles opened before a crash go on writing to the image that is gone.
type Disk struct {
	mu      sync.Mutex
	fs      *vfs.MemFS
	stables map[uint32]*stableImage
	delay   time.Duration
	hook    func(op string, group uint32) error
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	return &Disk{fs: vfs.NewCrashableMem(), stables: map[uint32]*stableImage{}}
}

// FS is the file system of the current image.
func (d *Disk) FS() *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fs
}

// SetDelay makes each fsync of votes take that long.
func (d *Disk) SetDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// SetHook is called before each operation on votes ("get", "set", "append", "read", "delete"); it may
// block, and an error is what the operation returns.
func (d *Disk) SetHook(hook func(op string, group uint32) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = hook
}

// Crash replaces the image by what was synced, plus unsyncedPercent of the rest, by chance.
func (d *Disk) Crash(unsyncedPercent int, rng *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fs = d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: rng})
	for g, s := range d.stables {
		d.stables[g] = s.crash()
	}
}

// Clone returns what a power loss now would leave, as a disk of its own.
func (d *Disk) Clone(unsyncedPercent int, rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := &Disk{
		fs:      d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: rng}),
		stables: map[uint32]*stableImage{},
	}
	for g, s := range d.stables {
		n.stables[g] = s.crash()
	}
	return n
}

// Stable opens the votes of a group: a raftfsm.HostConfig.Stable.
func (d *Disk) Stable(_ string, group uint32) (raftfsm.StableLog, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stables[group]
	if s == nil {
		s = newStableImage()
		d.stables[group] = s
	}
	return &MemStable{d: d, group: group, image: s}, nil
}

// DropStable forgets the votes of a group, as a lost file would.
func (d *Disk) DropStable(group uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.stables, group)
}

// FlipStable flips one bit in a stored value; it says whether the key was there.
func (d *Disk) FlipStable(group uint32, key string, bit int) bool {
	d.mu.Lock()
	s := d.stables[group]
	d.mu.Unlock()
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.kv[key]
	if !ok || len(v) == 0 {
		return false
	}
	v = append([]byte(nil), v...)
	v[(bit/8)%len(v)] ^= 1 << (bit % 8)
	s.kv[key], s.syncedKV[key] = v, v
	return true
}

func (d *Disk) before(op string, group uint32) error {
	d.mu.Lock()
	hook := d.hook
	d.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op, group)
}

func (d *Disk) sync() {
	d.mu.Lock()
	delay := d.delay
	d.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
}

// stableImage is the content of one votes file, volatile and synced.
type stableImage struct {
	mu         sync.Mutex
	kv         map[string][]byte
	logs       map[uint64]raft.Log
	syncedKV   map[string][]byte
	syncedLogs map[uint64]raft.Log
}

func newStableImage() *stableImage {
	return &stableImage{
		kv: map[string][]byte{}, logs: map[uint64]raft.Log{},
		syncedKV: map[string][]byte{}, syncedLogs: map[uint64]raft.Log{},
	}
}

func (s *stableImage) crash() *stableImage {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := newStableImage()
	for k, v := range s.syncedKV {
		n.kv[k], n.syncedKV[k] = v, v
	}
	for i, l := range s.syncedLogs {
		n.logs[i], n.syncedLogs[i] = l, l
	}
	return n
}

// MemStable is a raftfsm.StableLog on a Disk.
type MemStable struct {
	d     *Disk
	group uint32
	image *stableImage
}

var _ raftfsm.StableLog = (*MemStable)(nil)

var errNotFound = errors.New("not found")

// Close implements raftfsm.StableLog.
func (m *MemStable) Close() error { return nil }

// Set implements raft.StableStore: volatile at once, durable after the fsync.
func (m *MemStable) Set(key, val []byte) error {
	if err := m.d.before("set", m.group); err != nil {
		return err
	}
	v := append([]byte(nil), val...)
	m.image.mu.Lock()
	m.image.kv[string(key)] = v
	m.image.mu.Unlock()
	m.d.sync()
	if planted("vote-unsynced") {
		return nil
	}
	m.image.mu.Lock()
	m.image.syncedKV[string(key)] = v
	m.image.mu.Unlock()
	return nil
}

// Get implements raft.StableStore.
func (m *MemStable) Get(key []byte) ([]byte, error) {
	if err := m.d.before("get", m.group); err != nil {
		return nil, err
	}
	m.image.mu.Lock()
	defer m.image.mu.Unlock()
	v, ok := m.image.kv[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return append([]byte(nil), v...), nil
}

// SetUint64 implements raft.StableStore.
func (m *MemStable) SetUint64(key []byte, val uint64) error {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(val >> (56 - 8*i))
	}
	return m.Set(key, b)
}

// GetUint64 implements raft.StableStore.
func (m *MemStable) GetUint64(key []byte) (uint64, error) {
	v, err := m.Get(key)
	var n uint64
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	return n, err
}

// FirstIndex implements raft.LogStore.
func (m *MemStable) FirstIndex() (uint64, error) {
	return m.edge(func(i, best uint64) bool { return i < best })
}

// LastIndex implements raft.LogStore.
func (m *MemStable) LastIndex() (uint64, error) {
	return m.edge(func(i, best uint64) bool { return i > best })
}

func (m *MemStable) edge(better func(i, best uint64) bool) (uint64, error) {
	m.image.mu.Lock()
	defer m.image.mu.Unlock()
	var best uint64
	for i := range m.image.logs {
		if best == 0 || better(i, best) {
			best = i
		}
	}
	return best, nil
}

// GetLog implements raft.LogStore.
func (m *MemStable) GetLog(index uint64, log *raft.Log) error {
	if err := m.d.before("read", m.group); err != nil {
		return err
	}
	m.image.mu.Lock()
	defer m.image.mu.Unlock()
	l, ok := m.image.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*log = l
	return nil
}

// StoreLog implements raft.LogStore.
func (m *MemStable) StoreLog(log *raft.Log) error { return m.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (m *MemStable) StoreLogs(logs []*raft.Log) error {
	if err := m.d.before("append", m.group); err != nil {
		return err
	}
	m.image.mu.Lock()
	for _, l := range logs {
		m.image.logs[l.Index] = *l
	}
	m.image.mu.Unlock()
	m.d.sync()
	m.image.mu.Lock()
	for _, l := range logs {
		m.image.syncedLogs[l.Index] = *l
	}
	m.image.mu.Unlock()
	return nil
}

// DeleteRange implements raft.LogStore.
func (m *MemStable) DeleteRange(lo, hi uint64) error {
	if err := m.d.before("delete", m.group); err != nil {
		return err
	}
	m.image.mu.Lock()
	defer m.image.mu.Unlock()
	for i := range m.image.logs {
		if i >= lo && i <= hi {
			delete(m.image.logs, i)
			delete(m.image.syncedLogs, i)
		}
	}
	return nil
}
