package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// Config is everything that Start needs to know of one node. The zero value is
// not usable: begin with DefaultConfig.
type Config struct {
	// NodeID names the node for good. Empty: generated at the first start and
	// kept in node.json. Another id for an existing directory is refused.
	NodeID string
	// DataDir holds all that the node owns. It is locked while in use.
	DataDir string

	// ClusterAddr is where other nodes reach this one, AdvertiseAddr what they
	// dial (default: ClusterAddr as it was bound).
	ClusterAddr, AdvertiseAddr string
	// MQTTAddr and MQTTSAddr are the client ports, "" or "none" turns one off.
	MQTTAddr, MQTTSAddr string
	// AdminAddr is only carried to the other nodes; package api listens on it.
	AdminAddr string

	// Join lists cluster addresses to try; it may contain the node itself.
	Join []string
	// JoinToken is the permission to join a cluster that exists.
	JoinToken string
	// BootstrapExpect forms a cluster out of that many empty nodes. 0: off.
	BootstrapExpect int
	// Roles are "gateway", "store" or both.
	Roles []string
	// Zone is a failure domain; replicas of a shard are spread over zones.
	Zone string

	// InsecureCluster lets the cluster port listen beyond loopback without TLS.
	InsecureCluster bool
	// ClusterTLS is the mutual TLS of the cluster port, nil for none. ClusterTLSFiles is the same from files that may
	// change; their certificate names the node and, before there is a cluster, the cluster. Each excludes the other.
	ClusterTLS      *tls.Config
	ClusterTLSFiles *transport.ClusterFiles
	// MQTTTLS is the TLS of MQTTSAddr, MQTTTLSFiles the same from files that
	// may change. Each excludes the other.
	MQTTTLS      *tls.Config
	MQTTTLSFiles *transport.TLSFiles
	// Listeners are further client ports. Their names are their own; limits,
	// network, logger and metrics are those of the node.
	Listeners []transport.ClientConfig
	// ConnectRate is how many connections all client ports together accept a
	// second; more wait. 0 (default): no limit.
	ConnectRate float64

	// WebSocketPath and WebSocketOrigins configure the WebSocket upgrade.
	WebSocketPath    string
	WebSocketOrigins []string

	Raft  RaftConfig
	Lease LeaseConfig
	Drain DrainConfig
	// Membership configures joins and lost nodes.
	Membership MembershipConfig
	// Limits protect the node from running out of memory and disk.
	Limits LimitsConfig
	// Session configures the broker core: limits, timeouts, hooks.
	Session session.Config
	// Settings are the cluster settings that this node proposes when it forms
	// a cluster. Later the control group holds the truth.
	Settings Settings

	// Network is how the node listens and dials. Default: transport.TCP.
	Network transport.Network
	// FS is the file system of the stores, nil for the disk.
	FS vfs.FS
	// Stable replaces the bbolt files of the stable stores, for simulations.
	Stable func(dir string, group uint32) (raftfsm.StableLog, error)

	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// Fatal is called once when the node must not go on (storage failed). It
	// must end the process before another acknowledgement can leave.
	Fatal func(error)
	// Loggers are the levels of Logger, nil if they cannot be changed.
	Loggers Loggers
	// Debug gathers what only the program knows for a debug bundle: no payloads, no secrets. Nil: nothing.
	Debug func(context.Context) []DebugFile
	// Version is the program's version, shown in status.
	Version string
}

// RaftConfig configures the consensus of all groups of a node.
type RaftConfig struct {
	// Heartbeat is the heartbeat and election timeout T. Default 1 s. It must
	// stay above 5 × the p99.9 of an fsync (guard G1).
	Heartbeat time.Duration
	// MinSyncInterval is the least time between two fsyncs of the shared log.
	// Default 500 µs.
	MinSyncInterval time.Duration
	// EntryMax is the most bytes that are merged into one entry. Default 512 KiB.
	EntryMax int
	// SnapshotAfter is how many bytes of log a group gathers before it is
	// truncated behind a snapshot. Default 256 MiB.
	SnapshotAfter int64
}

// LeaseConfig configures the gateway leases (INVARIANTS I5).
type LeaseConfig struct {
	// Renew is the interval of renewals. Default 1 s.
	Renew time.Duration
	// LostAfter is how long a lease lasts without renewal. Default 5 s.
	LostAfter time.Duration
}

// DrainConfig configures how a node stops.
type DrainConfig struct {
	// LBDelay is how long readiness fails before anything else happens, for
	// load balancers. Skipped if all listeners are on loopback. Default 5 s.
	LBDelay time.Duration
	// Rate is how many clients are disconnected a second. Default 500.
	Rate int
	// Timeout bounds the whole stop. Default 60 s.
	Timeout time.Duration
}

// MembershipConfig configures how the cluster follows its members.
type MembershipConfig struct {
	// StableFor is how long a new node must have been caught up before it counts. Default 10 s.
	StableFor time.Duration
	// ReplaceAfter is how long a node may be down before its replicas are rebuilt elsewhere; it stays a member.
	// Default 30 min, 0 never.
	ReplaceAfter time.Duration
}

