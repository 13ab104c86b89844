package state

import (
	"cmp"
	"maps"
	"slices"
)

// Digest is a hash of the logical state at an index: equal on all replicas at
// equal indexes, whatever is hot, written back or swept (I20).
func (s *Shard) Digest() (index uint64, digest [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied, s.digest()
}

// digest needs mu.
func (s *Shard) digest() [16]byte {
	s.rehash()
	total := s.sum
	var buf []byte
	for _, l := range s.lanes {
		buf = putBlob(l.append(buf[:0]), l.node)
		total.add(recordHash(keyLane, buf))
	}
	for _, src := range s.sources {
		buf = putUvarint(src.append(buf[:0]), uint64(src.shard))
		total.add(recordHash(keySource, buf))
	}
	total.addSum(s.authors.sum)
	if s.restore != nil {
		total.add(recordHash(keyRestore, s.restore.append(buf[:0])))
	}
	total.add(recordHash(keyMeta, s.meta.appendLogical(buf[:0])))
	return total.bytes()
}

// rehash brings the sessions' part of the sum up to date. It needs mu.
func (s *Shard) rehash() {
	var buf []byte
	for _, ss := range s.rehashList {
		ss.rehash = false
		if ss.ended {
			continue
		}
		s.sum.subSum(ss.digest)
		ss.digest = sum{}
		buf = ss.appendLogical(buf[:0])
		ss.digest.add(fold(recordHash(keySession, buf), ss.sid))
		s.sum.addSum(ss.digest)
	}
	clear(s.rehashList)
	s.rehashList = s.rehashList[:0]
}

// Verify reads the whole store and recomputes the digest from the records; for
// tests and offline checks. It needs a machine that was just written back or
// loaded, and no Apply beside it.
func (s *Shard) Verify() (index uint64, digest [16]byte, err error) {
	fresh := NewShard(s.id, s.opts)
	if err := fresh.Load(s.store); err != nil {
		return 0, digest, err
	}
	// Load trusts the inboxes' own sums; read the entries instead.
	for _, ss := range fresh.bySID() {
		b := ss.box
		if b == nil {
			continue
		}
		var have sum
		var count, bytes, received uint64
		err := fresh.readCold(ss.sid, 0, b.next, func(c coldEntry) bool {
			have.add(c.hash(ss.sid))
			count++
			bytes += c.size
			if c.bits&bitReceived != 0 {
				received++
			}
			return true
		})
		if err != nil {
			return 0, digest, err
		}
		fresh.sum.subSum(b.sum)
		fresh.sum.addSum(have)
		b.sum, b.count, b.bytes, b.received = have, count, bytes, received
		fresh.markDirty(ss)
	}
	return fresh.applied, fresh.digest(), nil
}

// bySID lists all sessions in the order in which they were made.
func (s *Shard) bySID() []*session {
	return slices.SortedFunc(maps.Values(s.byID), func(a, b *session) int { return cmp.Compare(a.sid, b.sid) })
}

// appendLogical writes the part of the meta record that replicas agree on.
func (m *meta) appendLogical(dst []byte) []byte {
	dst = putUvarint(dst, uint64(m.clock))
	dst = putUvarint(putUvarint(dst, m.lastSID), m.lastEpoch)
	dst = putUvarint(putUvarint(dst, m.lastOrigin), m.lastOrder)
	dst = putBlob(dst, m.settings.Append(nil))
	d := &m.dropped
	for _, v := range [...]uint64{d.Expired, d.InboxFull, d.SessionEnded, d.RetainedFull, d.RetainedExpired, d.OriginExpired} {
		dst = putUvarint(dst, v)
	}
	if m.expiryDone != (dueEntry{}) { // younger than the digests of older programs
		dst = putUvarint(dst, m.sessionsExpired)
		dst = putUvarint(putUvarint(putUvarint(dst, uint64(m.expiryDone.at)), m.expiryDone.sid), m.expiryDone.seq)
	}
	return dst
}

// append writes the meta record: format, applied index, the next message id, the
// checkpoint, then the logical part.
func (m *meta) append(dst []byte, format uint64) []byte {
	dst = putUvarint(putUvarint(dst, format), m.applied)
	dst = putUvarint(dst, m.lastMsg)
	dst = putBlob(putUvarint(dst, m.check.index), m.check.digest[:])
	return m.appendLogical(dst)
}

func (m *meta) read(v []byte) error {
	r := recordReader{b: v}
	if format := r.uint(); format != formatVersion && format != formatRestoring {
		return errFormat(format)
	}
	m.applied, m.lastMsg = r.uint(), r.uint()
	m.check.index = r.uint()
	copy(m.check.digest[:], r.blob())
	m.clock = r.int()
	m.lastSID, m.lastEpoch, m.lastOrigin, m.lastOrder = r.uint(), r.uint(), r.uint(), r.uint()
	if err := m.settings.Decode(r.blob()); err != nil {
		return err
	}
	d := &m.dropped
	for _, p := range [...]*uint64{&d.Expired, &d.InboxFull, &d.SessionEnded, &d.RetainedFull, &d.RetainedExpired, &d.OriginExpired} {
		*p = r.uint()
	}
	m.sessionsExpired = r.uint()
	m.expiryDone = dueEntry{at: r.int(), sid: r.uint(), seq: r.uint()}
	return r.err("meta")
}

// formatVersion is that of the store's records. A store of another version is refused.
const formatVersion = 1
