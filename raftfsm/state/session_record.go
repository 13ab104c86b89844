package state

import (
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Bits of a session record.
const (
	recDurable   = 1 << 0
	recFull      = 1 << 1
	recConnected = 1 << 2
	recWill      = 1 << 3
	recInbox     = 1 << 4
	recHolds     = 1 << 5
	recReplays   = 1 << 6
)

// appendLogical writes what replicas agree on: bits, sid, epoch, owner, token,
// version, receive maximum, connected at, user name, expiry, will, replays, inbox
// counters, what belongs to shares.
func (ss *session) appendLogical(dst []byte) []byte {
	if ss.share != nil {
		return ss.appendShare(dst)
	}
	bits := uint64(0)
	set := func(on bool, bit uint64) {
		if on {
			bits |= bit
		}
	}
	set(ss.durable, recDurable)
	set(ss.full, recFull)
	set(ss.owner != nil, recConnected)
	set(ss.will != nil, recWill)
	set(ss.box != nil, recInbox)
	set(ss.box != nil && len(ss.box.holds) > 0, recHolds)
	set(len(ss.replays) > 0, recReplays)
	dst = putUvarint(dst, bits)
	dst = putUvarint(putUvarint(dst, ss.sid), ss.epoch)
	if o := ss.owner; o != nil {
		dst = putUvarint(putBlob(dst, o.key.node), o.key.incarnation)
	}
	dst = putUvarint(dst, ss.token)
	dst = putUvarint(putUvarint(dst, uint64(ss.version)), uint64(ss.receiveMax))
	dst = putBlob(putUvarint(dst, uint64(ss.connectedAt)), ss.username)
	dst = putUvarint(putUvarint(dst, uint64(ss.expiryS)), uint64(ss.expiresAt))
	if w := ss.will; w != nil {
		dst = putUvarint(putUvarint(putBlob(dst, w.body), uint64(w.delayS)), uint64(w.dueAt))
	}
	if len(ss.replays) > 0 {
		dst = putUvarint(dst, uint64(len(ss.replays)))
		for _, p := range ss.replays {
			dst = putBlob(putBlob(dst, p.filter), p.after)
		}
	}
	if b := ss.box; b != nil {
		dst = putUvarint(putUvarint(putUvarint(dst, b.next), b.count), b.bytes)
		dst = putUvarint(putUvarint(putUvarint(dst, b.received), b.sentTo), b.dupTo)
		if len(b.holds) > 0 {
			dst = putHolds(dst, b.holds)
		}
	}
	return dst
}

// append writes the record: the logical part, then the floor and the sum of the inbox.
func (ss *session) append(dst []byte) []byte {
	dst = ss.appendLogical(dst)
	if b := ss.box; b != nil {
		dst = putUvarint(dst, b.floor)
		dst = appendU64(appendU64(dst, b.sum.lo), b.sum.hi)
	}
	return dst
}

// read fills a session from its record. All of its inbox is cold.
func (ss *session) read(v []byte) (ownerKey, error) {
	var key ownerKey
	r := recordReader{b: v}
	bits := r.uint()
	ss.durable, ss.full = bits&recDurable != 0, bits&recFull != 0
	ss.sid, ss.epoch = r.uint(), r.uint()
	if bits&recConnected != 0 {
		key.node, key.incarnation = r.string(), r.uint()
	}
	ss.token = r.uint()
	ss.version, ss.receiveMax = byte(r.uint()), uint16(r.uint())
	ss.connectedAt, ss.username = r.int(), r.string()
	ss.expiryS, ss.expiresAt = r.u32(), r.int()
	if bits&recWill != 0 {
		ss.will = &will{body: []byte(r.string()), delayS: r.u32(), dueAt: r.int()}
	}
	if bits&recReplays != 0 {
		for n := r.uint(); n > 0 && len(r.b) > 0; n-- {
			ss.replays = append(ss.replays, replay{filter: r.string(), after: r.string()})
		}
	}
	if bits&recInbox != 0 {
		b := newInbox()
		b.next, b.count, b.bytes = r.uint(), r.uint(), r.uint()
		b.received, b.sentTo, b.dupTo = r.uint(), r.uint(), r.uint()
		if bits&recHolds != 0 {
			b.holds = r.holds()
		}
		ss.box = b
		if err := b.readTail(&r); err != nil {
			return key, err
		}
	}
	return key, r.err("session")
}

// readTail reads the floor and the sum of an inbox.
func (b *inbox) readTail(r *recordReader) error {
	b.floor = r.uint()
	b.hot, b.stored = b.next, b.next
	tail := r.rest()
	if len(tail) < 16 {
		return fmt.Errorf("read inbox record: %w", ErrCorrupt)
	}
	b.sum = sum{lo: beUint64(tail), hi: beUint64(tail[8:])}
	return nil
}

// splitKey parts the key of a record that is named by a tenant and a name.
func splitKey(k []byte) (command.SessionKey, error) {
	for i, c := range k {
		if c == 0 && i > 0 {
			return command.SessionKey{Tenant: string(k[1:i]), ClientID: string(k[i+1:])}, nil
		}
	}
	return command.SessionKey{}, fmt.Errorf("key %q: %w", k, ErrCorrupt)
}
