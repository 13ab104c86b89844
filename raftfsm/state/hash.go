package state

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// sum is an additive hash of a multiset of records. Adding and removing a record
// costs the same wherever it lives, and the order does not matter, so
// the digest of a shard is kept as it changes and is independent of what is hot.
type sum struct{ lo, hi uint64 }

func (s *sum) add(h uint64) { s.lo += mixLo(h); s.hi += mixHi(h) }
func (s *sum) sub(h uint64) { s.lo -= mixLo(h); s.hi -= mixHi(h) }

func (s *sum) addSum(o sum) { s.lo += o.lo; s.hi += o.hi }
func (s *sum) subSum(o sum) { s.lo -= o.lo; s.hi -= o.hi }

func (s sum) bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], s.lo)
	binary.BigEndian.PutUint64(b[8:], s.hi)
	return b
}

// Two different finalisers spread one record hash over both halves. The constants
// are frozen: replicas of different versions compare their digests.
func mixLo(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

func mixHi(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 29
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>32
}

// fold mixes one more number into a running hash.
func fold(h, v uint64) uint64 {
	h ^= v * 0x9e3779b97f4a7c15
	h = h<<29 | h>>35
	return h*0xd6e8feb86659fd93 + 0x632be59bd9b4e019
}

// recordHash hashes a record of a kind; different kinds never look alike.
func recordHash(kind byte, b []byte) uint64 { return fold(xxhash.Sum64(b), uint64(kind)) }

// messageHash is the part of a record's hash that a message contributes.
func messageHash(body []byte, expiresAt int64) uint64 {
	return fold(xxhash.Sum64(body), uint64(expiresAt))
}

// entryHash is the record hash of an inbox entry.
func entryHash(sid, seq uint64, bits entryBits, msg uint64, ids []uint32) uint64 {
	h := fold(fold(fold('I', sid), seq), uint64(bits&logicalBits))
	h = fold(h, msg)
	for _, id := range ids {
		h = fold(h, uint64(id))
	}
	return h
}
