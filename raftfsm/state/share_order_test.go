package state_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// TestShareOrder checks that a share with one member hands out what one publisher
// sent in order, whatever happens to the member (I4, I16).
func TestShareOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 2, command.ShardSettings{ShareStrategy: rapid.SampledFrom([]command.ShareStrategy{1, 2, 3}).Draw(t, "strategy")})
		w.shares = []string{"$share/g/a/#"}
		c := &worldClient{w: w, id: "c0"}
		w.clients = []*worldClient{c}
		c.connect(true, false)
		c.subscribe(0, byte(1+w.draw("granted", 2)))
		w.settle()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"publish", "publish", "work", "ack", "pump", "connect", "disconnect", "settle", "leader"}).Draw(t, "what") {
			case "publish":
				w.publish("a/b", byte(1+w.draw("qos", 2)), 0)
			case "work":
				c.work()
			case "ack":
				c.ack()
			case "pump":
				w.shards[w.draw("shard", 2)].pump(w.shards[w.draw("to", 2)])
			case "connect":
				if !c.connected {
					c.connect(true, false)
				}
			case "disconnect":
				c.disconnect()
			case "settle":
				w.settle()
			case "leader":
				w.shards[w.draw("shard", 2)].newLeader()
			}
		}
		w.finish()
		for i := 1; i < len(c.heard); i++ {
			if c.heard[i] < c.heard[i-1] {
				t.Fatalf("heard %v", c.heard)
			}
		}
	})
}
