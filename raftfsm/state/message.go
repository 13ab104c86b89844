package state

import "slices"

// message is an application message in memory, shared by all hot records that
// refer to it. Its body is immutable and may alias the Raft entry that brought it
// until the first write-back; readers may keep the body, never the struct.
type message struct {
	id        uint64
	body      []byte
	hash      uint64
	expiresAt int64 // unix ms of the group's clock, 0 never
	refs      int32 // hot records that hold it
	// shared: it has a P record of its own in the store, as it had several
	// holders when it was first written.
	shared bool
	// settled: body is memory of its own, not part of a Raft entry.
	settled bool
}

// newMessage takes a message over. It has no holder yet: the caller holds it (refs++)
// while it looks for some, and releases it afterwards.
func (s *Shard) newMessage(body []byte, expiresAt int64) *message {
	s.lastMsg++
	var m *message
	if n := len(s.freeMsgs); n > 0 {
		m = s.freeMsgs[n-1]
		s.freeMsgs = s.freeMsgs[:n-1]
	} else {
		m = new(message)
	}
	*m = message{id: s.lastMsg, body: body, hash: messageHash(body, expiresAt), expiresAt: expiresAt}
	s.hotBytes += int64(len(body))
	s.dirtyBytes += int64(len(body))
	return m
}

// loadMessage is a message that is in the store already. Its body is the caller's to give.
func (s *Shard) loadMessage(id uint64, body []byte, expiresAt int64, shared bool) *message {
	s.hotBytes += int64(len(body))
	return &message{id: id, body: body, hash: messageHash(body, expiresAt), expiresAt: expiresAt, shared: shared, settled: true}
}

// release gives one hold up. The struct is recycled, as all access is under mu.
func (s *Shard) release(m *message) {
	m.refs--
	if m.refs > 0 {
		return
	}
	s.hotBytes -= int64(len(m.body))
	if !m.settled {
		s.dirtyBytes -= int64(len(m.body))
	}
	*m = message{}
	if len(s.freeMsgs) < maxFreeMessages {
		s.freeMsgs = append(s.freeMsgs, m)
	}
}

// maxFreeMessages bounds the pool: what one write-back interval turns over.
const maxFreeMessages = 1 << 14

// settle moves the body out of the Raft entry, so that one small message that
// stays does not keep 512 KiB.
func (m *message) settle() {
	if !m.settled {
		m.body = slices.Clone(m.body)
		m.settled = true
	}
}

// entryCost is about what a hot entry and its message need beside the body, in bytes.
const entryCost = 160
