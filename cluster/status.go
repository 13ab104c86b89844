package cluster

import "time"

// Status is what the cluster is and whether it is well, as this node sees it.
// Its JSON is a contract: fields may be added, never renamed.
type Status struct {
	ClusterID    string        `json:"cluster_id"`
	Healthy      bool          `json:"healthy"`
	Reasons      []string      `json:"reasons"`
	FeatureLevel int           `json:"feature_level"`
	Nodes        []NodeStatus  `json:"nodes"`
	Groups       []GroupStatus `json:"groups"`
}

// NodeStatus describes one member.
type NodeStatus struct {
	ID            string   `json:"id"`
	State         string   `json:"state"` // joining, ready, draining, drained, down, removing
	Roles         []string `json:"roles"`
	Zone          string   `json:"zone"`
	ClusterAddr   string   `json:"cluster_addr"`
	MQTTAddr      string   `json:"mqtt_addr"`
	AdminAddr     string   `json:"admin_addr"`
	Version       string   `json:"version"`
	Clients       int      `json:"clients"`
	LastContactMS int64    `json:"last_contact_ms"`
	Incarnation   uint64   `json:"incarnation"`
	// What only the node itself knows: nil if it does not answer.
	Sessions      *int64     `json:"sessions,omitempty"`
	LagEntries    *int64     `json:"lag_entries,omitempty"`
	DiskFreeBytes *int64     `json:"disk_free_bytes,omitempty"`
	StartedAt     *time.Time `json:"started_at,omitempty"`
	Alarms        []Alarm    `json:"alarms,omitempty"`

	MessagesReceived *uint64 `json:"messages_received,omitempty"`
	MessagesSent     *uint64 `json:"messages_sent,omitempty"`
}

// GroupStatus describes one Raft group. Leader is nil when none is known.
// Digest and AppliedIndex are those of the local replica, if there is one.
type GroupStatus struct {
	ID           uint32   `json:"id"`
	Kind         string   `json:"kind"` // control, shard
	Leader       *string  `json:"leader"`
	Replicas     []string `json:"replicas"`
	Term         uint64   `json:"term"`
	AppliedIndex uint64   `json:"applied_index"`
	CommitIndex  uint64   `json:"commit_index"`
	Local        bool     `json:"local"`
	Digest       string   `json:"digest,omitempty"`
	DigestIndex  uint64   `json:"digest_index,omitempty"`
	LogBytes     int64    `json:"log_bytes,omitempty"`
	Snapshot     uint64   `json:"snapshot_index,omitempty"`
}

// Check is one health check by name.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// SessionStatus describes one session for operators.
type SessionStatus struct {
	ClientID      string     `json:"client_id"`
	Tenant        string     `json:"tenant,omitempty"`
	Durable       bool       `json:"durable"`
	Connected     bool       `json:"connected"`
	Owner         *string    `json:"owner"`
	Epoch         uint64     `json:"epoch"`
	Shard         uint32     `json:"shard"`
	ExpiryS       uint32     `json:"expiry_s"`
	ExpiresAt     *time.Time `json:"expires_at"`
	Subscriptions int        `json:"subscriptions"`
	InboxDepth    uint64     `json:"inbox_depth"`
	InboxBytes    int64      `json:"inbox_bytes"`
	Inflight      int        `json:"inflight"`

	// Of a single session only:
	Will            *WillStatus       `json:"will,omitempty"`
	AwaitingPubrel  []uint16          `json:"awaiting_pubrel,omitempty"`
	OldestMessageAt *time.Time        `json:"oldest_message_at,omitempty"`
	Dropped         map[string]uint64 `json:"dropped,omitempty"`
}

// WillStatus describes the will of a session.
type WillStatus struct {
	Topic        string `json:"topic"`
	QoS          byte   `json:"qos"`
	Retain       bool   `json:"retain"`
	PayloadBytes int    `json:"payload_bytes"`
	DelayS       uint32 `json:"delay_s"`
}

// SubscriptionStatus describes one subscription for operators.
type SubscriptionStatus struct {
	ClientID string `json:"client_id"`
	Filter   string `json:"filter"`
	QoS      byte   `json:"qos"`
	Share    string `json:"share,omitempty"`
	Options  string `json:"options,omitempty"`
}

// RetainedStatus describes one retained message for operators.
type RetainedStatus struct {
	Topic        string     `json:"topic"`
	QoS          byte       `json:"qos"`
	PayloadBytes int        `json:"payload_bytes"`
	StoredAt     *time.Time `json:"stored_at"`
	ExpiresAt    *time.Time `json:"expires_at"`
}
