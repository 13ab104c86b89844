package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNoTwoKeysShareAVariable(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Keys() {
		if other, ok := seen[k.Env]; ok {
			t.Errorf("%s and %s share %s", other, k.Path, k.Env)
		}
		seen[k.Env] = k.Path
		if k.Help == "" {
			t.Errorf("%s has no help", k.Path)
		}
		if k.Flag != "" && strings.ReplaceAll(k.Path, "_", "-") != k.Flag {
			t.Errorf("flag --%s does not follow from key %s", k.Flag, k.Path)
		}
		if k.Flag != "" && (k.Arg == "") != k.Bool {
			t.Errorf("--%s: a placeholder belongs to every flag that takes a value", k.Flag)
		}
	}
	for _, path := range []string{"mqtt_addr", "limits.connect_timeout", "settings.mqtt.max_packet_size", "cluster.tls.ca"} {
		if seen[EnvName(path)] != path {
			t.Errorf("key %s is missing", path)
		}
	}
}

// TestDocumentedDefaults holds the figures that INTERFACES promises.
func TestDocumentedDefaults(t *testing.T) {
	c := Default()
	byPath := map[string]string{}
	for _, l := range leaves(&c) {
		byPath[l.path] = l.text()
	}
	for path, want := range map[string]string{
		"data_dir": "./flotilla-data", "mqtt_addr": "127.0.0.1:1883", "mqtts_addr": "none", "cluster_addr": "127.0.0.1:7400",
		"admin_addr": "127.0.0.1:8080", "role": "[gateway, store]", "log_level": "info", "websocket.path": "/mqtt",
		"limits.connections": "auto", "limits.connect_timeout": "10s", "limits.pending_connects": "1000", "limits.memory_high_watermark": "80%",
		"limits.disk_free_min": "1GiB", "raft.heartbeat": "1s", "raft.min_sync_interval": "500us", "raft.entry_max": "512KiB",
		"raft.snapshot_after": "256MiB", "drain.lb_delay": "5s", "drain.rate": "500/s", "drain.timeout": "1m", "settings.shards": "8",
		"settings.replicas": "3", "settings.lease.renew": "1s", "settings.lease.lost_after": "5s", "settings.mqtt.max_packet_size": "1MiB",
		"settings.mqtt.receive_maximum": "64", "settings.mqtt.max_keepalive": "1h", "settings.mqtt.max_session_expiry": "30d",
		"settings.inbox.max_messages": "100000", "settings.inbox.max_bytes": "256MiB", "settings.inbox.overflow": "refuse",
		"settings.retained.max_messages": "1000000", "settings.share.strategy": "round_robin", "tls.min_version": "1.2",
	} {
		if byPath[path] != want {
			t.Errorf("%s is %q, want %q", path, byPath[path], want)
		}
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "500us": 500 * time.Microsecond, "1.5s": 1500 * time.Millisecond, "1h30m": 90 * time.Minute, "30d": 30 * day,
		"1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "10ms": 10 * time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%s is %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseDuration(Duration(got).String()); err != nil || again != got {
			t.Errorf("%s prints as %s, which is %v, %v", text, Duration(got), again, err)
		}
	}
	for _, text := range []string{"", "10", "-1s", "+1s", "1ns", "1x", "d", "1h2d", "NaNd", "1e300d", "999999999h", "1µs"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestSizesAndRates(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1KiB": 1024, "1.5MiB": 1572864, "2GiB": 2 << 30, "512 KiB": 512 << 10} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s is %d, %v, want %d", text, got, err, want)
		}
		if again, err := ParseSize(Size(got).String()); err != nil || again != got {
			t.Errorf("%s prints as %s", text, Size(got))
		}
	}
	for _, text := range []string{"", "1", "1KB", "1MB", "-1KiB", "KiB", "NaNKiB", "infGiB", "1e300GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
	if r, err := ParseRate("500/s"); err != nil || r != 500 || Rate(r).String() != "500/s" {
		t.Errorf("500/s is %d, %v", r, err)
	}
	for _, text := range []string{"500", "/s", "-1/s", "1.5/s", "500/m"} {
		if _, err := ParseRate(text); err == nil {
			t.Errorf("%q is taken for a rate", text)
		}
	}
}

func TestOtherValues(t *testing.T) {
	var a Addr
	for text, ok := range map[string]bool{
		"127.0.0.1:1883": true, "[::1]:0": true, ":1883": true, "n1.example.net:7400": true, "none": true, "": true,
		"1883": false, "h:": false, "h:65536": false, "h:x": false, "h:01": false, "::1:80": false,
	} {
		if err := a.UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("address %q: %v", text, err)
		}
	}
	for text, want := range map[Addr][2]bool{ // loopback, wildcard
		"127.0.0.1:1": {true, false}, "127.9.9.9:1": {true, false}, "[::1]:1": {true, false}, "localhost:1": {true, false},
		"0.0.0.0:1": {false, true}, "[::]:1": {false, true}, ":1": {false, true}, "10.0.0.1:1": {false, false}, "localhost.evil:1": {false, false},
	} {
		if got := [2]bool{text.Loopback(), text.Wildcard()}; got != want {
			t.Errorf("%s: loopback, wildcard %v, want %v", text, got, want)
		}
	}
	var w Watermark
	for text, ok := range map[string]bool{"80%": true, "2GiB": true, "0%": false, "101%": false, "80": false} {
		if err := w.UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("watermark %q: %v", text, err)
		}
	}
	var r ByteRate
	for text, want := range map[string]ByteRate{"1MiB/s": 1 << 20, "0": 0, "1MiB": -1, "1/s": -1, "500": -1, "": -1} {
		if err := r.UnmarshalText([]byte(text)); (err == nil) != (want >= 0) || err == nil && r != want {
			t.Errorf("rate of bytes %q: %v, %v", text, r, err)
		}
	}
	var n Count
	for text, ok := range map[string]bool{"auto": true, "10": true, "0": false, "-1": false, "x": false} {
		if err := n.UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("count %q: %v", text, err)
		}
	}
}

