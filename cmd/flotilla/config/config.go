package config

import "time"

// Config is everything that a node reads from outside. Each leaf is a key of
// the file (dots between the levels), a variable FLOTILLA_<PATH> and can be
// given with --set; the leaves with a flag tag are flags, too.
type Config struct {
	Version int `key:"version" help:"version of this file's format"`

	NodeID          string   `key:"node_id" flag:"node-id" arg:"ID" help:"name of the node; generated once and kept in node.json"`
	DataDir         string   `key:"data_dir" flag:"data-dir" arg:"DIR" help:"everything the node owns; locked while in use"`
	MQTTAddr        Addr     `key:"mqtt_addr" flag:"mqtt-addr" arg:"HOST:PORT" help:"MQTT and WebSocket on one port; none turns it off"`
	MQTTSAddr       Addr     `key:"mqtts_addr" flag:"mqtts-addr" arg:"HOST:PORT" help:"the same two inside TLS; needs tls.cert and tls.key"`
	ClusterAddr     Addr     `key:"cluster_addr" flag:"cluster-addr" arg:"HOST:PORT" help:"the one port between nodes"`
	AdminAddr       Addr     `key:"admin_addr" flag:"admin-addr" arg:"HOST:PORT" help:"HTTP API, health, metrics; none turns it off"`
	AdvertiseAddr   Addr     `key:"advertise_addr" flag:"advertise-addr" arg:"HOST:PORT" help:"what other nodes dial; required if the cluster address is a wildcard"`
	Join            []string `key:"join" flag:"join" arg:"HOST:PORT,..." help:"cluster addresses to try; may name the node itself"`
	JoinToken       Secret   `key:"join_token" flag:"join-token" arg:"T" help:"permission to join; prefer the file, arguments are visible to other users"`
	JoinTokenFile   string   `key:"join_token_file" flag:"join-token-file" arg:"FILE" help:"file with the join token"`
	BootstrapExpect int      `key:"bootstrap_expect" flag:"bootstrap-expect" arg:"N" help:"form a cluster out of N empty nodes"`
	Role            []string `key:"role" flag:"role" arg:"gateway,store" help:"accepts clients / holds replicas"`
	Zone            string   `key:"zone" flag:"zone" arg:"Z" help:"replicas of a shard are spread over zones"`
	AllowAnonymous  bool     `key:"allow_anonymous" flag:"allow-anonymous" help:"serve clients and operators without authentication beyond loopback"`
	InsecureCluster bool     `key:"insecure_cluster" flag:"insecure-cluster" help:"let the cluster port listen beyond loopback without mutual TLS"`
	LogLevel        string   `key:"log_level" flag:"log-level" arg:"LEVEL" oneof:"debug info warn error" help:"debug, info, warn or error"`
	LogFormat       string   `key:"log_format" flag:"log-format" arg:"FORMAT" oneof:"auto console json" help:"console or json; auto is console on a terminal"`

	TLS       TLS        `key:"tls"`
	Cluster   Cluster    `key:"cluster"`
	WebSocket WebSocket  `key:"websocket"`
	Listeners []Listener `key:"listeners" help:"further client listeners"`
	Limits    Limits     `key:"limits"`
	Raft      Raft       `key:"raft"`
	Drain     Drain      `key:"drain"`
	Placement Placement  `key:"placement"`
	Auth      Auth       `key:"auth"`
	Admin     Admin      `key:"admin"`
	Settings  Settings   `key:"settings"`
}

// TLS is the TLS of mqtts_addr, and of listeners that have none of their own.
type TLS struct {
	Cert       string   `key:"cert" help:"certificate chain, PEM"`
	Key        string   `key:"key" help:"private key, PEM"`
	MinVersion string   `key:"min_version" oneof:"1.2 1.3" help:"least TLS version"`
	ClientCA   string   `key:"client_ca" help:"certificates that sign those of clients, PEM"`
	ClientAuth string   `key:"client_auth" oneof:"none request require" help:"whether clients show a certificate"`
	ALPN       []string `key:"alpn" help:"protocols to agree on with clients that ask"`
}

// Set says whether there is a certificate.
func (t *TLS) Set() bool { return t.Cert != "" || t.Key != "" }