// Settings is what replicas must agree on. It is read once, when a cluster is
// formed, and then lives in the control group.
type Settings struct {
	// Shards is the number of shards, fixed for now. Default 8.
	Shards int
	// Replicas is how many voters a shard has. Default 3.
	Replicas int
	// InboxMaxMessages and InboxMaxBytes limit one inbox. Defaults 100,000 and 256 MiB.
	InboxMaxMessages int
	InboxMaxBytes    int64
	// InboxOverflow is refuse, drop_oldest or end_session. Default refuse.
	InboxOverflow string
	// RetainedMaxMessages limits the retained messages of a tenant. Default 1,000,000.
	RetainedMaxMessages int
	// MaxSessionExpiry caps the session expiry interval. Default 30 days.
	MaxSessionExpiry time.Duration
	// InboxQoS0Offline queues QoS 0 messages for sessions that are offline.
	InboxQoS0Offline bool
	// RetainedMaxPayload is the largest payload that is retained. Default 1 MiB.
	RetainedMaxPayload int64
	// RetainedExpiry is the longest life of a retained message, 0 for ever.
	RetainedExpiry time.Duration
	// ShareStrategy is round_robin, sticky or hash_topic. Default round_robin.
	ShareStrategy string
	// MaxSubscriptions of one session. Default 10,000.
	MaxSubscriptions int
}

// DefaultConfig is a one-node cluster on loopback.
func DefaultConfig() Config {
	return Config{
		DataDir:       "./flotilla-data",
		ClusterAddr:   "127.0.0.1:7400",
		MQTTAddr:      "127.0.0.1:1883",
		AdminAddr:     "127.0.0.1:8080",
		Roles:         []string{RoleGateway, RoleStore},
		WebSocketPath: "/mqtt",
		Raft: RaftConfig{
			Heartbeat:       time.Second,
			MinSyncInterval: 500 * time.Microsecond,
			EntryMax:        512 << 10,
			SnapshotAfter:   256 << 20,
		},
		Lease:      LeaseConfig{Renew: time.Second, LostAfter: 5 * time.Second},
		Drain:      DrainConfig{LBDelay: 5 * time.Second, Rate: 500, Timeout: 60 * time.Second},
		Membership: MembershipConfig{StableFor: 10 * time.Second, ReplaceAfter: 30 * time.Minute},
		Session:    session.DefaultConfig(),
		Settings: Settings{
			Shards: 8, Replicas: 3,
			InboxMaxMessages: 100_000, InboxMaxBytes: 256 << 20, InboxOverflow: "refuse",
			RetainedMaxMessages: 1_000_000, MaxSessionExpiry: 30 * 24 * time.Hour,
			RetainedMaxPayload: 1 << 20, ShareStrategy: "round_robin", MaxSubscriptions: 10_000,
		},
		Network: transport.TCP{},
		Version: "dev",
	}
}

// Roles of a node.
const (
	RoleGateway = "gateway" // accepts clients
	RoleStore   = "store"   // holds replicas
)

// maxShards bounds the number of shards: each is a Raft group on every store node.
const maxShards = 256

// Validate checks every field and the relations between them. Its errors wrap ErrConfig.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if c.DataDir == "" {
		bad("data-dir is empty: name a directory")
	}
	if c.BootstrapExpect < 0 {
		bad("bootstrap-expect is %d: it must be at least 1", c.BootstrapExpect)
	}
	if n := c.BootstrapExpect; n > 0 && len(c.Join) >= 2*n {
		bad("join has %d addresses for bootstrap-expect %d: two clusters could form; list fewer than %d", len(c.Join), n, 2*n)
	}
	if c.BootstrapExpect > 1 && len(c.Join) == 0 {
		bad("bootstrap-expect %d needs --join with the addresses of the nodes", c.BootstrapExpect)
	}
	for _, r := range c.Roles {
		if r != RoleGateway && r != RoleStore {
			bad("role %q is unknown: use gateway, store or both", r)
		}
	}
	if len(c.Roles) == 0 {
		bad("a node needs at least one role: gateway, store")
	}
	if s := c.Settings.Shards; s < 1 || s > maxShards {
		bad("settings.shards is %d: it must be 1 to %d", s, maxShards)
	}
	if r := c.Settings.Replicas; r < 1 || r > 7 {
		bad("settings.replicas is %d: it must be 1 to 7", r)
	}
	if c.Raft.Heartbeat < 50*time.Millisecond {
		bad("raft.heartbeat is %v: it must be at least 50ms", c.Raft.Heartbeat)
	}
	if c.Raft.EntryMax < 64<<10 || c.Raft.EntryMax > 512<<10 {
		bad("raft.entry_max is %d bytes: it must be 64KiB to 512KiB", c.Raft.EntryMax)
	}
	// I27: the death of the control leader must cost no gateway its lease.
	if least := 3*c.Raft.Heartbeat + time.Second; c.Lease.LostAfter <= least {
		bad("settings.lease.lost_after is %v: it must be above 3 × raft.heartbeat + 1s = %v", c.Lease.LostAfter, least)
	}
	if c.Lease.Renew <= 0 || c.Lease.Renew*3 > c.Lease.LostAfter {
		bad("settings.lease.renew is %v: it must be at most a third of lost_after (%v)", c.Lease.Renew, c.Lease.LostAfter)
	}
	if err := c.checkClusterAddr(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Config) checkClusterAddr() error {
	host, _, err := net.SplitHostPort(c.ClusterAddr)
	if err != nil {
		return fmt.Errorf("%w: cluster-addr %q: want HOST:PORT", ErrConfig, c.ClusterAddr)
	}
	ip := net.ParseIP(host)
	wildcard := host == "" || (ip != nil && ip.IsUnspecified())
	if wildcard && c.AdvertiseAddr == "" {
		return fmt.Errorf("%w: cluster-addr %s is a wildcard: --advertise-addr must say what other nodes dial", ErrConfig, c.ClusterAddr)
	}
	if !isLoopback(host) && c.ClusterTLS == nil && c.ClusterTLSFiles == nil && !c.InsecureCluster {
		return fmt.Errorf("%w: cluster-addr %s is beyond loopback without mutual TLS: configure cluster.tls (flotilla cluster ca init makes the certificates), or accept the risk with --insecure-cluster", ErrConfig, c.ClusterAddr)
	}
	return nil
}

// hostOf is the host of an address, which may lack its port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
