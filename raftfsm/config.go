package raftfsm

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Machine is a deterministic state machine. Apply, WriteBack and Load are called by one goroutine at
// a time; the others may run beside them.
type Machine interface {
	// Apply applies one entry, which a leader of this term has made. An error means that an impossible state was
	// met: the process ends. It may keep slices of entry, and must not change them.
	Apply(index, term uint64, entry []byte) (results any, err error)
	// Load discards what is in memory and rebuilds it from st.
	Load(st Store) error
	// Applied is the index of the last entry that Apply has seen.
	Applied() uint64
	// WriteBack commits all dirty state and the applied index in one batch.
	WriteBack() error
	// DirtyBytes estimates what WriteBack would write.
	DirtyBytes() int
	// Digest returns the applied index and a digest of the logical state at it.
	Digest() (uint64, [16]byte)
}

// Layer carries the streams of one group. The transport package's GroupLayer satisfies it.
type Layer interface {
	net.Listener
	Dial(nodeID string, timeout time.Duration) (net.Conn, error)
}

// Member is a replica of a group.
type Member struct {
	ID    string
	Voter bool
}

// StableLog holds the votes and the term of one group, and the whole log of a control group. Set and
// StoreLogs return when the data is durable. A missing key is an error whose text is "not found".
type StableLog interface {
	raft.StableStore
	raft.LogStore
	Close() error
}

// HostConfig says where and how a node stores its groups.
type HostConfig struct {
	// Dir is the data directory. It is created, and locked while the host is open.
	Dir string
	// NodeID is this node's id, raft's server id in every group.
	NodeID string
	// FS is the file system of logs, state and snapshots; nil is the disk.
	FS vfs.FS
	// Stable opens the votes (and a control group's log); nil is a bbolt file in dir.
	Stable func(dir string, group uint32) (StableLog, error)
	// SyncInterval is the least time between two fsyncs of the shared log; default 500 µs.
	// Negative means none.
	SyncInterval time.Duration
	// Fatal ends the process (exit 10). If it returns, as in tests, the host is cut off: nothing that
	// it writes afterwards reaches a peer or a caller. nil panics.
	Fatal func(error)
	// Killed is called by Kill after the host is cut off and before stores are closed: a simulated
	// disk drops here what is not synced. It may be nil.
	Killed func()
	// WatchdogTimeout is the age at which a store call ends the process; default 3 s.
	WatchdogTimeout time.Duration
	// LogCacheBytes bounds the newest entries of one group that are kept in memory; default 8 MiB.
	LogCacheBytes int
	// Logger may be nil.
	Logger *zap.Logger
	// Registerer takes the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// GroupConfig describes one group on this node.
type GroupConfig struct {
	// ID is the group's number; 0 is the control group.
	ID uint32
	// Control keeps the log in the group's bbolt file and not in the shared log.
	Control bool
	// Machine is the state machine; it is loaded by OpenGroup.
	Machine Machine
	// Layer carries the group's streams; the group closes it.
	Layer Layer
	// Bootstrap lists the initial voters. It is used only when the group has no state on this node,
	// and must be the same on every node that gets it.
	Bootstrap []Member
	// Alone says that this replica may be the group's only voter: if it is when it opens, it is elected at once
	// instead of after an election timeout.
	Alone bool
	// Heartbeat is raft's heartbeat and election timeout; default 1 s. It must be at least five
	// times the fsync p99.9, because heartbeats wait behind writes (guard G1).
	Heartbeat time.Duration
	// SnapshotBytes is the size of log after which a snapshot is taken; default 256 MiB.
	SnapshotBytes int64
	// TrailingBytes is how much log stays behind a snapshot for replicas that lag; default a
	// quarter of SnapshotBytes.
	TrailingBytes int64
	// WriteBackBytes is the dirty state after which the machine writes back; default 8 MiB.
	WriteBackBytes int
	// ReplayBytes and ReplayEntries bound what a restart applies again: that much after the last time, the machine
	// writes back, and its state is flushed, or, after so many entries, a snapshot is taken. Either costs some fsyncs, so
	// they are not small: defaults 32 MiB and 20,000.
	ReplayBytes, ReplayEntries int
	// MaxInflightBytes bounds proposals without an answer; default 32 MiB. At least one is admitted.
	MaxInflightBytes int
	// MaxEntryBytes caps one entry; default 4 MiB. Merging callers stay within 512 KiB.
	MaxEntryBytes int
	// OnLeader is called on a goroutine of its own: with true when this replica leads and has applied
	// all that was committed before, with false when that leadership is over. Calls alternate. It may be nil.
	OnLeader func(isLeader bool, term uint64)
}

// PeerStatus is what a leader knows of a follower.
type PeerStatus struct {
	ID          string
	Match       uint64 // highest entry known to be on its disk; 0 = unknown
	LagEntries  uint64 // entries behind the leader's last
	LastContact time.Time
}

// Status is a snapshot of a group's figures.
type Status struct {
	Group         uint32
	Term          uint64
	FirstIndex    uint64
	LastIndex     uint64
	Commit        uint64
	Applied       uint64
	SnapshotIndex uint64
	LogBytes      int64
	SnapshotBytes int64
	State         string // follower, candidate, leader, shutdown
	Leader        string
	Members       []Member
	Peers         []PeerStatus // on the leader only
}

const (
	defaultSyncInterval  = 500 * time.Microsecond
	defaultWatchdog      = 3 * time.Second
	defaultLogCache      = 8 << 20
	defaultHeartbeat     = time.Second
	defaultSnapshot      = 256 << 20
	defaultWriteBack     = 8 << 20
	defaultInflight      = 32 << 20
	defaultReplayBytes   = 32 << 20
	defaultReplayEntries = 20_000
	// defaultMaxEntry leaves room for one packet of a raised limit; merged entries stay far below.
	defaultMaxEntry = 4 << 20
)

func (c *HostConfig) setDefaults() error {
	if c.Dir == "" || c.NodeID == "" {
		return errors.New("host needs a directory and a node id")
	}
	if c.FS != nil && c.Stable == nil {
		return errors.New("a host with a file system of its own needs a store for votes")
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Stable == nil {
		c.Stable = openBolt
	}
	setDefault(&c.SyncInterval, defaultSyncInterval)
	setDefault(&c.WatchdogTimeout, defaultWatchdog)
	setDefault(&c.LogCacheBytes, defaultLogCache)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return nil
}

func (c *GroupConfig) setDefaults() error {
	if c.Machine == nil || c.Layer == nil {
		return fmt.Errorf("group %d needs a machine and a layer", c.ID)
	}
	setDefault(&c.Heartbeat, defaultHeartbeat)
	setDefault(&c.SnapshotBytes, defaultSnapshot)
	setDefault(&c.TrailingBytes, c.SnapshotBytes/4)
	setDefault(&c.WriteBackBytes, defaultWriteBack)
	setDefault(&c.ReplayBytes, defaultReplayBytes)
	setDefault(&c.ReplayEntries, defaultReplayEntries)
	setDefault(&c.MaxInflightBytes, defaultInflight)
	setDefault(&c.MaxEntryBytes, defaultMaxEntry)
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
