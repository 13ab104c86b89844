package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Kind says what a connection on the cluster port carries. Numbers are on the
// wire and never change their meaning.
type Kind byte

// The kinds.
const (
	// KindRaft is the stream of one Raft group.
	KindRaft Kind = 1
	// KindPeer carries the frames of package cluster/peer.
	KindPeer Kind = 2
	// KindJoin is discovery, bootstrap and joining: the only kind that is let
	// in with an empty or different cluster id.
	KindJoin Kind = 3
)

func (k Kind) String() string {
	switch k {
	case KindRaft:
		return "raft"
	case KindPeer:
		return "peer"
	case KindJoin:
		return "join"
	}
	return fmt.Sprintf("kind_%d", byte(k))
}

// PeerInfo says who is at the other end of a connection of the cluster port.
type PeerInfo struct {
	// NodeID and ClusterID are what the other side says of itself. With
	// KindJoin ClusterID may be empty or not ours, and NodeID may be our own.
	NodeID, ClusterID string
	Kind              Kind
	// Group is the Raft group with KindRaft, else 0.
	Group uint32
	// Addr is the remote address.
	Addr net.Addr
	// Verified means that a certificate proved NodeID (and ClusterID, once
	// this node has one).
	Verified bool
}

// ClusterConfig configures a [ClusterPort].
type ClusterConfig struct {
	// Network is where the port listens and dials. nil means TCP{}.
	Network Network
	// Addr is the address to listen on.
	Addr string
	// NodeID is the identity of this node: 1 to 128 printable ASCII characters.
	NodeID string
	// ClusterID returns this node's cluster, "" until it is in one. It is
	// called for every connection, from any goroutine.
	ClusterID func() string
	// TLS makes the port mutual TLS 1.3. It needs Certificates (or both
	// GetCertificate and GetClientCertificate), ClientCAs and RootCAs. nil is
	// plain TCP: whoever reaches the port may then claim any identity.
	TLS *tls.Config
	// TLSFiles is TLS from files that may change. It excludes TLS.
	TLSFiles *ClusterFiles
	// VerifyCertificate replaces the check of what a peer's certificate says;
	// its chain is always verified. nil means VerifyNodeCertificate. clusterID
	// is "" while this node has none.
	VerifyCertificate func(state tls.ConnectionState, clusterID, nodeID string) error
	// Resolve returns the address of a node. It is called at every dial.
	Resolve func(nodeID string) (addr string, ok bool)
	// Admit is asked about every caller whose preamble is in order; an error
	// refuses it. Errors that wrap a sentinel of this package (ErrRemoved...)
	// reach the caller as such, others as ErrRefused with their text. It must
	// not block. nil admits all.
	Admit func(PeerInfo) error
	// HandshakeTimeout bounds accept to Accept, and a dial: TLS and preamble
	// both ways. Default 5 s.
	HandshakeTimeout time.Duration
	// MaxPending bounds the connections in their handshake. Default 256; more
	// wait in the accept queue.
	MaxPending int
	// MaxConnections bounds the accepted connections of the port. Default 8192;
	// more are closed at once.
	MaxConnections int
	// MaxPerPeer bounds the accepted connections of one node. Default 1024;
	// more are refused with StatusBusy.
	MaxPerPeer int
	// Logger: nil discards.
	Logger *zap.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

func (c *ClusterConfig) prepare() error {
	switch {
	case c.NodeID == "" || !validID(c.NodeID):
		return fmt.Errorf("%w: node id %q", ErrConfig, c.NodeID)
	case c.ClusterID == nil || c.Resolve == nil:
		return fmt.Errorf("%w: ClusterID and Resolve are required", ErrConfig)
	}
	if c.TLS != nil {
		if c.TLSFiles != nil {
			return fmt.Errorf("%w: both TLS and TLSFiles", ErrConfig)
		}
		if err := checkTLS(c.TLS); err != nil {
			return err
		}
	}
	if c.Network == nil {
		c.Network = TCP{}
	}
	if c.VerifyCertificate == nil {
		c.VerifyCertificate = VerifyNodeCertificate
	}
	if c.Admit == nil {
		c.Admit = func(PeerInfo) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.HandshakeTimeout = orDefault(c.HandshakeTimeout, 5*time.Second)
	c.MaxPending = orDefault(c.MaxPending, 256)
	c.MaxConnections = orDefault(c.MaxConnections, 8192)
	c.MaxPerPeer = orDefault(c.MaxPerPeer, 1024)
	return nil
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// peerBacklog is how many peer and join connections may wait for AcceptPeer.
// More are refused with StatusBusy.
const peerBacklog = 64

// ClusterPort is a node's one port for other nodes.
type ClusterPort struct {
	cfg     ClusterConfig
	tls     *clusterTLS // nil on a plain port
	in      *intake
	peers   *handoff
	metrics *portMetrics
	lg      *zap.Logger
	// refusals writes few lines of each reason, so that a flood of one does not hide the others.
	refusals *zap.Logger
	ctx      context.Context // ends when the port is closed; bounds its dials
	cancel   context.CancelFunc

	mu      sync.Mutex
	layers  map[uint32]*GroupLayer
	perPeer map[string]map[*tracked]struct{} // accepted connections by node id
}

// OpenClusterPort listens and starts the port.
func OpenClusterPort(cfg ClusterConfig) (*ClusterPort, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	named := cfg.Logger.Named("transport").With(zap.String("listener", "cluster"))
	lg := throttled(named, 20)
	secure, err := cfg.openTLS()
	if err != nil {
		return nil, fmt.Errorf("open cluster port: %w", err)
	}
	root, err := cfg.Network.Listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("open cluster port: %w", err)
	}
	m := newPortMetrics(cfg.Registerer, "cluster")
	adm := NewAdmission(AdmissionConfig{MaxConnections: cfg.MaxConnections, PendingMax: cfg.MaxPending})
	ctx, cancel := context.WithCancel(context.Background())
	p := &ClusterPort{
		cfg: cfg, tls: secure, peers: newHandoff(peerBacklog), metrics: m, lg: lg, refusals: throttled(named, refusalLines), ctx: ctx, cancel: cancel,
		in:     newIntake(root, cfg.HandshakeTimeout, adm, m, lg),
		layers: map[uint32]*GroupLayer{}, perPeer: map[string]map[*tracked]struct{}{},
	}
	p.in.turnedAway = p.turnedAway
	if secure != nil {
		p.in.prepare = func(t *tracked) error { return nameStranger(startTLS(t, secure.current().server)) }
	}
	mx := newMux(p.in)
	raft := mx.cm.Match(matchPreamble(KindRaft))
	peer := mx.cm.Match(matchPreamble(KindPeer, KindJoin))
	mx.each(raft, p.spawn)
	mx.each(peer, p.spawn)
	mx.start()
	if secure != nil && secure.files != nil {
		p.in.wg.Go(func() { secure.files.watch(p.in.closed) })
	}
	lg.Info("listening", zap.String("event", "listener.up"), zap.Stringer("addr", root.Addr()), zap.Bool("tls", secure != nil))
	return p, nil
}

// refusalLines is how many refusals of one reason are logged a second.
const refusalLines = 2

// throttled passes so many lines a second per message: strangers must not fill
// the log.
func throttled(lg *zap.Logger, lines int) *zap.Logger {
	return lg.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, lines, 0)
	}))
}

