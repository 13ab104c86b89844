package main

import (
	"crypto/tls"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// clusterConfig turns what the operator wrote into what a node is started with.
func clusterConfig(c *config.Config) (cluster.Config, error) {
	out := cluster.DefaultConfig()
	out.NodeID, out.DataDir, out.Zone, out.Roles = c.NodeID, c.DataDir, c.Zone, c.Role
	out.MQTTAddr, out.MQTTSAddr = off(c.MQTTAddr), off(c.MQTTSAddr)
	out.ClusterAddr, out.AdvertiseAddr, out.AdminAddr = off(c.ClusterAddr), off(c.AdvertiseAddr), off(c.AdminAddr)
	out.Join, out.BootstrapExpect, out.InsecureCluster = c.Join, c.BootstrapExpect, c.InsecureCluster
	out.WebSocketPath, out.WebSocketOrigins = c.WebSocket.Path, c.WebSocket.Origins
	out.Raft = cluster.RaftConfig{
		Heartbeat: time.Duration(c.Raft.Heartbeat), MinSyncInterval: time.Duration(c.Raft.MinSyncInterval),
		EntryMax: int(c.Raft.EntryMax), SnapshotAfter: int64(c.Raft.SnapshotAfter),
	}
	out.Drain = cluster.DrainConfig{LBDelay: time.Duration(c.Drain.LBDelay), Rate: int(c.Drain.Rate), Timeout: time.Duration(c.Drain.Timeout)}
	out.Membership = cluster.MembershipConfig{ReplaceAfter: time.Duration(c.Placement.ReplaceAfter), StableFor: time.Duration(c.Placement.StableFor)}
	out.ConnectRate = float64(c.Limits.ConnectRate)
	out.Limits = cluster.LimitsConfig{MemoryHigh: memoryMark(c.Limits.MemoryHighWatermark, memoryLimit()), DiskFreeMin: int64(c.Limits.DiskFreeMin)}
	s := &c.Settings
	out.Lease = cluster.LeaseConfig{Renew: time.Duration(s.Lease.Renew), LostAfter: time.Duration(s.Lease.LostAfter)}
	out.Settings = cluster.Settings{
		Shards: s.Shards, Replicas: s.Replicas, InboxMaxMessages: s.Inbox.MaxMessages, InboxMaxBytes: int64(s.Inbox.MaxBytes),
		InboxOverflow: s.Inbox.Overflow, InboxQoS0Offline: s.Inbox.QoS0Offline,
		RetainedMaxMessages: s.Retained.MaxMessages, RetainedMaxPayload: int64(s.Retained.MaxPayload), RetainedExpiry: time.Duration(s.Retained.Expiry),
		ShareStrategy: s.Share.Strategy, MaxSubscriptions: s.MQTT.MaxSubscriptions, MaxSessionExpiry: time.Duration(s.MQTT.MaxSessionExpiry),
	}
	sessionConfig(c, &out)
	out.Version = version
	if c.MQTTSAddr.On() {
		out.MQTTTLSFiles = tlsFiles(&c.TLS)
	}
	var err error
	if out.JoinToken, err = joinToken(c); err != nil {
		return out, err
	}
	if out.Listeners, err = listeners(c); err != nil {
		return out, err
	}
	out.ClusterTLSFiles = clusterFiles(c.Cluster.TLS)
	return out, nil
}

// tlsFiles is the TLS of a client port. Package config has checked the words.
func tlsFiles(t *config.TLS) *transport.TLSFiles {
	out := &transport.TLSFiles{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA, MinVersion: tls.VersionTLS12, ALPN: t.ALPN}
	out.ClientAuth, _ = transport.ParseClientAuth(t.ClientAuth)
	if t.MinVersion == "1.3" {
		out.MinVersion = tls.VersionTLS13
	}
	return out
}

// listeners are the further client ports.
func listeners(c *config.Config) ([]transport.ClientConfig, error) {
	var out []transport.ClientConfig
	for i := range c.Listeners {
		l := &c.Listeners[i]
		cc := transport.ClientConfig{Addr: off(l.Addr), Name: l.Name, WebSocketPath: l.WebSocket.Path, Origins: l.WebSocket.Origins}
		if cc.WebSocketPath == "" {
			cc.WebSocketPath = c.WebSocket.Path
		}
		if cc.Origins == nil {
			cc.Origins = c.WebSocket.Origins
		}
		if l.TLS.On {
			cc.TLSFiles = tlsFiles(listenerTLS(c, l))
		}
		var err error
		if cc.Proxy, err = transport.ParseProxyMode(l.ProxyProtocol); err != nil {
			return nil, failf(exitUsage, "listeners[%d].proxy_protocol: %w", i, err)
		}
		if cc.TrustedProxies, err = transport.ParseProxies(l.TrustedProxies); err != nil {
			return nil, failf(exitUsage, "listeners[%d].trusted_proxies: %w", i, err)
		}
		out = append(out, cc)
	}
	return out, nil
}

// listenerTLS is a listener's own section, or that of the node.
func listenerTLS(c *config.Config, l *config.Listener) *config.TLS {
	if l.TLS.Set() {
		return &l.TLS.TLS
	}
	return &c.TLS
}

func off(a config.Addr) string {
	if !a.On() {
		return ""
	}
	return a.String()
}

func sessionConfig(c *config.Config, out *cluster.Config) {
	m, l, s := &c.Settings.MQTT, &c.Limits, &out.Session
	s.ConnectTimeout, s.PendingConnects = time.Duration(l.ConnectTimeout), l.PendingConnects
	s.MaxConnections = int(l.Connections)
	if s.MaxConnections == 0 {
		s.MaxConnections = autoConnections()
	}
	s.ClientMessages, s.ClientBytes = float64(l.Client.Messages), float64(l.Client.Bytes)
	s.MaxPacketSize, s.MaxQoS, s.RetainAvailable = uint32(m.MaxPacketSize), byte(m.MaxQoS), m.RetainAvailable
	s.ReceiveMaximum, s.TopicAliasMaximum = uint16(m.ReceiveMaximum), uint16(m.TopicAliasMaximum)
	s.MaxKeepAlive, s.MaxSessionExpiry = time.Duration(m.MaxKeepalive), time.Duration(m.MaxSessionExpiry)
	s.MaxTopicBytes, s.MaxTopicLevels, s.MaxSubscriptions = m.MaxTopicBytes, m.MaxTopicLevels, m.MaxSubscriptions
}

// autoConnections is 90 % of the file descriptors, which the runtime has
// raised to the hard limit already.
func autoConnections() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0 // unknown: no limit of our own
	}
	return int(min(r.Cur, 10_000_000) / 10 * 9)
}

// clusterFiles is the mutual TLS of the cluster port: both sides show a
// certificate of the cluster's own CA.
func clusterFiles(t config.ClusterTLS) *transport.ClusterFiles {
	if t == (config.ClusterTLS{}) {
		return nil
	}
	return &transport.ClusterFiles{CA: t.CA, Cert: t.Cert, Key: t.Key}
}

// joinToken reads the permission to join at every start, since a typing error must not wait for the day when it is
// needed.
func joinToken(c *config.Config) (string, error) {
	if c.JoinTokenFile == "" {
		return string(c.JoinToken), nil
	}
	if c.JoinToken != "" {
		return "", failf(exitUsage, "join_token and join_token_file exclude each other: keep the file")
	}
	b, err := os.ReadFile(c.JoinTokenFile)
	if err != nil {
		return "", failf(exitUsage, "join_token_file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", failf(exitUsage, "join_token_file: %s is empty", c.JoinTokenFile)
	}
	return token, nil
}
