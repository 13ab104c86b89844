package cluster

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session"
)

// forwardTarget is the stream of forwards to one process of another node.
type forwardTarget struct {
	inc    uint64
	lane   *lane
	cancel context.CancelFunc
}

// forwardLane returns the stream to the process that a route names, or nil if
// that process is known to be gone.
func (n *Node) forwardLane(r router.NodeRoute) *lane {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.forwards[r.Node]
	switch {
	case t != nil && t.inc == r.Incarnation:
		return t.lane
	case t != nil && t.inc > r.Incarnation:
		return nil
	case n.ctx.Err() != nil || !n.lease.held():
		return nil
	}
	// The control view may be older than the route, never the other way round
	// for long: pruneForwards ends the stream of a process that is gone.
	if rec, ok := n.control.view().Nodes[r.Node]; ok && (rec.Incarnation > r.Incarnation || (rec.Incarnation == r.Incarnation && !rec.Up)) {
		return nil
	}
	if t != nil {
		t.cancel()
	}
	return n.openForwardLocked(r)
}

func (n *Node) openForwardLocked(r router.NodeRoute) *lane {
	l := newLane(0, n.id, forwardSender{n, r.Node}, sealForward(r.Incarnation), n.cfg.Lease.LostAfter*2, n.met)
	l.reset(n.incarnation.Load(), ErrLaneReset)
	ctx, cancel := context.WithCancel(n.ctx)
	n.forwards[r.Node] = &forwardTarget{inc: r.Incarnation, lane: l, cancel: cancel}
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		l.runUntil(ctx, errTargetGone)
	}()
	return l
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
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, t := range n.forwards {
		rec, ok := v.Nodes[id]
		if !ok || rec.Incarnation > t.inc || (rec.Incarnation == t.inc && !rec.Up) {
			t.cancel()
			delete(n.forwards, id)
		}
	}
}

// dropForwards ends all streams: this node lost its lease.
func (n *Node) dropForwards() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, t := range n.forwards {
		t.lane.fail(session.ErrUnavailable)
		t.cancel()
		delete(n.forwards, id)
	}
}
