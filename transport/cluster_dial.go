package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"
)

// DialPeer connects to a node, named by its id or by an address (a host and a
// port; with KindJoin only, as it is not known then who is there). It ends
// with ctx, with the handshake timeout, or when the port is closed. Errors:
// ErrUnknownNode, ErrClosed, a RefusedError, or what the network says.
func (p *ClusterPort) DialPeer(ctx context.Context, nodeIDOrAddr string, kind Kind) (net.Conn, PeerInfo, error) {
	t, info, err := p.dialPeer(ctx, nodeIDOrAddr, kind)
	if err != nil {
		return nil, PeerInfo{}, fmt.Errorf("dial peer %s: %w", nodeIDOrAddr, err)
	}
	return t, info, nil
}

func (p *ClusterPort) dialPeer(ctx context.Context, to string, kind Kind) (*tracked, PeerInfo, error) {
	if _, ok := p.cfg.Resolve(to); ok || kind != KindJoin || !strings.Contains(to, ":") {
		return p.dialNode(ctx, to, kind, 0)
	}
	return p.dial(ctx, to, preamble{kind: kind})
}

func (p *ClusterPort) dialNode(ctx context.Context, nodeID string, kind Kind, group uint32) (*tracked, PeerInfo, error) {
	addr, ok := p.cfg.Resolve(nodeID)
	if !ok {
		return nil, PeerInfo{}, ErrUnknownNode
	}
	return p.dial(ctx, addr, preamble{kind: kind, group: group, to: nodeID})
}

// dial connects, and completes the preamble.
func (p *ClusterPort) dial(ctx context.Context, addr string, pre preamble) (*tracked, PeerInfo, error) {
	pre.version, pre.cluster, pre.from = preambleVersion, p.cfg.ClusterID(), p.cfg.NodeID
	ctx, cancel := context.WithTimeout(ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	raw, err := p.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, PeerInfo{}, p.dialErr(err)
	}
	t := newTracked(raw, time.Time{}, nil)
	t.handOver()
	if !p.in.conns.add(t) {
		t.kill()
		return nil, PeerInfo{}, ErrClosed
	}
	stop := context.AfterFunc(ctx, t.kill)
	info, err := p.introduce(ctx, t, pre)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		t.kill()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, PeerInfo{}, p.dialErr(err)
	}
	return t, info, nil
}

func (p *ClusterPort) dialErr(err error) error {
	if p.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// introduce does TLS and the preamble on a dialled connection.
func (p *ClusterPort) introduce(ctx context.Context, t *tracked, pre preamble) (PeerInfo, error) {
	if p.tls != nil {
		tc := tls.Client(t.raw, clientTLS(p.tls.current().client, p.tls.expect(pre.cluster)))
		if err := tc.HandshakeContext(ctx); err != nil {
			return PeerInfo{}, fmt.Errorf("tls handshake: %w", err)
		}
		t.Conn, t.secure = tc, true
		if err := p.proveServer(tc, pre.cluster, pre.to); err != nil {
			return PeerInfo{}, err
		}
	}
	if _, err := t.Conn.Write(appendPreamble(nil, pre)); err != nil {
		return PeerInfo{}, fmt.Errorf("write preamble: %w", err)
	}
	a, err := readAnswer(t.Conn)
	if err != nil {
		return PeerInfo{}, err
	}
	if a.status != StatusOK {
		return PeerInfo{}, &RefusedError{Status: a.status, NodeID: a.node, ClusterID: a.cluster, Message: a.message}
	}
	switch {
	case a.kind != pre.kind || a.version != preambleVersion || a.node == "":
		return PeerInfo{}, fmt.Errorf("%w: answer %+v", ErrPreamble, a)
	case pre.to != "" && a.node != pre.to:
		return PeerInfo{}, fmt.Errorf("%w: node %q answered", ErrWrongNode, a.node)
	case pre.kind != KindJoin && a.cluster != pre.cluster:
		return PeerInfo{}, fmt.Errorf("%w: a node of cluster %q answered", ErrWrongCluster, a.cluster)
	}
	if tc, ok := t.Conn.(*tls.Conn); ok && pre.to == "" {
		if err := p.proveServer(tc, pre.cluster, a.node); err != nil {
			return PeerInfo{}, err
		}
	}
	return PeerInfo{NodeID: a.node, ClusterID: a.cluster, Kind: pre.kind, Group: pre.group, Addr: t.RemoteAddr(), Verified: p.tls != nil}, nil
}

// proveServer checks the certificate of the called node, once its id is known.
func (p *ClusterPort) proveServer(tc *tls.Conn, clusterID, nodeID string) error {
	if nodeID == "" {
		return nil
	}
	if err := p.cfg.VerifyCertificate(tc.ConnectionState(), p.tls.expect(clusterID), nodeID); err != nil {
		return fmt.Errorf("called node: %w", err)
	}
	return nil
}
