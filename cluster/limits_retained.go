package cluster

import (
	"strconv"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// retainedLimit holds the limits of retained messages at the gateway, where a
// publish can still be refused as a whole. Each shard's machine knows the same
// limit for what is under way at the same time.
type retainedLimit struct {
	maxMessages atomic.Int64 // 0: no limit
	maxPayload  atomic.Int64 // 0: no limit
	// counted is how many there were at the last look, added what was taken in
	// since: together they are at least as many as there are.
	counted, added atomic.Int64
}

func (r *retainedLimit) set(v *state.ControlView) {
	num := func(key string) int64 {
		n, err := strconv.ParseInt(v.Settings[key], 10, 64)
		if err != nil {
			return 0 // absent means unlimited
		}
		return n
	}
	r.maxMessages.Store(num(keyRetainedMax))
	r.maxPayload.Store(num(keyRetainedPayload))
}

// lack says why a message must not be retained, "" if it may.
func (r *retainedLimit) lack(n *Node, tenant string, m *command.Message) string {
	if most := r.maxPayload.Load(); most > 0 && int64(len(m.Payload)) > most {
		return reasonTooLarge
	}
	most := r.maxMessages.Load()
	if most <= 0 || r.counted.Load()+r.added.Add(1) <= most {
		return ""
	}
	// Near the limit it is counted exactly: a topic that has a message keeps
	// its place.
	r.refresh(n)
	if r.counted.Load() < most {
		r.added.Add(1)
		return ""
	}
	if rep := n.replica(n.topicShard(tenant, m.Topic)); rep != nil {
		if page, err := rep.mach.Retained(state.RetainedQuery{Tenant: tenant, Filter: string(m.Topic), Limit: 1}); err == nil && len(page.Items) > 0 {
			return ""
		}
		return reasonRetainedFull
	}
	return "" // no replica here: the shard decides
}

// refresh counts what is stored: by this node's replicas, and where it has none
// nothing, since the shard itself refuses at the limit.
func (r *retainedLimit) refresh(n *Node) {
	if r.maxMessages.Load() <= 0 {
		return
	}
	r.added.Store(0)
	sum := int64(0)
	for _, rep := range n.allReplicas() {
		sum += int64(rep.mach.Stats().RetainedMessages)
	}
	r.counted.Store(sum)
}
