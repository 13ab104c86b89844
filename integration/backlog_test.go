package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	backlogSessions = 20
	// backlogReady bounds the restart of a whole cluster with its backlog, from the start of the processes to /readyz.
	backlogReady = 15 * time.Second
)

// TestBacklogSurvivesRestart: messages wait for sessions that are offline, the whole cluster is killed and started again, it is
// ready in time, and every message arrives, in order. `make backlog` queues 1,000,000 messages of 256 bytes. I1 I4 I22.
func TestBacklogSurvivesRestart(t *testing.T) {
	long(t)
	each := envInt(t, "FLOTILLA_BACKLOG_MESSAGES", 40_000) / backlogSessions
	const size = 256
	c := harness.Start(t, harness.Options{Nodes: 3})
	name := func(i int) string { return fmt.Sprintf("backlog-%d", i) }
	for i := range backlogSessions {
		s := collect(t, c.Nodes[i%3], name(i), &counter{})
		if _, err := s.Subscribe(t.Context(), mqtt.SubscribeFilter{Filter: "backlog/" + name(i), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
	start := time.Now()
	for from := 0; from < backlogSessions; from += 4 {
		together(t, 4, func(i int) error {
			i += from
			return bulk(t, c.Nodes[i%3], "source-"+name(i), "backlog/"+name(i), each, size)
		})
	}
	published := time.Since(start)
	var disk int64
	for _, n := range c.Nodes {
		disk += n.DiskBytes()
	}
	c.KillAll(t)
	start = time.Now()
	c.StartAll(t)
	ready := time.Since(start)
	if bound := slack(backlogReady); ready > bound {
		t.Errorf("ready after %v, want at most %v", ready, bound)
	}
	start = time.Now()
	counters := make([]counter, backlogSessions)
	clients := make([]*mqttc.Client, backlogSessions)
	for i := range backlogSessions {
		clients[i] = collect(t, c.Nodes[(i+1)%3], name(i), &counters[i])
		if !clients[i].SessionPresent() {
			t.Errorf("%s: no session present", name(i))
		}
	}
	for i := range counters {
		counters[i].expect(t, name(i), each, 10*time.Minute)
		if n := counters[i].dups.Load(); n > 0 {
			t.Errorf("%s received %d duplicates although it was never connected before", name(i), n)
		}
	}
	t.Logf("%d messages of %d bytes: queued at %.0f/s, %d MiB on three disks, ready %v after kill -9 of all, drained at %.0f/s",
		each*backlogSessions, size, float64(each*backlogSessions)/published.Seconds(), disk>>20, ready.Round(time.Millisecond),
		float64(each*backlogSessions)/time.Since(start).Seconds())
	for _, cl := range clients {
		_ = cl.Close()
	}
	c.WaitAgreement(t, patience)
}
