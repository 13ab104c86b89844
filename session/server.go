package session

import (
	"context"
	"net"
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
type Server struct{}

// NewServer returns a server that serves what it is given by Serve. cfg must be
// valid. Metrics go to reg, nil for none.
func NewServer(cfg Config, b Backend, lg *zap.Logger, reg prometheus.Registerer) *Server {
	panic("todo")
}

// Serve takes over a connection and returns at once; the server closes it.
func (s *Server) Serve(nc net.Conn, meta Meta) { panic("todo") }

// Wake says that a session has something new in its inbox. epoch is the one
// that the machine knows; a connection with another one ignores it.
func (s *Server) Wake(key command.SessionKey, epoch uint64) { panic("todo") }

// Kick closes the connection of a session whose epoch is at most epoch, with
// reason: SessionTakenOver or AdministrativeAction. It reports whether there
// was one. A CONNECT under way that gets such an epoch is closed, too.
func (s *Server) Kick(key command.SessionKey, epoch uint64, reason mqtt.ReasonCode) bool {
	panic("todo")
}

// Deliver hands a message to the connected sessions of this node that no inbox
// serves: all matching ones for QoS 0, and else those that are transient or
// whose highest matching granted QoS is 0. The slices of m are valid during
// the call only. It does not block. It returns how many sessions matched.
func (s *Server) Deliver(tenant string, m *command.Message) int { panic("todo") }

// CloseAll closes every connection with reason and returns how many there
// were. When it returns, no acknowledgement is added to any outbox any more.
func (s *Server) CloseAll(reason mqtt.ReasonCode) int { panic("todo") }

// Drain refuses new clients and disconnects the others at rate per second with
// 0x98 (v5), until none is left or ctx ends.
func (s *Server) Drain(ctx context.Context, rate int) error { panic("todo") }

// Undrain accepts clients again.
func (s *Server) Undrain() { panic("todo") }

// Stop refuses new connections, disconnects every client with 0x8B and joins
// every goroutine. When ctx ends it cuts the connections and still joins.
func (s *Server) Stop(ctx context.Context) error { panic("todo") }

// CountDropped adds to messages_dropped_total what the cluster dropped, so that
// one metric holds all reasons.
func (s *Server) CountDropped(reason string, n int) { panic("todo") }

// Stats are counts of the moment.
type Stats struct {
	Connections   int
	Subscriptions int // filters of connected sessions
	Pending       int // handshakes under way
}

// Stats returns counts of the moment.
func (s *Server) Stats() Stats { panic("todo") }

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
func (s *Server) Clients(tenant, after string, limit int) []ClientInfo { panic("todo") }
