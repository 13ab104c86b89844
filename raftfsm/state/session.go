package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// tenant is what the clients of one tenant share. Nothing crosses it.
type tenant struct {
	name     string
	sessions map[string]*session
	// trie holds the subscriptions of durable sessions: what publishes append to.
	trie *router.Trie[*sub]
	// routes holds a record per filter of any session or share.
	routes   map[string]*route
	retained *ordered[*retained]
	// shares holds the shares by their whole filter, shareTrie by the plain one. Nil
	// until there is one.
	shares    map[string]*session
	shareTrie *router.Trie[*session]
}

// owner is a process of a node with its connected sessions, in no useful order.
type owner struct {
	key      ownerKey
	sessions []*session
}

type ownerKey struct {
	node        string
	incarnation uint64
}

// session is what a client id owns. A share is one, too: its queue is an inbox
// that nobody is connected to. Then only key (the whole filter), sid, tenant, box, full
// and share are in use.
type session struct {
	key    command.SessionKey
	sid    uint64 // never used twice; names the session in the store
	epoch  uint64
	tenant *tenant

	owner       *owner // nil while disconnected
	ownerPos    int
	token       uint64
	connectedAt int64
	username    string
	receiveMax  uint16
	version     byte

	durable   bool // outlives its connection
	full      bool
	expiryS   uint32
	expiresAt int64 // while disconnected; 0 never

	will    *will
	subs    []*sub // sorted by filter
	box     *inbox // nil for a transient session that is in no share
	inbound []inbound
	replays []replay // sorted by filter
	share   *share   // nil for a session of a client

	// Bookkeeping of the machine.
	life     timer // its end, its will
	expiry   timer // of hot entries
	newer    *session
	older    *session
	inHot    bool
	dirty    bool // will be written
	rehash   bool // digest is out of date
	inStore  bool // has a record there
	subsNew  bool // has subscriptions that are not in the store
	ended    bool
	digest   sum
	woken    uint64 // publish counter or entry index of the last mark, see matcher
	matched  uint64
	matchPos int
}

// will is armed while the session is connected, and pending once dueAt is set.
type will struct {
	body   []byte
	delayS uint32
	dueAt  int64
}

// inbound is a QoS 2 message of the client that waits for its PUBREL. A session
// keeps them in the order in which they came.
type inbound struct {
	pid     uint16
	order   uint64 // shard-wide, keeps the order across restarts
	msg     *message
	inStore bool
}

// sub is a subscription of a session.
type sub struct {
	sess    *session
	filter  string
	route   *route // nil if the filter is shared
	fence   uint64 // of a shared one: sequence of what its share was told last
	id      uint32
	bits    subBits
	inStore bool // has a record there, perhaps an older one
	dirty   bool
}

// subBits are the options of a subscription.
type subBits uint8

const (
	subQoSMask  subBits = 0x3
	subNoLocal  subBits = 0x4
	subRAP      subBits = 0x8
	subHandling         = 4 // shift of Retain Handling
)

func (b subBits) qos() byte { return byte(b & subQoSMask) }

func bitsOf(c *command.Subscription) subBits {
	bits := subBits(c.QoS) | subBits(c.RetainHandling)<<subHandling
	if c.NoLocal {
		bits |= subNoLocal
	}
	if c.RetainAsPublished {
		bits |= subRAP
	}
	return bits
}

func (u *sub) command() command.Subscription {
	return command.Subscription{
		Filter: u.filter, QoS: u.bits.qos(), NoLocal: u.bits&subNoLocal != 0,
		RetainAsPublished: u.bits&subRAP != 0, RetainHandling: byte(u.bits >> subHandling), ID: u.id,
	}
}

// findSub is the place of a filter in the session's list.
func (ss *session) findSub(filter string) (int, bool) {
	return slices.BinarySearchFunc(ss.subs, filter, func(u *sub, f string) int { return strings.Compare(u.filter, f) })
}

func compareSessions(a, b *session) int { return compareKeys(a.key, b.key) }

