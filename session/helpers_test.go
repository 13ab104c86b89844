package session_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a cluster of fake nodes inside a synctest bubble.
type rig struct {
	*testing.T
	cl    *sessiontest.Cluster
	nodes []*sessiontest.Node
	reg   prometheus.Registerer // of the nodes to come; nil for none
}

// run runs a test in a bubble, with one node. Every goroutine must be gone at
// the end: synctest reports what is left.
func run(t *testing.T, fn func(r *rig)) { runCfg(t, nil, fn) }

func runCfg(t *testing.T, change func(*session.Config), fn func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, cl: sessiontest.New()}
		r.node(change)
		defer r.stop() // also after Fatal: what is left would hide the failure
		fn(r)
	})
}

func (r *rig) node(change func(*session.Config)) *sessiontest.Node {
	cfg := session.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		r.Fatal(err)
	}
	n := r.cl.AddNode(cfg, nil, r.reg)
	r.nodes = append(r.nodes, n)
	return n
}

func (r *rig) stop() {
	r.Helper()
	for _, n := range r.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := n.Server.Stop(ctx); err != nil {
			r.Errorf("stop: %v", err)
		}
		cancel()
		if st := n.Server.Stats(); st != (session.Stats{}) {
			r.Errorf("after stop: %+v", st)
		}
	}
	r.cl.Close()
}

// dial connects to the first node.
func (r *rig) dial(v mqtt.Version) *sessiontest.Client { return r.nodes[0].Dial(v) }

// open connects a client with a clean session.
func (r *rig) open(v mqtt.Version, id string) *sessiontest.Client {
	r.Helper()
	c := r.dial(v)
	c.Connect(r.T, &mqtt.Connect{ClientID: id, CleanStart: true, RequestProblemInfo: true})
	return c
}

// durable connects a client with a session that stays.
func (r *rig) durable(v mqtt.Version, id string) (*sessiontest.Client, bool) {
	r.Helper()
	return r.durableMax(v, id, 0)
}

func (r *rig) durableMax(v mqtt.Version, id string, receiveMax uint16) (*sessiontest.Client, bool) {
	r.Helper()
	c := r.dial(v)
	ack := c.Connect(r.T, &mqtt.Connect{ClientID: id, HasSessionExpiry: v == mqtt.V5, SessionExpiry: expiry(v), ReceiveMaximum: receiveMax})
	return c, ack.SessionPresent
}

func expiry(v mqtt.Version) uint32 {
	if v == mqtt.V5 {
		return 3600
	}
	return 0
}

// settle waits until nothing moves any more.
func settle() { synctest.Wait() }

// versions runs a test for each protocol version.
func versions(t *testing.T, fn func(t *testing.T, v mqtt.Version)) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) { fn(t, v) })
	}
}

func pub(topic, payload string, qos byte, pid uint16) *mqtt.Publish {
	return &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: pid}
}

func sprint(i int) string { return fmt.Sprintf("%06d", i) }

// expect is sessiontest.Expect with the rig's test.
func expect[P mqtt.Packet](r *rig, c *sessiontest.Client) P {
	r.Helper()
	return sessiontest.Expect[P](r.T, c)
}

var clean = command.Message{Topic: []byte("nothing")}