// Listener is a further client port.
type Listener struct {
	Name           string      `key:"name" help:"name in metrics and logs"`
	Addr           Addr        `key:"addr" help:"MQTT and WebSocket on one port"`
	TLS            ListenerTLS `key:"tls" help:"true takes the certificate of tls, or a certificate of its own"`
	ProxyProtocol  string      `key:"proxy_protocol" oneof:"off v1 v2 any" help:"header of the proxies in front of this port"`
	TrustedProxies []string    `key:"trusted_proxies" help:"networks of these proxies"`
	WebSocket      WebSocket   `key:"websocket"`
	Advertise      Addr        `key:"advertise" help:"what clients are told to dial"`
}

// ListenerTLS is true, false, or a TLS section.
type ListenerTLS struct {
	On  bool `key:"-"`
	TLS `key:"-"`
}

// Auth says who a client is.
type Auth struct {
	AllowAnonymous bool      `key:"allow_anonymous" help:"clients without a user name are let in"`
	Chain          []Backend `key:"chain" help:"backends that are asked in turn"`
}

// Backend is one place that knows users.
type Backend struct {
	Type string `key:"type" oneof:"file" help:"file"`
	Path string `key:"path" help:"users file, made with: flotilla user hash NAME"`
}

// Cluster configures the cluster port.
type Cluster struct {
	TLS ClusterTLS `key:"tls"`
}

// ClusterTLS is the mutual TLS of the cluster port.
type ClusterTLS struct {
	CA   string `key:"ca" help:"certificates that sign the nodes' certificates, PEM"`
	Cert string `key:"cert" help:"this node's certificate, PEM"`
	Key  string `key:"key" help:"this node's private key, PEM"`
}

// WebSocket configures the upgrade on the client ports.
type WebSocket struct {
	Path    string   `key:"path" help:"path of the upgrade"`
	Origins []string `key:"origins" help:"browser pages that may connect; none means same origin"`
}

// Limits protect the node.
type Limits struct {
	Connections         Count     `key:"connections" help:"most connections; auto is 90 % of the file descriptors"`
	ConnectTimeout      Duration  `key:"connect_timeout" help:"accept to CONNECT, TLS included"`
	PendingConnects     int       `key:"pending_connects" help:"handshakes under way; the rest waits"`
	MemoryHighWatermark Watermark `key:"memory_high_watermark" help:"above it publishers are not read and new clients refused"`
	ConnectRate         Rate      `key:"connect_rate" help:"connections accepted a second; 0 is no limit"`
	DiskFreeMin         Size      `key:"disk_free_min" help:"below it publishes are refused"`

	Client ClientLimits `key:"client"`
}

// ClientLimits are rates of one client.
type ClientLimits struct {
	Messages Rate     `key:"messages" help:"publishes of a client a second; 0 is no limit"`
	Bytes    ByteRate `key:"bytes" help:"bytes of publishes of a client a second; 0 is no limit"`
}

// Placement configures how the cluster follows its members.
type Placement struct {
	ReplaceAfter Duration `key:"replace_after" help:"a node may be down so long before its replicas are rebuilt elsewhere; 0 is never"`
	StableFor    Duration `key:"stable_for" help:"how long a new node must have been caught up before it counts"`
}

// Raft configures the consensus of all groups.
type Raft struct {
	Heartbeat       Duration `key:"heartbeat" help:"heartbeat and election timeout"`
	MinSyncInterval Duration `key:"min_sync_interval" help:"least time between two fsyncs of the log"`
	EntryMax        Size     `key:"entry_max" help:"most bytes merged into one entry"`
	SnapshotAfter   Size     `key:"snapshot_after" help:"bytes of log between snapshots"`
}

// Drain configures how the node stops.
type Drain struct {
	LBDelay Duration `key:"lb_delay" help:"readiness fails this long before anything else happens"`
	Rate    Rate     `key:"rate" help:"clients disconnected a second"`
	Timeout Duration `key:"timeout" help:"bound of the whole stop"`
}

// Settings are read once, when the cluster is formed.
type Settings struct {
	Shards   int      `key:"shards" help:"number of shards"`
	Replicas int      `key:"replicas" help:"replicas of each shard"`
	Lease    Lease    `key:"lease"`
	MQTT     MQTT     `key:"mqtt"`
	Inbox    Inbox    `key:"inbox"`
	Retained Retained `key:"retained"`
	Share    Share    `key:"share"`
}

// Lease configures the gateway leases.
type Lease struct {
	Renew     Duration `key:"renew" help:"interval of renewals"`
	LostAfter Duration `key:"lost_after" help:"how long a lease lasts without renewal"`
}

