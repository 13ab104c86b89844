package state

import (
	"cmp"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Matching says which durable sessions of a shard a publish to a topic reaches. It is for
// people: publishes do not go through it.
type Matching struct {
	// Sessions match, Connected of them have a connection, and Full have no room.
	Sessions, Connected, Full int
	// First are some of them, by client id.
	First []command.SessionKey
}

// Matching counts the durable sessions that match a topic with QoS 1 or 2, and names up
// to limit of them.
func (s *Shard) Matching(tenant string, topic []byte, limit int) Matching {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out Matching
	t := s.tenants[tenant]
	if t == nil {
		return out
	}
	seen := map[*session]bool{}
	t.trie.Match(topic, func(_ uint64, u *sub) {
		if u.bits.qos() == 0 || seen[u.sess] {
			return
		}
		seen[u.sess] = true
		out.Sessions++
		if u.sess.owner != nil {
			out.Connected++
		}
		if u.sess.full {
			out.Full++
		}
		out.First = append(out.First, u.sess.key)
	})
	slices.SortFunc(out.First, func(a, b command.SessionKey) int { return cmp.Compare(a.ClientID, b.ClientID) })
	out.First = slices.Clone(out.First[:min(limit, len(out.First))])
	return out
}

// Replays lists the filters of a session whose replay of retained messages is not at its
// end, sorted.
func (s *Shard) Replays(key command.SessionKey) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ss := s.find(key)
	if ss == nil {
		return nil
	}
	var out []string
	for i := range ss.replays {
		out = append(out, ss.replays[i].filter)
	}
	return out
}
