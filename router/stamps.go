package router

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// stampCount is the number of counters, a power of two. Two filters that share
// one invalidate each other's results, which costs a match and nothing else.
const stampCount = 4096

// stamps tell whether a cached result is as new as the table. They are counters
// that only grow. A change of a filter raises one of them, chosen by what topics
// the filter can match, before it returns; the result for a topic depends on the
// four that can concern it:
//
//   - all: raised by what concerns every topic (a node is dropped);
//   - of the tenant: raised by filters that start with a wildcard;
//   - of the topic's first level: raised by other filters with a wildcard;
//   - of the topic: raised by filters without a wildcard.
//
// So a device that subscribes to its own topic does not invalidate what is known
// of all others. See Table.Match for why this carries I5.
type stamps struct {
	seed   maphash.Seed
	all    atomic.Uint64
	counts [stampCount]atomic.Uint64
}

// The kinds of counters, told apart in their hash.
const (
	stampTenant = iota + 1
	stampFirst
	stampTopic
)

// raise notes that the record of a filter has changed. The caller holds the
// table's lock for writing.
func (s *stamps) raise(tenant uint64, filter string) {
	switch wild := strings.IndexAny(filter, "+#"); {
	case wild < 0:
		s.count(tenant, stampTopic, maphash.String(s.seed, filter)).Add(1)
	case filter[0] == '+' || filter[0] == '#':
		s.count(tenant, stampTenant, 0).Add(1)
	default:
		s.count(tenant, stampFirst, maphash.String(s.seed, firstLevel(filter))).Add(1)
	}
}

// sum adds up the counters that a topic depends on. first is its first level.
// Since none of them ever falls, a sum that was taken later is equal only if
// each of them is.
func (s *stamps) sum(tenant, topicHash uint64, first []byte) uint64 {
	return s.all.Load() +
		s.count(tenant, stampTenant, 0).Load() +
		s.count(tenant, stampFirst, maphash.Bytes(s.seed, first)).Load() +
		s.count(tenant, stampTopic, topicHash).Load()
}

func (s *stamps) count(tenant, kind, h uint64) *atomic.Uint64 {
	h = (h ^ tenant ^ kind*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return &s.counts[h>>52] // 12 bits
}
