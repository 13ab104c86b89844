package state

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// A session that is a member of a share gets the share's messages into its inbox.
// Its shard decides what becomes of them (they are done, or go back), the share's
// shard which member they go to. Each event that it tells a share (see tellShare) is a
// fence, too: it names what the session has, and what arrives later under an older
// fence is not taken.

// maxShareRoom bounds how many messages of a share a member has at a time, unless its gateway
// says what does.
const maxShareRoom = 128

// hold lists which entries of an inbox belong to a share. A share that ended and
// began anew has another number. Shares keep holds short, see maxShareRoom.
type hold struct {
	filter string
	share  uint64
	items  []held // sorted
}

// held is an entry that belongs to a share.
type held struct {
	seq uint64 // in the inbox
	num uint64 // in the queue of the share
	qos byte
}

func (h *hold) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(h.items, seq, func(it held, v uint64) int { return cmp.Compare(it.seq, v) })
}

// held reports whether an entry belongs to a share.
func (b *inbox) held(seq uint64) bool {
	for i := range b.holds {
		if _, ok := b.holds[i].find(seq); ok {
			return true
		}
	}
	return false
}

// hold notes that the newest entry belongs to a share.
func (b *inbox) hold(filter string, share uint64, it held) {
	for i := range b.holds {
		if h := &b.holds[i]; h.share == share && h.filter == filter {
			h.items = append(h.items, it)
			return
		}
	}
	b.holds = append(b.holds, hold{filter: filter, share: share, items: []held{it}})
}

// dropEmpty forgets shares that nothing is held of any more.
func (b *inbox) dropEmpty() {
	b.holds = slices.DeleteFunc(b.holds, func(h hold) bool { return len(h.items) == 0 })
	if len(b.holds) == 0 {
		b.holds = nil
	}
}

// settlement gathers what a command settles with a share for a member.
type settlement struct {
	member command.SessionKey
	filter string
	share  uint64
	done   rangeSet
}

// settle notes that a member is done with a message of a share.
func (s *Shard) settle(member command.SessionKey, h *hold, num uint64) {
	// A few are looked at: a Tick that settles for many members may make several of one.
	for i := len(s.settles) - 1; i >= max(0, len(s.settles)-8); i-- {
		if st := s.settles[i]; st.share == h.share && st.filter == h.filter && st.member == member {
			st.done.add(num)
			return
		}
	}
	st := &settlement{member: member, filter: h.filter, share: h.share}
	st.done.add(num)
	s.settles = append(s.settles, st)
}

// originateSettles tells the shares, at the end of a command or before a session
// leaves them: what is not done by then goes to others.
func (s *Shard) originateSettles() {
	for _, st := range s.settles {
		c := command.ShareSettle{Filter: st.filter, Member: st.member, Share: st.share, Done: st.done}
		s.originateCommand(st.member.Tenant, st.filter, command.AppendShareSettle(nil, &c), nil)
	}
	clear(s.settles)
	s.settles = s.settles[:0]
}

// settleHeld settles an entry that is finished or received, if it belongs to a share.
func (s *Shard) settleHeld(ss *session, seq uint64) {
	b := ss.box
	for i := range b.holds {
		h := &b.holds[i]
		at, ok := h.find(seq)
		if !ok {
			continue
		}
		s.settle(ss.key, h, h.items[at].num)
		if at == 0 {
			h.items = h.items[1:] // the usual case: moving the rest would cost its length
		} else {
			h.items = slices.Delete(h.items, at, at+1)
		}
		if len(h.items) == 0 {
			b.dropEmpty()
		}
		s.markDirty(ss)
		return
	}
}

// giveBack takes the held entries that which names out of the inbox. The event that
// follows tells the share what is left; the rest it gives to others.
func (s *Shard) giveBack(ss *session, which func(h *hold, it held) bool) {
	b := ss.box
	if b == nil || len(b.holds) == 0 {
		return
	}
	for i := range b.holds {
		h := &b.holds[i]
		keep := h.items[:0]
		for _, it := range h.items {
			if !which(h, it) {
				keep = append(keep, it)
				continue
			}
			if it.seq < b.hot {
				// Rare, and a read under mu: a member's entries are mostly hot.
				if s.fatal = s.readInto(ss.sid, it.seq); s.fatal != nil {
					return
				}
			}
			s.remove(ss, it.seq)
		}
		h.items = keep
	}
	b.dropEmpty()
	if ss.full {
		s.checkFull(ss)
	}
	s.markDirty(ss)
}

// giveBackUnsent gives back what a member without a connection has surely not sent.
// At QoS 0 there is nothing to come back to: it all goes back.
func (s *Shard) giveBackUnsent(ss *session) {
	s.giveBack(ss, func(_ *hold, it held) bool { return it.seq > ss.box.sentTo || it.qos == 0 })
}

// giveBackOf gives back what surely was not sent of a share that the session leaves.
// The rest is finished by the session.
func (s *Shard) giveBackOf(ss *session, filter string) {
	if ss.box == nil {
		return
	}
	sent := ss.box.perhapsSent(ss)
	s.giveBack(ss, func(h *hold, it held) bool { return h.filter == filter && it.seq > sent })
}

// settleAll ends all holds of a session that ends, and tells how many there were.
// Nobody else may get a QoS 2 message that was perhaps sent (v5:MQTT-4.8.2-5): that
// is done. The rest goes to others.
func (s *Shard) settleAll(ss *session) uint64 {
	b := ss.box
	if b == nil || len(b.holds) == 0 {
		return 0
	}
	sent := b.perhapsSent(ss)
	n := uint64(0)
	for i := range b.holds {
		h := &b.holds[i]
		for _, it := range h.items {
			if it.qos == 2 && it.seq <= sent || planted("share-dead-member") {
				s.settle(ss.key, h, it.num)
			}
			n++
		}
	}
	holds := b.holds
	b.holds = nil
	s.originateSettles()
	s.leaveLeft(ss, holds)
	return n
}

