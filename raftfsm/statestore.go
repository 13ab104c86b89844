package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// The state database holds the machines of all groups. Keys: group (4 bytes, big endian), generation
// (4 bytes), the machine's key. A restore fills a new generation and then swaps the pointer in the
// group's meta record, which stands in generation 0.
const (
	statePrefixLen = 8
	metaVersion    = 1
	metaLen        = 1 + 4 + 8 + 8 + 8 + 4
	// slowStateFactor stretches the watchdog for the state database, where a write may stall
	// behind compactions without any harm to elections.
	slowStateFactor = 10
)

// stateDB is the state database, with a gate for the readers that outlive a group.
type stateDB struct {
	db  *pebble.DB
	fst *failStop
	wd  *watchdog

	mu      sync.Mutex
	readers int
	closed  bool
	drained chan struct{}
}

func newStateDB(db *pebble.DB, fst *failStop, wd *watchdog) *stateDB {
	return &stateDB{db: db, fst: fst, wd: wd, drained: make(chan struct{})}
}

// enter admits a user of the database; exit must follow if it returns nil.
func (s *stateDB) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.readers++
	return nil
}

func (s *stateDB) exit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
	if s.closed && s.readers == 0 {
		close(s.drained)
	}
}

// shut waits for the users to leave; none enters any more.
func (s *stateDB) shut() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	wait := s.readers > 0
	s.mu.Unlock()
	if wait {
		<-s.drained
	}
}

// flush makes everything written so far durable. It gives up when the node dies.
func (s *stateDB) flush() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush state database: %w", err)
	}
	select {
	case <-flushed:
	case <-s.fst.deadCh:
		return ErrClosed
	}
	if err := s.fst.err(); err != nil {
		return err
	}
	return nil
}

// stateMeta is the record that says which generation of a group counts.
type stateMeta struct {
	generation uint32
	// index is the group's applied index when the record was written: whatever is flushed with
	// the record contains the entries up to it.
	index uint64
	// machine is the machine's own applied index at that time.
	machine uint64
	// streamed is the machine's applied index in an installed snapshot, which may be ahead of the
	// log.
	streamed uint64
}

func (m stateMeta) encode(group uint32) []byte {
	b := make([]byte, 0, metaLen)
	b = append(b, metaVersion)
	b = binary.BigEndian.AppendUint32(b, m.generation)
	b = binary.BigEndian.AppendUint64(b, m.index)
	b = binary.BigEndian.AppendUint64(b, m.machine)
	b = binary.BigEndian.AppendUint64(b, m.streamed)
	return binary.LittleEndian.AppendUint32(b, metaCRC(group, b))
}

func decodeStateMeta(group uint32, b []byte) (stateMeta, error) {
	if len(b) != metaLen || binary.LittleEndian.Uint32(b[metaLen-4:]) != metaCRC(group, b[:metaLen-4]) {
		return stateMeta{}, fmt.Errorf("%w: state record of group %d", ErrCorrupt, group)
	}
	if b[0] != metaVersion {
		return stateMeta{}, fmt.Errorf("%w: state of group %d has format %d", ErrIdentity, group, b[0])
	}
	return stateMeta{
		generation: binary.BigEndian.Uint32(b[1:]), index: binary.BigEndian.Uint64(b[5:]),
		machine: binary.BigEndian.Uint64(b[13:]), streamed: binary.BigEndian.Uint64(b[21:]),
	}, nil
}

func metaCRC(group uint32, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint32(nil, group), castagnoli), castagnoli, b)
}

// loadMeta reads a group's meta record and deletes what other generations left behind.
func (s *stateDB) loadMeta(group uint32) (meta stateMeta, found bool, err error) {
	v, closer, err := s.db.Get(metaKey(group))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		meta, err = stateMeta{generation: 1}, nil
	case err != nil:
		return meta, false, fmt.Errorf("read state record of group %d: %w", group, err)
	default:
		meta, err = decodeStateMeta(group, v)
		if err = errors.Join(err, closer.Close()); err != nil {
			return meta, false, err
		}
		found = true
	}
	b := s.db.NewBatch()
	lo, hi := statePrefix(group, 1), statePrefix(group, meta.generation)
	if meta.generation > 1 {
		err = b.DeleteRange(lo, hi, nil)
	}
	err = errors.Join(err, b.DeleteRange(statePrefix(group, meta.generation+1), groupEnd(group), nil))
	return meta, found, errors.Join(err, b.Commit(pebble.NoSync))
}

// saveMeta writes the meta record behind what was written before; flush makes both durable.
func (s *stateDB) saveMeta(group uint32, meta stateMeta) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	if err := s.db.Set(metaKey(group), meta.encode(group), pebble.NoSync); err != nil {
		return fmt.Errorf("write state record of group %d: %w", group, err)
	}
	return s.fst.err()
}

