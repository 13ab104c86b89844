package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// A backup comes back as the records of the store that it was taken from. While they arrive (staging) they lie in the
// store and nowhere else, so the machine is as large as it was, and it takes no other change. Load makes state of
// all of them at one entry; from then on it is a machine like any other that has no owners, and it originates nothing
// before it is opened, since other shards may not be whole yet.

// keyRestore is the record of a restore under way: format, attempt, phase, next chunk, records, their sum.
const keyRestore = 'Y'

// formatRestoring stands in the meta record meanwhile, so that a program that knows nothing of restores does not take
// the records for its state.
const formatRestoring = 0x59

// restoring is a restore under way.
type restoring struct {
	id      string
	loaded  bool // all records are state; else they only lie in the store
	next    uint64
	records uint64
	sum     sum
}

func (r *restoring) append(dst []byte) []byte {
	dst = putFlag(putBlob(putUvarint(dst, 1), r.id), r.loaded)
	dst = putUvarint(putUvarint(dst, r.next), r.records)
	return appendU64(appendU64(dst, r.sum.lo), r.sum.hi)
}

func (r *restoring) read(v []byte) error {
	rd := recordReader{b: v}
	if format := rd.uint(); format != 1 {
		return errFormat(format)
	}
	r.id, r.loaded = rd.string(), rd.flag()
	r.next, r.records = rd.uint(), rd.uint()
	if len(rd.rest()) < 16 {
		rd.bad = true
	} else {
		r.sum = sum{lo: beUint64(rd.b), hi: beUint64(rd.b[8:])}
	}
	return rd.err("restore")
}

// restorable says that records of a kind belong to a backup: not the lanes of the cluster that it was taken from nor the
// authors, who are remembered because of lanes, nor what the machine keeps of itself.
func restorable(kind byte) bool {
	switch kind {
	case keySession, keyShare, keySub, keyInbound, keyOrigin, keySource, keyRetained, keySwept, keyEntry, keyExpiry, keyMessage, keyCount:
		return true
	}
	return false
}

// Restorable says that a record with this key belongs into the chunks of a restore.
func Restorable(key []byte) bool { return len(key) > 0 && restorable(key[0]) }

// IsMeta says that a key is that of the meta record, which RestoreLoad carries.
func IsMeta(key []byte) bool { return len(key) == 1 && key[0] == keyMeta }

// RecordSum adds up records, in whatever order they come.
type RecordSum struct {
	Records uint64
	sum     sum
	buf     []byte
}

// Add counts a record in.
func (r *RecordSum) Add(key, value []byte) {
	r.Records++
	r.buf = append(putBlob(r.buf[:0], key), value...)
	r.sum.add(recordHash(keyRestore, r.buf))
}

// Sum is what RestoreLoad carries.
func (r *RecordSum) Sum() [16]byte { return r.sum.bytes() }

// Restoring tells whether a restore is under way, which attempt, and how many chunks have come.
func (s *Shard) Restoring() (id string, chunks uint64, loaded, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.restore == nil {
		return "", 0, false, false
	}
	return s.restore.id, s.restore.next, s.restore.loaded, true
}

// Blank says that the shard holds nothing that a restore would replace.
func (s *Shard) Blank() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.blank()
}

func (s *Shard) blank() bool {
	return s.sessions.n == 0 && s.shares.n == 0 && s.retainedCount == 0 && s.origins.live == 0
}

// ContentDigest is a hash of what a backup brings back: everything but lanes, authors and the meta record.
func (s *Shard) ContentDigest() [16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.contentDigest()
}

func (s *Shard) contentDigest() [16]byte {
	s.rehash()
	total := s.sum
	var buf []byte
	for _, src := range s.sources {
		buf = putUvarint(src.append(buf[:0]), uint64(src.shard))
		total.add(recordHash(keySource, buf))
	}
	return total.bytes()
}

// locked refuses a command while the shard is being restored. Staging refuses all that clients and other shards ask
// for; a loaded shard takes what other shards originate, as those that were opened before it do.
func (s *Shard) locked(k command.Kind) bool {
	if s.restore == nil {
		return false
	}
	switch k {
	case command.KindConnect, command.KindDisconnect, command.KindSubscribe, command.KindUnsubscribe, command.KindReceive,
		command.KindRelease, command.KindReplay, command.KindEndSession, command.KindAck:
		return true
	case command.KindPublish, command.KindShareMember, command.KindShareDeliver, command.KindShareSettle:
		return !s.restore.loaded
	}
	return false
}

// applyRestore takes a step.
func (s *Shard) applyRestore(c *command.Restore) command.ResultCode {
	r := s.restore
	switch c.Step {
	case command.RestoreBegin:
		if c.ID == "" {
			return command.Invalid
		}
		if r == nil && !s.blank() {
			return command.NotEmpty
		}
		s.wipe()
		s.restore = &restoring{id: strings.Clone(c.ID)}
		return command.OK
	case command.RestoreClear:
		if r == nil {
			return command.Duplicate
		}
		s.wipe()
		s.endRestore()
		return command.OK
	case command.RestoreLoad:
		switch {
		case r == nil || r.id != c.ID:
			return command.Invalid
		case r.loaded:
			return command.Duplicate
		case r.records != c.Records || r.sum.bytes() != c.Sum || len(s.ops.list) > 0:
			return command.Invalid
		}
		return s.loadRestored(c)
	case command.RestoreOpen:
		switch {
		case r == nil:
			return command.Duplicate
		case r.id != c.ID || !r.loaded:
			return command.Invalid
		}
		s.endRestore()
		s.fx.origins = true
		return command.OK
	}
	return command.Invalid
}

func (s *Shard) endRestore() {
	s.restore = nil
	s.ops.delete([]byte{keyRestore})
}

