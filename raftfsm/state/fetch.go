package state

import (
	"errors"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// fetch is one call of Fetch on its way: what to collect, and what was collected
// with bodies that are not decoded yet.
type fetch struct {
	s        *Shard
	ref      command.SessionRef
	maxMsgs  int
	maxBytes int
	peek     bool // there is no limit

	// What the plan found under mu.
	store             Store
	loads, writeBacks uint64
	sid               uint64
	next              uint64 // where to go on
	end               uint64 // sequences from here on are hot
	dead, recv        rangeSet
	clock             int64
	dupTo             uint64
	limit             uint64 // nothing beyond may be sent yet
	clamped           bool   // and there is something

	items []fetched
	bytes int
	page  Page
}

// fetched is an entry with its encoded message.
type fetched struct {
	seq       uint64
	bits      entryBits
	ids       []uint32
	body      []byte
	shared    uint64 // id of the record that the body is still to be read from
	expiresAt int64
}

// fetchAttempts bounds how often a read starts again because the ground moved.
const fetchAttempts = 100

// fetchStep says how a step of a fetch ended.
type fetchStep byte

const (
	fetchDone    fetchStep = 1 // the page is complete
	fetchCold    fetchStep = 2 // there is more to read from the store
	fetchRestart fetchStep = 3 // the ground moved
)

// Fetch reads inbox entries from cursor on (0: from the floor), at most maxMsgs
// and about maxBytes of messages, but at least one however large it is. Entries that
// expired are in it: who sends them knows whether they were sent (Dup says that they may
// have been on an earlier connection). The result is the caller's. ErrStaleEpoch, ErrNotYet, or an error
// of the store.
func (s *Shard) Fetch(ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (Page, error) {
	return s.read(&fetch{ref: ref, maxMsgs: max(1, maxMsgs), maxBytes: max(1, maxBytes)}, cursor)
}

// Peek is Fetch for those who only look: what may not be sent yet is in it, too.
func (s *Shard) Peek(ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (Page, error) {
	return s.read(&fetch{ref: ref, maxMsgs: max(1, maxMsgs), maxBytes: max(1, maxBytes), peek: true}, cursor)
}

func (s *Shard) read(what *fetch, cursor uint64) (Page, error) {
	for range fetchAttempts {
		f := new(fetch)
		*f = *what
		f.s, f.next = s, cursor
		step, err := f.run()
		if err != nil {
			return Page{}, err
		}
		if step == fetchDone {
			return f.finish()
		}
	}
	return Page{}, ErrReloaded
}

func (f *fetch) run() (fetchStep, error) {
	f.s.mu.RLock()
	step, err := f.plan()
	f.s.mu.RUnlock()
	for step == fetchCold && err == nil {
		var ok bool
		if ok, err = f.readCold(); err != nil || !ok {
			return fetchRestart, err
		}
		f.s.mu.RLock()
		step, err = f.recheck()
		f.s.mu.RUnlock()
	}
	return step, err
}

// session is the session that the reference means. It needs mu.
func (f *fetch) session() (*session, error) {
	s := f.s
	if f.ref.Epoch > s.lastEpoch {
		return nil, ErrNotYet
	}
	ss := s.find(f.ref.SessionKey)
	if ss == nil || ss.epoch != f.ref.Epoch {
		return nil, ErrStaleEpoch
	}
	return ss, nil
}

// plan collects what is hot, or notes what has to be read from the store first.
// It needs mu.
func (f *fetch) plan() (fetchStep, error) {
	ss, err := f.session()
	if err != nil {
		return fetchRestart, err
	}
	s := f.s
	f.clock, f.loads, f.writeBacks, f.store, f.sid = s.clock, s.loads, s.writeBacks, s.store, ss.sid
	b := ss.box
	if b == nil {
		f.next = max(f.next, 1)
		f.page = Page{Next: f.next, Floor: 1, Now: f.clock}
		return fetchDone, nil
	}
	f.next = max(f.next, b.floor)
	f.end, f.dupTo, f.limit = b.hot, b.dupTo, b.sendLimit(ss)
	if f.next < b.hot && b.coldLive() > 0 {
		f.dead = append(rangeSet(nil), b.dead[b.dead.find(f.next):]...)
		f.recv = append(rangeSet(nil), b.recv[b.recv.find(f.next):]...)
		return fetchCold, nil
	}
	f.hot(b)
	return fetchDone, nil
}

// hot collects hot entries from next on and ends the page. It needs mu.
func (f *fetch) hot(b *inbox) {
	seq := max(f.next, b.hot)
	f.next = seq
	for ; seq < b.next; seq++ {
		e := b.at(seq)
		if e.bits&bitLive == 0 {
			continue
		}
		it := fetched{seq: seq, bits: e.bits & logicalBits, ids: e.idList()}
		if e.msg != nil {
			it.body, it.expiresAt = e.msg.body, e.msg.expiresAt
		}
		if !f.add(&it) {
			break
		}
	}
	f.page = Page{Next: max(f.next, min(seq, b.next)), More: seq < b.next && !f.clamped, Clamped: f.clamped, Floor: b.floor, Now: f.clock}
}

// add takes an entry into the page; false if it is full.
func (f *fetch) add(it *fetched) bool {
	if it.seq > f.limit && !f.peek {
		f.clamped = true
		return false
	}
	if len(f.items) > 0 && (len(f.items) >= f.maxMsgs || f.bytes+len(it.body) > f.maxBytes) {
		return false
	}
	f.items = append(f.items, *it)
	f.bytes += len(it.body)
	return true
}

// readCold collects entries in [next, end) from the store, without mu; false if a
// message was gone when it was looked for.
func (f *fetch) readCold() (bool, error) {
	var bad error
	full := false
	err := f.store.Iterate(keyU64s(nil, keyEntry, f.sid, f.next), keyU64s(nil, keyEntry, f.sid, f.end), func(k, v []byte) bool {
		var more bool
		more, bad = f.takeCold(k, v)
		full = !more
		return more
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return false, fmt.Errorf("fetch from the store: %w", err)
	}
	if !full {
		f.next = f.end
	}
	return f.readShared()
}

// takeCold takes one record into the page; false if it is full.
func (f *fetch) takeCold(k, v []byte) (bool, error) {
	seq, err := seqOfKey(k)
	if err != nil {
		return false, err
	}
	if f.dead.contains(seq) {
		f.next = seq + 1
		return true, nil
	}
	c, body, err := readEntry(seq, v)
	if err != nil {
		return false, err
	}
	it := fetched{seq: seq, bits: c.bits, ids: c.ids, expiresAt: c.expiresAt, shared: c.shared}
	if f.recv.contains(seq) {
		it = fetched{seq: seq, bits: receivedBits}
	} else if body != nil {
		it.body = append([]byte(nil), body...)
	}
	if it.shared != 0 {
		f.bytes += int(c.size) // its body comes later
	}
	if !f.add(&it) {
		if f.clamped {
			f.next = seq
		}
		return false, nil
	}
	f.next = seq + 1
	return true, nil
}

// readShared reads the bodies that have records of their own; false if one is gone.
func (f *fetch) readShared() (bool, error) {
	for i := range f.items {
		it := &f.items[i]
		if it.shared == 0 {
			continue
		}
		v, err := f.store.Get(keyU64(nil, keyMessage, it.shared))
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("fetch message %d: %w", it.shared, err)
		}
		r := recordReader{b: v}
		r.int() // the expiry time
		it.body, it.shared = r.rest(), 0
	}
	return true, nil
}

// recheck looks again at what was read without mu, and goes on with what is hot.
// It needs mu.
func (f *fetch) recheck() (fetchStep, error) {
	ss, err := f.session()
	if err != nil {
		return fetchRestart, err
	}
	b := ss.box
	if f.s.loads != f.loads || f.s.writeBacks != f.writeBacks || ss.sid != f.sid || b == nil {
		return fetchRestart, nil
	}
	keep := f.items[:0]
	for _, it := range f.items {
		switch {
		case it.seq < b.floor || b.dead.contains(it.seq):
			continue
		case b.recv.contains(it.seq):
			it = fetched{seq: it.seq, bits: receivedBits}
		}
		keep = append(keep, it)
	}
	f.items = keep
	switch {
	case f.clamped:
		f.page = Page{Next: f.next, Clamped: true, Floor: b.floor, Now: f.clock}
		return fetchDone, nil
	case f.next >= f.end:
		// Without a write-back in between, nothing that lives became cold.
		f.hot(b)
		return fetchDone, nil
	case len(f.items) > 0:
		f.page = Page{Next: f.next, More: true, Floor: b.floor, Now: f.clock}
		return fetchDone, nil
	}
	return fetchCold, nil
}

// finish decodes the messages, without mu.
func (f *fetch) finish() (Page, error) {
	p := f.page
	if len(f.items) > 0 {
		p.Deliveries = make([]Delivery, len(f.items))
	}
	for i := range f.items {
		it := &f.items[i]
		d := &p.Deliveries[i]
		*d = Delivery{Seq: it.seq, QoS: it.bits.qos(), Retain: it.bits&bitRetain != 0, SubIDs: it.ids, State: Queued, Dup: it.seq <= f.dupTo, ExpiresAt: it.expiresAt}
		if it.bits&bitReceived != 0 {
			d.State = Received
			continue
		}
		if err := d.Msg.Decode(it.body); err != nil {
			return Page{}, fmt.Errorf("fetch entry %d: %w", it.seq, err)
		}
	}
	return p, nil
}
