package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Validate checks what a single value cannot show: relations between keys and
// the rules for addresses beyond loopback. Its error joins one line per fault.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Version != 1 {
		bad("version is %d: this program reads version 1", c.Version)
	}
	if c.DataDir == "" {
		bad("data_dir is empty: name a directory with --data-dir")
	}
	for _, r := range c.Role {
		if r != "gateway" && r != "store" {
			bad("role %q is unknown: use gateway, store or gateway,store", r)
		}
	}
	if len(c.Role) == 0 {
		bad("role is empty: use gateway, store or gateway,store")
	}
	c.checkAddresses(bad)
	c.checkFormation(bad)
	c.checkTLS(bad)
	c.checkListeners(bad)
	c.checkAuth(bad)
	c.checkAdmin(bad)
	c.checkNumbers(bad)
	return errors.Join(errs...)
}

type badFn func(format string, args ...any)

func (c *Config) checkAddresses(bad badFn) {
	if !c.ClusterAddr.On() {
		bad("cluster_addr is none: a node needs its cluster port, for example --cluster-addr 127.0.0.1:7400")
		return
	}
	if c.ClusterAddr.Wildcard() && !c.AdvertiseAddr.On() {
		bad("cluster_addr %s is a wildcard: say with --advertise-addr what other nodes dial", c.ClusterAddr)
	}
	if c.AdvertiseAddr.On() && c.AdvertiseAddr.Wildcard() {
		bad("advertise_addr %s is a wildcard: name an address that other nodes can dial", c.AdvertiseAddr)
	}
	if !c.ClusterAddr.Loopback() && !c.clusterTLS() && !c.InsecureCluster {
		bad("cluster_addr %s is beyond loopback without mutual TLS: configure cluster.tls (flotilla cluster ca init makes the certificates), or accept the risk with --insecure-cluster", c.ClusterAddr)
	}
	for _, a := range []struct {
		key  string
		addr Addr
	}{{"mqtt_addr", c.MQTTAddr}, {"mqtts_addr", c.MQTTSAddr}} {
		if a.addr.On() && !a.addr.Loopback() && !c.MQTTAnonymous() {
			bad("%s %s is beyond loopback and no authentication is configured: configure auth.chain, accept anonymous clients with --allow-anonymous, or listen on 127.0.0.1", a.key, a.addr)
		}
	}
	if c.AdminAddr.On() && !c.AdminAddr.Loopback() && !c.AdminAnonymous() {
		bad("admin_addr %s is beyond loopback and no authentication is configured: configure admin.auth, accept anonymous operators with --allow-anonymous, or listen on 127.0.0.1", c.AdminAddr)
	}
	for _, j := range c.Join {
		if _, port, err := net.SplitHostPort(j); err != nil || port == "" {
			bad("join %q is not HOST:PORT, for example n1.example.net:7400", j)
		}
	}
}

func (c *Config) clusterTLS() bool { return c.Cluster.TLS != ClusterTLS{} }

func (c *Config) checkFormation(bad badFn) {
	n := c.BootstrapExpect
	if n > 0 && len(c.Join) >= 2*n {
		bad("join has %d addresses for --bootstrap-expect %d: two clusters could form, list fewer than %d", len(c.Join), n, 2*n)
	}
	if n > 1 && len(c.Join) == 0 {
		bad("--bootstrap-expect %d needs --join with the cluster addresses of the nodes", n)
	}
	if c.JoinToken != "" && c.JoinTokenFile != "" {
		bad("join_token and join_token_file are both given: use the file")
	}
}

func (c *Config) checkTLS(bad badFn) {
	c.TLS.check("tls", bad)
	if c.MQTTSAddr.On() && c.TLS.Cert == "" {
		bad("mqtts_addr %s needs tls.cert and tls.key", c.MQTTSAddr)
	}
	t := c.Cluster.TLS
	if c.clusterTLS() && (t.CA == "" || t.Cert == "" || t.Key == "") {
		bad("cluster.tls needs ca, cert and key: one of them is missing")
	}
	if !strings.HasPrefix(c.WebSocket.Path, "/") {
		bad("websocket.path %q must begin with /", c.WebSocket.Path)
	}
}

// check judges the TLS of a client port.
func (t *TLS) check(key string, bad badFn) {
	if (t.Cert == "") != (t.Key == "") {
		bad("%s.cert and %s.key belong together: one of them is missing", key, key)
	}
	asks := t.ClientAuth == "request" || t.ClientAuth == "require"
	if asks && t.ClientCA == "" {
		bad("%s.client_auth %s needs %s.client_ca", key, t.ClientAuth, key)
	}
	if !asks && t.ClientCA != "" {
		bad("%s.client_ca is set, but clients are not asked for certificates: set %s.client_auth to request or require", key, key)
	}
}