// applyRestoreChunk lets the next write-back put records into the store.
func (s *Shard) applyRestoreChunk(c *command.RestoreChunk) command.ResultCode {
	r := s.restore
	switch {
	case r == nil || r.loaded || r.id != c.ID || c.Seq > r.next:
		return command.Invalid
	case c.Seq < r.next:
		return command.Duplicate
	}
	// All of them or none.
	for b := c.Pairs; len(b) > 0; {
		k, _, rest, ok := cutPair(b)
		if !ok || !Restorable(k) {
			return command.Invalid
		}
		b = rest
	}
	sum := RecordSum{sum: r.sum, Records: r.records}
	for b := c.Pairs; len(b) > 0; {
		k, v, rest, _ := cutPair(b)
		sum.Add(k, v)
		s.ops.add(storeOp{key: k, value: v})
		b = rest
	}
	r.sum, r.records = sum.sum, sum.Records
	r.next++
	return command.OK
}

// AppendPair adds a record to the pairs of a chunk.
func AppendPair(dst, k, v []byte) []byte { return putBlob(putBlob(dst, k), v) }

// cutPair takes a pair off a chunk. The value is never nil.
func cutPair(b []byte) (k, v, rest []byte, ok bool) {
	if k, b, ok = cutBlob(b); !ok {
		return nil, nil, nil, false
	}
	v, rest, ok = cutBlob(b)
	return k, v, rest, ok
}

func cutBlob(b []byte) (blob, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n) : w+int(n)], b[w+int(n):], true
}

// prefetchRestore writes back what an entry's RestoreLoad is to read, before the entry is applied: a replica may write
// back whenever it likes.
func (s *Shard) prefetchRestore(e command.Entry) error {
	for {
		ok, err := e.Next(&s.cmd.batch)
		if err != nil || !ok {
			return err
		}
		it := s.cmd.batch.Commands()
		var c command.Command
		for {
			ok, err := it.Next(&c)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if c.Kind == command.KindRestore && s.cmd.restore.Decode(c.Payload) == nil && s.cmd.restore.Step == command.RestoreLoad {
				return s.WriteBack()
			}
		}
	}
}

// loadRestored makes state of the records, and ends what was true in the cluster that they come from: every connection.
// Records that do not fit together change nothing: all replicas find that alike.
func (s *Shard) loadRestored(c *command.Restore) command.ResultCode {
	own := s.meta
	err := s.readRestored(c)
	if err == nil && s.contentDigest() != c.Digest {
		err = fmt.Errorf("digest: %w", ErrCorrupt)
	}
	if err != nil {
		s.forgetRoutes()
		lanes := s.lanes
		s.resetRecords()
		s.meta, s.lanes, s.changed = own, lanes, true
		return command.Invalid
	}
	was := s.clock
	s.applied, s.check, s.settings = own.applied, own.check, own.settings
	s.clock = max(own.clock, was)
	s.lastEpoch = max(own.lastEpoch, s.lastEpoch)
	s.restore.loaded = true
	s.sever(s.clock - was)
	return command.OK
}

func (s *Shard) readRestored(c *command.Restore) error {
	if len(c.Meta) == 0 && c.Records == 0 {
		return nil // that shard had not applied anything
	}
	if err := s.meta.read(bytes.Clone(c.Meta)); err != nil {
		return err
	}
	for _, step := range s.loadSteps() {
		if step.kind == keyLane {
			continue
		}
		if err := eachOf(s.store, step.kind, step.read); err != nil {
			return fmt.Errorf("load %s: %w", step.what, err)
		}
	}
	return s.derive()
}

// sever ends all connections, as the loss of every node would, and raises all epochs. The time that passed between the
// backup and now counts for no session: its client had nothing to come back to. Messages expire when they said they would.
func (s *Shard) sever(pause int64) {
	for _, ss := range s.bySID() {
		if ss.full {
			s.fx.full = append(s.fx.full, FullChange{Key: ss.key, Full: true})
		}
		if sh := ss.share; sh != nil {
			for len(sh.online) > 0 {
				s.setOffline(ss, sh.online[0])
			}
			s.markDirty(ss)
			continue
		}
		s.lastEpoch++
		ss.epoch, ss.token = s.lastEpoch, 0
		s.markDirty(ss)
		if ss.owner != nil {
			s.assumeSent(ss)
			s.disconnect(ss)
			continue
		}
		if ss.expiresAt != 0 {
			ss.expiresAt += pause
		}
		if w := ss.will; w != nil && w.dueAt != 0 {
			w.dueAt += pause
		}
		s.updateLife(ss)
	}
}

// wipe drops everything but lanes and counters, in memory and in the store.
func (s *Shard) wipe() {
	s.forgetRoutes()
	for _, ss := range s.byID {
		if ss.full {
			s.fx.full = append(s.fx.full, FullChange{Key: ss.key})
		}
	}
	own, lanes := s.meta, s.lanes
	s.resetRecords()
	s.meta, s.lanes, s.changed = own, lanes, true
	s.ops.add(storeOp{key: []byte{0}, hi: []byte{keyLane}})
	s.ops.add(storeOp{key: []byte{keyLane + 1}, hi: []byte{keyMeta}})
	s.ops.add(storeOp{key: []byte{keyMeta + 1}, hi: []byte{0xff}})
	for _, l := range s.lanes {
		l.dirty = true
	}
}

// forgetRoutes lets the entry's effects say that no filter is subscribed to any more.
func (s *Shard) forgetRoutes() {
	for _, t := range s.tenants {
		for _, r := range t.routes {
			s.touchRoute(r)
			r.subs, r.durable, r.nodes, r.groups = 0, 0, nil, nil
		}
	}
}
