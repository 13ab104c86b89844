package state

import (
	"bytes"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// matcher gathers the sessions that a publish matches: each once, with the
// highest granted QoS and the identifiers of all its matching subscriptions.
type matcher struct {
	fn        func(key uint64, u *sub)
	round     uint64 // counts publishes
	index     uint64 // of the entry
	publisher string
	list      []match
	single    map[uint32]*[]uint32 // lists of one identifier, shared by entries
}

type match struct {
	ss     *session
	qos    byte
	retain bool
	id     uint32
	more   []uint32 // identifiers beyond the first
}

func (s *Shard) onMatch(_ uint64, u *sub) {
	mt := &s.matcher
	ss := u.sess
	if u.bits&subNoLocal != 0 && mt.publisher == ss.key.ClientID { // v5:MQTT-3.8.3-3
		return
	}
	if ss.matched != mt.round {
		ss.matched, ss.matchPos = mt.round, len(mt.list)
		mt.list = append(mt.list, match{ss: ss, qos: u.bits.qos(), retain: u.bits&subRAP != 0, id: u.id})
		return
	}
	m := &mt.list[ss.matchPos]
	m.qos = max(m.qos, u.bits.qos())
	m.retain = m.retain || u.bits&subRAP != 0
	switch {
	case u.id == 0:
	case m.id == 0:
		m.id = u.id
	default:
		m.more = append(m.more, u.id)
	}
}

// ids is the sorted list of identifiers of a match, nil for none. The trie visits
// subscriptions in no defined order, so sorting is what makes replicas agree.
func (mt *matcher) ids(m *match) *[]uint32 {
	if m.id == 0 {
		return nil
	}
	if len(m.more) > 0 {
		list := append([]uint32{m.id}, m.more...)
		slices.Sort(list)
		list = slices.Compact(list)
		return &list
	}
	if list := mt.single[m.id]; list != nil {
		return list
	}
	if mt.single == nil || len(mt.single) >= maxSingleIDs {
		mt.single = make(map[uint32]*[]uint32)
	}
	list := &[]uint32{m.id}
	mt.single[m.id] = list
	return list
}

const maxSingleIDs = 4096

// applyPublish puts a message into the inboxes that match, and into the retained
// store if it belongs there.
func (s *Shard) applyPublish(p *command.Publish) command.ResultCode {
	m := &s.cmd.message
	if err := m.Decode(p.Message); err != nil || len(m.Topic) == 0 || bytes.IndexByte(m.Topic, 0) >= 0 {
		return command.Invalid
	}
	if p.Origin.Shard != 0 && !s.takeOrigin(&p.Origin) {
		return command.Duplicate
	}
	t := s.tenantOf(p.Tenant)
	retain := p.Flags&command.ToRetained != 0 && m.Retain
	if retain && p.Epoch != 0 && !s.takeAuthor(command.SessionKey{Tenant: p.Tenant, ClientID: m.Publisher}, p.Epoch) {
		return command.StaleEpoch // nobody gets it: a newer connection has sent it again
	}
	if t == nil && retain && len(m.Payload) > 0 {
		if t = s.makeTenant(p.Tenant); t == nil {
			return command.Invalid
		}
	}
	if t == nil {
		// Whether an empty tenant is in memory must decide nothing: it is no state.
		if retain {
			return command.OK
		}
		return command.NoMatch
	}
	msg := s.newMessage(p.Message, s.expiryOf(m))
	msg.refs++ // held until the end of the command
	code := command.NoMatch
	if p.Flags&command.ToInboxes != 0 && m.QoS > 0 && s.publishToInboxes(t, m, msg) {
		code = command.OK
	}
	if p.Flags&command.ToShares != 0 && m.QoS > 0 && t.shareTrie != nil && s.publishToShares(t, m, msg) {
		code = command.OK
	}
	if retain {
		code = s.retain(t, m, msg)
	}
	s.release(msg)
	return code
}

// expiryOf is when a message that enters the shard now expires, 0 for never. It is
// after the clock, so that the last Tick has surely not handled that time yet.
func (s *Shard) expiryOf(m *command.Message) int64 {
	if !m.HasExpiry {
		return 0
	}
	return s.clock + max(1, int64(m.Expiry)*1000)
}

// publishToInboxes appends to every matching inbox; false if there was none.
func (s *Shard) publishToInboxes(t *tenant, m *command.Message, msg *message) bool {
	mt := &s.matcher
	mt.round++
	mt.publisher = m.Publisher
	mt.list = mt.list[:0]
	t.trie.Match(m.Topic, mt.fn)
	found := false
	var enders []*session
	for i := range mt.list {
		h := &mt.list[i]
		qos := min(h.qos, m.QoS)
		if qos == 0 {
			continue
		}
		found = true
		ss := h.ss
		if ss.full && !s.makeRoom(ss, &enders) || planted("overflow-silent") && ss.box.count > 20 {
			continue
		}
		bits := qosBits(qos)
		if h.retain && m.Retain {
			bits |= bitRetain
		}
		s.appendEntry(ss, msg, bits, mt.ids(h))
		s.wake(ss)
	}
	mt.publisher = ""
	slices.SortFunc(enders, compareSID)
	for _, ss := range enders {
		s.kick(ss, KickOverflow)
		s.endSession(ss)
	}
	return found
}

// makeRoom follows the overflow policy for a session whose inbox is full; false
// if the message is not to be queued.
func (s *Shard) makeRoom(ss *session, enders *[]*session) bool {
	switch s.settings.InboxOverflow {
	case command.OverflowDropOldest:
		for s.inboxLimit(ss.box) {
			dropped, err := s.dropOldest(ss)
			if err != nil {
				s.fatal = err
				return false
			}
			s.dropped.InboxFull++
			if !dropped { // all that is queued is under way: the new one goes
				return false
			}
		}
		return true
	case command.OverflowEndSession:
		if s.inboxLimit(ss.box) {
			s.dropped.SessionEnded++ // the message that did not fit
			*enders = append(*enders, ss)
			return false
		}
	}
	// Refuse: gateways refuse before they propose; what was under way is stored.
	return true
}

// dropOldest removes the oldest entry whose delivery has surely not begun; false
// if there is none. What belongs to a share is spared: it is the share's to drop.
func (s *Shard) dropOldest(ss *session) (bool, error) {
	b := ss.box
	from := max(b.dropFrom, b.floor, b.perhapsSent(ss)+1)
	if from < b.hot && b.coldLive() > 0 {
		c, ok, err := s.oldestCold(ss, from)
		if err != nil {
			return false, err
		}
		if ok {
			s.cold[coldKey{ss.sid, c.seq}] = c
			s.removeCold(ss, c.seq)
			delete(s.cold, coldKey{ss.sid, c.seq})
			b.dropFrom = c.seq + 1
			return true, nil
		}
	}
	for seq := max(from, b.hot); seq < b.next; seq++ {
		if e := b.at(seq); e.bits&bitLive != 0 && e.bits&bitReceived == 0 && !b.held(seq) {
			s.finish(ss, seq)
			b.dropFrom = seq + 1
			return true, nil
		}
	}
	return false, nil
}

// wake notes that a connected session has something new to pull.
func (s *Shard) wake(ss *session) {
	if ss.owner != nil && ss.woken != s.matcher.index {
		ss.woken = s.matcher.index
		s.fx.wakes = append(s.fx.wakes, ss)
	}
}

// kick notes that the connection of a session has lost it.
func (s *Shard) kick(ss *session, why KickReason) {
	if o := ss.owner; o != nil {
		s.fx.kicks = append(s.fx.kicks, Kick{Key: ss.key, Epoch: ss.epoch, Node: o.key.node, Incarnation: o.key.incarnation, Reason: why})
	}
}
