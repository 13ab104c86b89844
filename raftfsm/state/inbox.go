package state

import (
	"math/bits"
)

// entryBits are the flags of an inbox entry. The low ones are written to stores.
type entryBits uint8

const (
	bitQoS2     entryBits = 1 << 0 // effective QoS 2, else 1
	bitRetain   entryBits = 1 << 1 // Retain As Published of a retained publish
	bitReceived entryBits = 1 << 2 // PUBREC is committed; the message is gone
	bitShared   entryBits = 1 << 3 // store only: the record refers to a P record
	bitIDs      entryBits = 1 << 4 // store only: subscription identifiers follow
	bitExpires  entryBits = 1 << 5 // store only: an expiry time follows
	bitQoS0     entryBits = 1 << 6 // effective QoS 0
	bitLive     entryBits = 1 << 7 // memory only: not a tombstone

	logicalBits = bitQoS2 | bitRetain | bitReceived | bitQoS0
	// receivedBits are all that is left of an entry in state Received.
	receivedBits = bitQoS2 | bitReceived
)

// entry is a hot inbox entry.
type entry struct {
	msg  *message // nil for a tombstone or when received
	ids  *[]uint32
	bits entryBits
}

func (e *entry) idList() []uint32 {
	if e.ids == nil {
		return nil
	}
	return *e.ids
}

// qosBits are the bits of an effective QoS.
func qosBits(qos byte) entryBits {
	switch qos {
	case 0:
		return bitQoS0
	case 2:
		return bitQoS2
	}
	return 0
}

func (b entryBits) qos() byte {
	switch {
	case b&bitQoS2 != 0:
		return 2
	case b&bitQoS0 != 0:
		return 0
	}
	return 1
}

// inbox is the queue of a durable session, a member of a share, or a share. Entries with a sequence in [hot, next)
// are in memory; live ones below stored are in the store. So [hot, stored) are in
// both, [stored, next) are dirty, and below hot they are cold.
type inbox struct {
	// Logical state.
	next     uint64 // the sequence of the next entry, from 1
	count    uint64
	bytes    uint64 // of message bodies
	received uint64 // how many entries are in state Received
	sentTo   uint64 // highest sequence that was perhaps sent
	dupTo    uint64 // what was perhaps sent on an earlier connection
	sum      sum    // of the entries' record hashes
	holds    []hold // which entries belong to shares

	// Where things are.
	floor   uint64 // everything below is gone; may be too low while there are cold entries
	hot     uint64
	stored  uint64
	hotLive uint64
	ring    []entry
	head    int
	dead    rangeSet // gone since the last write-back, but still in the store
	recv    rangeSet // received since the last write-back, but queued in the store
	// hotExpiry is at or below the earliest expiry of a hot entry; 0: none expires.
	hotExpiry int64
	peek      []coldEntry // head of the cold part, for drop_oldest
	peekEnd   uint64      // peek was read up to here
	dropFrom  uint64      // drop_oldest has nothing to drop below
}

func newInbox() *inbox { return &inbox{next: 1, floor: 1, hot: 1, stored: 1} }

// coldLive is how many entries are only in the store.
func (b *inbox) coldLive() uint64 { return b.count - b.hotLive }

func (b *inbox) hotLen() int { return int(b.next - b.hot) }

// at is the hot entry of a sequence in [hot, next).
func (b *inbox) at(seq uint64) *entry {
	return &b.ring[(b.head+int(seq-b.hot))&(len(b.ring)-1)]
}

// push appends an entry and returns its sequence.
func (b *inbox) push(e entry) uint64 {
	if b.hotLen() == len(b.ring) {
		b.resize(max(4, 2*len(b.ring)))
	}
	seq := b.next
	b.next++
	*b.at(seq) = e
	b.hotLive++
	return seq
}

func (b *inbox) resize(size int) {
	ring := make([]entry, size)
	n := copy(ring, b.ring[min(b.head, len(b.ring)):])
	copy(ring[n:], b.ring[:min(b.head, len(b.ring))])
	b.ring, b.head = ring, 0
}

// fit makes the ring as small as its content allows.
func (b *inbox) fit() {
	n := b.hotLen()
	if n == 0 {
		b.ring, b.head = nil, 0
		return
	}
	size := max(4, 1<<bits.Len(uint(n-1)))
	if size >= len(b.ring) {
		return
	}
	ring := make([]entry, size)
	for i := range n {
		ring[i] = b.ring[(b.head+i)&(len(b.ring)-1)]
	}
	b.ring, b.head = ring, 0
}

// trim pops tombstones off the hot front and raises the floor as far as is known.
func (b *inbox) trim() {
	for b.hot < b.next && b.ring[b.head].bits&bitLive == 0 {
		b.popFront()
	}
	if b.coldLive() == 0 {
		b.floor = b.hot
	}
	b.stored = max(b.stored, b.hot)
	if len(b.ring) > 64 && b.hotLen() < len(b.ring)/8 {
		b.fit()
	}
}

func (b *inbox) popFront() {
	b.ring[b.head] = entry{}
	b.head = (b.head + 1) & (len(b.ring) - 1)
	b.hot++
}

// perhapsSent is the highest sequence whose delivery may have begun.
func (b *inbox) perhapsSent(s *session) uint64 {
	if s.owner == nil {
		return b.sentTo
	}
	return min(b.next-1, b.sendLimit(s))
}

// sendLimit is the highest sequence that the owner of a session may send before it has committed how far it has sent.
// Whatever is beyond it has surely not been sent: it may be dropped, expire, or go to another member of its share.
func (b *inbox) sendLimit(s *session) uint64 { return b.sentTo + uint64(max(s.receiveMax, 1)) }
