package qos

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// MaxAliasOut is the most aliases that an AliasOut uses: a table is searched in
// order, and each alias costs its topic on every connection.
const MaxAliasOut = 64

// AliasIn holds the topic aliases that a client has set on its connection. It
// costs the topics that are set, at most the announced number of them.
type AliasIn struct {
	max    int
	topics [][]byte // index is alias - 1; nil is not set
}

// NewAliasIn returns an empty table. limit is the Topic Alias Maximum that
// CONNACK announced; zero allows none.
func NewAliasIn(limit uint16) *AliasIn { return &AliasIn{max: int(limit)} }

// Resolve returns the topic that a PUBLISH with this topic name and alias (zero:
// none) stands for, and remembers the two if both are there. The result is
// either topic itself or valid until the next Resolve. It fails with
// ErrAliasInvalid if the alias is above the maximum, and with ErrAliasUnknown if
// there is no topic and the alias is not set. Rights are checked on the result.
func (a *AliasIn) Resolve(alias uint16, topic []byte) ([]byte, error) {
	if alias == 0 {
		if len(topic) == 0 {
			return nil, ErrAliasUnknown
		}
		return topic, nil
	}
	i := int(alias) - 1
	if i >= a.max {
		return nil, ErrAliasInvalid
	}
	if len(topic) == 0 {
		if i >= len(a.topics) || a.topics[i] == nil {
			return nil, ErrAliasUnknown
		}
		return a.topics[i], nil
	}
	if i >= len(a.topics) {
		a.topics = append(a.topics, make([][]byte, i+1-len(a.topics))...)
	}
	a.topics[i] = append(a.topics[i][:0], topic...)
	return topic, nil
}

// AliasOut chooses topic aliases for what is sent to a client. A free alias goes
// to the first topic that comes; later the one not used for longest goes to a
// topic that comes a second time, so that topics seen once evict nothing.
type AliasOut struct {
	max    int
	tick   uint32
	seed   maphash.Seed
	hashes []uint32  // of the topics; index is alias - 1
	topics []aliased // index is alias - 1
	seen   []uint32  // hashes of the last topics that came without getting an alias
	oldest int       // the next of seen to overwrite
}

type aliased struct {
	used  uint32 // the tick of the last use
	topic []byte // empty: the alias is free
}

// NewAliasOut returns an empty table. limit is the client's Topic Alias Maximum,
// or the server's own if that is lower; at most MaxAliasOut are used.
func NewAliasOut(limit uint16) *AliasOut {
	return &AliasOut{max: min(int(limit), MaxAliasOut)}
}

// Use returns the alias to send with a topic, zero for none, and whether the
// client knows it already, so that the topic name can be left out. The packet
// must then be sent, in this order; if it is not and the alias was not known,
// call Forget at once.
func (a *AliasOut) Use(topic []byte) (alias uint16, known bool) {
	if a.max == 0 || len(topic) == 0 {
		return 0, false
	}
	if a.tick == 0 {
		a.seed = maphash.MakeSeed()
	}
	a.tick++
	h := uint32(maphash.Bytes(a.seed, topic))
	for i, known := range a.hashes {
		if e := &a.topics[i]; known == h && bytes.Equal(e.topic, topic) {
			e.used = a.tick
			return uint16(i) + 1, true
		}
	}
	i := a.place(h)
	if i < 0 {
		return 0, false
	}
	e := &a.topics[i]
	a.hashes[i] = h
	*e = aliased{used: a.tick, topic: append(e.topic[:0], topic...)}
	return uint16(i) + 1, false
}

// place chooses the alias for a topic that has none, or returns -1.
func (a *AliasOut) place(h uint32) int {
	if i := slices.IndexFunc(a.topics, func(e aliased) bool { return len(e.topic) == 0 }); i >= 0 {
		return i
	}
	if n := len(a.topics); n < a.max {
		a.topics = append(a.topics, aliased{})
		a.hashes = append(a.hashes, 0)
		return n
	}
	if !a.again(h) {
		return -1
	}
	longest := 0
	for i, e := range a.topics {
		if e.used < a.topics[longest].used {
			longest = i
		}
	}
	return longest
}

// Forget takes back an alias that the client was not told after all.
func (a *AliasOut) Forget(alias uint16) {
	if i := int(alias) - 1; i >= 0 && i < len(a.topics) {
		a.topics[i].topic = a.topics[i].topic[:0]
	}
}

// again reports whether a topic with this hash was among the last ones that came
// without getting an alias, and notes that it came now.
func (a *AliasOut) again(h uint32) bool {
	if a.seen == nil {
		a.seen = make([]uint32, max(16, a.max))
	}
	if i := slices.Index(a.seen, h); i >= 0 {
		a.seen[i] = 0
		return true
	}
	a.seen[a.oldest] = h
	a.oldest = (a.oldest + 1) % len(a.seen)
	return false
}
