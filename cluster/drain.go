package cluster

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// A node follows what was decided about it: while it is draining, drained or removing, it accepts no clients, sends
// those that it has away, and leads nothing. It says when that is done; the control leader notes it.

// followState runs until the node stops.
func (n *Node) followState() {
	stopDraining := context.CancelFunc(nil) // while this node is away
	for sleep(n.ctx, dutyEvery) == nil {
		rec := n.control.view().Nodes[n.id]
		if rec == nil {
			continue
		}
		switch rec.State {
		case command.NodeRemoved:
			n.fatal(fmt.Errorf("%w: node %s was removed from cluster %s: its data directory can be deleted", ErrIdentity, n.id, n.ClusterID()))
			return
		case command.NodeDraining, command.NodeDrained, command.NodeRemoving:
			if stopDraining == nil {
				stopDraining = n.goAway()
			}
			n.reportAway(rec.State)
		default:
			if stopDraining != nil {
				stopDraining()
				stopDraining = nil
				n.comeBack()
			}
		}
	}
}

// goAway refuses new clients and begins to send the others away.
func (n *Node) goAway() context.CancelFunc {
	n.lg.Info("drain begins by an operator's decision", zap.String("event", "server.drain_begin"))
	n.drained.Store(true)
	ctx, cancel := context.WithCancel(n.ctx)
	n.spawn(func() {
		n.handOver(ctx)
		_ = n.server.Drain(ctx, n.cfg.Drain.Rate) // ends with the node, by undrain, or when nobody is left
	})
	return cancel
}

func (n *Node) comeBack() {
	n.retired.Store(false) // a removal was cancelled: the next renewal registers anew
	n.server.Undrain()
	n.drained.Store(false)
	n.lg.Info("drain is over, clients are served again", zap.String("event", "server.drain_end"))
}

// reportAway tells the control leader that nothing is left here.
func (n *Node) reportAway(st command.NodeState) {
	if n.server.Stats().Connections > 0 || len(n.ledShards()) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, time.Second)
	defer cancel()
	switch st {
	case command.NodeDraining:
		_, _ = n.askControl(ctx, memberRequest{Do: memberDrained, Node: n.id}) // said again in the next round
	case command.NodeRemoving:
		if len(n.allReplicas()) == 0 {
			n.retire(ctx)
		}
	}
}

// retire gives the lease back for good: nobody waits for this node any more, and the removal can end.
func (n *Node) retire(ctx context.Context) {
	if n.control.lead.Load() != nil {
		if g := n.control.group.Load(); g != nil {
			_ = g.TransferLeadership(ctx, n.successor(g.Members()))
		}
		return // the next leader finishes it
	}
	n.retired.Store(true)
	// The right goes first: from the moment when nobody waits for this node, it must not route by its table (I5).
	n.lease.drop()
	if n.incarnation.Load() != 0 {
		n.leave(ctx)
	}
}
