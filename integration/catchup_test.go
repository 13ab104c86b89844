package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestCatchup: a node that was down while many messages went through catches up, by log and, where the others have truncated
// their logs, by installing a snapshot; then all replicas have the same digest, and the node serves. `make catchup` misses
// 200,000 messages. I1 I20 I27.
func TestCatchup(t *testing.T) {
	long(t)
	total := envInt(t, "FLOTILLA_CATCHUP_MESSAGES", 20_000)
	const size = 256
	for _, c := range []struct {
		name  string
		flags []string
		snap  bool
	}{
		{name: "by log"},
		// Small enough that each shard truncates several times while the node is down.
		{name: "by snapshot", flags: []string{"--set", "raft.snapshot_after=1MiB", "--set", "settings.shards=2"}, snap: true},
	} {
		t.Run(c.name, func(t *testing.T) { catchUp(t, c.flags, c.snap, total, size) })
	}
}

func catchUp(t *testing.T, flags []string, snap bool, total, size int) {
	const streams = 4
	cl := harness.Start(t, harness.Options{Nodes: 3, Flags: flags})
	counters := make([]counter, streams)
	clients := make([]*mqttc.Client, streams)
	for i := range streams {
		clients[i] = collect(t, cl.Nodes[i%2], fmt.Sprintf("stream-%d", i), &counters[i])
		if _, err := clients[i].Subscribe(t.Context(), mqtt.SubscribeFilter{Filter: fmt.Sprintf("bulk/%d", i), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	absent := cl.Nodes[2]
	if err := absent.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	together(t, streams, func(i int) error {
		return bulk(t, cl.Nodes[i%2], fmt.Sprintf("source-%d", i), fmt.Sprintf("bulk/%d", i), total/streams, size)
	})
	published := time.Since(start)
	for i := range counters {
		counters[i].expect(t, fmt.Sprintf("stream-%d", i), total/streams, time.Minute)
	}
	// Something must wait in an inbox, too, when the node comes back.
	_ = clients[0].Close()
	if err := bulk(t, cl.Nodes[1], "last", "bulk/0", 1000, size); err != nil {
		t.Fatal(err)
	}

	start = time.Now()
	absent.Start(t)
	ready := time.Since(start)
	cl.WaitAgreement(t, patience)
	t.Logf("missed %d messages (published at %.0f/s): ready after %v, digests equal after %v, snapshots restored: %d",
		total, float64(total)/published.Seconds(), ready.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), len(absent.Events("raft.snapshot_restored")))
	if snap && len(absent.Events("raft.snapshot_restored")) == 0 {
		t.Error("the node caught up without a snapshot: the logs were not truncated, so the test proved nothing")
	}
	var rest counter
	collect(t, absent, "stream-0", &rest)
	rest.expect(t, "stream-0 on the node that was absent", 1000, 30*time.Second)
}
