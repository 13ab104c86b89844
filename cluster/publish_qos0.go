package cluster

import (
	"context"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// publishQoS0 takes the path without Raft: one frame per node that has a
// matching connected subscriber, or the member of a share whose turn it is. A
// retained message is stored all the same.
func (n *Node) publishQoS0(ctx context.Context, o *outgoing) {
	if len(o.match.Groups) > 0 {
		n.publishToShares(ctx, o)
	} else {
		for i := range o.match.Nodes {
			if r := &o.match.Nodes[i]; r.Any && n.handQoS0(ctx, r.Node, r.Incarnation, o, true, nil) == handFull {
				n.countDropped("qos0_slow", 1)
			}
		}
	}
	if o.inc != 0 {
		return // the caller stores what a state machine retains, and waits for it
	}
	if n.limits.qos0Offline.Load() {
		n.queueQoS0(o)
	}
	if !o.msg.Retain || o.unstored {
		return
	}
	cmd := command.Publish{Tenant: o.tenant, Message: o.raw, Flags: command.ToRetained, Origin: o.origin}
	err := n.lane(n.topicShard(o.tenant, o.msg.Topic)).add(ctx, func(dst []byte) []byte { return command.AppendPublish(dst, &cmd) }, nil)
	if err != nil {
		n.countDropped("no_leader", 1)
	}
}

// queueQoS0 hands a message to the shards of durable sessions, which queue it for
// those that are offline.
func (n *Node) queueQoS0(o *outgoing) {
	cmd := command.Publish{Tenant: o.tenant, Message: o.raw, Flags: command.ToInboxes, Origin: o.origin}
	for _, shard := range o.match.Durable {
		if !n.lane(shard).tryAdd(func(dst []byte) []byte { return command.AppendPublish(dst, &cmd) }) {
			n.countDropped("no_leader", 1)
		}
	}
}

// handed is what became of a message that a node was to take.
type handed byte

const (
	handOK   handed = iota
	handGone        // that process is gone, and its subscribers with it
	handFull        // it takes nothing now
)

// handQoS0 gives a message to one node: to its plain subscribers, and to one
// member of each share that was picked for it.
func (n *Node) handQoS0(ctx context.Context, node string, inc uint64, o *outgoing, plain bool, picks []*router.ShareRoute) handed {
	if node == n.id {
		if n.knownHere(o) {
			return handOK
		}
		if plain {
			n.server.Deliver(o.tenant, o.msg)
		}
		for _, g := range picks {
			if !n.server.DeliverShare(o.tenant, g.Name, g.Filter, o.msg) {
				n.pickAnother(ctx, o, g, node)
			}
		}
		return handOK
	}
	l, err := n.forwardLane(node, inc)
	switch {
	case err != nil:
		return handFull
	case l == nil:
		return handGone
	}
	encode := func(dst []byte) []byte { return appendForward(dst, o, plain, picks) }
	if o.origin.Shard != 0 { // the pump of a shard waits for nobody
		if !l.tryAdd(encode) {
			return handFull
		}
	} else if !l.offer(ctx, encode) {
		return handFull
	}
	return handOK
}

// hop is what one node gets of a message.
type hop struct {
	node  string
	inc   uint64
	plain bool
	picks []*router.ShareRoute
}

// publishToShares is publishQoS0 for a topic with shares: each share picks a node
// in turn, by the number of its members there, and a node gets the message once,
// with the shares that picked it.
func (n *Node) publishToShares(ctx context.Context, o *outgoing) {
	hops := make([]hop, 0, 8)
	for _, r := range o.match.Nodes {
		if r.Any {
			hops = append(hops, hop{node: r.Node, inc: r.Incarnation, plain: true})
		}
	}
	for i := range o.match.Groups {
		g := &o.match.Groups[i]
		turn := uint32(o.origin.Seq) // a leader that repeats picks the same node
		if o.origin.Shard == 0 {
			turn = n.turns.next(o.tenant, g)
		}
		at := pickNode(g.Nodes, turn)
		if at == nil {
			continue // nobody is connected: QoS 0 does not wait
		}
		k := slices.IndexFunc(hops, func(h hop) bool { return h.node == at.Node })
		if k < 0 {
			k = len(hops)
			hops = append(hops, hop{node: at.Node, inc: at.Incarnation})
		}
		hops[k].picks = append(hops[k].picks, g)
	}
	for i := range hops {
		h := &hops[i]
		got := n.handQoS0(ctx, h.node, h.inc, o, h.plain, h.picks)
		if got == handOK {
			continue
		}
		if h.plain && got == handFull {
			n.countDropped("qos0_slow", 1)
		}
		for _, g := range h.picks {
			n.pickAnother(ctx, o, g, h.node)
		}
	}
}

// pickAnother offers a message to the other nodes of a share.
func (n *Node) pickAnother(ctx context.Context, o *outgoing, g *router.ShareRoute, not string) {
	for i := range g.Nodes {
		at := &g.Nodes[i]
		switch {
		case at.Node == not:
		case at.Node == n.id:
			if n.server.DeliverShare(o.tenant, g.Name, g.Filter, o.msg) {
				return
			}
		case n.handQoS0(ctx, at.Node, at.Incarnation, o, false, []*router.ShareRoute{g}) == handOK:
			return
		}
	}
	n.countDropped("share_unreached", 1)
}

// pickNode returns the node of a turn: a node has as many turns as members.
func pickNode(nodes []router.ShareNode, turn uint32) *router.ShareNode {
	total := uint32(0)
	for i := range nodes {
		total += nodes[i].Members
	}
	if total == 0 {
		return nil
	}
	turn %= total
	for i := range nodes {
		if turn < nodes[i].Members {
			return &nodes[i]
		}
		turn -= nodes[i].Members
	}
	return nil
}

// shareTurns count the messages of shares. Two shares that fall on one counter
// both move it, which only makes their turns less even.
type shareTurns struct {
	seed   maphash.Seed
	counts [256]atomic.Uint32
}

func newShareTurns() *shareTurns { return &shareTurns{seed: maphash.MakeSeed()} }

func (t *shareTurns) next(tenant string, g *router.ShareRoute) uint32 {
	h := maphash.String(t.seed, g.Filter) ^ maphash.String(t.seed, g.Name)*3 ^ maphash.String(t.seed, tenant)*5
	return t.counts[h%uint64(len(t.counts))].Add(1)
}
