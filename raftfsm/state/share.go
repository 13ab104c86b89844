package state

import (
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// keyShare is the kind of a share's record: H tenant 0 filter.
const keyShare = 'H'

// share is what a session is that is the queue of a share. A message of the queue
// is waiting, or assigned to one member; it leaves the queue when that member's
// shard says that it is done, or when it expires or is dropped while it waits.
type share struct {
	name string
	// cursor: what waits at or above was never assigned. Below, back waits: it was
	// given back, and goes first; what members have parked waits, too; everything else
	// there is assigned.
	cursor   uint64
	back     rangeSet
	assigned uint64
	parked   uint64

	members []*member // sorted by client id
	present int       // those that have not left
	online  []*member // sorted by client id
	ready   readyHeap // online members with room
	turn    uint64    // counts assignments
	sticky  string    // client id, of the strategy
	route   *route
}

// member is a session that is in a share. One that left stays until everything
// that it has is settled.
type member struct {
	client      string
	epoch       uint64
	fence       uint64 // of its last event
	node        string // of its connection, "" for none
	incarnation uint64
	room        uint16
	qos         byte
	left        bool
	turn        uint64 // of its last assignment
	assigned    rangeSet
	count       uint64
	parked      rangeSet // waits for this one, see ShareHashTopic
	pos         int      // in ready, 1-based
}

// isAssigned reports whether a member has a message that is in the queue.
func (sh *share) isAssigned(num uint64) bool {
	if num >= sh.cursor || sh.back.contains(num) {
		return false
	}
	return sh.parked == 0 || !slices.ContainsFunc(sh.online, func(m *member) bool { return m.parked.contains(num) })
}

// active reports whether somebody reads the inbox now.
func (ss *session) active() bool {
	return ss.owner != nil || ss.share != nil && len(ss.share.online) > 0
}

// findShare is the share of a whole filter, nil if there is none.
func (s *Shard) findShare(tenant, filter string) *session {
	t := s.tenants[tenant]
	if t == nil {
		return nil
	}
	return t.shares[filter]
}

// makeShare makes a share; the caller has checked the filter.
func (s *Shard) makeShare(t *tenant, filter string) *session {
	s.lastSID++
	ss := &session{key: command.SessionKey{Tenant: t.name, ClientID: strings.Clone(filter)}, sid: s.lastSID, tenant: t, box: newInbox()}
	ss.share = &share{cursor: 1}
	s.registerShare(ss)
	return ss
}

// registerShare puts a share into all indexes.
func (s *Shard) registerShare(ss *session) {
	t, sh := ss.tenant, ss.share
	name, inner, _, _ := router.SplitShare(ss.key.ClientID)
	sh.name, sh.route = name, s.routeOf(t, inner)
	s.touchRoute(sh.route)
	at, _ := slices.BinarySearchFunc(sh.route.groups, sh.name, func(o *session, n string) int { return strings.Compare(o.share.name, n) })
	sh.route.groups = slices.Insert(sh.route.groups, at, ss)
	if t.shares == nil {
		t.shares, t.shareTrie = make(map[string]*session), router.NewTrie[*session]()
	}
	t.shares[ss.key.ClientID] = ss
	t.shareTrie.Set(inner, ss.sid, ss)
	s.byID[ss.sid] = ss
	s.shares.insert(ss)
}

// endShare ends a share that has no members any more. What waits is lost with it;
// what its former members have is theirs.
func (s *Shard) endShare(ss *session) {
	t, sh := ss.tenant, ss.share
	s.touchRoute(sh.route)
	sh.route.groups = slices.DeleteFunc(sh.route.groups, func(o *session) bool { return o == ss })
	t.shareTrie.Delete(sh.route.filter, ss.sid)
	delete(t.shares, ss.key.ClientID)
	delete(s.byID, ss.sid)
	s.shares.remove(ss)
	s.endInbox(ss, sh.assigned)
	s.retire(ss)
	if ss.inStore {
		s.ops.delete(keyPair(nil, keyShare, t.name, ss.key.ClientID))
	}
}

func (sh *share) find(client string) (int, bool) { return findMember(sh.members, client) }

func findMember(list []*member, client string) (int, bool) {
	return slices.BinarySearchFunc(list, client, func(m *member, c string) int { return strings.Compare(m.client, c) })
}

// applyShareMember records what happened to a member (I16).
func (s *Shard) applyShareMember(c *command.ShareMember) command.Result {
	r := command.Result{Code: command.Invalid, Index: s.matcher.index}
	if !validFilter(c.Filter) || !isShared(c.Filter) || c.Member.ClientID == "" || strings.IndexByte(c.Member.ClientID, 0) >= 0 {
		return r
	}
	t := s.makeTenant(c.Member.Tenant)
	if t == nil {
		return r
	}
	if c.Origin.Shard != 0 && !s.takeOrigin(&c.Origin) {
		r.Code = command.Duplicate // with an index at which the event has surely been applied
		return r
	}
	r.Code = command.OK
	ss := t.shares[c.Filter]
	if ss == nil {
		if c.Event != command.ShareJoin {
			return r
		}
		ss = s.makeShare(t, c.Filter)
	}
	s.memberEvent(ss, c)
	s.markDirty(ss)
	return r
}

func (s *Shard) memberEvent(ss *session, c *command.ShareMember) {
	sh := ss.share
	at, ok := sh.find(c.Member.ClientID)
	var m *member
	switch {
	case ok:
		m = sh.members[at]
	case c.Event == command.ShareJoin:
		sh.turn++
		m = &member{client: strings.Clone(c.Member.ClientID), left: true, turn: sh.turn}
		sh.members = slices.Insert(sh.members, at, m)
	}
	if m == nil || m.left && c.Event != command.ShareJoin && c.Event != command.ShareLeave {
		return
	}
	m.epoch, m.fence = c.Epoch, c.Origin.Seq
	s.takeBack(ss, m, c)
	switch c.Event {
	case command.ShareJoin:
		if m.left {
			m.left = false
			sh.present++
		}
		m.qos = c.Sub.QoS
		s.setOnline(ss, m, c)
	case command.ShareOnline:
		s.setOnline(ss, m, c)
	case command.ShareOffline:
		s.setOffline(ss, m)
	case command.ShareLeave:
		s.setOffline(ss, m)
		if !m.left { // it left before, and now its session ends
			m.left = true
			sh.present--
		}
		s.dropMember(ss, m)
		if sh.present == 0 {
			s.endShare(ss)
			return
		}
	}
	s.assign(ss)
}

// takeBack lets everything wait again that a member was given and does not hold: it
// will not take it any more.
func (s *Shard) takeBack(ss *session, m *member, c *command.ShareMember) {
	sh := ss.share
	held := rangeSet(c.Held)
	if c.Share != ss.sid {
		held = nil
	}
	var back []uint64
	for _, r := range m.assigned {
		for num := r.From; num <= r.To; num++ {
			if !held.contains(num) {
				back = append(back, num)
			}
		}
	}
	if len(back) > 0 {
		sh.unpark(m) // what comes back is older
	}
	for _, num := range back {
		m.assigned.remove(num)
		m.count--
		sh.assigned--
		s.requeue(ss, num)
	}
}

// setOnline gives a member the connection that an event names. One of a process that
// is known to be lost is none: its shard will say so, too.
func (s *Shard) setOnline(ss *session, m *member, c *command.ShareMember) {
	if l := s.lanes[c.Node]; c.Node == "" || l != nil && c.Incarnation <= l.lost {
		s.setOffline(ss, m)
		return
	}
	sh := ss.share
	s.touchRoute(sh.route)
	if m.node != c.Node {
		m.node = strings.Clone(c.Node)
	}
	m.incarnation, m.room = c.Incarnation, c.Room
	if at, ok := findMember(sh.online, m.client); !ok {
		sh.unpark(sh.online...) // topics may have another member now
		sh.online = slices.Insert(sh.online, at, m)
	}
	sh.ready.update(m, m.ready())
}

func (s *Shard) setOffline(ss *session, m *member) {
	sh := ss.share
	if m.node == "" {
		return
	}
	s.touchRoute(sh.route)
	m.node, m.incarnation = "", 0
	sh.unpark(sh.online...)
	if at, ok := findMember(sh.online, m.client); ok {
		sh.online = slices.Delete(sh.online, at, at+1)
	}
	sh.ready.update(m, false)
}

// dropMember forgets a member that left and has nothing to settle.
func (s *Shard) dropMember(ss *session, m *member) {
	if !m.left || m.count > 0 {
		return
	}
	if at, ok := ss.share.find(m.client); ok {
		ss.share.members = slices.Delete(ss.share.members, at, at+1)
	}
}

// loseMembers takes the connections of a process that is gone from its members, so
// that shares give them nothing more. What they have comes back from their shards.
func (s *Shard) loseMembers(node string, incarnation uint64) {
	for _, chunk := range s.shares.chunks {
		for _, ss := range chunk {
			lost := slices.DeleteFunc(slices.Clone(ss.share.online), func(m *member) bool {
				return m.node != node || m.incarnation > incarnation
			})
			for _, m := range lost {
				s.setOffline(ss, m)
			}
			if len(lost) > 0 {
				s.markDirty(ss)
				s.assign(ss)
			}
		}
	}
}

// applyShareSettle ends what a member is done with, and gives the next ones away.
func (s *Shard) applyShareSettle(c *command.ShareSettle) command.ResultCode {
	if c.Origin.Shard != 0 && !s.takeOrigin(&c.Origin) {
		return command.Duplicate
	}
	ss := s.findShare(c.Member.Tenant, c.Filter)
	if ss == nil || ss.sid != c.Share {
		return command.OK
	}
	at, ok := ss.share.find(c.Member.ClientID)
	if !ok {
		return command.OK
	}
	m := ss.share.members[at]
	for _, num := range m.take(c.Done) {
		ss.share.assigned--
		s.remove(ss, num)
	}
	ss.share.ready.update(m, m.ready())
	s.dropMember(ss, m)
	s.markDirty(ss)
	if ss.full {
		s.checkFull(ss)
	}
	s.assign(ss)
	return command.OK
}

// requeue lets a message wait again, in front of those that were never assigned.
func (s *Shard) requeue(ss *session, num uint64) {
	sh := ss.share
	sh.back.add(num)
	expiresAt := int64(0)
	if num >= ss.box.hot {
		expiresAt = ss.box.at(num).msg.expiresAt
	} else {
		// A read under mu, of at most what one member has.
		if s.fatal = s.readInto(ss.sid, num); s.fatal != nil {
			return
		}
		if c, ok := s.coldAt(ss, num); ok {
			expiresAt = c.expiresAt
		}
	}
	if expiresAt != 0 && expiresAt <= s.clock { // ticks left it to its member
		s.dropped.Expired++
		s.dropWaiting(ss, num)
	}
}

// dropWaiting takes a message out of the queue that no member has.
func (s *Shard) dropWaiting(ss *session, num uint64) {
	sh := ss.share
	sh.back.remove(num)
	if sh.parked > 0 {
		for _, m := range sh.online {
			if m.parked.remove(num) {
				sh.parked--
			}
		}
	}
	s.remove(ss, num)
	if ss.full {
		s.checkFull(ss)
	}
}

// take takes the numbers that it has off a member, of those in the ranges.
func (m *member) take(ranges []command.Range) (out []uint64) {
	for _, r := range ranges {
		for i := m.assigned.find(r.From); i < len(m.assigned) && m.assigned[i].From <= r.To; i++ {
			for num := max(r.From, m.assigned[i].From); num <= min(r.To, m.assigned[i].To); num++ {
				out = append(out, num)
			}
		}
	}
	for _, num := range out {
		m.assigned.remove(num)
	}
	m.count -= uint64(len(out))
	return out
}

func (m *member) ready() bool { return m.node != "" && !m.left && m.count < uint64(m.room) }
