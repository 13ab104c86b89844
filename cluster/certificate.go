package cluster

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// A node with a certificate knows which cluster it belongs to before there is one: the authority made the cluster's id,
// and the founders take it from their certificates. Without certificates the founders make one up.

// proof is what this node's certificate says, nothing where there are no certificate files.
func (c *Config) proof() (transport.Proof, error) {
	if c.ClusterTLSFiles == nil {
		return transport.Proof{}, nil
	}
	p, err := c.ClusterTLSFiles.Read()
	switch {
	case err != nil:
		return p, fmt.Errorf("%w: cluster.tls: %w", ErrConfig, err)
	case c.NodeID != "" && c.NodeID != p.NodeID:
		return p, fmt.Errorf("%w: node-id is %s, but %s is the certificate of node %s: leave --node-id out, or make a certificate with flotilla cluster ca issue %s",
			ErrConfig, c.NodeID, c.ClusterTLSFiles.Cert, p.NodeID, c.NodeID)
	}
	return p, nil
}

// agrees refuses a data directory that is not that of the certificate's node.
func (id *identity) agrees(p transport.Proof, dir string) error {
	switch {
	case p == (transport.Proof{}):
		return nil
	case id.NodeID != p.NodeID:
		return fmt.Errorf("%w: %s belongs to node %s, the certificate is that of node %s: use the directory's own certificate (flotilla cluster ca issue %s), or an empty directory",
			ErrIdentity, dir, id.NodeID, p.NodeID, id.NodeID)
	case id.clusterID() != "" && id.clusterID() != p.ClusterID:
		return fmt.Errorf("%w: %s belongs to cluster %s, the certificate to cluster %s: certificates for this cluster come from flotilla cluster ca init --cluster-id %s",
			ErrIdentity, dir, id.clusterID(), p.ClusterID, id.clusterID())
	}
	return nil
}

// newClusterID is the id of a cluster that this node founds.
func (f *formation) newClusterID() string {
	if f.clusterID != "" {
		return f.clusterID
	}
	return randomHex(16)
}

// expelRemoved ends what removed nodes dialled before they were removed: Admit only refuses what they dial next (I31).
func (n *Node) expelRemoved() {
	for id, rec := range n.control.view().Nodes {
		if rec.State == command.NodeRemoved && id != n.id {
			n.port.Expel(id)
		}
	}
}

// admitJoiner is admit, and tells of refusals: a used or expired token is somebody's mistake, or somebody's guess.
func (n *Node) admitJoiner(h *hello) hello {
	reply := n.admit(h)
	if reply.Refused != "" {
		n.port.Refused("join")
		n.lg.Warn("a node was not let in", zap.String("event", "guard.refused"), zap.String("reason", "join"),
			zap.String("peer", h.Self.ID), zap.String("cause", reply.Refused))
	}
	return reply
}
