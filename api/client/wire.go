package client

import "time"

// Status is what the cluster is and whether it is well, as the answering node
// sees it. It is answered without a majority, too.
type Status struct {
	ClusterID    string   `json:"cluster_id" doc:"Empty until the cluster is formed."`
	Healthy      bool     `json:"healthy" doc:"Every member is ready or drained, every group has a leader and its replicas, every gateway its lease."`
	Reasons      []string `json:"reasons" nullable:"false" doc:"A sentence for each lack."`
	FeatureLevel int      `json:"feature_level"`
	Nodes        []Node   `json:"nodes" nullable:"false"`
	Groups       []Group  `json:"groups" nullable:"false"`
}

// Node is one member of the cluster. Pointers are nil where the answering node
// does not know the figure.
type Node struct {
	ID            string     `json:"id"`
	State         string     `json:"state" doc:"joining, ready, draining, drained, down, removing"`
	Roles         []string   `json:"roles" nullable:"false"`
	Zone          string     `json:"zone"`
	ClusterAddr   string     `json:"cluster_addr"`
	MQTTAddr      string     `json:"mqtt_addr"`
	AdminAddr     string     `json:"admin_addr"`
	Version       string     `json:"version"`
	Clients       int        `json:"clients" doc:"Connected clients."`
	LastContactMS int64      `json:"last_contact_ms" doc:"Milliseconds since the control leader heard of it; -1 if never."`
	Incarnation   uint64     `json:"incarnation" doc:"Grows with every start of the node."`
	Sessions      *int64     `json:"sessions,omitempty" doc:"Durable sessions in the shards that it leads."`
	LagEntries    *int64     `json:"lag_entries,omitempty" doc:"Entries that its replicas have not applied yet."`
	DiskFreeBytes *int64     `json:"disk_free_bytes,omitempty"`
	StartedAt     *time.Time `json:"started_at,omitempty"`

	MessagesReceived *uint64 `json:"messages_received,omitempty" doc:"PUBLISH packets from clients since the node started."`
	MessagesSent     *uint64 `json:"messages_sent,omitempty" doc:"PUBLISH packets to clients since the node started."`
}

// Group is one Raft group. Leader is nil when none is known.
type Group struct {
	ID           uint32   `json:"id"`
	Kind         string   `json:"kind" doc:"control or shard"`
	Leader       *string  `json:"leader" nullable:"true" doc:"Node id, or null."`
	Replicas     []string `json:"replicas" nullable:"false" doc:"The voters."`
	Term         uint64   `json:"term"`
	AppliedIndex uint64   `json:"applied_index"`
	CommitIndex  uint64   `json:"commit_index"`
	Local        bool     `json:"local" doc:"The answering node has a replica; the figures are this replica's."`
	Digest       string   `json:"digest,omitempty" doc:"Digest of the replica's state at digest_index."`
	DigestIndex  uint64   `json:"digest_index,omitempty"`
	LogBytes     int64    `json:"log_bytes,omitempty"`
	Snapshot     uint64   `json:"snapshot_index,omitempty"`
}

// ClientInfo is one connected client.
type ClientInfo struct {
	ClientID    string    `json:"client_id"`
	Node        string    `json:"node"`
	Username    string    `json:"username"`
	Peer        string    `json:"peer" doc:"Remote address."`
	Transport   string    `json:"transport" doc:"tcp, tls, ws or wss"`
	MQTTVersion string    `json:"mqtt_version" doc:"3.1, 3.1.1 or 5"`
	CleanStart  bool      `json:"clean_start"`
	KeepaliveS  int       `json:"keepalive_s"`
	ConnectedAt time.Time `json:"connected_at"`
}

