package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// publishToShares queues a message in every share that matches, and gives it to a
// member if one has room; false if no share matches.
func (s *Shard) publishToShares(t *tenant, m *command.Message, msg *message) bool {
	list := s.shareHits[:0]
	t.shareTrie.Match(m.Topic, func(_ uint64, ss *session) { list = append(list, ss) })
	slices.SortFunc(list, compareSID) // the trie visits them in no defined order
	s.shareHits = list
	for _, ss := range list {
		if ss.full && !s.makeShareRoom(ss) {
			continue
		}
		s.appendEntry(ss, msg, 0, nil)
		s.assign(ss)
		if s.fatal != nil {
			return true
		}
	}
	return len(list) > 0
}

// makeShareRoom follows the overflow policy for a share whose queue is full; false if
// the message is not to be queued. A share cannot end as a session can: what
// waits longest goes.
func (s *Shard) makeShareRoom(ss *session) bool {
	if p := s.settings.InboxOverflow; p != command.OverflowDropOldest && p != command.OverflowEndSession {
		return true // see makeRoom
	}
	ss.share.unpark(ss.share.online...)
	for s.inboxLimit(ss.box) {
		s.dropped.InboxFull++
		num, ok := s.nextWaiting(ss)
		if !ok { // all that is queued is with members: the new one goes
			return false
		}
		if num < ss.box.hot {
			if s.fatal = s.readInto(ss.sid, num); s.fatal != nil {
				return false
			}
		}
		s.dropWaiting(ss, num)
	}
	return true
}

// assign gives waiting messages to members that have room.
func (s *Shard) assign(ss *session) {
	sh := ss.share
	if sh.parked > 0 {
		if s.settings.ShareStrategy != command.ShareHashTopic {
			sh.unpark(sh.online...)
		}
		s.assignParked(ss)
	}
	for len(sh.ready) > 0 && s.fatal == nil {
		num, ok := s.nextWaiting(ss)
		if !ok {
			return
		}
		msg, err := s.queued(ss, num)
		if err != nil {
			s.fatal = err
			return
		}
		if msg.expiresAt != 0 && msg.expiresAt <= s.clock {
			s.dropped.Expired++
			s.dropWaiting(ss, num)
			s.release(msg)
			continue
		}
		m := s.chooseMember(sh, msg)
		switch {
		case m.pos > 0:
			s.give(ss, m, num, msg)
		case sh.parked < maxParked:
			sh.park(m, num)
			s.markDirty(ss)
		default:
			ok = false
		}
		s.release(msg)
		if !ok {
			return
		}
	}
}

// maxParked bounds the messages that wait for one member while others are served.
const maxParked = 4096

// park lets a message wait for a member that has no room.
func (sh *share) park(m *member, num uint64) {
	if num >= sh.cursor {
		sh.cursor = num + 1
	} else {
		sh.back.remove(num)
	}
	m.parked.add(num)
	sh.parked++
}

// unpark lets what is parked wait for anybody again.
func (sh *share) unpark(members ...*member) {
	if sh.parked == 0 {
		return
	}
	for _, m := range members {
		for _, r := range m.parked {
			for num := r.From; num <= r.To; num++ {
				sh.back.add(num)
				sh.parked--
			}
		}
		m.parked = nil
	}
}

// assignParked gives members what waits for them.
func (s *Shard) assignParked(ss *session) {
	for _, m := range ss.share.online {
		for m.pos > 0 && len(m.parked) > 0 {
			num := m.parked[0].From
			msg, err := s.queued(ss, num)
			if err != nil {
				s.fatal = err
				return
			}
			if msg.expiresAt != 0 && msg.expiresAt <= s.clock {
				s.dropped.Expired++
				s.dropWaiting(ss, num)
			} else {
				m.parked.remove(num)
				ss.share.parked--
				s.give(ss, m, num, msg)
			}
			s.release(msg)
		}
	}
}

// nextWaiting is the number of the message that is to be assigned next.
func (s *Shard) nextWaiting(ss *session) (uint64, bool) {
	sh, b := ss.share, ss.box
	if len(sh.back) > 0 {
		return sh.back[0].From, true
	}
	if b.count == sh.assigned+sh.parked {
		return 0, false
	}
	if sh.cursor < b.hot && b.coldLive() > 0 {
		c, ok, err := s.oldestCold(ss, sh.cursor)
		if err != nil {
			s.fatal = err
			return 0, false
		}
		if ok {
			return c.seq, true
		}
	}
	for num := max(sh.cursor, b.hot); num < b.next; num++ {
		if b.at(num).bits&bitLive != 0 {
			return num, true
		}
	}
	return 0, false
}

