package state

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// maxDamage is how many faults a check names.
const maxDamage = 20

// CheckStored reads every record of a store that holds a shard, and says what does not fit together: messages against the hashes
// under which they were stored, inboxes against what their sessions say of them. Load takes the word of both, and digests are made
// of them, so replicas agree although one has lost a message. index is that of the stored state. An error means that a record cannot be read
// at all.
func CheckStored(id uint32, st Store) (index uint64, damage []string, err error) {
	s := NewShard(id, Options{})
	if err := s.Load(st); err != nil {
		return 0, nil, err
	}
	c := &storedCheck{s: s, messages: map[uint64]storedMessage{}}
	for _, step := range []func() error{c.readMessages, c.checkInboxes, c.checkRetained} {
		if err := step(); err != nil {
			return s.applied, c.damage, err
		}
	}
	return s.applied, c.damage, nil
}

// storedMessage is what a P record says.
type storedMessage struct{ hash, size uint64 }

type storedCheck struct {
	s        *Shard
	messages map[uint64]storedMessage
	damage   []string
}

func (c *storedCheck) fault(format string, args ...any) {
	if len(c.damage) < maxDamage {
		c.damage = append(c.damage, fmt.Sprintf(format, args...))
	}
}

func (c *storedCheck) readMessages() error {
	return eachOf(c.s.store, keyMessage, func(k, v []byte) error {
		if len(k) != 9 {
			return fmt.Errorf("message key of %d bytes: %w", len(k), ErrCorrupt)
		}
		r := recordReader{b: v}
		expiresAt := r.int()
		body := r.rest()
		c.messages[binary.BigEndian.Uint64(k[1:])] = storedMessage{messageHash(body, expiresAt), uint64(len(body))}
		return r.err("message")
	})
}

// checkInboxes recomputes what sessions and shares say of their inboxes.
func (c *storedCheck) checkInboxes() error {
	for _, ss := range c.s.bySID() {
		b := ss.box
		if b == nil {
			continue
		}
		var have sum
		var count, bytes, received uint64
		err := c.s.readCold(ss.sid, 0, b.next, func(e coldEntry) bool {
			if e.shared != 0 {
				if m, ok := c.messages[e.shared]; !ok || m.hash != e.msgHash || m.size != e.size {
					c.fault("message %d of %s is not what was stored", e.seq, nameOf(ss))
				}
			}
			have.add(e.hash(ss.sid))
			count++
			bytes += e.size
			if e.bits&bitReceived != 0 {
				received++
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("inbox of %s: %w", nameOf(ss), err)
		}
		if have != b.sum || count != b.count || bytes != b.bytes || received != b.received {
			c.fault("the inbox of %s has %d messages of %d bytes, its record says %d of %d, or another content", nameOf(ss), count, bytes, b.count, b.bytes)
		}
	}
	return nil
}

func nameOf(ss *session) string {
	if ss.share != nil {
		return "share " + ss.key.ClientID
	}
	return "session " + ss.key.ClientID
}

func (c *storedCheck) checkRetained() error {
	for _, name := range slices.Sorted(maps.Keys(c.s.tenants)) {
		t := c.s.tenants[name]
		for _, chunk := range t.retained.chunks {
			for _, r := range chunk {
				if m, ok := c.messages[r.id]; !ok || m.hash != r.msgHash || m.size != r.size {
					c.fault("the retained message of %s is not what was stored", r.topic)
				}
			}
		}
	}
	return nil
}
