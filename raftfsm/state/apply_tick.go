package state

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// applyTick lets time act on everything whose time has come (I12, I15).
func (s *Shard) applyTick() {
	s.expireCold()
	var due []*session
	for len(s.timers.heap) > 0 && s.timers.heap[0].due <= s.clock {
		ss := s.timers.heap[0]
		s.timers.remove(ss)
		due = append(due, ss)
	}
	// In the order of sessions, not of times: what a hot entry adds to a due time
	// differs between replicas.
	slices.SortFunc(due, compareSID)
	for _, ss := range due {
		s.expireSession(ss)
	}
	s.expireOrigins()
	s.expireRetained()
}

func (s *Shard) expireSession(ss *session) {
	if b := ss.box; b != nil && b.hotExpiry != 0 && b.hotExpiry <= s.clock {
		s.expireHot(ss)
	}
	if ss.expiresAt != 0 && ss.expiresAt <= s.clock {
		s.endSession(ss)
		return
	}
	if w := ss.will; w != nil && w.dueAt != 0 && w.dueAt <= s.clock {
		s.fireWill(ss)
	}
	s.timers.update(ss)
}

// expireHot removes the expired hot entries of an inbox.
func (s *Shard) expireHot(ss *session) {
	b := ss.box
	first := int64(0)
	for seq := b.hot; seq < b.next; seq++ {
		if seq < b.hot { // trimmed meanwhile
			continue
		}
		e := b.at(seq)
		switch {
		case e.bits&bitLive == 0 || e.msg == nil || e.msg.expiresAt == 0:
		case e.msg.expiresAt <= s.clock:
			s.expireEntry(ss, seq)
		case first == 0 || e.msg.expiresAt < first:
			first = e.msg.expiresAt
		}
	}
	b.hotExpiry = first
	if ss.full {
		s.checkFull(ss)
	}
}

// expireEntry handles one expired entry that is live and queued. One whose delivery
// at QoS 2 may have begun keeps its sequence as if PUBREC had come: the client gets a
// PUBREL for it, so that its packet id is free on both sides, and never the expired
// message.
func (s *Shard) expireEntry(ss *session, seq uint64) {
	s.dropped.Expired++
	if seq <= ss.box.perhapsSent(ss) && s.receive(ss, seq) {
		return
	}
	s.finish(ss, seq)
}

// dueEntry is an entry of the store's expiry index whose time has come.
type dueEntry struct {
	sid, seq uint64
	at       int64
}

// expireCold handles the entries that prefetch found in the store's index. Those
// that are hot as well are left to expireHot.
func (s *Shard) expireCold() {
	if s.coldExpiry == 0 || s.coldExpiry > s.clock {
		return
	}
	var touched []*session
	for _, d := range s.coldDue {
		ss := s.byID[d.sid]
		if ss == nil || ss.box == nil {
			// Of a session that ended: the sweep has not come by yet.
			s.ops.delete(keyX(nil, d.at, d.sid, d.seq))
			continue
		}
		if d.seq >= ss.box.hot {
			continue
		}
		if c, ok := s.coldAt(ss, d.seq); ok && c.bits&bitReceived == 0 {
			s.expireEntry(ss, d.seq)
			touched = append(touched, ss)
		}
	}
	for _, ss := range touched {
		if ss.full {
			s.checkFull(ss)
		}
	}
	s.expiryDone = s.clock
	s.coldExpiry = s.nextColdExpiry
}

// seqOfKey is the sequence in the key of an inbox entry.
func seqOfKey(k []byte) (uint64, error) {
	if len(k) != 17 {
		return 0, fmt.Errorf("inbox key of %d bytes: %w", len(k), ErrCorrupt)
	}
	return binary.BigEndian.Uint64(k[9:]), nil
}
