package cluster_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport"
)

// TestFurtherListeners: clients come in through ports of their own names, one
// of them behind a proxy whose word on the client's address counts.
func TestFurtherListeners(t *testing.T) {
	plain, proxied := freePort(t), freePort(t)
	cfg := testConfig(t, t.TempDir())
	cfg.Listeners = []transport.ClientConfig{
		{Name: "lan", Addr: plain},
		{Name: "lb", Addr: proxied, Proxy: transport.ProxyV1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
	}
	n, _ := startCounted(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + plain, ClientID: "a", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	if _, err := mqttc.Dial(ctx, mqttc.Options{URL: "mqtt://" + proxied, ClientID: "b", Clean: true}); err == nil {
		t.Error("a proxy may come without a header")
	}
	conn, err := net.Dial("tcp", proxied)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	connect := []byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p")
	if _, err := conn.Write(connect); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 10*time.Second, "the client behind the proxy", func() string {
		st, ok, err := n.ClientOf(t.Context(), "p")
		switch {
		case err != nil:
			return err.Error()
		case !ok:
			return "it is not there"
		case st.Listener != "lb" || st.Peer != "192.0.2.7:4711":
			t.Fatalf("listener %s, peer %s", st.Listener, st.Peer)
		}
		return ""
	})
	if st, ok, err := n.ClientOf(t.Context(), "a"); !ok || err != nil || st.Listener != "lan" {
		t.Errorf("client a: %+v %v %v", st, ok, err)
	}
}

// TestListenerThatCannotOpen names itself.
func TestListenerThatCannotOpen(t *testing.T) {
	taken := freePort(t)
	l, err := net.Listen("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := testConfig(t, t.TempDir())
	cfg.Listeners = []transport.ClientConfig{{Name: "lan", Addr: taken}}
	_, err = cluster.Start(t.Context(), cfg)
	if !errors.Is(err, cluster.ErrConfig) || !strings.Contains(err.Error(), "listener lan") {
		t.Errorf("got %v", err)
	}
}
