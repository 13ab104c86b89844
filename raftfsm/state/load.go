package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Load discards everything in memory and rebuilds it from the store: after a start,
// and after a snapshot was installed. It reads sessions, subscriptions, lanes and
// what is small, and no inbox entry: all of them are cold.
func (s *Shard) Load(st Store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
	s.loads++
	s.store = st
	v, err := st.Get([]byte{keyMeta})
	if errors.Is(err, ErrNotFound) {
		return s.loadEmpty()
	}
	if err == nil {
		err = s.meta.read(v)
	}
	if err != nil {
		return fmt.Errorf("load meta: %w", err)
	}
	if err := s.loadRestore(); err != nil {
		return fmt.Errorf("load restore: %w", err)
	}
	for _, step := range s.loadSteps() {
		if s.restore != nil && !s.restore.loaded && step.kind != keyLane {
			continue // it is no state yet
		}
		if err := eachOf(st, step.kind, step.read); err != nil {
			return fmt.Errorf("load %s: %w", step.what, err)
		}
	}
	return s.loaded()
}

// loadStep reads the records of one kind.
type loadStep struct {
	what string
	kind byte
	read func(k, v []byte) error
}

// loadSteps are in the order in which they need one another.
func (s *Shard) loadSteps() []loadStep {
	return []loadStep{
		{"lane", keyLane, s.loadLane},
		{"session", keySession, s.loadSession},
		{"share", keyShare, s.loadShare},
		{"subscription", keySub, s.loadSub},
		{"inbound message", keyInbound, s.loadInbound},
		{"originated message", keyOrigin, s.loadOrigin},
		{"origin keys", keySource, s.loadSource},
		{"retained message", keyRetained, s.loadRetained},
		{"author", keyAuthor, s.loadAuthor},
		{"swept inbox", keySwept, s.loadSwept},
	}
}

// loadRestore reads whether a restore is under way.
func (s *Shard) loadRestore() error {
	v, err := s.store.Get([]byte{keyRestore})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		s.restore = new(restoring)
		err = s.restore.read(v)
	}
	return err
}

// eachOf visits all records of a kind.
func eachOf(st Store, kind byte, read func(k, v []byte) error) error {
	var bad error
	err := st.Iterate([]byte{kind}, []byte{kind + 1}, func(k, v []byte) bool {
		bad = read(k, v)
		return bad == nil
	})
	if bad != nil {
		return bad
	}
	return err
}

// loadEmpty accepts a store without anything in it.
func (s *Shard) loadEmpty() error {
	empty := true
	err := s.store.Iterate(nil, nil, func(_, _ []byte) bool {
		empty = false
		return false
	})
	if err == nil && !empty {
		err = fmt.Errorf("records without a meta record: %w", ErrCorrupt)
	}
	return err
}

// loaded ends a load: nothing of it is news to anybody.
func (s *Shard) loaded() error {
	if s.restore != nil && !s.restore.loaded {
		return nil
	}
	if err := s.derive(); err != nil {
		return err
	}
	for i := range s.touchedRoutes {
		s.touchedRoutes[i].r.touched = false
	}
	s.touchedRoutes = nil
	return nil
}

// derive counts what was read, and makes what follows from it.
func (s *Shard) derive() error {
	for _, ss := range s.bySID() {
		s.countRoutes(ss, 1)
		if b := ss.box; b != nil {
			s.inboxMessages += b.count
			s.inboxBytes += b.bytes
			s.sum.addSum(b.sum)
			if b.count == 0 {
				b.floor = b.hot
			}
		}
		if ss.full {
			s.fullSessions++
		}
		s.updateLife(ss)
		ss.rehash = true
		s.rehashList = append(s.rehashList, ss)
	}
	s.rehash()
	done := keyX(nil, s.expiryDone.at, s.expiryDone.sid, s.expiryDone.seq)
	return s.store.Iterate(append(done, 0), []byte{keyExpiry + 1}, func(k, _ []byte) bool {
		if len(k) > 8 {
			s.coldExpiry = int64(binary.BigEndian.Uint64(k[1:]))
		}
		return false
	})
}

// reset empties the machine's memory.
func (s *Shard) reset() {
	fn := s.matcher.fn
	s.resetRecords()
	s.restore = nil
	s.lastTenant, s.touchedRoutes, s.fx = nil, nil, effectsInProgress{}
	s.matcher = matcher{fn: fn}
	s.cold, s.cmd, s.fatal = make(map[coldKey]coldEntry), scratch{}, nil
}

