package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// Node is one running node. All methods are safe for concurrent use.
type Node struct {
	cfg   Config
	lg    *zap.Logger
	met   *metrics
	id    string
	ident *identity
	proof transport.Proof // of the certificate files
	self  member

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	host    *raftfsm.Host
	port    *transport.ClusterPort
	links   *peer.Links
	hellos  *helloServer
	server  *session.Server
	clients []*transport.ClientPort
	// doorways are those of the client ports, in the same order.
	doorways []*doorway
	buffers  sync.Pool // *[]byte, encoded messages

	control *control
	routes  *routes
	order   *topicOrder
	sink    *forwardSink
	lease   *lease
	sys     *sysTopics
	limits  *limits
	events  *events
	// What the admin API keeps here.
	keys      keyWatch
	auditBook auditBook
	kicks     kickBook
	// captures are those of backups, restore is what this node does for one.
	captures captureBook
	restore  restorer
	// incarnation is what the control group gave this process, 0 before.
	incarnation atomic.Uint64
	// fenced is the last incarnation that a shard took for gone, see keepLease.
	fenced atomic.Uint64
	// lanes by shard id; index 0 is unused. Set once, before clients are served.
	lanes atomic.Pointer[[]*lane]
	slots atomic.Pointer[[]uint32] // slot to shard

	formed  atomic.Bool
	serving atomic.Bool // client ports accept
	stopped atomic.Bool
	drained atomic.Bool // an operator sent the clients away
	retired atomic.Bool // the lease was given back for good
	failed  atomic.Pointer[error]
	admin   atomic.Pointer[string]
	asked   atomic.Uint32 // counts guesses at unknown leaders

	// replicas and leads by shard id: read for every message, changed rarely.
	replicas [maxShards + 1]atomic.Pointer[shardReplica]
	leads    [maxShards + 1]atomic.Pointer[lead]
	// forwards by node id, copied on write under mu.
	forwards atomic.Pointer[map[string]*forwardTarget]
	turns    *shareTurns
	sharers  *sharers

	mu    sync.Mutex
	hints map[uint32]string // shard leaders that other nodes told of
}

// Addrs are the addresses of a node as they were bound; "" where off.
type Addrs struct {
	Cluster, MQTT, MQTTS string
}

// Start opens a node's stores and ports and begins to form, join or rejoin its
// cluster in the background. It returns once everything is opened that can
// fail for a reason on this machine. ctx bounds the opening only.
func Start(_ context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if err := makeDataDir(cfg.DataDir, syncDir); err != nil {
		return nil, fmt.Errorf("%w: data directory: %w", ErrConfig, err)
	}
	proof, err := cfg.proof()
	if err != nil {
		return nil, err
	}
	ident, err := loadIdentity(cfg.DataDir, cfg.NodeID)
	if err != nil {
		return nil, err
	}
	if proof.NodeID != "" && ident.Starts == 0 && ident.Agreed == nil {
		ident.NodeID = proof.NodeID // a new directory is that of the certificate's node
	}
	if err := errors.Join(ident.agrees(proof, cfg.DataDir), cfg.needsSecret(ident)); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, lg: cfg.Logger.With(zap.String("node", ident.NodeID)), met: newMetrics(cfg.Registerer), id: ident.NodeID,
		proof: proof, hellos: &helloServer{secret: cfg.JoinToken}, routes: newRoutes(), lease: newLease(),
		hints: map[uint32]string{},
	}
	n.turns, n.sharers = newShareTurns(), newSharers()
	n.events = newEvents(n.id, ident.Starts+1, newEventMetrics(cfg.Registerer))
	n.lg = n.events.tapLog(n.lg)
	n.loadKeys()
	n.cfg.Session.Events = n.events.sessionEvent
	n.forwards.Store(&map[string]*forwardTarget{})
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	if err := n.open(ident); err != nil {
		n.cancel(err)
		n.closeAll()
		return nil, err
	}
	n.wg.Add(2)
	go func() { defer n.wg.Done(); n.acceptPeers() }()
	go func() { defer n.wg.Done(); n.boot() }()
	return n, nil
}

