package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

const (
	markerFile    = "snapshot"
	markerTmp     = "snapshot.tmp"
	incomingFile  = "incoming"
	markerMagic   = "FLSN"
	markerVersion = 1
	// maxMarkerBytes bounds a marker file: a membership of some hundred nodes.
	maxMarkerBytes = 1 << 20
)

// snapMarker says that the flushed state contains all entries up to index.
type snapMarker struct {
	index, term uint64
	confIndex   uint64
	conf        raft.Configuration
}

func (m *snapMarker) id() string { return fmt.Sprintf("m-%d-%d", m.term, m.index) }

func (m *snapMarker) meta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: m.id(), Index: m.index, Term: m.term,
		Configuration: m.conf.Clone(), ConfigurationIndex: m.confIndex,
	}
}

func (m *snapMarker) encode(group uint32) []byte {
	b := append([]byte(markerMagic), markerVersion)
	b = binary.BigEndian.AppendUint32(b, group)
	for _, v := range []uint64{m.index, m.term, m.confIndex, uint64(len(m.conf.Servers))} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, s := range m.conf.Servers {
		b = append(b, byte(s.Suffrage))
		b = append(binary.AppendUvarint(b, uint64(len(s.ID))), s.ID...)
		b = append(binary.AppendUvarint(b, uint64(len(s.Address))), s.Address...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMarker(group uint32, b []byte) (*snapMarker, error) {
	const fixed = 4 + 1 + 4 + 4*8
	corrupt := fmt.Errorf("%w: snapshot marker of group %d", ErrCorrupt, group)
	n := len(b) - 4
	if n < fixed || string(b[:4]) != markerMagic || binary.LittleEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, corrupt
	}
	if b[4] != markerVersion {
		return nil, fmt.Errorf("%w: snapshot marker of group %d has format %d", ErrIdentity, group, b[4])
	}
	if g := binary.BigEndian.Uint32(b[5:]); g != group {
		return nil, fmt.Errorf("%w: snapshot marker of group %d in group %d", ErrIdentity, g, group)
	}
	m := &snapMarker{
		index: binary.BigEndian.Uint64(b[9:]), term: binary.BigEndian.Uint64(b[17:]),
		confIndex: binary.BigEndian.Uint64(b[25:]),
	}
	servers := binary.BigEndian.Uint64(b[33:])
	for b = b[fixed:n]; len(b) > 0; {
		s := raft.Server{Suffrage: raft.ServerSuffrage(b[0])}
		id, rest, ok := cutField(b[1:])
		addr, rest2, ok2 := cutField(rest)
		if !ok || !ok2 {
			return nil, corrupt
		}
		s.ID, s.Address, b = raft.ServerID(id), raft.ServerAddress(addr), rest2
		m.conf.Servers = append(m.conf.Servers, s)
	}
	if servers != uint64(len(m.conf.Servers)) {
		return nil, corrupt
	}
	return m, nil
}

// snapshotStore is a raft.SnapshotStore that keeps no copies: taking a snapshot flushes the state
// database and writes a marker, and opening one streams the group's keys as they are then.
type snapshotStore struct {
	group uint32
	dir   string
	fs    vfs.FS
	state *stateDB
	log   *groupLog
	fst   *failStop
	dead  func() bool
	// generation is the state's current generation.
	generation func() uint32

	// committing is held while a marker is written: one taken here and one that a leader sent come
	// from two goroutines of raft.
	committing sync.Mutex

	mu      sync.Mutex
	marker  *snapMarker
	pending *snapMarker // received, not restored yet
	size    int64       // of the last stream sent or received
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

// load reads the marker and removes what a crash left behind. A stream that was received but not
// restored counts for nothing: the leader was not told.
func (s *snapshotStore) load() error {
	for _, name := range []string{markerTmp, incomingFile} {
		if err := s.fs.Remove(s.path(name)); err != nil && !oserror.IsNotExist(err) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	b, err := readFile(s.fs, s.path(markerFile), maxMarkerBytes)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read snapshot marker of group %d: %w", s.group, err)
	}
	s.marker, err = decodeMarker(s.group, b)
	return err
}

func (s *snapshotStore) path(name string) string { return s.fs.PathJoin(s.dir, name) }

// current returns the index and term of the last snapshot, or zeros.
func (s *snapshotStore) current() (index, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marker == nil {
		return 0, 0
	}
	return s.marker.index, s.marker.term
}

func (s *snapshotStore) streamBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Create implements raft.SnapshotStore, for a snapshot taken here as for one that a leader sends.
func (s *snapshotStore) Create(_ raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapshotSink{s: s, m: &snapMarker{index: index, term: term, conf: conf.Clone(), confIndex: confIndex}}, nil
}

// List implements raft.SnapshotStore.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marker == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{s.marker.meta()}, nil
}

// Open implements raft.SnapshotStore: it streams the state, or the received file that is being
// restored.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	marker, pending := s.marker, s.pending
	s.mu.Unlock()
	if pending != nil && id == incomingID(pending) {
		f, err := s.fs.Open(s.path(incomingFile))
		if err != nil {
			return nil, nil, fmt.Errorf("open received snapshot: %w", err)
		}
		meta := pending.meta()
		meta.ID, meta.Size = id, s.streamBytes()
		return meta, f, nil
	}
	if marker == nil || id != marker.id() {
		return nil, nil, fmt.Errorf("snapshot %q is gone", id)
	}
	r, size, err := s.state.newStreamReader(streamHead{group: s.group, index: marker.index}, s.generation())
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot of group %d: %w", s.group, err)
	}
	s.mu.Lock()
	s.size = size
	s.mu.Unlock()
	meta := marker.meta()
	meta.Size = size
	return meta, r, nil
}

