package state

// Changes of one inbox, hot or cold. All of them keep the counters, the digest
// and the lists of what the next write-back has to do.

// appendEntry queues a message and returns its sequence.
func (s *Shard) appendEntry(ss *session, m *message, bits entryBits, ids *[]uint32) uint64 {
	b := ss.box
	m.refs++
	e := entry{msg: m, ids: ids, bits: bits | bitLive}
	seq := b.push(e)
	h := entryHash(ss.sid, seq, bits, m.hash, e.idList())
	size := uint64(len(m.body))
	b.count++
	b.bytes += size
	b.sum.add(h)
	s.sum.add(h)
	s.inboxMessages++
	s.inboxBytes += size
	s.hotEntries++
	s.hotBytes += entryCost
	s.dirtyBytes += entryCost
	s.markDirty(ss)
	s.hotList.touch(ss)
	if m.expiresAt != 0 && (b.hotExpiry == 0 || m.expiresAt < b.hotExpiry) {
		b.hotExpiry = m.expiresAt
		s.expiries.update(ss, b.hotExpiry)
	}
	s.checkFull(ss)
	return seq
}

// finish removes an entry that is done with. Unknown sequences are ignored.
func (s *Shard) finish(ss *session, seq uint64) {
	if s.remove(ss, seq) && len(ss.box.holds) > 0 {
		s.settleHeld(ss, seq)
	}
}

// remove takes an entry out of its inbox; false if there is none.
func (s *Shard) remove(ss *session, seq uint64) bool {
	b := ss.box
	if seq < b.hot {
		return s.removeCold(ss, seq)
	}
	if seq >= b.next {
		return false
	}
	e := b.at(seq)
	if e.bits&bitLive == 0 {
		return false
	}
	c := e.asCold(seq)
	s.forget(ss, &c)
	if seq < b.stored {
		s.forgetStored(ss, &c)
	} else {
		s.dirtyBytes -= entryCost
	}
	s.dropHot(ss, e)
	b.trim()
	if b.hotLive == 0 {
		s.hotList.remove(ss)
	}
	return true
}

func (s *Shard) removeCold(ss *session, seq uint64) bool {
	c, ok := s.coldAt(ss, seq)
	if !ok {
		return false
	}
	b := ss.box
	s.forget(ss, &c)
	s.forgetStored(ss, &c)
	if b.coldLive() == 0 {
		b.floor = b.hot
	} else if seq == b.floor {
		b.floor++
	}
	return true
}

// receive records the PUBREC of a QoS 2 entry: only the sequence is still needed.
func (s *Shard) receive(ss *session, seq uint64) bool {
	b := ss.box
	var c coldEntry
	var e *entry
	switch {
	case seq >= b.next:
		return false
	case seq >= b.hot:
		e = b.at(seq)
		if e.bits&bitLive == 0 {
			return false
		}
		c = e.asCold(seq)
	default:
		var ok bool
		if c, ok = s.coldAt(ss, seq); !ok {
			return false
		}
	}
	if c.bits&bitQoS2 == 0 || c.bits&bitReceived != 0 {
		return false
	}
	h := c.hash(ss.sid)
	b.sum.sub(h)
	s.sum.sub(h)
	b.bytes -= c.size
	s.inboxBytes -= c.size
	if seq < b.stored {
		b.recv.add(seq)
		s.unstore(ss, &c)
	}
	c = coldEntry{seq: seq, bits: receivedBits}
	if e != nil {
		s.release(e.msg)
		*e = entry{bits: receivedBits | bitLive}
	}
	h = c.hash(ss.sid)
	b.sum.add(h)
	s.sum.add(h)
	b.received++
	s.markDirty(ss)
	if len(b.holds) > 0 {
		s.settleHeld(ss, seq) // the client has it: no other member may get it
	}
	return true
}

// forget is the logical part of a removal.
func (s *Shard) forget(ss *session, c *coldEntry) {
	b := ss.box
	h := c.hash(ss.sid)
	b.sum.sub(h)
	s.sum.sub(h)
	b.count--
	b.bytes -= c.size
	s.inboxMessages--
	s.inboxBytes -= c.size
	if c.bits&bitReceived != 0 {
		b.received--
	}
	s.markDirty(ss)
}

// forgetStored makes the next write-back delete the record of an entry.
func (s *Shard) forgetStored(ss *session, c *coldEntry) {
	ss.box.dead.add(c.seq)
	s.unstore(ss, c)
}

// unstore gives up what a stored entry held beside its own record.
func (s *Shard) unstore(ss *session, c *coldEntry) {
	if c.shared != 0 {
		s.unrefs[c.shared]--
	}
	if c.expiresAt != 0 {
		s.ops.delete(keyX(nil, c.expiresAt, ss.sid, c.seq))
	}
}

// dropHot turns a hot entry into a tombstone. It changes nothing logical.
func (s *Shard) dropHot(ss *session, e *entry) {
	s.hotEntries--
	s.hotBytes -= entryCost
	if e.msg != nil {
		s.release(e.msg)
	}
	*e = entry{}
	ss.box.hotLive--
}

// inboxLimit reports whether an inbox has reached a limit.
func (s *Shard) inboxLimit(b *inbox) bool {
	set := &s.settings
	return set.InboxMaxMessages != 0 && b.count >= set.InboxMaxMessages ||
		set.InboxMaxBytes != 0 && b.bytes >= set.InboxMaxBytes
}

// inboxRoom reports whether an inbox that was full has room again: an eighth of
// its limits, so that the news of it does not flap.
func (s *Shard) inboxRoom(b *inbox) bool {
	set := &s.settings
	below := func(have, limit uint64) bool { return limit == 0 || have < limit-limit/8 }
	return below(b.count, set.InboxMaxMessages) && below(b.bytes, set.InboxMaxBytes)
}

// checkFull keeps the mark of a session whose inbox is full.
func (s *Shard) checkFull(ss *session) {
	switch {
	case !ss.full && s.inboxLimit(ss.box):
		ss.full = true
		s.fullSessions++
	case ss.full && s.inboxRoom(ss.box):
		ss.full = false
		s.fullSessions--
	default:
		return
	}
	s.markDirty(ss)
	s.fx.full = append(s.fx.full, FullChange{Key: ss.key, Full: ss.full})
}
