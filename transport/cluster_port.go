package transport

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Kind says what a connection on the cluster port carries. Numbers are on the wire.
type Kind byte

// The kinds.
const (
	// KindRaft is the stream of one Raft group.
	KindRaft Kind = 1
	// KindPeer carries the frames of package cluster/peer.
	KindPeer Kind = 2
	// KindJoin is discovery, bootstrap and joining: the only kind that is let in with an empty or different cluster id.
	KindJoin Kind = 3
)

// PeerInfo says who is at the other end of a connection of the cluster port.
type PeerInfo struct {
	// NodeID and ClusterID of the other side. ClusterID may be empty or another one than ours with KindJoin only.
	NodeID, ClusterID string
	Kind              Kind
	// Group is the Raft group with KindRaft, else 0.
	Group uint32
	// Addr is the remote address.
	Addr net.Addr
	// Verified means that a certificate proved NodeID.
	Verified bool
}

// ClusterConfig configures a [ClusterPort].
type ClusterConfig struct {
	// Network is where the port listens and dials. nil means TCP{}.
	Network Network
	// Addr is the address to listen on.
	Addr string
	// NodeID is the identity of this node.
	NodeID string
	// ClusterID returns this node's cluster, "" until it is in one. It is called for every connection, from any goroutine.
	ClusterID func() string
	// TLS makes the port mutual TLS 1.3. It needs Certificates (or the Get functions), ClientCAs and RootCAs. nil is plain TCP.
	TLS *tls.Config
	// VerifyCertificate replaces the check of what a peer's certificate says (its chain is always verified).
	// nil means VerifyNodeCertificate. Only used with TLS. clusterID is "" if it is not known yet.
	VerifyCertificate func(state tls.ConnectionState, clusterID, nodeID string) error
	// Resolve returns the address of a node. It is called at every dial.
	Resolve func(nodeID string) (addr string, ok bool)
	// Admit is asked about every caller whose preamble is in order; an error refuses it. An error that wraps ErrRemoved,
	// ErrWrongCluster, ErrBusy... is told to the caller as such, others as ErrRefused with their text. nil admits all.
	Admit func(PeerInfo) error
	// HandshakeTimeout bounds TLS and preamble, of accepted and of dialled connections. Default 5 s.
	HandshakeTimeout time.Duration
	// MaxPending bounds the connections that are in their handshake. Default 256; more wait in the accept queue.
	MaxPending int
	// MaxConnections bounds all accepted connections. Default 8192; more are closed at once.
	MaxConnections int
	// MaxPerPeer bounds the accepted connections of one node. Default 1024; more are refused with StatusBusy.
	MaxPerPeer int
	// Logger is required in production; nil discards.
	Logger *zap.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// ClusterPort is a node's one port for other nodes.
type ClusterPort struct{}

// OpenClusterPort listens and starts the port.
func OpenClusterPort(cfg ClusterConfig) (*ClusterPort, error) { panic("not yet") }

// Addr returns the address that the port listens on.
func (p *ClusterPort) Addr() net.Addr { panic("not yet") }

// GroupLayer returns the stream layer of a Raft group; while it is open, connections for the group are let in.
func (p *ClusterPort) GroupLayer(group uint32) *GroupLayer { panic("not yet") }

// AcceptPeer returns the next connection of KindPeer or KindJoin.
func (p *ClusterPort) AcceptPeer() (net.Conn, PeerInfo, error) { panic("not yet") }

// DialPeer connects to a node, named by its id or (KindJoin) by an address.
func (p *ClusterPort) DialPeer(ctx context.Context, nodeIDOrAddr string, kind Kind) (net.Conn, PeerInfo, error) {
	panic("not yet")
}

// Close ends the port and all its connections.
func (p *ClusterPort) Close() error { panic("not yet") }
