package cluster

import (
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// dropBook turns the replicated counts of dropped messages into this process's
// counters. Only a shard's leader counts, from its election on, so that sums
// over nodes are right.
type dropBook struct {
	mu   sync.Mutex
	seen map[uint32]dropMark // guarded by mu
}

type dropMark struct {
	term  uint64
	drops state.Dropped
}

// countStateDrops counts what the shards that are led here have dropped since
// the last call.
func (n *Node) countStateDrops() {
	b := &n.limits.drops
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range n.ledShards() {
		now := l.mach.Stats().Dropped
		old, ok := b.seen[l.shard]
		b.seen[l.shard] = dropMark{l.term, now}
		if !ok || old.term != l.term {
			continue
		}
		was := &old.drops
		n.countDrop(reasonExpired, now.Expired+now.OriginExpired, was.Expired+was.OriginExpired)
		n.countDrop(reasonInboxFull, now.InboxFull, was.InboxFull)
		n.countDrop(reasonSessionEnded, now.SessionEnded, was.SessionEnded)
		n.countDrop(reasonRetainedFull, now.RetainedFull, was.RetainedFull)
	}
}

func (n *Node) countDrop(reason string, now, was uint64) {
	if now > was {
		n.countDropped(reason, int(now-was))
	}
}
