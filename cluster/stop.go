package cluster

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

// transferTimeout bounds the hand-over of one group's leadership.
const transferTimeout = 2 * time.Second

// Stop ends the node in order: not ready, leaderships handed over, clients
// disconnected, stores flushed. It never changes the membership. ctx bounds
// the polite part; the rest is as safe as a crash. Stop is idempotent.
func (n *Node) Stop(ctx context.Context) error {
	if !n.stopped.CompareAndSwap(false, true) {
		n.wg.Wait()
		return nil
	}
	n.lg.Info("drain begins", zap.String("event", "server.drain_begin"))
	n.serving.Store(false) // /readyz fails from here on
	n.met.ready.Set(0)
	if !n.onlyLoopback() {
		_ = sleep(ctx, n.cfg.Drain.LBDelay)
	}
	// Leaders first: the clients that are sent away find a cluster that leads.
	n.handOver(ctx)
	_ = n.server.Drain(ctx, n.cfg.Drain.Rate) // what is left is cut below
	n.lg.Info("drain is over", zap.String("event", "server.drain_end"))
	n.shutdown(ctx)
	n.lg.Info("node stopped", zap.String("event", "server.stop"))
	return nil
}

// Kill ends the node as a crash would: nothing is flushed, nobody is told.
func (n *Node) Kill() {
	if !n.stopped.CompareAndSwap(false, true) {
		return
	}
	n.lease.drop()
	n.cancel(ErrStopped)
	if n.host != nil {
		n.host.Kill()
	}
	n.closeAll()
	n.wg.Wait()
}

// handOver gives every leadership to another replica that is up, if there is one.
func (n *Node) handOver(ctx context.Context) {
	groups := map[uint32]*raftfsm.Group{}
	for _, r := range n.allReplicas() {
		groups[r.id] = r.group
	}
	if g := n.control.group.Load(); g != nil {
		groups[0] = g
	}
	ids := slices.Sorted(maps.Keys(groups))
	slices.Reverse(ids) // the control group last: it answers for the others
	for _, id := range ids {
		g := groups[id]
		to := n.successor(g.Members())
		if !g.IsLeader() || to == "" {
			continue
		}
		tctx, cancel := context.WithTimeout(ctx, transferTimeout)
		if err := g.TransferLeadership(tctx, to); err != nil && ctx.Err() == nil {
			n.lg.Debug("leadership was not handed over", zap.Uint32("group", id), zap.Error(err))
		}
		cancel()
	}
}

// successor is a voter that is up and can be reached, or "".
func (n *Node) successor(members []raftfsm.Member) string {
	v := n.control.view()
	for _, m := range members {
		if rec, ok := v.Nodes[m.ID]; ok && m.ID != n.id && m.Voter && rec.Up && n.links.Up(m.ID) {
			return m.ID
		}
	}
	return ""
}

// leave tells the control group that this process ends, so that nobody waits
// for its lease. It is a courtesy: without it the lease runs out.
func (n *Node) leave(ctx context.Context) {
	inc, leader := n.incarnation.Load(), n.leaderOf(0)
	if inc == 0 || leader == "" || leader == n.id {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	if _, err := n.query(ctx, leader, queryLeave, putUint(putBytes(nil, n.id), inc)); err != nil {
		n.lg.Debug("the lease was not given back", zap.Error(err))
	}
}

// shutdown closes everything in the reverse order of its dependencies: clients
// before lanes, lanes before groups, groups before the network (a snapshot may
// be on its way), the network before the stores.
func (n *Node) shutdown(ctx context.Context) {
	_ = n.server.Stop(ctx)
	n.lease.drop()
	n.leave(ctx)
	n.cancel(ErrStopped)
	for _, l := range n.ledShards() {
		l.stop()
	}
	n.closeAll()
	n.wg.Wait()
}

// closeAll closes what was opened. It works on a node that is half open.
func (n *Node) closeAll() {
	for _, p := range n.clients {
		if p != nil {
			_ = p.Close() // the port is going away either way
		}
	}
	if n.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = n.server.Stop(ctx)
		cancel()
	}
	if n.host != nil {
		if err := n.host.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			n.lg.Warn("closing the stores failed: the log covers what was not flushed", zap.Error(err))
		}
	}
	if n.links != nil {
		_ = n.links.Close()
	}
	if n.port != nil {
		_ = n.port.Close()
	}
}

func (n *Node) onlyLoopback() bool {
	for _, a := range []string{n.Addrs().MQTT, n.Addrs().MQTTS, n.Addrs().Cluster} {
		host, _, err := net.SplitHostPort(a)
		if err == nil && a != "" && !isLoopback(host) {
			return false
		}
	}
	return true
}