func compareKeys(a, b command.SessionKey) int {
	if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
		return c
	}
	return strings.Compare(a.ClientID, b.ClientID)
}

func compareSID(a, b *session) int { return cmp.Compare(a.sid, b.sid) }

// tenantOf finds a tenant.
func (s *Shard) tenantOf(name string) *tenant {
	if t := s.lastTenant; t != nil && t.name == name {
		return t
	}
	t := s.tenants[name]
	if t != nil {
		s.lastTenant = t
	}
	return t
}

// makeTenant finds a tenant or makes it; nil if the name cannot be a key.
func (s *Shard) makeTenant(name string) *tenant {
	if t := s.tenantOf(name); t != nil {
		return t
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil
	}
	t := &tenant{
		name: strings.Clone(name), sessions: make(map[string]*session), trie: router.NewTrie[*sub](),
		routes: make(map[string]*route), retained: newOrdered(compareRetained),
	}
	s.tenants[t.name] = t
	s.lastTenant = t
	return t
}

// find is the session of a key, nil if there is none. It serves readers, too,
// so it leaves the tenant cache alone.
func (s *Shard) find(key command.SessionKey) *session {
	t := s.tenants[key.Tenant]
	if t == nil {
		return nil
	}
	return t.sessions[key.ClientID]
}

// current is the session of a reference, if the reference is not outdated (I9).
func (s *Shard) current(ref *command.SessionRef) (*session, command.ResultCode) {
	t := s.tenantOf(ref.Tenant)
	if t == nil {
		return nil, command.UnknownSession
	}
	ss := t.sessions[ref.ClientID]
	if ss == nil {
		return nil, command.UnknownSession
	}
	if ss.epoch != ref.Epoch && !planted("epoch-unchecked") {
		return nil, command.StaleEpoch
	}
	return ss, command.OK
}

// register puts a session into all indexes but those of its owner and timers.
func (s *Shard) register(ss *session) {
	ss.tenant.sessions[ss.key.ClientID] = ss
	s.byID[ss.sid] = ss
	s.sessions.insert(ss)
	if ss.durable {
		s.durables++
	}
}

func (s *Shard) unregister(ss *session) {
	delete(ss.tenant.sessions, ss.key.ClientID)
	delete(s.byID, ss.sid)
	s.sessions.remove(ss)
	if ss.durable {
		s.durables--
	}
	s.retire(ss)
}

// retire takes a session or share that is gone off all lists.
func (s *Shard) retire(ss *session) {
	s.timers.remove(ss)
	s.expiries.remove(ss)
	s.hotList.remove(ss)
	if ss.full {
		ss.full = false
		s.fullSessions--
		s.fx.full = append(s.fx.full, FullChange{Key: ss.key})
	}
	s.sum.subSum(ss.digest)
	ss.digest = sum{}
	ss.ended = true
}

// setOwner gives a session to a process of a node, or to nobody.
func (s *Shard) setOwner(ss *session, key ownerKey) {
	if o := ss.owner; o != nil {
		last := len(o.sessions) - 1
		moved := o.sessions[last]
		o.sessions[ss.ownerPos] = moved
		moved.ownerPos = ss.ownerPos
		o.sessions[last] = nil
		o.sessions = o.sessions[:last]
		if last == 0 {
			delete(s.owners, o.key)
		}
		ss.owner = nil
	}
	if key.node == "" {
		return
	}
	o := s.owners[key]
	if o == nil {
		key.node = strings.Clone(key.node)
		o = &owner{key: key}
		s.owners[key] = o
	}
	ss.owner, ss.ownerPos = o, len(o.sessions)
	o.sessions = append(o.sessions, ss)
}

// markDirty makes the next write-back write the session, and the next digest hash it.
func (s *Shard) markDirty(ss *session) {
	if !ss.dirty {
		ss.dirty = true
		s.dirtyList = append(s.dirtyList, ss)
	}
	if !ss.rehash {
		ss.rehash = true
		s.rehashList = append(s.rehashList, ss)
	}
}
