package state

import (
	"fmt"
	"maps"
	"slices"
)

// DirtyBytes is about how much a WriteBack would write or set free. It counts
// an eighth of the log since the last one, too: hot messages keep their Raft
// entries in memory, and a restart replays the log.
func (s *Shard) DirtyBytes() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int(s.dirtyBytes + s.logBytes/8 + int64(s.ops.bytes) + int64(len(s.dirtyList))*256)
}

// WriteBack commits all changes, the applied index and the clock in one batch, and
// then evicts what is clean beyond the budget. An error means that the process
// must end: what is in memory and in the store no longer fit together.
//
// It builds the batch without mu, as nobody else changes the state, and commits
// without it. It changes under mu what readers look at; the marks about the store
// (inStore, shared and the like) are the apply goroutine's alone.
func (s *Shard) WriteBack() error {
	if s.store == nil {
		return ErrNotLoaded
	}
	if !s.changed && len(s.sweeps)+len(s.newSweeps) == 0 {
		return nil
	}
	s.mu.Lock()
	s.rehash() // so that a Digest during the commit changes nothing
	s.mu.Unlock()

	w := &writer{s: s, b: s.store.NewBatch()}
	if err := w.build(); err != nil {
		return fmt.Errorf("build write-back at %d: %w", s.applied, err)
	}
	if err := w.b.Commit(); err != nil {
		return fmt.Errorf("commit write-back at %d: %w", s.applied, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishWriteBack(w)
	return nil
}

// writer builds the batch of one write-back.
type writer struct {
	s        *Shard
	b        Batch
	key, val []byte
	// refs counts, per message, records written and deleted in this batch.
	refs  map[uint64]int64
	fresh map[uint64]struct{} // messages whose P record is new
	// firstExpiry is the earliest key put into the expiry index, 0 for none.
	firstExpiry int64
}

func (w *writer) build() error {
	s := w.s
	w.refs, w.fresh = s.unrefs, make(map[uint64]struct{})
	for i := range s.ops.list {
		s.ops.list[i].put(w.b)
	}
	for _, ss := range s.dirtyList {
		if !ss.ended {
			w.session(ss)
		}
	}
	w.retained()
	w.authors()
	w.origins()
	for _, name := range slices.Sorted(maps.Keys(s.lanes)) {
		if l := s.lanes[name]; l.dirty {
			l.dirty = false
			w.set(keyStr(w.key[:0], keyLane, name), l.append(w.val[:0]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.sources)) {
		if src := s.sources[id]; src.dirty {
			src.dirty = false
			w.set(appendU32(append(w.key[:0], keySource), id), src.append(w.val[:0]))
		}
	}
	if err := w.sweep(); err != nil {
		return err
	}
	if err := w.counts(); err != nil {
		return err
	}
	format := uint64(formatVersion)
	if s.restore != nil {
		format = formatRestoring
		w.set([]byte{keyRestore}, s.restore.append(w.val[:0]))
	}
	w.set([]byte{keyMeta}, s.meta.append(w.val[:0], format))
	return nil
}

// set writes a pair and keeps its buffers for the next one.
func (w *writer) set(k, v []byte) {
	w.b.Set(k, v)
	if v != nil {
		w.val = v[:0]
	}
	if cap(k) > cap(w.key) {
		w.key = k[:0]
	}
}

// session writes a session with everything of it that the store lacks.
func (w *writer) session(ss *session) {
	kind := byte(keySession)
	if ss.share != nil {
		kind = keyShare
	}
	w.set(keyPair(w.key[:0], kind, ss.key.Tenant, ss.key.ClientID), ss.append(w.val[:0]))
	ss.inStore = true
	if ss.subsNew {
		ss.subsNew = false
		for _, u := range ss.subs {
			if u.dirty {
				u.dirty, u.inStore = false, true
				v := putUvarint(putUvarint(w.val[:0], uint64(u.bits)), uint64(u.id))
				if u.route == nil {
					v = putUvarint(v, u.fence)
				}
				w.set(keySubOf(w.key[:0], ss.sid, u.filter), v)
			}
		}
	}
	for i := range ss.inbound {
		in := &ss.inbound[i]
		if !in.inStore {
			in.inStore = true
			v := putUvarint(putUvarint(w.val[:0], in.order), uint64(in.msg.expiresAt))
			w.set(keyU64s(w.key[:0], keyInbound, ss.sid, uint64(in.pid)), append(v, in.msg.body...))
		}
	}
	if ss.box != nil {
		w.inbox(ss.sid, ss.box)
	}
}

func (w *writer) inbox(sid uint64, b *inbox) {
	for seq := b.stored; seq < b.next; seq++ {
		e := b.at(seq)
		if e.bits&bitLive == 0 {
			continue
		}
		if m := e.msg; m != nil {
			if m.refs > 1 || m.shared {
				w.message(m)
			}
			if m.expiresAt != 0 {
				w.set(keyX(w.key[:0], m.expiresAt, sid, seq), nil)
				if w.firstExpiry == 0 || m.expiresAt < w.firstExpiry {
					w.firstExpiry = m.expiresAt
				}
			}
		}
		w.set(keyU64s(w.key[:0], keyEntry, sid, seq), putEntry(w.val[:0], e))
	}
	for _, r := range b.recv {
		for seq := r.From; seq <= r.To; seq++ {
			w.set(keyU64s(w.key[:0], keyEntry, sid, seq), append(w.val[:0], byte(receivedBits)))
		}
	}
	for _, r := range b.dead {
		if r.To-r.From >= rangeDeleteFrom {
			w.b.DeleteRange(keyU64s(nil, keyEntry, sid, r.From), keyU64s(nil, keyEntry, sid, r.To+1))
			continue
		}
		for seq := r.From; seq <= r.To; seq++ {
			w.b.Delete(keyU64s(w.key[:0], keyEntry, sid, seq))
		}
	}
}

// rangeDeleteFrom is the length from which one range tombstone is cheaper for the
// store than single ones.
const rangeDeleteFrom = 64

// message counts a record that refers to a message with a P record of its own, and
// writes that record the first time.
func (w *writer) message(m *message) {
	w.refs[m.id]++
	if m.shared {
		return
	}
	m.shared = true
	w.fresh[m.id] = struct{}{}
	w.set(keyU64(w.key[:0], keyMessage, m.id), append(putUvarint(w.val[:0], uint64(m.expiresAt)), m.body...))
}

func (w *writer) retained() {
	for _, r := range w.s.retainedList {
		r.dirty = false
		key := keyPair(w.key[:0], keyRetained, r.tenant.name, r.topic)
		if r.gone {
			w.b.Delete(key)
			continue
		}
		r.inStore = true
		if r.storedID != r.id {
			r.storedID = r.id
			w.message(r.msg)
		}
		w.set(keyPair(w.key[:0], keyRetained, r.tenant.name, r.topic), r.append(w.val[:0]))
	}
}

func (w *writer) origins() {
	for _, o := range w.s.origins.list {
		if o.inStore || o.done {
			continue
		}
		o.inStore = true
		w.set(keyU64(w.key[:0], keyOrigin, o.seq), o.append(w.val[:0]))
	}
}

// counts brings the reference counts up to date and deletes messages that no record
// refers to any more.
func (w *writer) counts() error {
	for _, id := range slices.Sorted(maps.Keys(w.refs)) {
		n := w.refs[id]
		if _, fresh := w.fresh[id]; !fresh {
			v, err := w.s.store.Get(keyU64(nil, keyCount, id))
			if err != nil {
				return fmt.Errorf("count of message %d: %w", id, err)
			}
			r := recordReader{b: v}
			n += r.int()
		}
		switch {
		case n > 0:
			w.set(keyU64(w.key[:0], keyCount, id), putUvarint(w.val[:0], uint64(n)))
		case n == 0:
			w.b.Delete(keyU64(w.key[:0], keyCount, id))
			w.b.Delete(keyU64(w.key[:0], keyMessage, id))
		default:
			return fmt.Errorf("message %d has %d references: %w", id, n, ErrCorrupt)
		}
	}
	return nil
}

// finishWriteBack takes note that everything is in the store. It needs mu.
func (s *Shard) finishWriteBack(w *writer) {
	s.writeBacks++
	s.changed = false
	s.dirtyBytes, s.logBytes = 0, 0
	s.ops.reset()
	clear(s.unrefs)
	if w.firstExpiry != 0 && (s.coldExpiry == 0 || w.firstExpiry < s.coldExpiry) {
		s.coldExpiry = w.firstExpiry
	}
	for _, ss := range s.dirtyList {
		ss.dirty = false
		if ss.ended {
			continue
		}
		for i := range ss.inbound {
			ss.inbound[i].msg.settle()
		}
		if b := ss.box; b != nil {
			s.cleanInbox(ss, b)
		}
	}
	clear(s.dirtyList)
	s.dirtyList = s.dirtyList[:0]
	for _, o := range s.origins.list {
		if o.msg != nil {
			o.msg.settle()
		}
	}
	for _, r := range s.retainedList {
		if m := r.msg; m != nil {
			m.settle()
			if len(m.body) > retainedHot || s.hotBytes > s.opts.HotBytes/2 {
				r.msg = nil
				s.release(m)
			}
		}
	}
	clear(s.retainedList)
	s.retainedList = s.retainedList[:0]
	clear(s.authors.dirty)
	s.authors.dirty = s.authors.dirty[:0]
	s.sweeps = append(s.sweeps, s.newSweeps...)
	s.newSweeps = s.newSweeps[:0]
	s.evict()
}

// retainedHot is the size up to which a retained message may stay in memory, in bytes.
const retainedHot = 1 << 10

// cleanInbox settles what stays in memory of an inbox that was just written.
func (s *Shard) cleanInbox(ss *session, b *inbox) {
	for seq := b.stored; seq < b.next; seq++ {
		if e := b.at(seq); e.msg != nil {
			e.msg.settle()
		}
	}
	b.stored = b.next
	b.dead, b.recv = nil, nil
	b.resetDrop()
	if !ss.active() {
		s.evictInbox(ss, uint64(s.opts.HotOffline))
	}
	b.fit()
}

// evict frees clean entries until the budget is kept, those of inboxes without a
// connection first, those appended to longest ago first.
func (s *Shard) evict() {
	if s.hotBytes <= s.opts.HotBytes {
		return
	}
	target := s.opts.HotBytes - s.opts.HotBytes/4
	for _, connected := range [...]bool{false, true} {
		for ss := s.hotList.oldest; ss != nil && s.hotBytes > target; {
			next := ss.newer
			if ss.active() == connected {
				s.evictInbox(ss, 0)
				ss.box.fit()
			}
			ss = next
		}
	}
}

// evictInbox makes all but the newest entries of a clean inbox cold.
func (s *Shard) evictInbox(ss *session, keep uint64) {
	b := ss.box
	for b.next-b.hot > keep {
		if e := &b.ring[b.head]; e.bits&bitLive != 0 {
			s.dropHot(ss, e)
		}
		b.popFront()
	}
	if b.coldLive() == 0 {
		b.floor = b.hot
	}
	if b.hotLive == 0 {
		s.hotList.remove(ss)
		b.hotExpiry = 0 // the store's index knows
		s.expiries.update(ss, 0)
	}
}