// startTLS puts a connection inside TLS.
func startTLS(t *tracked, c *tls.Config) error {
	tc := tls.Server(watched{t.raw, t}, c)
	if err := tc.Handshake(); err != nil { // ended by the deadline at the latest
		return fmt.Errorf("tls handshake: %w", err)
	}
	t.Conn, t.secure = tc, true
	return nil
}

// Addr returns the address that the port listens on.
func (p *ClusterPort) Addr() net.Addr { return p.in.Addr() }

// GroupLayer returns the stream layer of a Raft group, the open one or a new
// one. Connections for a group are let in while its layer is open.
func (p *ClusterPort) GroupLayer(group uint32) *GroupLayer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.layers[group]; l != nil {
		return l
	}
	ctx, cancel := context.WithCancel(p.ctx)
	l := &GroupLayer{port: p, group: group, queue: newHandoff(layerBacklog), conns: &connSet{}, ctx: ctx, cancel: cancel}
	if p.ctx.Err() != nil { // the port is closed, so the layer is
		l.queue.close()
		l.conns.close()
		return l
	}
	p.layers[group] = l
	return l
}

func (p *ClusterPort) layer(group uint32) *GroupLayer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.layers[group]
}

func (p *ClusterPort) forget(l *GroupLayer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.layers[l.group] == l {
		delete(p.layers, l.group)
	}
}

// AcceptPeer returns the next connection of KindPeer or KindJoin, past its
// preamble. After Close it returns ErrClosed.
func (p *ClusterPort) AcceptPeer() (net.Conn, PeerInfo, error) {
	a, err := p.peers.accept()
	if err != nil {
		return nil, PeerInfo{}, fmt.Errorf("accept peer: %w", err)
	}
	return a.t, a.info, nil
}

// Close ends the port: its listener, its layers, and every connection that
// came in or went out through it. It returns when all its goroutines ended.
func (p *ClusterPort) Close() error {
	p.cancel()
	err := p.in.Close()
	p.peers.close()
	p.mu.Lock()
	layers := make([]*GroupLayer, 0, len(p.layers))
	for _, l := range p.layers {
		layers = append(layers, l)
	}
	p.mu.Unlock()
	for _, l := range layers {
		_ = l.Close()
	}
	p.in.join()
	return err
}