func incomingID(m *snapMarker) string { return fmt.Sprintf("in-%d-%d", m.term, m.index) }

// commit makes m the snapshot: the state that it stands for is flushed. A snapshot that was begun
// here before a newer one was installed is refused with errSuperseded: the log may begin behind the
// newer one, and a marker before it would keep this replica from ever starting again.
func (s *snapshotStore) commit(m *snapMarker) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	if s.dead() {
		return ErrClosed
	}
	if at, _ := s.current(); m.index < at {
		return fmt.Errorf("%w: %d, and %d is there", errSuperseded, m.index, at)
	}
	if err := writeFile(s.fs, s.dir, markerTmp, markerFile, m.encode(s.group)); err != nil {
		err = fmt.Errorf("write snapshot marker of group %d: %w", s.group, err)
		s.fst.fail(err)
		return err
	}
	s.mu.Lock()
	s.marker = m
	s.mu.Unlock()
	return nil
}

// taken returns the received snapshot that is to be restored.
func (s *snapshotStore) taken() *snapMarker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// finish forgets the received snapshot.
func (s *snapshotStore) finish() error {
	s.mu.Lock()
	s.pending = nil
	s.mu.Unlock()
	return s.fs.Remove(s.path(incomingFile))
}

// snapshotSink is a marker to be (a snapshot taken here) or a stream to be kept until Restore.
type snapshotSink struct {
	s     *snapshotStore
	m     *snapMarker
	local bool
	f     vfs.File
	size  int64
	err   error
	done  bool
}

var _ raft.SnapshotSink = (*snapshotSink)(nil)

// ID implements raft.SnapshotSink.
func (k *snapshotSink) ID() string {
	if k.local {
		return k.m.id()
	}
	return incomingID(k.m)
}

// Write implements raft.SnapshotSink: it keeps a stream from a leader.
func (k *snapshotSink) Write(p []byte) (int, error) {
	if k.err != nil {
		return 0, k.err
	}
	if k.f == nil {
		if k.f, k.err = k.s.fs.Create(k.s.path(incomingFile), vfs.WriteCategoryUnspecified); k.err != nil {
			return 0, k.err
		}
	}
	var n int
	// A vfs.File may change what it is given; raft's copy buffer does not mind.
	n, k.err = k.f.Write(p)
	k.size += int64(n)
	return n, k.err
}

// Close implements raft.SnapshotSink. A received stream is verified to its last byte before anything
// is restored from it.
func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.local {
		return k.s.commit(k.m)
	}
	err := k.err
	if k.f != nil {
		if err == nil {
			err = k.f.Sync()
		}
		err = errors.Join(err, k.f.Close())
	}
	if err == nil {
		err = k.s.verify(k.m)
	}
	if err != nil {
		_ = k.s.fs.Remove(k.s.path(incomingFile))
		return fmt.Errorf("receive snapshot %d of group %d: %w", k.m.index, k.s.group, err)
	}
	k.s.mu.Lock()
	k.s.pending, k.s.size = k.m, k.size
	k.s.mu.Unlock()
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.f == nil {
		return nil
	}
	return errors.Join(k.f.Close(), k.s.fs.Remove(k.s.path(incomingFile)))
}

func (s *snapshotStore) verify(m *snapMarker) error {
	f, err := s.fs.Open(s.path(incomingFile))
	if err != nil {
		return err
	}
	if newest := max(s.log.fence().applied, s.log.fence().snapshot); m.index < newest {
		err = fmt.Errorf("snapshot %d is older than the applied entry %d", m.index, newest)
		return errors.Join(err, f.Close())
	}
	head, err := readStream(f, nil)
	if err == nil && (head.group != s.group || head.index != m.index) {
		err = fmt.Errorf("%w: stream is snapshot %d of group %d", ErrCorrupt, head.index, head.group)
	}
	return errors.Join(err, f.Close())
}

// diverges says that the log conflicts with a snapshot at m, or reaches beyond it without the entry
// that m ends with. raft keeps its view of such a log in memory and would reject the leader's entries
// for ever (guard G2).
func (s *snapshotStore) diverges(m *snapMarker) bool {
	last, err := s.log.LastIndex()
	if err != nil || last < m.index {
		return false
	}
	var e raft.Log
	if err := s.log.GetLog(m.index, &e); err != nil {
		return true
	}
	return e.Term != m.term
}

// readFile reads a small file.
func readFile(fs vfs.FS, path string, maxBytes int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes))
	return b, errors.Join(err, f.Close())
}

// writeFile replaces dir/name durably.
func writeFile(fs vfs.FS, dir, tmp, name string, b []byte) error {
	f, err := fs.Create(fs.PathJoin(dir, tmp), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(fs.PathJoin(dir, tmp), fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
