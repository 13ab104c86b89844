package state

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// originated is a message that this shard originated (a will, or a QoS 2 message
// that its publisher released), or a command for another shard (see originCommand).
// It stays until every target has confirmed it.
type originated struct {
	seq      uint64
	key      command.SessionKey
	username string
	msg      *message // nil for a command without one
	flags    command.PublishFlags
	will     bool
	cmd      []byte // encoded, without message and origin key; nil for a message
	inStore  bool
	done     bool
}

// originList holds them by sequence. Entries that are done become nil until they
// reach the front.
type originList struct {
	list []*originated
	live int
	// expiry is at or below the earliest expiry of any of them, 0 for none.
	expiry int64
	// wills has the wills of each client among them.
	wills map[command.SessionKey]pendingWills
}

// pendingWills are those of one client: how many, and the last.
type pendingWills struct {
	count int
	last  uint64
}

// originate makes a message of a session one of the shard.
func (s *Shard) originate(ss *session, m *message, isWill bool) {
	s.lastOrigin++
	o := &originated{seq: s.lastOrigin, key: ss.key, username: ss.username, msg: m, flags: command.ToInboxes, will: isWill}
	if decoded, err := command.DecodeMessage(m.body); err == nil && decoded.Retain {
		o.flags |= command.ToRetained
	}
	s.addOrigin(o)
}

func (s *Shard) addOrigin(o *originated) {
	if o.msg != nil {
		o.msg.refs++
	}
	s.origins.add(o)
	s.sum.add(o.hash())
	s.fx.origins = true
}

// fireWill publishes a session's will, once.
func (s *Shard) fireWill(ss *session) {
	w := ss.will
	ss.will = nil
	s.markDirty(ss)
	m, err := command.DecodeMessage(w.body)
	if err != nil || len(m.Topic) == 0 {
		return // the gateway checked it; one that is broken reaches nobody
	}
	msg := s.newMessage(w.body, s.expiryOf(&m))
	msg.refs++
	s.originate(ss, msg, true)
	if planted("will-twice") {
		s.originate(ss, msg, true)
	}
	s.release(msg)
}

func (l *originList) add(o *originated) {
	l.list = append(l.list, o)
	l.live++
	if o.will {
		if l.wills == nil {
			l.wills = make(map[command.SessionKey]pendingWills)
		}
		l.wills[o.key] = pendingWills{l.wills[o.key].count + 1, o.seq}
	}
	if e := o.expiresAt(); e != 0 && (l.expiry == 0 || e < l.expiry) {
		l.expiry = e
	}
}

// expiresAt is when it is dropped, 0 for never. A command never is: what it carries
// expires where it goes.
func (o *originated) expiresAt() int64 {
	if o.done || o.cmd != nil {
		return 0
	}
	return o.msg.expiresAt
}

// find is the place of the first entry at or above a sequence. Places hold rising
// sequences, with holes where something is done.
func (l *originList) find(seq uint64) int {
	if len(l.list) == 0 {
		return 0
	}
	i, _ := slices.BinarySearchFunc(l.list, seq, func(o *originated, v uint64) int { return cmp.Compare(o.seq, v) })
	return i
}

// applyOriginDone forgets messages that all targets have confirmed.
func (s *Shard) applyOriginDone(c *command.OriginDone) command.ResultCode {
	for _, r := range c.Seqs {
		for i := s.origins.find(r.From); i < len(s.origins.list) && s.origins.list[i].seq <= r.To; i++ {
			s.dropOrigin(s.origins.list[i])
		}
	}
	s.origins.compact()
	return command.OK
}

// dropOrigin takes an entry out; the caller compacts the list.
func (s *Shard) dropOrigin(o *originated) {
	if o.done {
		return
	}
	s.sum.sub(o.hash())
	if o.inStore {
		s.ops.delete(keyU64(nil, keyOrigin, o.seq))
	}
	if o.msg != nil {
		s.release(o.msg)
	}
	o.msg, o.cmd, o.done = nil, nil, true
	s.origins.live--
	if o.will {
		s.origins.dropWill(o)
	}
}

// dropWill forgets a will that is done. Its client has another one on its way only if it was lost twice in a moment.
func (l *originList) dropWill(o *originated) {
	w := l.wills[o.key]
	if w.count--; w.count == 0 {
		delete(l.wills, o.key)
		return
	}
	for i := len(l.list) - 1; w.last == o.seq && i >= 0; i-- {
		if p := l.list[i]; p.will && !p.done && p.key == o.key {
			w.last = p.seq
		}
	}
	l.wills[o.key] = w
}

