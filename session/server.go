package session

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Meta describes an accepted connection.
type Meta struct {
	// Listener names the client port, Transport is tcp, tls, ws or wss.
	Listener, Transport string
	// Peer is the client's address, nil for that of the connection.
	Peer net.Addr
	// CommonName is that of the verified client certificate.
	CommonName string
	// AcceptedAt is when the connection was accepted; zero for now.
	AcceptedAt time.Time
}

// Server is the broker core of a node. All methods are safe for concurrent use.
type Server struct {
	cfg    Config
	be     Backend
	ev     *events
	m      *metrics
	reg    *registry
	local  *local
	shares *shares
	wheel  *wheel
	limits atomic.Pointer[Limits]
	start  time.Time
	// checkReceive is false if nobody asks for rights at delivery.
	checkReceive bool
	// limited says that clients have rates.
	limited bool
	// verifies says that user names are verified, so that a session belongs to one.
	verifies bool

	chunks      *chunkPool
	completions *sync.Pool
	fanouts     *sync.Pool

	wg     sync.WaitGroup // readers and the wheel
	live   atomic.Int64   // connections with a session
	connID atomic.Uint64

	mu         sync.Mutex
	handshakes map[*Conn]struct{} // guarded by mu: not attached yet
	draining   bool               // guarded by mu
	stopped    bool               // guarded by mu
}

// NewServer returns a server that serves what it is given by Serve. cfg must be
// valid. Metrics go to reg, nil for none.
func NewServer(cfg Config, b Backend, lg *zap.Logger, reg prometheus.Registerer) *Server {
	if cfg.Authenticator == nil {
		cfg.Authenticator = AllowAll{}
	}
	if cfg.Authorizer == nil {
		cfg.Authorizer = AllowAll{}
	}
	s := &Server{
		cfg: cfg, be: b, ev: newEvents(lg), m: newMetrics(reg), reg: newRegistry(), local: newLocal(), shares: newShares(),
		start: time.Now(), chunks: newChunkPool(), fanouts: newFanoutPool(), handshakes: make(map[*Conn]struct{}),
	}
	_, all := cfg.Authorizer.(AllowAll)
	s.checkReceive = !all
	_, all = cfg.Authenticator.(AllowAll)
	s.verifies = !all
	s.limited = cfg.ClientMessages > 0 || cfg.ClientBytes > 0
	s.completions = newCompletionPool(s)
	s.wheel = newWheel(s.now, &s.wg)
	s.ev.tap = cfg.Events
	s.SetLimits(cfg.limits())
	return s
}

// now is the monotonic time since the server began, in ns.
func (s *Server) now() int64 { return int64(time.Since(s.start)) }

// Serve takes over a connection and returns at once; the server closes it.
func (s *Server) Serve(nc net.Conn, meta Meta) {
	if meta.AcceptedAt.IsZero() {
		meta.AcceptedAt = time.Now()
		// The port has counted since the accept: TLS took its share.
		if h, ok := nc.(interface{ HandshakeDeadline() time.Time }); ok && !h.HandshakeDeadline().IsZero() {
			meta.AcceptedAt = h.HandshakeDeadline().Add(-s.cfg.ConnectTimeout)
		}
	}
	if meta.Peer == nil {
		meta.Peer = nc.RemoteAddr()
	}
	lim := s.limits.Load()
	c := &Conn{
		srv: s, nc: nc, meta: meta, id: s.connID.Add(1), rd: mqtt.NewReader(nc, lim.packet), lim: lim,
		out: outbox{pool: s.chunks},
		mIn: s.m.bytesIn.WithLabelValues(meta.Listener), mOut: s.m.bytesOut.WithLabelValues(meta.Listener),
	}
	c.vec, _ = nc.(vectorWriter)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	// The port counts handshakes of all listeners. It gives a place back a moment
	// before this end does, and what it has let in must not fail here.
	full := len(s.handshakes) >= 2*s.cfg.PendingConnects
	if s.stopped || full {
		s.mu.Unlock()
		c.cancel()
		_ = nc.Close()
		if full {
			s.m.rejected.WithLabelValues("pending").Inc()
		}
		return
	}
	s.handshakes[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go c.serve()
}

// pendingDone ends the handshake's place. It may be called twice.
func (s *Server) pendingDone(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handshakes, c)
}

// refusing reports whether new clients are sent away.
func (s *Server) refusing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining || s.stopped
}