// queued is a message of the queue; the caller holds it. One that is cold is read
// under mu: what a settlement sets free is known only when it is applied.
func (s *Shard) queued(ss *session, num uint64) (*message, error) {
	if num >= ss.box.hot {
		msg := ss.box.at(num).msg
		msg.refs++
		return msg, nil
	}
	v, err := s.store.Get(keyU64s(nil, keyEntry, ss.sid, num))
	if err != nil {
		return nil, fmt.Errorf("read message %d of share %d: %w", num, ss.sid, notThere(err))
	}
	c, body, err := readEntry(num, v)
	if err != nil {
		return nil, err
	}
	if c.shared != 0 {
		if v, err = s.store.Get(keyU64(nil, keyMessage, c.shared)); err != nil {
			return nil, fmt.Errorf("read message %d: %w", c.shared, notThere(err))
		}
		r := recordReader{b: v}
		r.int() // the expiry time
		body = r.rest()
	}
	s.cold[coldKey{ss.sid, num}] = c
	msg := s.loadMessage(0, bytes.Clone(body), c.expiresAt, false)
	msg.refs++
	return msg, nil
}

// notThere says that a record is missing that the machine knows to be there.
func notThere(err error) error {
	if errors.Is(err, ErrNotFound) {
		return ErrCorrupt
	}
	return err
}

// chooseMember is who gets a message. Somebody is ready; that it is this one holds
// for all strategies but ShareHashTopic.
func (s *Shard) chooseMember(sh *share, msg *message) *member {
	switch s.settings.ShareStrategy {
	case command.ShareSticky:
		if at, ok := findMember(sh.online, sh.sticky); ok && sh.online[at].pos > 0 {
			return sh.online[at]
		}
		sh.sticky = sh.ready[0].client
	case command.ShareHashTopic:
		// Waiting for the one that was chosen keeps the order of a topic.
		var d command.Message
		if err := d.Decode(msg.body); err != nil {
			return sh.ready[0]
		}
		return sh.online[xxhash.Sum64(d.Topic)%uint64(len(sh.online))]
	}
	return sh.ready.first()
}

// give assigns a message to a member.
func (s *Shard) give(ss *session, m *member, num uint64, msg *message) {
	sh := ss.share
	if num >= sh.cursor {
		sh.cursor = num + 1
	} else {
		sh.back.remove(num)
	}
	sh.turn++
	m.turn = sh.turn
	m.assigned.add(num)
	m.count++
	sh.assigned++
	sh.ready.update(m, m.ready())
	d := command.ShareDeliver{Key: command.SessionKey{Tenant: ss.key.Tenant, ClientID: m.client}, Filter: ss.key.ClientID, Share: ss.sid, Seq: num, Fence: m.fence}
	s.encoded = command.AppendShareDeliver(s.encoded[:0], &d)
	s.originateCommand(ss.key.Tenant, m.client, bytes.Clone(s.encoded), msg)
	s.markDirty(ss)
}

// readyHeap holds the members that have room, the one that was served longest ago
// first. Turns are given once, so that the order is the same everywhere.
type readyHeap []*member

// update puts a member where its turn wants it, or takes it out.
func (h *readyHeap) update(m *member, ready bool) {
	switch {
	case ready && m.pos == 0:
		*h = append(*h, m)
		m.pos = len(*h)
		h.up(m.pos - 1)
	case ready:
		h.down(m.pos - 1) // turns only rise
	case m.pos > 0:
		i, last := m.pos-1, len(*h)-1
		h.swap(i, last)
		(*h)[last] = nil
		*h = (*h)[:last]
		m.pos = 0
		if i < last {
			h.up(i)
			h.down(i)
		}
	}
}

func (h readyHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i+1, j+1
}

func (h readyHeap) up(i int) {
	for i > 0 && h[i].turn < h[(i-1)/2].turn {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h readyHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].turn < h[child].turn {
			child++
		}
		if h[i].turn <= h[child].turn {
			return
		}
		h.swap(i, child)
		i = child
	}
}
