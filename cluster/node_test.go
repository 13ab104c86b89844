package cluster_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// freePort takes a port that was free a moment ago: nodes must keep theirs
// across restarts.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func testConfig(t testing.TB, dir string) cluster.Config {
	cfg := cluster.DefaultConfig()
	cfg.DataDir = dir
	cfg.ClusterAddr = freePort(t)
	cfg.MQTTAddr = "127.0.0.1:0"
	cfg.AdminAddr = "none"
	cfg.Settings.Shards = 4
	cfg.Logger = zaptest.NewLogger(t, zaptest.Level(zapcore.InfoLevel))
	cfg.Fatal = func(err error) { t.Errorf("fail-stop: %v", err) }
	return cfg
}

func startNode(t testing.TB, cfg cluster.Config) *cluster.Node {
	t.Helper()
	cfg.Registerer = prometheus.NewRegistry() // of this process
	n, err := cluster.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func waitReady(t testing.TB, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		waitFor(t, 30*time.Second, "node "+n.ID()+" to be ready", func() string {
			for _, c := range n.ReadyChecks() {
				if !c.OK {
					return c.Name + ": " + c.Detail
				}
			}
			return ""
		})
	}
}

// waitFor polls until lack returns "".
func waitFor(t testing.TB, limit time.Duration, what string, lack func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		why := lack()
		if why == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s: %s", limit, what, why)
		case <-tick.C:
		}
	}
}

func stopNode(t testing.TB, n *cluster.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Errorf("stop %s: %v", n.ID(), err)
	}
}

// inbox collects what a client receives.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (in *inbox) onMessage(_ *mqttc.Client, p *mqtt.Publish) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.got = append(in.got, fmt.Sprintf("%s=%s", p.Topic, p.Payload))
}

func (in *inbox) waitFor(t testing.TB, want ...string) {
	t.Helper()
	waitFor(t, 10*time.Second, fmt.Sprint("messages ", want), func() string {
		in.mu.Lock()
		defer in.mu.Unlock()
		if fmt.Sprint(in.got) == fmt.Sprint(want) {
			return ""
		}
		return fmt.Sprint("got ", in.got)
	})
}

func dial(t testing.TB, n *cluster.Node, id string, clean bool, onMessage func(*mqttc.Client, *mqtt.Publish)) *mqttc.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	opt := mqttc.Options{URL: "mqtt://" + n.Addrs().MQTT, ClientID: id, Clean: clean, OnMessage: onMessage}
	if !clean {
		opt.SessionExpiry = 3600
	}
	c, err := mqttc.Dial(ctx, opt)
	if err != nil {
		t.Fatalf("connect %s to %s: %v", id, n.ID(), err)
	}
	return c
}

func publish(t testing.TB, c *mqttc.Client, topic, payload string, qos byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Publish(ctx, &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}); err != nil {
		t.Fatalf("publish to %s: %v", topic, err)
	}
}

func subscribe(t testing.TB, c *mqttc.Client, filter string, qos byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Subscribe(ctx, mqtt.SubscribeFilter{Filter: filter, QoS: qos}); err != nil {
		t.Fatalf("subscribe to %s: %v", filter, err)
	}
}

// TestOneNodeKeepsItsWord_I1: what was acknowledged for an offline session
// survives a crash of the only node.
func TestOneNodeKeepsItsWord_I1(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	n := startNode(t, cfg)
	waitReady(t, n)

	var in inbox
	sub := dial(t, n, "sub", false, in.onMessage)
	subscribe(t, sub, "a/#", 2)
	pub := dial(t, n, "pub", true, nil)
	publish(t, pub, "a/0", "zero", 0)
	publish(t, pub, "a/1", "one", 1)
	in.waitFor(t, "a/0=zero", "a/1=one")
	sub.Abort()
	publish(t, pub, "a/2", "two", 1)
	publish(t, pub, "a/3", "three", 2)

	n.Kill()
	pub.Abort()
	n = startNode(t, cfg)
	defer stopNode(t, n)
	waitReady(t, n)
	var again inbox
	sub = dial(t, n, "sub", false, again.onMessage)
	defer sub.Abort()
	if !sub.Connack().SessionPresent {
		t.Error("session present is 0 after the restart")
	}
	waitFor(t, 10*time.Second, "the queued messages", func() string {
		again.mu.Lock()
		defer again.mu.Unlock()
		got := again.got
		if len(got) > 0 && got[0] == "a/1=one" { // its acknowledgement died with the connection
			got = got[1:]
		}
		if fmt.Sprint(got) == "[a/2=two a/3=three]" {
			return ""
		}
		return fmt.Sprint("got ", again.got)
	})
}

// formCluster forms a cluster of n nodes in one process.
func formCluster(t testing.TB, n int, change func(*cluster.Config)) ([]*cluster.Node, []cluster.Config) {
	t.Helper()
	join := make([]string, n)
	for i := range join {
		join[i] = freePort(t)
	}
	nodes, cfgs := make([]*cluster.Node, n), make([]cluster.Config, n)
	for i := range nodes {
		cfgs[i] = testConfig(t, t.TempDir())
		cfgs[i].NodeID = fmt.Sprintf("n%d", i+1)
		cfgs[i].ClusterAddr = join[i]
		cfgs[i].Join = join
		cfgs[i].BootstrapExpect = n
		cfgs[i].MQTTAddr = freePort(t)
		if change != nil {
			change(&cfgs[i])
		}
		nodes[i] = startNode(t, cfgs[i])
	}
	t.Cleanup(func() {
		for _, n := range nodes {
			stopNode(t, n)
		}
	})
	waitReady(t, nodes...)
	return nodes, cfgs
}

// TestThreeNodesServeEachOther: publisher and subscriber on different nodes,
// all QoS, durable and transient sessions.
func TestThreeNodesServeEachOther(t *testing.T) {
	nodes, _ := formCluster(t, 3, nil)
	for _, clean := range []bool{true, false} {
		var in inbox
		sub := dial(t, nodes[0], fmt.Sprint("sub-", clean), clean, in.onMessage)
		subscribe(t, sub, "b/+", 2)
		var want []string
		for i, n := range nodes {
			pub := dial(t, n, fmt.Sprint("pub-", i, clean), i != 0, nil)
			for q := byte(0); q <= 2; q++ {
				text := fmt.Sprint(i, "-", q)
				publish(t, pub, "b/"+text, text, q)
				want = append(want, "b/"+text+"="+text)
				in.waitFor(t, want...)
			}
			pub.Abort()
		}
		sub.Abort()
	}
}

// TestTakeoverAcrossNodes_I9_I10: a session subscribed on one node continues
// on another with what it had, and the old connection ends.
func TestTakeoverAcrossNodes_I9_I10(t *testing.T) {
	nodes, _ := formCluster(t, 3, nil)
	old := dial(t, nodes[0], "dev", false, nil)
	subscribe(t, old, "c/#", 1)
	pub := dial(t, nodes[2], "pub", true, nil)
	defer pub.Abort()
	var in inbox
	now := dial(t, nodes[1], "dev", false, in.onMessage)
	defer now.Abort()
	if !now.SessionPresent() {
		t.Error("session present is 0 on the second node")
	}
	select {
	case <-old.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the old connection is still open")
	}
	publish(t, pub, "c/1", "x", 1)
	in.waitFor(t, "c/1=x")
}