// drop deletes everything of a group.
func (s *stateDB) drop(group uint32) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	return s.db.DeleteRange(binary.BigEndian.AppendUint32(nil, group), groupEnd(group), pebble.NoSync)
}

// dropGeneration deletes one generation of a group.
func (s *stateDB) dropGeneration(group, generation uint32) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	return s.db.DeleteRange(statePrefix(group, generation), statePrefix(group, generation+1), pebble.NoSync)
}

// store returns the view of one generation.
func (s *stateDB) store(group, generation uint32) *stateStore {
	return &stateStore{s: s, group: group, prefix: statePrefix(group, generation)}
}

func metaKey(group uint32) []byte { return append(statePrefix(group, 0), 'm') }

func statePrefix(group, generation uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, group), generation)
}

func groupEnd(group uint32) []byte { return binary.BigEndian.AppendUint32(nil, group+1) }

// stateStore is a machine's Store: one generation of one group.
type stateStore struct {
	s      *stateDB
	group  uint32
	prefix []byte
}

var _ Store = (*stateStore)(nil)

// Get implements Store.
func (t *stateStore) Get(key []byte) ([]byte, error) {
	if err := t.s.enter(); err != nil {
		return nil, err
	}
	defer t.s.exit()
	v, closer, err := t.s.db.Get(t.key(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, t.broken("read", err)
	}
	v = append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, t.broken("read", err)
	}
	return v, nil
}

// Iterate implements Store.
func (t *stateStore) Iterate(lower, upper []byte, fn func(k, v []byte) bool) error {
	if err := t.s.enter(); err != nil {
		return err
	}
	defer t.s.exit()
	hi := t.upper()
	if upper != nil {
		hi = t.key(upper)
	}
	it, err := t.s.db.NewIter(&pebble.IterOptions{LowerBound: t.key(lower), UpperBound: hi})
	if err != nil {
		return t.broken("iterate", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return t.broken("iterate", errors.Join(err, it.Close()))
		}
		if !fn(it.Key()[statePrefixLen:], v) {
			return it.Close()
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return t.broken("iterate", err)
	}
	return nil
}

// NewBatch implements Store.
func (t *stateStore) NewBatch() Batch { return &stateBatch{t: t, b: t.s.db.NewBatch()} }

func (t *stateStore) key(k []byte) []byte {
	return append(append(make([]byte, 0, statePrefixLen+len(k)), t.prefix...), k...)
}

// upper is the end of the generation.
func (t *stateStore) upper() []byte {
	g := binary.BigEndian.Uint32(t.prefix[4:])
	return statePrefix(t.group, g+1)
}

// broken ends the node: state that cannot be read is state that would be missing.
func (t *stateStore) broken(what string, err error) error {
	err = fmt.Errorf("%s state of group %d: %w", what, t.group, err)
	t.s.fst.fail(err)
	return err
}

// stateBatch is a Batch of a stateStore. An error of a single operation surfaces in Commit.
type stateBatch struct {
	t   *stateStore
	b   *pebble.Batch
	err error
}

func (b *stateBatch) Set(k, v []byte) {
	op := b.b.SetDeferred(statePrefixLen+len(k), len(v))
	copy(op.Key, b.t.prefix)
	copy(op.Key[statePrefixLen:], k)
	copy(op.Value, v)
	b.note(op.Finish())
}

func (b *stateBatch) Delete(k []byte) {
	op := b.b.DeleteDeferred(statePrefixLen + len(k))
	copy(op.Key, b.t.prefix)
	copy(op.Key[statePrefixLen:], k)
	b.note(op.Finish())
}

func (b *stateBatch) DeleteRange(lo, hi []byte) {
	end := b.t.upper()
	if hi != nil {
		end = b.t.key(hi)
	}
	b.note(b.b.DeleteRange(b.t.key(lo), end, nil))
}

func (b *stateBatch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *stateBatch) Len() int { return b.b.Len() }

// Commit applies the batch. It is durable with the next flush.
func (b *stateBatch) Commit() error {
	if err := b.t.s.enter(); err != nil {
		return err
	}
	defer b.t.s.exit()
	if b.t.s.fst.isDead() {
		return nil
	}
	err := b.err
	if err == nil {
		c := b.t.s.wd.begin("state write", b.t.group, slowStateFactor)
		err = b.b.Commit(pebble.NoSync)
		b.t.s.wd.end(c)
	}
	if err == nil {
		err = b.t.s.fst.err()
	}
	if err != nil {
		return b.t.broken("write", err)
	}
	return b.b.Close()
}
