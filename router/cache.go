package router

import (
	"math/rand/v2"
	"sync/atomic"
)

// The result cache of a table: cacheSets sets of cacheWays entries.
const (
	cacheSets = 2048
	cacheWays = 4
	// cacheTopicBytes bounds the topic of an entry, and so the memory of the cache.
	cacheTopicBytes = 1024
)

// cache keeps results of Match. It is bounded, takes no locks, and may lose
// what is put in at the same time as something else; it never yields a result
// under a wrong topic.
//
// A topic evicts another one only if it was among the last topics that its set
// missed: a storm of publishes to distinct topics evicts nothing and copies
// nothing, once the cache is full.
type cache struct {
	sets [cacheSets]cacheSet
}

type cacheSet struct {
	door atomic.Uint64 // 16 bits each of the hashes of the last four topics that were not let in
	ways [cacheWays]atomic.Pointer[cached]
}

// cached is a result. It is immutable.
type cached struct {
	hash   uint64
	tenant string
	topic  string
	sum    uint64 // of the stamps, from before the match
	match  *Match
}

func (c *cache) set(hash uint64) *cacheSet { return &c.sets[hash%cacheSets] }

// get returns the entry of a topic, whether or not it is still true; nil if
// there is none.
func (c *cache) get(hash uint64, tenant string, topic []byte) *cached {
	set := c.set(hash)
	for i := range set.ways {
		if e := set.ways[i].Load(); e != nil && e.hash == hash && e.topic == string(topic) && e.tenant == tenant {
			return e
		}
	}
	return nil
}

// put keeps a result. sum is of the stamps, from before the match; old is what
// get returned.
func (c *cache) put(hash uint64, tenant string, topic []byte, sum uint64, m *Match, old *cached) {
	set := c.set(hash)
	if old != nil {
		e := &cached{hash: hash, tenant: old.tenant, topic: old.topic, sum: sum, match: m}
		for i := range set.ways {
			if set.ways[i].CompareAndSwap(old, e) {
				return
			}
		}
		return // evicted or replaced meanwhile
	}
	if len(topic) > cacheTopicBytes {
		return
	}
	free := set.free()
	if free < 0 && !set.again(hash) {
		return
	}
	e := &cached{hash: hash, tenant: tenant, topic: string(topic), sum: sum, match: m}
	if free >= 0 && set.ways[free].CompareAndSwap(nil, e) {
		return
	}
	set.ways[rand.IntN(cacheWays)].Store(e)
}

// free returns a way without an entry, or -1.
func (s *cacheSet) free() int {
	for i := range s.ways {
		if s.ways[i].Load() == nil {
			return i
		}
	}
	return -1
}

// again reports whether a topic was among the last that were not let in, and
// notes it if not. Two that do so at once may lose a note.
func (s *cacheSet) again(hash uint64) bool {
	tag, door := hash>>48, s.door.Load()
	for d := door; d != 0; d >>= 16 {
		if d&0xffff == tag {
			return true
		}
	}
	s.door.Store(door<<16 | tag)
	return false
}
