package router

import "github.com/cespare/xxhash/v2"

// Slots is the number of slots of a cluster. It is a hard setting: data on disk
// is placed by it.
const Slots = 4096

// Slot returns the slot, below Slots, of a tenant's key: a client id for a
// session, a topic for a retained message, the whole $share filter for a share.
// The mapping is frozen: xxhash64 (seed 0) over tenant, a zero byte and key,
// modulo Slots. A tenant name has no zero byte.
func Slot(tenant, key string) uint16 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(tenant) // a Digest never fails
	_, _ = d.Write([]byte{0})
	_, _ = d.WriteString(key)
	return uint16(d.Sum64() % Slots)
}

// SlotBytes is Slot for a key that is at hand as bytes, without a copy.
func SlotBytes(tenant string, key []byte) uint16 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(tenant)
	_, _ = d.Write([]byte{0})
	_, _ = d.Write(key)
	return uint16(d.Sum64() % Slots)
}
