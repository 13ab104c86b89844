package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// maxTickItems is how many things of each kind (entries, sessions, originated and
// retained messages) one Tick handles. More of them are due at once for the next
// one: 10,000 are some tens of milliseconds. It is part of what machines agree on.
const maxTickItems = 10000

// applyTick lets time act on what is due (I12, I15). What is handled, and in which
// order, follows from the logical state alone, not from what is hot.
func (s *Shard) applyTick(c *command.Tick) command.ResultCode {
	if s.restore != nil {
		return command.OK // nothing of it counts yet
	}
	limit := s.tickItems
	if c.Rules < 2 {
		limit = math.MaxInt
	}
	s.expireEntries(limit, c.Rules)
	s.expireSessions(limit, c.Rules)
	s.expireOrigins(limit)
	s.expireRetained(limit)
	return command.OK
}

// expireSessions ends sessions and fires wills, those that are due longest first.
func (s *Shard) expireSessions(limit int, rules uint32) {
	var due []*session
	for len(due) < limit {
		ss := s.timers.popDue(s.clock)
		if ss == nil {
			break
		}
		due = append(due, ss)
	}
	slices.SortFunc(due, compareSID)
	for _, ss := range due {
		if ss.expiresAt != 0 && ss.expiresAt <= s.clock {
			if rules >= 2 {
				s.sessionsExpired++
			}
			s.endSession(ss)
			continue
		}
		if w := ss.will; w != nil && w.dueAt != 0 && w.dueAt <= s.clock {
			s.fireWill(ss)
		}
		s.updateLife(ss)
	}
}

// dueEntry is an inbox entry that expires. Entries expire in the order of time,
// session, sequence.
type dueEntry struct {
	at       int64
	sid, seq uint64
}

func (d dueEntry) compare(o dueEntry) int {
	return cmp.Or(cmp.Compare(d.at, o.at), cmp.Compare(d.sid, o.sid), cmp.Compare(d.seq, o.seq))
}

// dueScan is how far an entry's Tick has read the store's expiry index.
type dueScan struct {
	read bool       // it has been read at all
	list []dueEntry // cold entries that are due, in order
	pos  dueEntry   // the index was read up to here
	more bool       // there may be more due behind pos
	next int64      // the first time in the index that is not due, 0 for none
}

// expireEntries removes expired entries of inboxes, hot and cold ones in one order.
func (s *Shard) expireEntries(limit int, rules uint32) {
	hot, touched := s.dueHot()
	cold := &s.due
	if !cold.read { // nothing cold was due, or it is the entry's second Tick
		*cold = dueScan{list: cold.list[:0], pos: s.expiryDone, more: s.coldExpiry != 0 && s.coldExpiry <= s.clock, next: s.coldExpiry}
	}
	last, left := s.expiryDone, true
loop:
	for n := 0; n < limit; n++ {
		for len(cold.list) == 0 && cold.more {
			// More than the prefetch found, as something of it is gone by now.
			if s.fatal = s.readDue(s.clock, limit); s.fatal != nil {
				return
			}
		}
		var d dueEntry
		switch {
		case len(cold.list) > 0 && (len(hot) == 0 || cold.list[0].compare(hot[0]) < 0):
			d = cold.list[0]
			cold.list = cold.list[1:]
			if !s.isDue(d) {
				n--
				continue
			}
		case len(hot) > 0:
			d = hot[0]
			hot = hot[1:]
		default:
			last, left = dueEntry{at: s.clock, sid: math.MaxUint64, seq: math.MaxUint64}, false
			break loop
		}
		s.expireEntry(s.byID[d.sid], d.seq, rules)
		last = d
	}
	if s.coldExpiry != 0 {
		s.coldExpiry = cold.next
		if left { // for the next Tick
			s.coldExpiry = last.at
		}
	}
	if rules >= 2 {
		s.expiryDone = last
	}
	s.endExpiry(touched, hot)
}

// endExpiry puts the sessions that a Tick looked at back into their heap.
func (s *Shard) endExpiry(touched []*session, hot []dueEntry) {
	s.due = dueScan{list: s.due.list[:0]}
	for _, d := range hot {
		ss := s.byID[d.sid]
		if b := ss.box; b.hotExpiry == 0 || d.at < b.hotExpiry {
			b.hotExpiry = d.at
		}
	}
	for _, ss := range touched {
		s.expiries.update(ss, ss.box.hotExpiry)
	}
}

