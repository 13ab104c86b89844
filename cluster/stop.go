package cluster

import (
	"context"
	"errors"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
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

// handOver gives every leadership to another replica, if there is one.
func (n *Node) handOver(ctx context.Context) {
	hand := func(transfer func(context.Context, string) error, group uint32) {
		tctx, cancel := context.WithTimeout(ctx, transferTimeout)
		defer cancel()
		if err := transfer(tctx, ""); err != nil && ctx.Err() == nil {
			n.lg.Debug("leadership was not handed over", zap.Uint32("group", group), zap.Error(err))
		}
	}
	for _, r := range n.allReplicas() {
		if r.group.IsLeader() && len(r.group.Members()) > 1 {
			hand(r.group.TransferLeadership, r.id)
		}
	}
	if g := n.control.group.Load(); g != nil && g.IsLeader() && len(g.Members()) > 1 {
		hand(g.TransferLeadership, 0)
	}
}

// shutdown closes everything in the reverse order of its dependencies: clients
// before lanes, lanes before groups, groups before the network (a snapshot may
// be on its way), the network before the stores.
func (n *Node) shutdown(ctx context.Context) {
	_ = n.server.Stop(ctx)
	n.lease.drop()
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

// Kick disconnects a client and reports whether it was connected here.
func (n *Node) kickClient(tenant, clientID string, code mqtt.ReasonCode) bool {
	return n.server.Kick(sessionKey(tenant, clientID), ^uint64(0), code)
}