// compact removes what is done from the front, and from the middle when it is
// worth it.
func (l *originList) compact() {
	i := 0
	for i < len(l.list) && l.list[i].done {
		i++
	}
	if i > 0 {
		clear(l.list[:i])
		l.list = l.list[i:]
	}
	if len(l.list) > 2*l.live+32 {
		l.list = slices.DeleteFunc(l.list, func(o *originated) bool { return o.done })
	}
	if l.live == 0 {
		l.expiry = 0
	}
}

// expireOrigins drops what nobody may get any more.
func (s *Shard) expireOrigins(limit int) {
	l := &s.origins
	if l.expiry == 0 || l.expiry > s.clock {
		return
	}
	l.expiry = 0
	n := 0
	for _, o := range l.list {
		switch at := o.expiresAt(); {
		case at == 0:
		case at <= s.clock && n < limit:
			n++
			s.dropped.OriginExpired++
			s.dropOrigin(o)
		case l.expiry == 0 || at < l.expiry:
			l.expiry = at
		}
	}
	l.compact()
}

func (o *originated) hash() uint64 {
	h := fold(keyOrigin, o.seq)
	if o.msg != nil {
		h = fold(h, o.msg.hash)
	}
	if o.cmd != nil {
		h = fold(h, recordHash(keyOrigin, o.cmd))
	}
	h = fold(h, uint64(o.flags))
	if o.will {
		h = fold(h, 1)
	}
	h = fold(h, recordHash(keySession, []byte(o.username)))
	h = fold(h, recordHash(keySession, []byte(o.key.Tenant)))
	return fold(h, recordHash(keySession, []byte(o.key.ClientID)))
}

// Bits in the record of an originated command, beside those of PublishFlags.
const (
	originCommand = 1 << 16 // the command follows the user name
	originMessage = 1 << 17 // it carries a message
)

// append writes the record: flags, will, expiry, tenant, client id (or filter), user
// name, the command if there is one, and the message up to the end.
func (o *originated) append(dst []byte) []byte {
	flags := uint64(o.flags)
	var expiresAt int64
	if o.cmd != nil {
		flags |= originCommand
	}
	if o.msg != nil {
		expiresAt = o.msg.expiresAt
		if o.cmd != nil {
			flags |= originMessage
		}
	}
	dst = putFlag(putUvarint(dst, flags), o.will)
	dst = putUvarint(dst, uint64(expiresAt))
	dst = putBlob(putBlob(putBlob(dst, o.key.Tenant), o.key.ClientID), o.username)
	if o.cmd != nil {
		dst = putBlob(dst, o.cmd)
	}
	if o.msg != nil {
		dst = append(dst, o.msg.body...)
	}
	return dst
}

func (s *Shard) loadOrigin(k, v []byte) error {
	if len(k) != 9 {
		return fmt.Errorf("key of %d bytes: %w", len(k), ErrCorrupt)
	}
	r := recordReader{b: v}
	flags := r.uint()
	o := &originated{seq: beUint64(k[1:]), flags: command.PublishFlags(flags &^ (originCommand | originMessage)), will: r.flag(), inStore: true}
	expiresAt := r.int()
	o.key = command.SessionKey{Tenant: r.string(), ClientID: r.string()}
	o.username = r.string()
	if flags&originCommand != 0 {
		o.cmd = slices.Clone(r.blob())
	}
	if flags&originCommand == 0 || flags&originMessage != 0 {
		o.msg = s.loadMessage(0, slices.Clone(r.rest()), expiresAt, false)
	}
	s.addOrigin(o)
	return r.err("originated message")
}

// source remembers which originated messages of another shard (or this one) were
// applied here: all below low, and those in applied.
type source struct {
	shard   uint32
	low     uint64
	applied rangeSet
	dirty   bool
}

// takeOrigin claims an origin key; false if it was applied before (I2, I15).
func (s *Shard) takeOrigin(k *command.OriginKey) bool {
	src := s.sources[k.Shard]
	if src == nil {
		src = &source{shard: k.Shard}
		s.sources[k.Shard] = src
	}
	if k.Low > src.low {
		src.low = k.Low
		src.applied.dropBelow(k.Low)
		src.dirty = true
	}
	if !planted("origin-key-forgotten") && (k.Seq < src.low || !src.applied.add(k.Seq)) {
		return false
	}
	src.dirty = true
	return true
}

func (src *source) append(dst []byte) []byte {
	return putRanges(putUvarint(dst, src.low), src.applied)
}

func (src *source) read(v []byte) error {
	r := recordReader{b: v}
	src.low, src.applied = r.uint(), r.ranges()
	return r.err("source")
}
