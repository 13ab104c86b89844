package state

import "encoding/binary"

// The store's layout. The first byte is the kind of record; numbers are big
// endian, so that keys sort by them. Kinds are append-only like commands.
//
//	M                     meta: format, applied index, clock, counters, settings
//	L node                lane: incarnation, sequence, kept results
//	S tenant 0 client     session, with the counters of its inbox
//	U sid filter          subscription
//	I sid seq             inbox entry; holds the message if it is its only holder
//	X expiry sid seq      index of inbox entries that expire (unix ms)
//	P id                  message with several holders
//	C id                  how many records refer to it
//	Q sid packet-id       inbound QoS 2 message
//	O seq                 originated message
//	T shard               origin keys applied from a shard
//	R tenant 0 topic      retained message, refers to P
//	W tenant 0 client     author of retained messages: epoch, last seen
//	Z sid                 inbox of an ended session, to be swept
//	Y                     a restore under way (restore.go); then all others but L and M may be no state yet
//	H tenant 0 filter     share, with the counters of its queue (an inbox) and its members
//
// The control machine uses M, N node, G shard (placement), K setting, F shard (placed by
// its founders, no value), J token id (join token), B id (operation), A id (API key).
const (
	keyMeta      = 'M'
	keyLane      = 'L'
	keySession   = 'S'
	keySub       = 'U'
	keyEntry     = 'I'
	keyExpiry    = 'X'
	keyMessage   = 'P'
	keyCount     = 'C'
	keyInbound   = 'Q'
	keyOrigin    = 'O'
	keySource    = 'T'
	keyRetained  = 'R'
	keyAuthor    = 'W'
	keySwept     = 'Z'
	keyNode      = 'N'
	keyPlacement = 'G'
	keySetting   = 'K'
	keyFounding  = 'F'
	keyJoinToken = 'J'
	keyOperation = 'B'
	keyAPIKey    = 'A'
)

func appendU64(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }

func keyU64(dst []byte, kind byte, v uint64) []byte { return appendU64(append(dst, kind), v) }

func keyU64s(dst []byte, kind byte, a, b uint64) []byte {
	return appendU64(keyU64(dst, kind, a), b)
}

func keyX(dst []byte, expiresAt int64, sid, seq uint64) []byte {
	return appendU64(keyU64s(dst, keyExpiry, uint64(expiresAt), sid), seq)
}

func keyPair(dst []byte, kind byte, tenant, name string) []byte {
	dst = append(append(dst, kind), tenant...)
	return append(append(dst, 0), name...)
}

func keyStr(dst []byte, kind byte, name string) []byte { return append(append(dst, kind), name...) }

func keySubOf(dst []byte, sid uint64, filter string) []byte {
	return append(keyU64(dst, keySub, sid), filter...)
}