func (c *Config) checkListeners(bad badFn) {
	names := map[string]bool{"mqtt": true, "mqtts": true, "admin": true}
	for i := range c.Listeners {
		l, key := &c.Listeners[i], fmt.Sprintf("listeners[%d]", i)
		switch {
		case l.Name == "":
			bad("%s.name is missing", key)
		case names[l.Name]:
			bad("%s.name %q is taken", key, l.Name)
		}
		names[l.Name] = true
		switch {
		case !l.Addr.On():
			bad("%s.addr is missing", key)
		case !l.Addr.Loopback() && !c.MQTTAnonymous():
			bad("%s.addr %s is beyond loopback and no authentication is configured: configure auth.chain, accept anonymous clients with --allow-anonymous, or listen on 127.0.0.1", key, l.Addr)
		}
		if l.TLS.On && !l.TLS.Set() && !c.TLS.Set() {
			bad("%s.tls needs a certificate: give it cert and key, or set tls.cert and tls.key", key)
		}
		l.TLS.check(key+".tls", bad)
		proxied := l.ProxyProtocol != "" && l.ProxyProtocol != "off"
		if proxied != (len(l.TrustedProxies) > 0) {
			bad("%s: proxy_protocol and trusted_proxies belong together: one of them is missing", key)
		}
		for _, p := range l.TrustedProxies {
			if !isNetwork(p) {
				bad("%s.trusted_proxies: %q is no network, for example 10.0.0.0/8", key, p)
			}
		}
		if p := l.WebSocket.Path; p != "" && !strings.HasPrefix(p, "/") {
			bad("%s.websocket.path %q must begin with /", key, p)
		}
	}
}

// isNetwork accepts a prefix or a single address.
func isNetwork(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func (c *Config) checkAuth(bad badFn) {
	for i, b := range c.Auth.Chain {
		switch {
		case b.Type == "":
			bad("auth.chain[%d].type is missing: use file", i)
		case b.Path == "":
			bad("auth.chain[%d].path is missing: name a users file", i)
		}
	}
}

func (c *Config) checkNumbers(bad badFn) {
	s, m := &c.Settings, &c.Settings.MQTT
	between := func(key string, v, lo, hi int) {
		if v < lo || v > hi {
			bad("%s is %d: it must be %d to %d", key, v, lo, hi)
		}
	}
	atLeast := func(key string, v, lo Duration) {
		if v < lo {
			bad("%s is %s: it must be at least %s", key, v, lo)
		}
	}
	between("settings.shards", s.Shards, 1, 256)
	between("settings.replicas", s.Replicas, 1, 7)
	between("settings.mqtt.max_qos", m.MaxQoS, 0, 2)
	between("settings.mqtt.receive_maximum", m.ReceiveMaximum, 1, 65535)
	between("settings.mqtt.topic_alias_maximum", m.TopicAliasMaximum, 0, 65535)
	between("settings.mqtt.max_topic_bytes", m.MaxTopicBytes, 1, 65535)
	between("settings.mqtt.max_topic_levels", m.MaxTopicLevels, 1, 65535)
	between("limits.pending_connects", c.Limits.PendingConnects, 1, 1<<20)
	if m.MaxPacketSize < 1<<10 || m.MaxPacketSize > 256<<20 {
		bad("settings.mqtt.max_packet_size is %s: it must be 1KiB to 256MiB", m.MaxPacketSize)
	}
	if e := c.Raft.EntryMax; e < 64<<10 || e > 512<<10 {
		bad("raft.entry_max is %s: it must be 64KiB to 512KiB", e)
	}
	atLeast("limits.connect_timeout", c.Limits.ConnectTimeout, Duration(100*time.Millisecond))
	atLeast("raft.heartbeat", c.Raft.Heartbeat, Duration(50*time.Millisecond))
	atLeast("drain.timeout", c.Drain.Timeout, Duration(time.Second))
	if c.Drain.LBDelay >= c.Drain.Timeout {
		bad("drain.lb_delay (%s) must be below drain.timeout (%s)", c.Drain.LBDelay, c.Drain.Timeout)
	}
	// A lease must outlive the election of a control leader.
	if least := 3*c.Raft.Heartbeat + Duration(time.Second); s.Lease.LostAfter <= least {
		bad("settings.lease.lost_after is %s: it must be above 3 × raft.heartbeat + 1s = %s", s.Lease.LostAfter, least)
	}
	if s.Lease.Renew <= 0 || 3*s.Lease.Renew > s.Lease.LostAfter {
		bad("settings.lease.renew is %s: it must be above 0 and at most a third of lost_after (%s)", s.Lease.Renew, s.Lease.LostAfter)
	}
}
