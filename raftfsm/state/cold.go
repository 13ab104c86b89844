package state

import (
	"fmt"
	"slices"
)

// coldEntry is what a machine needs of an entry to change it, wherever it lives.
type coldEntry struct {
	seq       uint64
	bits      entryBits
	size      uint64
	msgHash   uint64
	expiresAt int64
	shared    uint64 // id of the P record, 0 if the message is inline or not stored
	ids       []uint32
}

func (c *coldEntry) hash(sid uint64) uint64 {
	return entryHash(sid, c.seq, c.bits, c.msgHash, c.ids)
}

// asCold is a live hot entry in the form that both kinds share.
func (e *entry) asCold(seq uint64) coldEntry {
	c := coldEntry{seq: seq, bits: e.bits & logicalBits, ids: e.idList()}
	if m := e.msg; m != nil {
		c.size, c.msgHash, c.expiresAt = uint64(len(m.body)), m.hash, m.expiresAt
		if m.shared {
			c.shared = m.id
		}
	}
	return c
}

// putEntry writes the record of an inbox entry: bits; the expiry time and the
// identifiers, if the bits say so; of a shared message its id, size and hash; and the
// body of an inline one up to the end.
func putEntry(dst []byte, e *entry) []byte {
	bits := e.bits & logicalBits
	if bits&bitReceived != 0 {
		return append(dst, byte(bits))
	}
	m := e.msg
	if m.shared {
		bits |= bitShared
	}
	if m.expiresAt != 0 {
		bits |= bitExpires
	}
	if e.ids != nil {
		bits |= bitIDs
	}
	dst = append(dst, byte(bits))
	if m.expiresAt != 0 {
		dst = putUvarint(dst, uint64(m.expiresAt))
	}
	if e.ids != nil {
		dst = putUvarint(dst, uint64(len(*e.ids)))
		for _, id := range *e.ids {
			dst = putUvarint(dst, uint64(id))
		}
	}
	if m.shared {
		dst = putUvarint(dst, m.id)
		dst = putUvarint(dst, uint64(len(m.body)))
		return putUvarint(dst, m.hash)
	}
	return append(dst, m.body...)
}

// readEntry reads the record of an inbox entry. body aliases v and is nil for a
// shared or received one.
func readEntry(seq uint64, v []byte) (c coldEntry, body []byte, err error) {
	if len(v) == 0 {
		return c, nil, fmt.Errorf("read inbox entry %d: %w", seq, ErrCorrupt)
	}
	bits := entryBits(v[0])
	c.seq, c.bits = seq, bits&logicalBits
	if bits&bitReceived != 0 {
		return c, nil, nil
	}
	r := recordReader{b: v[1:]}
	if bits&bitExpires != 0 {
		c.expiresAt = r.int()
	}
	if bits&bitIDs != 0 {
		for n := r.uint(); n > 0 && !r.bad && len(r.b) > 0; n-- {
			c.ids = append(c.ids, r.u32())
		}
	}
	if bits&bitShared != 0 {
		c.shared, c.size, c.msgHash = r.uint(), r.uint(), r.uint()
		return c, nil, r.err("inbox entry")
	}
	body = r.rest()
	c.size, c.msgHash = uint64(len(body)), messageHash(body, c.expiresAt)
	return c, body, r.err("inbox entry")
}

// coldKey names a cold entry of the prefetch.
type coldKey struct{ sid, seq uint64 }

// coldAt is a live cold entry: as the prefetch read it, with what happened since.
func (s *Shard) coldAt(ss *session, seq uint64) (coldEntry, bool) {
	b := ss.box
	if seq < b.floor || b.dead.contains(seq) {
		return coldEntry{}, false
	}
	c, ok := s.cold[coldKey{ss.sid, seq}]
	if ok && b.recv.contains(seq) {
		c = coldEntry{seq: seq, bits: receivedBits}
	}
	return c, ok
}

// readCold reads entries of an inbox in [from, to) from the store.
func (s *Shard) readCold(sid, from, to uint64, fn func(c coldEntry) bool) error {
	var bad error
	err := s.store.Iterate(keyU64s(nil, keyEntry, sid, from), keyU64s(nil, keyEntry, sid, to), func(k, v []byte) bool {
		seq, err := seqOfKey(k)
		if err != nil {
			bad = err
			return false
		}
		c, _, err := readEntry(seq, v)
		if err != nil {
			bad = err
			return false
		}
		return fn(c)
	})
	if bad != nil {
		return bad
	}
	return err
}

// oldestCold is the first live cold entry at or above from that is still queued.
// It reads ahead, so that drop_oldest costs one seek for hundreds of publishes.
// This is the one read that happens under mu: which inboxes a publish meets is
// known only after matching.
func (s *Shard) oldestCold(ss *session, from uint64) (coldEntry, bool, error) {
	b := ss.box
	for {
		for i, c := range b.peek {
			if c.seq >= from && !b.dead.contains(c.seq) && !b.recv.contains(c.seq) && c.bits&bitReceived == 0 && !b.held(c.seq) {
				b.peek = b.peek[i:]
				return c, true, nil
			}
		}
		b.peek = b.peek[:0]
		start := max(b.peekEnd, from, b.floor)
		if start >= b.hot {
			return coldEntry{}, false, nil
		}
		b.peek = slices.Grow(b.peek, peekAhead)
		b.peekEnd = b.hot
		err := s.readCold(ss.sid, start, b.hot, func(c coldEntry) bool {
			b.peek = append(b.peek, c)
			b.peekEnd = c.seq + 1
			return len(b.peek) < peekAhead
		})
		if err != nil {
			return coldEntry{}, false, err
		}
		if len(b.peek) < peekAhead {
			b.peekEnd = b.hot
		}
	}
}

// peekAhead is how many cold entries drop_oldest reads at once.
const peekAhead = 256