// resetRecords empties all but the scratch space of the entry that is being applied.
func (s *Shard) resetRecords() {
	s.shares = newOrdered(compareSessions)
	s.meta = meta{settings: s.opts.Settings}
	s.tenants = make(map[string]*tenant)
	s.byID = make(map[uint64]*session)
	s.sessions = newOrdered(compareSessions)
	s.owners = make(map[ownerKey]*owner)
	s.lanes = make(map[string]*lane)
	s.sources = make(map[uint32]*source)
	s.origins, s.expiring = originList{}, expiryHeap{}
	s.authors = newAuthors()
	s.timers, s.expiries = timers{at: lifeTimer}, timers{at: expiryTimer}
	s.sum = sum{}
	s.inboxMessages, s.inboxBytes, s.retainedBytes = 0, 0, 0
	s.retainedCount, s.durables, s.fullSessions, s.subscriptions, s.inboundCount = 0, 0, 0, 0, 0
	s.dirtyList, s.rehashList, s.retainedList, s.ops = nil, nil, nil, storeOps{}
	s.unrefs = make(map[uint64]int64)
	s.dirtyBytes, s.logBytes, s.sweeps, s.newSweeps, s.changed = 0, 0, nil, nil, false
	s.hotList, s.hotBytes, s.hotEntries, s.freeMsgs = hotList{}, 0, 0, nil
	s.coldExpiry, s.due, s.settles = 0, dueScan{}, nil
	s.lastTenant = nil
}

func (s *Shard) loadLane(k, v []byte) error {
	l := &lane{node: string(k[1:])}
	s.lanes[l.node] = l
	return l.read(v)
}

func (s *Shard) loadSession(k, v []byte) error {
	key, err := splitKey(k)
	if err != nil {
		return err
	}
	t := s.makeTenant(key.Tenant)
	ss := &session{key: command.SessionKey{Tenant: t.name, ClientID: key.ClientID}, tenant: t, inStore: true}
	owner, err := ss.read(v)
	if err != nil {
		return err
	}
	s.register(ss)
	s.setOwner(ss, owner)
	return nil
}

func (s *Shard) loadSub(k, v []byte) error {
	if len(k) < 10 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	ss := s.byID[binary.BigEndian.Uint64(k[1:])]
	if ss == nil {
		return fmt.Errorf("of unknown session: %w", ErrCorrupt)
	}
	r := recordReader{b: v}
	u := s.newSub(ss, string(k[9:]))
	u.bits, u.id, u.fence, u.inStore = subBits(r.uint()), r.u32(), r.uint(), true
	s.subscriptions++
	ss.subs = append(ss.subs, u) // keys come in the order of filters
	if ss.durable && u.route != nil {
		ss.tenant.trie.Set(u.filter, ss.sid, u)
	}
	s.sum.add(u.hash())
	return r.err("subscription")
}

func (s *Shard) loadInbound(k, v []byte) error {
	if len(k) != 17 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	ss := s.byID[binary.BigEndian.Uint64(k[1:])]
	if ss == nil {
		return fmt.Errorf("of unknown session: %w", ErrCorrupt)
	}
	r := recordReader{b: v}
	in := inbound{pid: uint16(binary.BigEndian.Uint64(k[9:])), order: r.uint(), inStore: true}
	expiresAt := r.int()
	in.msg = s.loadMessage(0, append([]byte(nil), r.rest()...), expiresAt, false)
	in.msg.refs++
	at := len(ss.inbound)
	for at > 0 && ss.inbound[at-1].order > in.order {
		at--
	}
	ss.inbound = append(ss.inbound, inbound{})
	copy(ss.inbound[at+1:], ss.inbound[at:])
	ss.inbound[at] = in
	s.inboundCount++
	s.sum.add(in.hash(ss.sid))
	return r.err("inbound message")
}

func (s *Shard) loadSource(k, v []byte) error {
	if len(k) != 5 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	src := &source{shard: binary.BigEndian.Uint32(k[1:])}
	s.sources[src.shard] = src
	return src.read(v)
}

func (s *Shard) loadRetained(k, v []byte) error {
	key, err := splitKey(k)
	if err != nil {
		return err
	}
	r := &retained{tenant: s.makeTenant(key.Tenant), topic: key.ClientID}
	if err := r.read(v); err != nil {
		return err
	}
	r.tenant.retained.insert(r)
	s.retainedCount++
	s.retainedBytes += r.size
	s.sum.add(r.hash())
	if r.expiresAt != 0 {
		s.expiring.push(r)
	}
	return nil
}

func (s *Shard) loadSwept(k, _ []byte) error {
	if len(k) != 9 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	s.sweeps = append(s.sweeps, binary.BigEndian.Uint64(k[1:]))
	return nil
}

func errFormat(have uint64) error {
	return fmt.Errorf("format %d of the state store, this program knows %d: %w", have, formatVersion, ErrCorrupt)
}