// leaveLeft tells the shares that a session left before it ended, and whose messages it had perhaps
// sent and did not finish. No subscription is there whose end would tell them.
func (s *Shard) leaveLeft(ss *session, holds []hold) {
	for i := range holds {
		h := &holds[i]
		if slices.ContainsFunc(ss.subs, func(u *sub) bool { return u.filter == h.filter }) {
			continue
		}
		c := command.ShareMember{Filter: h.filter, Member: ss.key, Event: command.ShareLeave, Epoch: ss.epoch, Share: h.share}
		s.originateCommand(ss.key.Tenant, h.filter, command.AppendShareMember(nil, &c), nil)
	}
}

// tellShare tells a share what happened to its member. room bounds what a member that is connected
// gets at a time; 0 leaves it to the default.
func (s *Shard) tellShare(u *sub, event command.ShareEvent, room uint16) {
	ss := u.sess
	c := command.ShareMember{Filter: u.filter, Member: ss.key, Event: event, Epoch: ss.epoch}
	if event == command.ShareJoin || event == command.ShareOnline {
		if room == 0 {
			room = maxShareRoom
		}
		c.Room = min(max(ss.receiveMax, 1), room)
		if o := ss.owner; o != nil {
			c.Node, c.Incarnation = o.key.node, o.key.incarnation
		}
	}
	if event == command.ShareJoin {
		c.Sub = u.command()
		c.Sub.Filter = ""
	}
	if ss.box != nil {
		c.Share, c.Held = ss.box.heldOf(u.filter)
	}
	s.originateCommand(ss.key.Tenant, u.filter, command.AppendShareMember(nil, &c), nil)
	s.sum.sub(u.hash())
	u.fence = s.lastOrigin
	s.sum.add(u.hash())
	u.dirty, ss.subsNew = true, true
	s.markDirty(ss)
}

// heldOf is what an inbox holds of the youngest share of a filter. An older one is
// gone, and nobody asks for it.
func (b *inbox) heldOf(filter string) (share uint64, held rangeSet) {
	for i := range b.holds {
		h := &b.holds[i]
		if h.filter != filter || h.share < share {
			continue
		}
		share, held = h.share, nil
		for _, it := range h.items {
			held.add(it.num)
		}
	}
	return share, held
}

// tellShares tells all shares of a session that it is connected, or not any more.
func (s *Shard) tellShares(ss *session, event command.ShareEvent, room uint16) {
	for _, u := range ss.subs {
		if u.route == nil {
			s.tellShare(u, event, room)
		}
	}
}

// applyShareDeliver puts a message of a share into the inbox of a member. For a
// member that left, lost its connection or got a new one, it comes too late: the event
// that raised the fence told the share to give it to somebody else.
func (s *Shard) applyShareDeliver(c *command.ShareDeliver) command.ResultCode {
	m := &s.cmd.message
	if err := m.Decode(c.Message); err != nil || len(m.Topic) == 0 || bytes.IndexByte(m.Topic, 0) >= 0 {
		return command.Invalid
	}
	if c.Origin.Shard != 0 && !s.takeOrigin(&c.Origin) {
		return command.Duplicate
	}
	ss := s.find(c.Key)
	var u *sub
	if ss != nil && ss.owner != nil {
		if at, ok := ss.findSub(c.Filter); ok && ss.subs[at].route == nil {
			u = ss.subs[at]
		}
	}
	if u == nil || u.fence != c.Fence {
		return command.OK
	}
	qos := min(m.QoS, u.bits.qos())
	bits := qosBits(qos)
	if m.Retain && u.bits&subRAP != 0 {
		bits |= bitRetain
	}
	var ids *[]uint32
	if u.id != 0 {
		ids = s.matcher.ids(&match{id: u.id})
	}
	expiresAt := int64(0)
	if c.ExpiryMS != 0 {
		expiresAt = s.clock + int64(min(c.ExpiryMS, 1<<52))
	}
	msg := s.newMessage(c.Message, expiresAt)
	msg.refs++
	seq := s.appendEntry(ss, msg, bits, ids)
	ss.box.hold(u.filter, c.Share, held{seq: seq, num: c.Seq, qos: qos})
	s.release(msg)
	s.wake(ss)
	return command.OK
}

// putHolds writes what belongs to shares: a count; of each share its filter, number,
// count, and of each entry its distance from the one before, the number in the queue
// and the QoS.
func putHolds(dst []byte, holds []hold) []byte {
	dst = putUvarint(dst, uint64(len(holds)))
	for i := range holds {
		h := &holds[i]
		dst = putUvarint(putBlob(dst, h.filter), h.share)
		dst = putUvarint(dst, uint64(len(h.items)))
		last := uint64(0)
		for _, it := range h.items {
			dst = putUvarint(putUvarint(putUvarint(dst, it.seq-last), it.num), uint64(it.qos))
			last = it.seq
		}
	}
	return dst
}

func (r *recordReader) holds() (out []hold) {
	for n := r.uint(); n > 0 && len(r.b) > 0; n-- {
		h := hold{filter: r.string(), share: r.uint()}
		last := uint64(0)
		for m := r.uint(); m > 0 && len(r.b) > 0; m-- {
			last += r.uint()
			h.items = append(h.items, held{seq: last, num: r.uint(), qos: byte(r.uint())})
		}
		out = append(out, h)
	}
	return out
}
