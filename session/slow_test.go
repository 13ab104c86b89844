package session_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Clients that take or give a byte a second cost what their limits say, are told
// apart from those that are dead, and slow nobody down.
func TestOneBytePerSecond(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version, durable bool) {
		change := func(c *session.Config) { c.OutboxBytes, c.QueueMessages, c.QueueBytes = 8192, 100, 16384 }
		runCfg(t, change, func(r *rig) {
			reg := prometheus.NewRegistry()
			r.reg = reg
			n := r.node(change)
			r.nodes[0], r.nodes[1] = n, r.nodes[0]
			slow := n.DialPipe(v, 128)
			slow.Connect(t, &mqtt.Connect{ClientID: "slow", CleanStart: !durable, HasSessionExpiry: durable && v == mqtt.V5,
				SessionExpiry: uint32(b2i(durable && v == mqtt.V5)) * 600})
			slow.Subscribe(t, 1, "t")
			fine := r.open(v, "fine")
			fine.Subscribe(t, 1, "t")
			stop := make(chan struct{})
			ended := make(chan struct{})
			go func() { // reads a byte a second
				defer close(ended)
				var b [1]byte
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Second):
					}
					_ = slow.NC.SetReadDeadline(time.Now().Add(time.Second))
					_, _ = slow.NC.Read(b[:])
				}
			}()
			for i := range 400 {
				r.cl.Publish(command.Message{Topic: []byte("t"), Payload: make([]byte, 200), QoS: byte(i % 2)})
				m := fine.ExpectPublish(t, "t", string(make([]byte, 200)))
				if m.QoS == 1 {
					fine.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
				}
				if ci, ok := n.Server.Client(command.SessionKey{ClientID: "slow"}); ok && ci.OutboxBytes > 2*8192+1024 {
					t.Fatalf("%d bytes wait for a slow client", ci.OutboxBytes)
				}
				time.Sleep(50 * time.Millisecond)
			}
			dropped := labelled(t, reg, "flotilla_messages_dropped_total")["qos0_slow"]
			closed := labelled(t, reg, "flotilla_connections_closed_total")["slow"]
			if dropped == 0 || durable && closed != 0 || !durable && closed != 1 {
				t.Errorf("%v messages of QoS 0 were dropped, %v clients disconnected as slow", dropped, closed)
			}
			close(stop)
			<-ended
		})
	})
}

func TestSlowWriters(t *testing.T) {
	run(t, func(r *rig) {
		// CONNECT, byte by byte, does not get further than the time to CONNECT.
		c := r.dial(mqtt.V5)
		start := time.Now()
		for _, b := range encode(t, mqtt.V5, &mqtt.Connect{Version: mqtt.V5, ClientID: "a client with a long name", CleanStart: true}) {
			if c.SendRaw([]byte{b}) != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d > 12*time.Second {
			t.Errorf("a slow handshake lived for %v", d)
		}
		// A packet that never ends is silence.
		c = r.dial(mqtt.V5)
		c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, KeepAlive: 10})
		start = time.Now()
		for _, b := range encode(t, mqtt.V5, pub("t", string(make([]byte, 100)), 0, 0)) {
			if c.SendRaw([]byte{b}) != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d < 15*time.Second || d > 18*time.Second {
			t.Errorf("a slow packet was awaited for %v", d)
		}
		c.ExpectDisconnect(t, mqtt.KeepAliveTimeout)
	})
}

// A client above its rate waits, and another one does not.
func TestClientRate(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.ClientMessages = 10 }, func(r *rig) {
		c := r.open(mqtt.V311, "c")
		start := time.Now()
		for i := range 30 {
			c.MustSend(t, pub("t", "x", 1, uint16(i+1)))
		}
		for range 30 {
			expect[*mqtt.Puback](r, c)
		}
		if d := time.Since(start); d < 1900*time.Millisecond || d > 3100*time.Millisecond {
			t.Errorf("30 publishes at 10 per second took %v", d)
		}
		time.Sleep(10 * time.Second)
		start = time.Now()
		for range 10 {
			c.MustSend(t, pub("t", "x", 1, 1))
			expect[*mqtt.Puback](r, c)
		}
		if d := time.Since(start); d > time.Millisecond {
			t.Errorf("a burst of a second's worth took %v", d)
		}
	})
	runCfg(t, func(c *session.Config) { c.ClientBytes = 1000 }, func(r *rig) {
		c := r.open(mqtt.V311, "c")
		start := time.Now()
		c.MustSend(t, pub("t", string(make([]byte, 3000)), 1, 1), pub("t", "x", 1, 1))
		expect[*mqtt.Puback](r, c)
		expect[*mqtt.Puback](r, c)
		if d := time.Since(start); d < 1900*time.Millisecond || d > 3100*time.Millisecond {
			t.Errorf("3,000 bytes at 1,000 per second took %v", d)
		}
	})
}