// Session is what a client id owns. Detail is filled for a single session only.
type Session struct {
	ClientID      string     `json:"client_id"`
	Durable       bool       `json:"durable" doc:"It outlives its connection."`
	Connected     bool       `json:"connected"`
	Owner         *string    `json:"owner" nullable:"true" doc:"Node id of the connection, or null."`
	Epoch         uint64     `json:"epoch" doc:"Grows with every CONNECT."`
	Shard         uint32     `json:"shard"`
	ExpiryS       uint32     `json:"expiry_s" doc:"4294967295 is never."`
	ExpiresAt     *time.Time `json:"expires_at" nullable:"true"`
	Subscriptions int        `json:"subscriptions"`
	InboxDepth    uint64     `json:"inbox_depth"`
	InboxBytes    int64      `json:"inbox_bytes"`
	Inflight      int        `json:"inflight"`

	Will            *Will             `json:"will,omitempty"`
	AwaitingPubrel  []uint16          `json:"awaiting_pubrel,omitempty" doc:"Packet ids of QoS 2 publishes that await PUBREL."`
	OldestMessageAt *time.Time        `json:"oldest_message_at,omitempty"`
	Dropped         map[string]uint64 `json:"dropped,omitempty" doc:"Messages dropped, by reason. Absent: drops are counted by shard, not yet by session."`
}

// Will is the armed will of a session.
type Will struct {
	Topic        string `json:"topic"`
	QoS          byte   `json:"qos"`
	Retain       bool   `json:"retain"`
	PayloadBytes int    `json:"payload_bytes"`
	DelayS       uint32 `json:"delay_s"`
}

// Subscription is one filter of one session.
type Subscription struct {
	ClientID string `json:"client_id"`
	Filter   string `json:"filter"`
	QoS      byte   `json:"qos"`
	Share    string `json:"share" doc:"Name of the shared subscription, or empty."`
	Options  string `json:"options" doc:"no_local, retain_as_published, retain_handling=N, id=N, separated by commas."`
}

// Retained is one retained message, without its payload.
type Retained struct {
	Topic        string     `json:"topic"`
	QoS          byte       `json:"qos"`
	PayloadBytes int        `json:"payload_bytes"`
	StoredAt     *time.Time `json:"stored_at" nullable:"true"`
	ExpiresAt    *time.Time `json:"expires_at" nullable:"true"`
}

// Meta describes a page of a list.
type Meta struct {
	Limit      int    `json:"limit" doc:"The most items of this page."`
	NextCursor string `json:"next_cursor,omitempty" doc:"Pass it as cursor= for the next page; absent on the last one."`
	CountHint  *int64 `json:"count_hint,omitempty" doc:"About how many items there are, where that is cheap to know."`
}

// List is a page of a list.
type List[T any] struct {
	Items []T  `json:"items" nullable:"false"`
	Meta  Meta `json:"meta"`
}

// Message is the body of POST /messages. Payload and PayloadBase64 exclude
// each other.
type Message struct {
	Topic         string     `json:"topic" minLength:"1" doc:"Topic name, no wildcards."`
	Payload       string     `json:"payload,omitempty" doc:"The payload as text."`
	PayloadBase64 string     `json:"payload_base64,omitempty" doc:"The payload as base64, instead of payload."`
	QoS           byte       `json:"qos,omitempty" minimum:"0" maximum:"2"`
	Retain        bool       `json:"retain,omitempty"`
	Properties    Properties `json:"properties,omitzero"`
}

// Properties are the MQTT 5 properties that travel with a message.
type Properties struct {
	ContentType       string            `json:"content_type,omitempty"`
	ResponseTopic     string            `json:"response_topic,omitempty"`
	CorrelationBase64 string            `json:"correlation_data_base64,omitempty"`
	PayloadIsUTF8     bool              `json:"payload_is_utf8,omitempty"`
	ExpiryS           *uint32           `json:"expiry_s,omitempty" doc:"Message expiry interval in seconds."`
	User              map[string]string `json:"user,omitempty" doc:"User properties."`
}

// Published is the answer to POST /messages.
type Published struct {
	ReasonCode byte   `json:"reason_code" doc:"As in a PUBACK: 0 committed, 16 no matching subscribers."`
	Reason     string `json:"reason"`
}

// Health is the body of /livez, /readyz and /startupz.
type Health struct {
	Status string  `json:"status"` // ok or failing
	Node   string  `json:"node"`
	Checks []Check `json:"checks,omitempty"`
}

// Check is one health check by name.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}