// open takes the data directory and the ports, in the order in which a failure
// costs least.
func (n *Node) open(ident *identity) error {
	ident.Starts++
	if err := ident.save(n.cfg.DataDir); err != nil {
		return err
	}
	var err error
	n.host, err = raftfsm.OpenHost(raftfsm.HostConfig{
		Dir: n.cfg.DataDir, NodeID: n.id, FS: n.cfg.FS, Stable: n.cfg.Stable, SyncInterval: n.cfg.Raft.MinSyncInterval,
		Fatal: n.fatal, Logger: n.lg, Registerer: n.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	// The directory is locked now: what it says of itself cannot change any more.
	if n.ident, err = loadIdentity(n.cfg.DataDir, n.cfg.NodeID); err != nil {
		return err
	}
	n.id = n.ident.NodeID
	n.formed.Store(n.ident.Formed)
	n.control = newControl(n) // the port asks it who may come in
	n.port, err = transport.OpenClusterPort(transport.ClusterConfig{
		Network: n.cfg.Network, Addr: n.cfg.ClusterAddr, NodeID: n.id, ClusterID: n.ClusterID, TLS: n.cfg.ClusterTLS, TLSFiles: n.cfg.ClusterTLSFiles,
		Resolve: n.resolve, Admit: n.admitPeer, Logger: n.lg, Registerer: n.cfg.Registerer,
	})
	if err != nil {
		return fmt.Errorf("%w: cluster-addr: %w", ErrConfig, err)
	}
	n.host.OpenTrunk(n.port.GroupLayer(raftfsm.TrunkGroup))
	addr := n.cfg.AdvertiseAddr
	if addr == "" {
		addr = n.port.Addr().String()
	}
	n.self = member{ID: n.id, Addr: addr, Roles: n.cfg.Roles, Zone: n.cfg.Zone}
	n.links = peer.NewNode(n.id, n.dialPeer, n.handlers(), n.lg, peer.Options{Registerer: n.cfg.Registerer})
	n.sys, n.limits = newSysTopics(n), newLimits(n)
	n.order = newTopicOrder(n)
	n.server = session.NewServer(n.cfg.Session, session.Backend{Sessions: n, Publisher: n, Inbox: n, Retained: n}, n.lg, n.sys.tee(n.cfg.Registerer))
	for _, reason := range []string{reasonInboxFull, reasonRetainedFull, reasonDiskLow, reasonTooLarge, reasonExpired, reasonSessionEnded} {
		n.countDropped(reason, 0)
	}
	n.sink = newForwardSink(n.incarnation.Load, n.deliverLocal)
	n.hellos.admit = n.admitJoiner
	if n.cfg.Registerer != nil {
		n.cfg.Registerer.MustRegister(newStateCollector(n))
	}
	return n.openClientPorts()
}

// ID is the node's identity.
func (n *Node) ID() string { return n.id }

// ClusterID is the identity of the cluster, "" until it is formed.
func (n *Node) ClusterID() string {
	if n.ident == nil || !n.formed.Load() {
		return ""
	}
	return n.ident.clusterID()
}

// Addrs returns the addresses as they were bound.
func (n *Node) Addrs() Addrs {
	a := Addrs{Cluster: n.port.Addr().String()}
	if p := n.clients[0]; p != nil {
		a.MQTT = p.Addr().String()
	}
	if p := n.clients[1]; p != nil {
		a.MQTTS = p.Addr().String()
	}
	return a
}

// SetAdminAddr says where this node's admin API listens. Other nodes learn of
// it with the next registration.
func (n *Node) SetAdminAddr(addr string) { n.admin.Store(&addr) }

func (n *Node) adminAddr() string {
	if a := n.admin.Load(); a != nil {
		return *a
	}
	return n.cfg.AdminAddr
}

// now is the clock that leaders stamp into entries, in unix ms.
func (n *Node) now() int64 { return time.Now().UnixMilli() }

// resolve finds where a node listens: the control group knows, before it does
// the members that formed the cluster know each other.
func (n *Node) resolve(id string) (string, bool) {
	if n.control != nil {
		if rec, ok := n.control.view().Nodes[id]; ok && rec.ClusterAddr != "" {
			return rec.ClusterAddr, true
		}
	}
	if n.ident != nil && n.ident.Agreed != nil && n.formed.Load() {
		for _, m := range n.ident.Agreed.Members {
			if m.ID == id {
				return m.Addr, true
			}
		}
	}
	return "", false
}

func (n *Node) dialPeer(ctx context.Context, id string) (net.Conn, error) {
	conn, _, err := n.port.DialPeer(ctx, id, transport.KindPeer)
	if errors.Is(err, transport.ErrRemoved) {
		n.fatal(fmt.Errorf("%w: node %s says that node %s was removed from the cluster: its data directory can be deleted", ErrIdentity, id, n.id))
	}
	return conn, err
}

// admitPeer refuses who was removed, whatever it wants (I25, I31).
func (n *Node) admitPeer(p transport.PeerInfo) error {
	if rec := n.control.view().Nodes[p.NodeID]; rec != nil && rec.State == command.NodeRemoved {
		return transport.ErrRemoved
	}
	return nil
}

// acceptPeers serves peer links and hellos until the port closes.
func (n *Node) acceptPeers() {
	for {
		conn, info, err := n.port.AcceptPeer()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && n.ctx.Err() == nil {
				n.lg.Warn("cluster port stopped accepting", zap.Error(err))
			}
			return
		}
		n.wg.Add(1)
		go func() {
			defer n.wg.Done()
			if info.Kind == transport.KindJoin {
				n.hellos.serve(conn, info.NodeID)
				return
			}
			_ = n.links.Serve(conn, info.NodeID) // a broken link is dialled again by its owner
		}()
	}
}

// fatal ends the node: storage cannot be trusted any more. Nothing is
// acknowledged after it, because the lease is dropped first.
func (n *Node) fatal(err error) {
	n.lease.drop()
	if !n.failed.CompareAndSwap(nil, &err) {
		return
	}
	switch {
	case errors.Is(err, ErrIdentity), errors.Is(err, raftfsm.ErrIdentity):
		n.lg.Error("this data directory must not run", zap.String("event", "guard.refused"), zap.Error(err))
	case errors.Is(err, raftfsm.ErrDivergent):
		n.lg.Error("a replica has entries that its group decided otherwise: the node stops, and drops them at its next start", zap.String("event", "raft.log_divergent"), zap.Error(err))
	default:
		n.lg.Error("storage failed, the node stops at once", zap.String("event", "storage.failstop"), zap.Error(err))
	}
	if n.cfg.Fatal != nil {
		n.cfg.Fatal(err)
	}
}

// spawn runs fn on a goroutine that Stop joins.
func (n *Node) spawn(fn func()) {
	n.wg.Add(1)
	go func() { defer n.wg.Done(); fn() }()
}
