package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// How a node comes in: it shows its join token to any member, which asks the control leader; the leader commits its
// admission, as a node that is joining. Only then does the node write down that it belongs to the cluster, open a
// replica of the control group without a word of its own, and wait until the leader adds it.

// joinEvery is how often a node that wants in asks again.
const joinEvery = 500 * time.Millisecond

// errRefused is a refusal that asking again does not change.
var errRefused = errors.New("refused")

// join asks every address until one lets this node in.
func (f *formation) join(ctx context.Context, h *helloServer) error {
	tick := time.NewTicker(joinEvery)
	defer tick.Stop()
	for last := ""; ; {
		for _, addr := range f.cfg.Join {
			done, err := f.joinAt(ctx, addr)
			switch {
			case done:
				h.set(f.hello())
				return nil
			case errors.Is(err, errRefused):
				return err
			case err != nil && err.Error() != last:
				last = err.Error()
				f.lg.Info("not in the cluster yet", zap.String("event", "node.joining"), zap.String("peer", addr), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// joinAt asks one member to let this node in.
func (f *formation) joinAt(ctx context.Context, addr string) (bool, error) {
	say := f.hello()
	say.Joining, say.Token = true, f.cfg.JoinToken
	peer, err := f.say(ctx, addr, say)
	switch {
	case errors.Is(err, transport.ErrRemoved):
		return false, fmt.Errorf("%w by %s: %w: node %s was removed from that cluster and its id is never used again: start under another --node-id", errRefused, addr, ErrIdentity, f.id.NodeID)
	case err != nil:
		return false, err
	case peer.Self.ID == f.id.NodeID && !peer.Formed:
		return false, nil // that was this node
	case peer.Self.ID == f.id.NodeID:
		return false, fmt.Errorf("%w: %w: %s is node %s of cluster %s already: start under another --node-id", errRefused, ErrIdentity, addr, f.id.NodeID, peer.Agreed.clusterID())
	case peer.Refused != "":
		return false, fmt.Errorf("%w by %s: %w: %s", errRefused, addr, ErrIdentity, peer.Refused)
	case !peer.Admitted || peer.Agreed == nil:
		return false, fmt.Errorf("%s is in no cluster yet, or has no majority now", addr)
	}
	members := slices.DeleteFunc(peer.Agreed.Members, func(m member) bool { return m.ID == f.id.NodeID })
	f.id.Agreed = &agreement{ClusterID: peer.Agreed.ClusterID, Members: append(members, f.self)}
	f.id.Formed, f.id.Joined = true, true
	return true, f.id.save(f.cfg.DataDir)
}

// admit answers a node that wants in.
func (n *Node) admit(h *hello) hello {
	reply := n.hellos.get()
	if !n.formed.Load() || n.control.group.Load() == nil {
		return reply
	}
	rec := command.Node{ID: h.Self.ID, ClusterAddr: h.Self.Addr, Roles: h.Self.Roles, Zone: h.Self.Zone}
	req := memberRequest{Do: memberAdmit, Admit: &rec}
	if h.Token != "" {
		sum := sha256.Sum256([]byte(h.Token))
		req.TokenHash = sum[:]
	} else if n.wantsToken() {
		reply.Refused = "a join token is needed: make one with flotilla cluster token create, and give it with --join-token-file"
		return reply
	}
	ctx, cancel := context.WithTimeout(n.ctx, helloTimeout*3/4)
	defer cancel()
	_, err := n.askControl(ctx, req)
	var g *GuardError
	switch {
	case errors.As(err, &g):
		reply.Refused = g.Detail
		return reply
	case err != nil:
		n.lg.Debug("a node could not be admitted now", zap.String("peer", rec.ID), zap.Error(err))
		return reply
	}
	v := n.control.view()
	a := &agreement{ClusterID: v.ClusterID}
	for _, id := range sortedKeys(v.Nodes) {
		if k := v.Nodes[id]; k.State != command.NodeRemoved {
			a.Members = append(a.Members, member{ID: k.ID, Addr: k.ClusterAddr, Roles: k.Roles, Zone: k.Zone})
		}
	}
	reply.Agreed, reply.Admitted = a, true
	return reply
}

// wantsToken: the cluster port alone protects nothing once others can reach it.
func (n *Node) wantsToken() bool {
	return !n.cfg.InsecureCluster && !isLoopback(hostOf(n.self.Addr))
}
