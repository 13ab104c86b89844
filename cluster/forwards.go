package cluster

import (
	"context"
	"maps"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// forwardTarget is the stream of forwards to one process of another node.
type forwardTarget struct {
	inc    uint64
	lane   *lane
	cancel context.CancelFunc
}

// forwardLane returns the stream to a process of another node, or nil if that
// process is known to be gone. It fails if this node may not forward.
func (n *Node) forwardLane(node string, incarnation uint64) (*lane, error) {
	t := (*n.forwards.Load())[node]
	switch {
	case t != nil && t.inc == incarnation:
		return t.lane, nil
	case t != nil && t.inc > incarnation:
		return nil, nil
	}
	return n.openForward(node, incarnation)
}

func (n *Node) openForward(node string, incarnation uint64) (*lane, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := (*n.forwards.Load())[node]
	if t != nil && t.inc == incarnation { // opened meanwhile
		return t.lane, nil
	}
	if t != nil && t.inc > incarnation {
		return nil, nil
	}
	if n.ctx.Err() != nil || !n.lease.held() {
		return nil, ErrLeaseLost
	}
	// The control view may be older than the route, but what it says of the past
	// is true: a process that it calls gone is gone.
	if rec, ok := n.control.view().Nodes[node]; ok && (rec.Incarnation > incarnation || (rec.Incarnation == incarnation && !rec.Up)) {
		return nil, nil
	}
	if t != nil {
		t.cancel()
	}
	l := newLane(0, n.id, forwardSender{n, node}, sealForward(incarnation), n.cfg.Lease.LostAfter*2, n.met)
	l.whole = true
	l.reset(n.incarnation.Load(), ErrLaneReset)
	ctx, cancel := context.WithCancel(n.ctx)
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		l.runUntil(ctx, errTargetGone)
	}()
	next := maps.Clone(*n.forwards.Load())
	next[node] = &forwardTarget{inc: incarnation, lane: l, cancel: cancel}
	n.forwards.Store(&next)
	return l, nil
}

// forwardSender carries forward frames to a node.
type forwardSender struct {
	n    *Node
	node string
}

func (s forwardSender) sendBatch(_ uint32, frame []byte, done func(command.BatchResult, uint64, error)) {
	s.n.links.Call(s.node, peer.KindForward, frame, func(_ []byte, err error) {
		result := "ok"
		if err != nil {
			result = "error"
		}
		s.n.met.forwards.WithLabelValues(s.node, result).Inc()
		done(command.BatchResult{Code: command.OK}, 0, err)
	})
}

// pruneForwards ends the streams to processes that are gone: what they had not
// confirmed needs no confirmation any more.
func (n *Node) pruneForwards(v *state.ControlView) {
	n.endForwards(func(id string, t *forwardTarget) bool {
		rec, ok := v.Nodes[id]
		return !ok || rec.Incarnation > t.inc || (rec.Incarnation == t.inc && !rec.Up)
	}, errTargetGone)
}

// dropForwards ends all streams: this node lost its lease.
func (n *Node) dropForwards() {
	n.endForwards(func(string, *forwardTarget) bool { return true }, session.ErrUnavailable)
}

func (n *Node) endForwards(ends func(string, *forwardTarget) bool, why error) {
	n.mu.Lock()
	var ended []*forwardTarget
	next := maps.Clone(*n.forwards.Load())
	for id, t := range next {
		if ends(id, t) {
			ended = append(ended, t)
			delete(next, id)
		}
	}
	if len(ended) > 0 {
		n.forwards.Store(&next)
	}
	n.mu.Unlock()
	for _, t := range ended {
		t.lane.fail(why)
		t.cancel()
	}
}