func TestDumpCanBeReadAgain(t *testing.T) {
	in := Input{
		Sets: []string{"settings.inbox.max_bytes=1.5MiB", "limits.memory_high_watermark=3GiB", "websocket.origins=https://a.example, https://b.example",
			"auth.chain=[{type: file, path: 'users: a.conf'}]", "limits.connect_rate=500/s",
			"listeners=[{name: a, addr: '127.0.0.1:1', tls: {cert: c, key: k, client_auth: require, client_ca: d}}, {name: b, addr: '[::1]:2', tls: false}]"},
		Flags: map[string]string{"zone": "a: b", "join": "n1:7400,n2:7400", "mqtts_addr": "none", "allow_anonymous": "true", "mqtt_addr": "0.0.0.0:1"},
	}
	r, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.Dump(&text); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Load(Input{File: file})
	if err != nil {
		t.Fatalf("%v:\n%s", err, text.String())
	}
	want := r.Config
	want.AdvertiseAddr = again.Config.AdvertiseAddr // empty and none are the same
	if diff := cmp.Diff(want, again.Config); diff != "" {
		t.Errorf("dump and load (-want +got):\n%s", diff)
	}
}

// TestExampleOfTheHandbook is the file of INTERFACES section 2 without what
// belongs to later versions.
func TestExampleOfTheHandbook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	text := `version: 1
mqtt_addr: 127.0.0.1:1883
join: [n1.example.net:7400, n2.example.net:7400, n3.example.net:7400]
tls: {cert: server.pem, key: server.key, min_version: "1.2", client_auth: none, alpn: [mqtt, x-amzn-mqtt-ca]}
cluster: {tls: {ca: cluster-ca.pem, cert: node.pem, key: node.key}}
websocket: {path: /mqtt, origins: []}
listeners:
  - {name: lb, addr: 0.0.0.0:1884, tls: false, proxy_protocol: v2, trusted_proxies: [10.0.0.0/8], advertise: mqtt.example.net:1883}
auth: {chain: [{type: file, path: users.conf}]}
limits:
  connections: auto
  connect_timeout: 10s
  pending_connects: 1000
  memory_high_watermark: 80%
  disk_free_min: 1GiB
  client: {messages: 0, bytes: 0}
raft: {heartbeat: 1s, min_sync_interval: 500us, entry_max: 512KiB, snapshot_after: 256MiB}
drain: {lb_delay: 5s, rate: 500/s, timeout: 60s}
settings:
  shards: 8
  replicas: 3
  lease: {renew: 1s, lost_after: 5s}
  mqtt: {max_packet_size: 1MiB, max_qos: 2, retain_available: true, receive_maximum: 64, topic_alias_maximum: 32, max_keepalive: 1h, max_topic_bytes: 1024, max_topic_levels: 128, max_subscriptions: 10000, max_session_expiry: 30d}
  inbox: {max_messages: 100000, max_bytes: 256MiB, overflow: refuse, qos0_offline: false}
  retained: {max_messages: 1000000, max_payload: 1MiB, expiry: 0}
  share: {strategy: round_robin}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(Input{File: file})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Join = []string{"n1.example.net:7400", "n2.example.net:7400", "n3.example.net:7400"}
	want.TLS = TLS{Cert: "server.pem", Key: "server.key", MinVersion: "1.2", ClientAuth: "none", ALPN: []string{"mqtt", "x-amzn-mqtt-ca"}}
	want.Listeners = []Listener{{
		Name: "lb", Addr: "0.0.0.0:1884", ProxyProtocol: "v2", TrustedProxies: []string{"10.0.0.0/8"}, Advertise: "mqtt.example.net:1883",
	}}
	want.Auth.Chain = []Backend{{Type: "file", Path: "users.conf"}}
	want.Cluster.TLS = ClusterTLS{CA: "cluster-ca.pem", Cert: "node.pem", Key: "node.key"}
	got := r.Config
	got.WebSocket.Origins = nil // an empty list
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the example says the defaults (-want +got):\n%s", diff)
	}
	for _, key := range []string{
		"auth: {acl: {}}", "tls: {crl: x}",
	} {
		err := applyFile(new(Config), "f", []byte(key), map[string]string{})
		if err == nil || !strings.Contains(err.Error(), "later version") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestErrorsAreOfOneKind(t *testing.T) {
	for _, in := range []Input{
		{File: "missing"}, {Env: []string{"FLOTILLA_DRAIN_RATE=x"}}, {Sets: []string{"x=1"}}, {Flags: map[string]string{"zone": "", "mqtt_addr": "x"}},
		{Flags: map[string]string{"data_dir": ""}},
	} {
		if _, err := Load(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

// FuzzFile: no file makes the reader panic.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"version: 1", "limits: {a: b}", "join: [a, b]", "a: &x\n  b: *x\nc: *x", "<<: {version: 1}", "- 1", "'", "listeners: [{name: a, tls: {cert: x}}, {tls: true}, x]", "listeners: [a]", "auth: {chain: [{type: file, path: x}]}", "tls: &t {cert: x}\ncluster: {tls: *t}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Default()
		if err := applyFile(&c, "f", text, map[string]string{}); err == nil {
			_ = c.Validate()
		}
	})
}