// dueHot lists the hot entries that are due, in order, with the sessions that it
// looked at. Their hotExpiry is that of what is not due.
func (s *Shard) dueHot() (list []dueEntry, touched []*session) {
	for {
		ss := s.expiries.popDue(s.clock)
		if ss == nil {
			break
		}
		touched = append(touched, ss)
		b := ss.box
		b.hotExpiry = 0
		for seq := b.hot; seq < b.next; seq++ {
			e := b.at(seq)
			if e.bits&bitLive == 0 || e.msg == nil || e.msg.expiresAt == 0 {
				continue
			}
			if at := e.msg.expiresAt; at > s.clock {
				if b.hotExpiry == 0 || at < b.hotExpiry {
					b.hotExpiry = at
				}
				continue
			}
			// One that was looked at before was perhaps sent, and stays; one that is
			// with a member of a share is judged when it comes back.
			d := dueEntry{at: e.msg.expiresAt, sid: ss.sid, seq: seq}
			if d.compare(s.expiryDone) > 0 && (ss.share == nil || !ss.share.isAssigned(seq)) {
				list = append(list, d)
			}
		}
	}
	slices.SortFunc(list, dueEntry.compare)
	return list, touched
}

// isDue reports whether a cold entry of the expiry index is still to be expired.
func (s *Shard) isDue(d dueEntry) bool {
	ss := s.byID[d.sid]
	if ss == nil || ss.box == nil || d.seq >= ss.box.hot || ss.share != nil && ss.share.isAssigned(d.seq) {
		return false
	}
	c, ok := s.coldAt(ss, d.seq)
	return ok && c.bits&bitReceived == 0
}

// readDue reads on in the store's expiry index up to the clock, until it has found
// as many cold entries as the limit says, with the entries themselves.
func (s *Shard) readDue(clock int64, limit int) error {
	var bad error
	sc := &s.due
	found := 0
	sc.read, sc.more, sc.next = true, false, 0
	from := keyX(nil, sc.pos.at, sc.pos.sid, sc.pos.seq)
	start := len(sc.list)
	err := s.store.Iterate(append(from, 0), []byte{keyExpiry + 1}, func(k, _ []byte) bool {
		if len(k) != 25 {
			bad = fmt.Errorf("expiry index key of %d bytes: %w", len(k), ErrCorrupt)
			return false
		}
		d := dueEntry{at: int64(binary.BigEndian.Uint64(k[1:])), sid: binary.BigEndian.Uint64(k[9:]), seq: binary.BigEndian.Uint64(k[17:])}
		if d.at > clock {
			sc.next = d.at
			return false
		}
		if found == limit {
			sc.more = true
			return false
		}
		sc.pos = d
		// Of a session that ended, the sweep has not come by yet.
		if ss := s.byID[d.sid]; ss != nil && ss.box != nil && d.seq < ss.box.hot && !ss.box.dead.contains(d.seq) {
			sc.list = append(sc.list, d)
			found++
		}
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	for _, d := range sc.list[start:] {
		if err := s.readInto(d.sid, d.seq); err != nil {
			return err
		}
	}
	return nil
}

// readInto reads a cold entry for coldAt, if it is there.
func (s *Shard) readInto(sid, seq uint64) error {
	if _, have := s.cold[coldKey{sid, seq}]; have {
		return nil
	}
	v, err := s.store.Get(keyU64s(nil, keyEntry, sid, seq))
	if errors.Is(err, ErrNotFound) {
		return nil // gone since the last write-back
	}
	if err != nil {
		return err
	}
	c, _, err := readEntry(seq, v)
	if err != nil {
		return err
	}
	s.cold[coldKey{sid, seq}] = c
	return nil
}

// expireEntry handles one expired entry that is live and queued. One that was perhaps
// sent stays: its delivery ends as it began (v5:MQTT-4.3.3-7, v5:MQTT-4.4.0-1), and who
// sends it knows whether it was sent. Older rules ended it, and told the client at
// QoS 2 to release a packet id.
func (s *Shard) expireEntry(ss *session, seq uint64, rules uint32) {
	if ss.share != nil {
		s.dropped.Expired++
		s.dropWaiting(ss, seq)
		return
	}
	perhaps := seq <= ss.box.perhapsSent(ss)
	if perhaps && rules >= 2 {
		return
	}
	s.dropped.Expired++
	if !perhaps || !s.receive(ss, seq) {
		s.finish(ss, seq)
	}
	if ss.full {
		s.checkFull(ss)
	}
}

// seqOfKey is the sequence in the key of an inbox entry.
func seqOfKey(k []byte) (uint64, error) {
	if len(k) != 17 {
		return 0, fmt.Errorf("inbox key of %d bytes: %w", len(k), ErrCorrupt)
	}
	return binary.BigEndian.Uint64(k[9:]), nil
}