// Wake says that a session has something new in its inbox. epoch is the one
// that the machine knows; a connection with another one ignores it.
func (s *Server) Wake(key command.SessionKey, epoch uint64) {
	c := s.reg.find(key)
	if c == nil || c.ref.Epoch != epoch {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	if !c.held {
		c.wantPumpLocked()
	}
}

// Kick closes the connection of a session whose epoch is at most epoch, with
// reason: SessionTakenOver or AdministrativeAction. It reports whether there
// was one. A CONNECT under way that gets such an epoch is closed, too.
func (s *Server) Kick(key command.SessionKey, epoch uint64, reason mqtt.ReasonCode) bool {
	c := s.reg.superseded(key, epoch, reason)
	if c == nil {
		return false
	}
	if reason == mqtt.SessionTakenOver {
		s.takenOver(c, "remote")
		return true
	}
	c.close(causeOfCode(reason, "closed by the server"))
	return true
}

// takenOver closes the connection that lost its session to another one.
func (s *Server) takenOver(c *Conn, scope string) {
	s.m.takeovers.WithLabelValues(scope).Inc()
	s.ev.log(zap.InfoLevel, evTakeover, "session is taken over", zap.String("client", c.ident.ClientID),
		zap.String("op", scope), zap.Uint64("epoch", c.ref.Epoch))
	c.close(causeOf(closeTakeover, "another connection has the session"))
}

// Deliver hands a message to the connected sessions of this node that no inbox
// serves: all matching ones for QoS 0, and else those that are transient or
// whose highest matching granted QoS is 0. The slices of m are valid during
// the call only. It does not block. It returns how many sessions matched.
func (s *Server) Deliver(tenant string, m *command.Message) int { return s.deliver(tenant, m) }

// conns returns every connection, attached or not.
func (s *Server) conns() []*Conn {
	all := s.reg.all()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.handshakes {
		all = append(all, c)
	}
	return all
}

// CloseAll closes every connection with reason and returns how many there
// were. When it returns, no acknowledgement is added to any outbox any more.
func (s *Server) CloseAll(reason mqtt.ReasonCode) int {
	all := s.conns()
	for _, c := range all {
		c.close(causeOfCode(reason, "closed by the server"))
	}
	return len(all)
}

// CountDropped adds to messages_dropped_total what the cluster dropped, so that
// one metric holds all reasons.
func (s *Server) CountDropped(reason string, n int) {
	s.m.droppedByName.WithLabelValues(reason).Add(float64(n))
}

// Stats are counts of the moment.
type Stats struct {
	Connections   int
	Subscriptions int // filters of connected sessions
	Pending       int // handshakes under way
	Inflight      int // deliveries that clients have not acknowledged
	Slow          int // clients whose queue is above its limit
}

// Stats returns counts of the moment.
func (s *Server) Stats() Stats {
	st := Stats{Connections: int(s.live.Load()), Subscriptions: s.local.count() + s.shares.count(),
		Inflight: int(s.m.inflight[dirOut].Load()), Slow: int(s.m.slow.Load())}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Pending = len(s.handshakes)
	return st
}

// ClientInfo describes a connected client.
type ClientInfo struct {
	Tenant, ClientID, Username string
	Peer, Listener, Transport  string
	Version                    mqtt.Version
	CleanStart                 bool
	KeepAliveS                 uint16
	ConnectedAt                time.Time
	Epoch                      uint64
	Durable                    bool
	ExpiryS                    uint32
	Inflight                   int // deliveries that the client has not acknowledged
	OutboxBytes                int
}

// Clients returns up to limit connected clients of a tenant in order of client
// id, after the id after.
func (s *Server) Clients(tenant, after string, limit int) []ClientInfo {
	page := s.reg.page(tenant, after, limit)
	out := make([]ClientInfo, len(page))
	for i, c := range page {
		out[i] = c.info()
	}
	return out
}

// Client returns the connected client of a session, if it is on this node.
func (s *Server) Client(key command.SessionKey) (ClientInfo, bool) {
	c := s.reg.find(key)
	if c == nil {
		return ClientInfo{}, false
	}
	return c.info(), true
}

func (s *Server) countIn(c *Conn, n int)  { c.mIn.Add(float64(n)) }
func (s *Server) countOut(c *Conn, n int) { c.mOut.Add(float64(n)) }

// opened counts and logs a connection that has its session.
func (s *Server) opened(c *Conn, present bool) {
	c.opened = true
	s.live.Add(1)
	s.m.connections.WithLabelValues(c.meta.Listener, c.meta.Transport).Inc()
	s.m.opened.WithLabelValues(c.meta.Listener, c.meta.Transport, c.version.String()).Inc()
	if e, ok := c.nc.(interface{ Established() }); ok {
		e.Established()
	}
	s.ev.log(zap.InfoLevel, evConnected, "client connected", s.fields(c,
		zap.String("version", c.version.String()), zap.Bool("clean_start", c.cleanStart),
		zap.Uint16("keepalive_s", c.keepAliveS), zap.Uint32("expiry_s", c.expiryS))...)
	if !c.durable {
		return
	}
	ev := evCreated
	if present {
		ev = evResumed
	}
	s.ev.log(zap.DebugLevel, ev, "durable session", s.fields(c)...)
}

// closed counts and logs the end of a connection that had its session.
func (s *Server) closed(c *Conn, why cause) {
	s.live.Add(-1)
	s.m.connections.WithLabelValues(c.meta.Listener, c.meta.Transport).Dec()
	s.m.closed.WithLabelValues(why.kind.String()).Inc()
	ev := evDisconnected
	if why.kind == closeAdmin {
		ev = evKicked
	}
	what := why.msg
	if why.err != nil {
		what += ": " + why.err.Error()
	}
	s.ev.log(zap.InfoLevel, ev, "client disconnected", s.fields(c, zap.String("reason", why.kind.String()), zap.String("err", what))...)
}

func (s *Server) fields(c *Conn, more ...zap.Field) []zap.Field {
	f := append(make([]zap.Field, 0, 16), zap.String("client", c.ident.ClientID), zap.String("user", c.ident.Username),
		zap.String("listener", c.meta.Listener), zap.Uint64("epoch", c.ref.Epoch))
	if c.meta.Peer != nil {
		f = append(f, zap.Stringer("peer", c.meta.Peer))
	}
	return append(f, more...)
}