// MQTT holds the protocol's limits.
type MQTT struct {
	MaxPacketSize     Size     `key:"max_packet_size" help:"larger packets close the connection"`
	MaxQoS            int      `key:"max_qos" help:"0, 1 or 2"`
	RetainAvailable   bool     `key:"retain_available" help:"accept retained messages"`
	ReceiveMaximum    int      `key:"receive_maximum" help:"QoS 1 and 2 publishes that a client may have under way"`
	TopicAliasMaximum int      `key:"topic_alias_maximum" help:"aliases that a client may use"`
	MaxKeepalive      Duration `key:"max_keepalive" help:"told to v5 clients as Server Keep Alive"`
	MaxTopicBytes     int      `key:"max_topic_bytes" help:"longest topic"`
	MaxTopicLevels    int      `key:"max_topic_levels" help:"deepest topic"`
	MaxSubscriptions  int      `key:"max_subscriptions" help:"filters of one session"`
	MaxSessionExpiry  Duration `key:"max_session_expiry" help:"cap of the session expiry"`
}

// Inbox limits the queue of one durable session.
type Inbox struct {
	MaxMessages int    `key:"max_messages" help:"messages in one inbox"`
	MaxBytes    Size   `key:"max_bytes" help:"bytes in one inbox"`
	Overflow    string `key:"overflow" oneof:"refuse drop_oldest end_session" help:"what a full inbox does"`
	QoS0Offline bool   `key:"qos0_offline" help:"queue QoS 0 for sessions that are offline"`
}

// Retained limits retained messages.
type Retained struct {
	MaxMessages int      `key:"max_messages" help:"retained messages of a tenant"`
	MaxPayload  Size     `key:"max_payload" help:"largest retained payload"`
	Expiry      Duration `key:"expiry" help:"lifetime of retained messages; 0 is for ever"`
}

// Share configures shared subscriptions.
type Share struct {
	Strategy string `key:"strategy" oneof:"round_robin sticky hash_topic" help:"how members are chosen"`
}

// Default is a one-node cluster on loopback.
func Default() Config {
	return Config{
		Version:  1,
		DataDir:  "./flotilla-data",
		MQTTAddr: "127.0.0.1:1883", MQTTSAddr: None,
		ClusterAddr: "127.0.0.1:7400", AdminAddr: "127.0.0.1:8080",
		Role:     []string{"gateway", "store"},
		LogLevel: "info", LogFormat: "auto",
		TLS:       TLS{MinVersion: "1.2", ClientAuth: "none"},
		WebSocket: WebSocket{Path: "/mqtt"},
		Limits: Limits{
			ConnectTimeout: Duration(10 * time.Second), PendingConnects: 1000,
			MemoryHighWatermark: Watermark{Percent: 80}, DiskFreeMin: 1 << 30,
		},
		Raft: Raft{
			Heartbeat: Duration(time.Second), MinSyncInterval: Duration(500 * time.Microsecond),
			EntryMax: 512 << 10, SnapshotAfter: 256 << 20,
		},
		Placement: Placement{ReplaceAfter: Duration(30 * time.Minute), StableFor: Duration(10 * time.Second)},
		Admin:     Admin{MetricsAuth: true, TLS: AdminTLS{MinVersion: "1.2"}},
		Drain:     Drain{LBDelay: Duration(5 * time.Second), Rate: 500, Timeout: Duration(time.Minute)},
		Settings: Settings{
			Shards: 8, Replicas: 3,
			Lease: Lease{Renew: Duration(time.Second), LostAfter: Duration(5 * time.Second)},
			MQTT: MQTT{
				MaxPacketSize: 1 << 20, MaxQoS: 2, RetainAvailable: true, ReceiveMaximum: 64,
				TopicAliasMaximum: 32, MaxKeepalive: Duration(time.Hour), MaxTopicBytes: 1024,
				MaxTopicLevels: 128, MaxSubscriptions: 10000, MaxSessionExpiry: Duration(30 * day),
			},
			Inbox:    Inbox{MaxMessages: 100_000, MaxBytes: 256 << 20, Overflow: "refuse"},
			Retained: Retained{MaxMessages: 1_000_000, MaxPayload: 1 << 20},
			Share:    Share{Strategy: "round_robin"},
		},
	}
}

// MQTTAnonymous says whether the client ports may listen beyond loopback: that
// is accepted, or authentication is configured.
func (c *Config) MQTTAnonymous() bool {
	return c.AllowAnonymous || c.Auth.AllowAnonymous || len(c.Auth.Chain) > 0
}
