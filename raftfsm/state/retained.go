package state

import (
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// retained is the retained message of a topic. Its body is in memory only until
// it was written back, or longer while there is room.
type retained struct {
	tenant    *tenant
	topic     string
	msg       *message // nil while cold, or when deleted
	id        uint64   // of the P record
	size      uint64
	msgHash   uint64
	expiresAt int64
	storedAt  int64
	capped    bool // the settings let it expire before the message does
	inStore   bool // has a record there, perhaps an older one
	storedID  uint64
	dirty     bool
	gone      bool
}

func compareRetained(a, b *retained) int { return strings.Compare(a.topic, b.topic) }

func (t *tenant) findRetained(topic string) *retained {
	var found *retained
	t.retained.ascend(func(r *retained) int { return strings.Compare(r.topic, topic) }, func(r *retained) bool {
		if r.topic == topic {
			found = r
		}
		return false
	})
	return found
}

// retain stores, replaces or (with an empty payload) deletes a retained message.
func (s *Shard) retain(t *tenant, m *command.Message, msg *message) command.ResultCode {
	old := t.findRetained(string(m.Topic))
	if len(m.Payload) == 0 { // v5:MQTT-3.3.1-6
		if old != nil {
			s.dropRetained(old)
		}
		return command.OK
	}
	if limit := s.settings.RetainedMaxPayload; limit != 0 && uint64(len(m.Payload)) > uint64(limit) {
		s.dropped.RetainedFull++
		return command.Full
	}
	r := old
	if r == nil {
		if limit := s.settings.RetainedMaxMessages; limit != 0 && uint64(t.retained.n) >= limit {
			s.dropped.RetainedFull++
			return command.Full
		}
		r = &retained{tenant: t, topic: string(m.Topic)}
		t.retained.insert(r)
		s.retainedCount++
	} else {
		s.sum.sub(r.hash())
		s.unholdRetained(r)
	}
	msg.refs++
	r.msg, r.id, r.size, r.msgHash, r.expiresAt = msg, msg.id, uint64(len(msg.body)), msg.hash, msg.expiresAt
	r.capped = false
	r.storedAt = s.clock
	if limit := int64(s.settings.RetainedExpiryS) * 1000; limit != 0 && (r.expiresAt == 0 || r.expiresAt > s.clock+limit) {
		r.expiresAt, r.capped = s.clock+limit, true
	}
	s.retainedBytes += r.size
	s.sum.add(r.hash())
	s.touchRetained(r)
	if r.expiresAt != 0 {
		s.expiring.push(r)
	}
	return command.OK
}

// unholdRetained gives up the message that a record held.
func (s *Shard) unholdRetained(r *retained) {
	s.retainedBytes -= r.size
	if r.storedID == r.id && r.inStore {
		s.unrefs[r.id]--
		r.storedID = 0
	}
	if r.msg != nil {
		s.release(r.msg)
		r.msg = nil
	}
}

func (s *Shard) dropRetained(r *retained) {
	s.sum.sub(r.hash())
	s.unholdRetained(r)
	r.tenant.retained.remove(r)
	s.retainedCount--
	r.gone = true
	r.expiresAt = 0
	if r.inStore {
		s.touchRetained(r)
	}
}

func (s *Shard) touchRetained(r *retained) {
	if !r.dirty {
		r.dirty = true
		s.retainedList = append(s.retainedList, r)
		s.dirtyBytes += entryCost
	}
}

func (r *retained) hash() uint64 {
	h := fold(fold(fold(keyRetained, r.msgHash), uint64(r.storedAt)), r.size)
	if r.capped {
		h = fold(h, uint64(r.expiresAt))
	}
	h = fold(h, recordHash(keyRetained, []byte(r.topic)))
	return fold(h, recordHash(keyRetained, []byte(r.tenant.name)))
}

// append writes the record: message id, size, hash, expiry, stored at, capped.
func (r *retained) append(dst []byte) []byte {
	dst = putUvarint(putUvarint(putUvarint(dst, r.id), r.size), r.msgHash)
	dst = putUvarint(putUvarint(dst, uint64(r.expiresAt)), uint64(r.storedAt))
	if r.capped {
		dst = putFlag(dst, true)
	}
	return dst
}

func (r *retained) read(v []byte) error {
	rd := recordReader{b: v}
	r.id, r.size, r.msgHash, r.expiresAt, r.storedAt = rd.uint(), rd.uint(), rd.uint(), rd.int(), rd.int()
	r.capped = rd.flag()
	r.storedID, r.inStore = r.id, true
	return rd.err("retained")
}
