package session_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestKeepAlive_v311_MQTT_3_1_2_24_v5_MQTT_3_1_2_22(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		run(t, func(r *rig) {
			for _, s := range []uint16{1, 10, 200} {
				c := r.dial(v)
				c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, KeepAlive: s})
				start := time.Now()
				for range 3 { // any packet counts
					time.Sleep(time.Duration(s) * 1400 * time.Millisecond)
					c.MustSend(t, pub("t", "x", 0, 0))
					start = time.Now()
				}
				if v == mqtt.V5 {
					if d, err := c.RecvWithin(time.Hour); err != nil || d.(*mqtt.Disconnect).Code != mqtt.KeepAliveTimeout {
						t.Errorf("%v %v", d, err)
					}
				} else if _, err := c.RecvWithin(time.Hour); err == nil {
					t.Error("got a packet")
				}
				late := time.Since(start) - time.Duration(s)*1500*time.Millisecond
				if late < 0 || late > 600*time.Millisecond {
					t.Errorf("keep-alive %d s: closed %v late", s, late)
				}
			}
		})
	})
}

func TestKeepAliveZeroAndSlowPackets(t *testing.T) {
	run(t, func(r *rig) {
		c := r.dial(mqtt.V311)
		c.Connect(t, &mqtt.Connect{ClientID: "off", CleanStart: true})
		time.Sleep(100 * time.Hour)
		c.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, c)
		// A packet that never ends is silence.
		c = r.dial(mqtt.V311)
		c.Connect(t, &mqtt.Connect{ClientID: "drip", CleanStart: true, KeepAlive: 10})
		if err := c.SendRaw([]byte{0x30, 0x7f}); err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			time.Sleep(time.Second)
			if c.SendRaw([]byte{0}) != nil {
				if i < 14 || i > 17 {
					t.Errorf("closed after %d s", i)
				}
				break
			}
		}
	})
}

func TestTakeover_v5_MQTT_3_1_4_3(t *testing.T) {
	for _, remote := range []bool{false, true} {
		both(t, func(t *testing.T, v mqtt.Version, durable bool) {
			run(t, func(r *rig) {
				n := r.nodes[0]
				if remote {
					n = r.node(nil)
				}
				old := r.client(v, "c", durable)
				old.Subscribe(t, 1, "t")
				p := r.open(mqtt.V5, "p")
				p.MustSend(t, pub("t", "x", 1, 1))
				old.ExpectPublish(t, "t", "x")

				c := n.Dial(v)
				ack := c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: !durable, HasSessionExpiry: durable && v == mqtt.V5,
					SessionExpiry: 100 * uint32(b2i(durable && v == mqtt.V5))})
				if ack.SessionPresent != (durable && v != mqtt.V31) {
					t.Errorf("session present %v", ack.SessionPresent)
				}
				start := time.Now()
				if v == mqtt.V5 {
					old.ExpectDisconnect(t, mqtt.SessionTakenOver)
				} else {
					old.ExpectClosed(t)
				}
				if d := time.Since(start); d > time.Second {
					t.Errorf("closed after %v", d)
				}
				if durable {
					if m := c.ExpectPublish(t, "t", "x"); !m.Dup {
						t.Error("a message that was sent before has no DUP")
					}
				}
				settle()
				if s, _ := r.cl.Session("c"); !s.Connected {
					t.Error("the old connection's end disconnected the new one") // B6
				}
			})
		})
	}
}

// What the old connection was not sent yet, it never gets: the new one does (I9).
func TestTakeoverDiscardsUnsent(t *testing.T) {
	run(t, func(r *rig) {
		old := r.nodes[0].DialPipe(mqtt.V5, 64)
		old.Connect(t, &mqtt.Connect{ClientID: "c", HasSessionExpiry: true, SessionExpiry: 100})
		old.Subscribe(t, 1, "t")
		for i := range 20 {
			r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte(fmt.Sprintf("%0100d", i)), QoS: 1})
			settle() // the first is being written, the others wait
		}
		c, _ := r.durable(mqtt.V5, "c")
		old.ExpectPublish(t, "t", fmt.Sprintf("%0100d", 0))
		old.ExpectDisconnect(t, mqtt.SessionTakenOver)
		for i := range 20 {
			c.ExpectPublish(t, "t", fmt.Sprintf("%0100d", i))
		}
	})
}

// Many connections with one client id at once: one remains, and it works (I9).
func TestTakeoverStorm(t *testing.T) {
	run(t, func(r *rig) {
		nodes := []*sessiontest.Node{r.nodes[0], r.node(nil), r.node(nil)}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var clients []*sessiontest.Client
		for i := range 60 {
			wg.Go(func() {
				c := nodes[i%3].Dial(mqtt.V5)
				_ = c.Send(&mqtt.Connect{Version: mqtt.V5, ClientID: "c", HasSessionExpiry: true, SessionExpiry: 100})
				mu.Lock()
				defer mu.Unlock()
				clients = append(clients, c)
			})
		}
		wg.Wait()
		settle()
		live := 0
		for _, n := range nodes {
			live += n.Server.Stats().Connections
		}
		if live != 1 {
			t.Errorf("%d connections are left", live)
		}
		open := 0
		for _, c := range clients {
			closed := false
			for {
				p, err := c.RecvWithin(time.Millisecond)
				if err != nil {
					closed = closed || err.Error() == "EOF" || err.Error() == "io: read/write on closed pipe"
					break
				}
				if _, ok := p.(*mqtt.Disconnect); ok {
					closed = true
				}
			}
			if !closed {
				open++
				c.MustSend(t, &mqtt.Pingreq{})
				expect[*mqtt.Pingresp](r, c)
			}
		}
		if open != 1 {
			t.Errorf("%d clients are not told", open)
		}
	})
}

// A kick that overtakes the answer to CONNECT still counts.
func TestKickBeforeAttach(t *testing.T) {
	run(t, func(r *rig) {
		r.nodes[0].BeforeConnectReturns = func(ref command.SessionRef) {
			r.nodes[0].Server.Kick(ref.SessionKey, ref.Epoch, mqtt.SessionTakenOver)
		}
		c := r.dial(mqtt.V5)
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true})
		c.ExpectClosed(t)
		r.nodes[0].BeforeConnectReturns = nil
		c = r.open(mqtt.V5, "c") // it is not remembered against the next one
		c.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, c)
	})
}

// Two CONNECTs of one client id: the answer to the older one comes last, and
// does not win for that.
func TestLateAttachLoses(t *testing.T) {
	run(t, func(r *rig) {
		first, newer := make(chan struct{}), make(chan struct{})
		r.nodes[0].BeforeConnectReturns = func(ref command.SessionRef) {
			if ref.Epoch == 1 {
				close(first)
				<-newer
			}
		}
		a := r.dial(mqtt.V5)
		a.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true})
		<-first
		b := r.open(mqtt.V5, "c")
		close(newer)
		a.ExpectClosed(t)
		b.MustSend(t, &mqtt.Pingreq{})
		expect[*mqtt.Pingresp](r, b)
		if s, _ := r.cl.Session("c"); !s.Connected || s.Epoch != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestKickByOperator(t *testing.T) {
	run(t, func(r *rig) {
		c, _ := r.durable(mqtt.V5, "c")
		s, _ := r.cl.Session("c")
		r.cl.Kick("c", s.Epoch-1, mqtt.AdministrativeAction) // an older one: not meant
		c.ExpectNothing(t, time.Second)
		r.cl.Kick("c", s.Epoch, mqtt.AdministrativeAction)
		c.ExpectDisconnect(t, mqtt.AdministrativeAction)
		settle()
		if s, _ := r.cl.Session("c"); s.Connected {
			t.Error("the cluster was not told")
		}
	})
}

func TestWills_v5_MQTT_3_1_2_8(t *testing.T) {
	for _, tc := range []struct {
		name  string
		end   func(t *testing.T, r *rig, c *sessiontest.Client)
		fires bool
	}{
		{"network", func(_ *testing.T, _ *rig, c *sessiontest.Client) { c.Close() }, true},
		{"disconnect", func(t *testing.T, _ *rig, c *sessiontest.Client) { c.MustSend(t, &mqtt.Disconnect{}) }, false},
		{"protocol error", func(t *testing.T, _ *rig, c *sessiontest.Client) {
			c.MustSend(t, &mqtt.Connect{Version: c.Version, ClientID: "c", CleanStart: true})
		}, true},
		{"keep-alive", func(*testing.T, *rig, *sessiontest.Client) { time.Sleep(20 * time.Second) }, true},
		{"takeover", func(t *testing.T, r *rig, _ *sessiontest.Client) { r.open(mqtt.V5, "c") }, true},
		{"kick", func(_ *testing.T, r *rig, _ *sessiontest.Client) { r.cl.Kick("c", 1000, mqtt.AdministrativeAction) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(t *testing.T, v mqtt.Version, durable bool) {
				run(t, func(r *rig) {
					w := r.open(mqtt.V5, "watch")
					w.Subscribe(t, 1, "will/#")
					c := r.dial(v)
					will := &mqtt.Will{Topic: "will/c", Payload: []byte("gone"), QoS: 1}
					c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: !durable, KeepAlive: 10, Will: will,
						HasSessionExpiry: durable && v == mqtt.V5, SessionExpiry: 100 * uint32(b2i(durable && v == mqtt.V5))})
					tc.end(t, r, c)
					if tc.fires {
						w.ExpectPublish(t, "will/c", "gone")
					}
					w.ExpectNothing(t, time.Second)
				})
			})
		})
	}
}

// A client that says goodbye and is gone before its last acknowledgement can be
// written has said goodbye (I15).
func TestDisconnectCountsAfterWriteError(t *testing.T) {
	for _, bye := range []bool{true, false} {
		run(t, func(r *rig) {
			w := r.open(mqtt.V5, "watch")
			w.Subscribe(t, 1, "will/#")
			c := r.dial(mqtt.V5)
			c.Connect(t, &mqtt.Connect{ClientID: "c", CleanStart: true, Will: &mqtt.Will{Topic: "will/c"}})
			c.Server.FailWrites(errors.New("connection reset by peer"))
			c.MustSend(t, pub("t", "x", 1, 1))
			settle()
			c.MustSend(t, pub("t", "x", 1, 1), &mqtt.Pingreq{})
			if bye {
				c.MustSend(t, &mqtt.Disconnect{})
				w.ExpectNothing(t, sessiontest.Wait)
			} else {
				w.ExpectPublish(t, "will/c", "")
			}
			if n := r.cl.Published(); n != 2+b2i(!bye) {
				t.Errorf("%d messages were published", n)
			}
		})
	}
}

func TestWillDetails(t *testing.T) {
	runCfg(t, func(c *session.Config) { c.Authorizer = denyTopic("secret") }, func(r *rig) {
		w := r.open(mqtt.V5, "watch")
		w.MustSend(t, &mqtt.Subscribe{PacketID: 1, Filters: []mqtt.SubscribeFilter{{Filter: "w", QoS: 2, RetainAsPublished: true}}})
		expect[*mqtt.Suback](r, w)
		props, _ := (&mqtt.MessageProps{ContentType: "x", UserProperties: []mqtt.UserProperty{{Key: "k", Value: "v"}}}).Append(nil)
		begin := func(will *mqtt.Will) *sessiontest.Client {
			c := r.dial(mqtt.V5)
			c.Connect(t, &mqtt.Connect{ClientID: "c", HasSessionExpiry: true, SessionExpiry: 3600, Will: will})
			return c
		}
		c := begin(&mqtt.Will{Topic: "w", QoS: 2, Retain: true, Delay: 60, HasExpiry: true, Expiry: 100, Props: props})
		c.Close()
		w.ExpectNothing(t, 59*time.Second)
		m := w.ExpectPublish(t, "w", "")
		if !m.Retain || m.QoS != 2 || string(m.Props) != string(props) || m.Expiry != 100 {
			t.Errorf("%+v", m)
		}
		c = begin(&mqtt.Will{Topic: "w", Payload: []byte("at once")})
		c.MustSend(t, &mqtt.Disconnect{Code: mqtt.DisconnectWithWill}) // v5:3.14.2.1
		c.ExpectClosed(t)
		w.ExpectPublish(t, "w", "at once")
		c = begin(&mqtt.Will{Topic: "w", Delay: 60})
		c.MustSend(t, &mqtt.Disconnect{Code: mqtt.DisconnectWithWill})
		c.ExpectClosed(t)
		time.Sleep(30 * time.Second)
		begin(nil) // resumed in time: nothing fires (I15)
		w.ExpectNothing(t, 2*time.Minute)

		c = r.dial(mqtt.V5)
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "d", CleanStart: true, Will: &mqtt.Will{Topic: "secret"}})
		if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.NotAuthorized {
			t.Errorf("CONNACK %s", ack.Code)
		}
	})
}

func TestDrain(t *testing.T) {
	run(t, func(r *rig) {
		s := r.nodes[0].Server
		var clients []*sessiontest.Client
		for i := range 50 {
			clients = append(clients, r.client(mqtt.V5, fmt.Sprint("c", i), true))
		}
		start := time.Now()
		if err := s.Drain(context.Background(), 10); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("50 clients at 10/s took %v", d)
		}
		for _, c := range clients {
			if p := expect[*mqtt.Disconnect](r, c); p.Code != mqtt.AdministrativeAction {
				t.Errorf("DISCONNECT %s", p.Code)
			}
		}
		c := r.dial(mqtt.V5)
		c.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "late", CleanStart: true})
		if ack := expect[*mqtt.Connack](r, c); ack.Code != mqtt.ServerUnavailable {
			t.Errorf("CONNACK %s", ack.Code)
		}
		s.Undrain()
		r.open(mqtt.V5, "late")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := s.Drain(ctx, 1); err == nil {
			t.Error("the drain of a client that is still there is over")
		}
	})
}

func TestStopTellsClients(t *testing.T) {
	run(t, func(r *rig) {
		a, b := r.open(mqtt.V5, "a"), r.open(mqtt.V311, "b")
		done := make(chan error, 1)
		go func() { done <- r.nodes[0].Server.Stop(context.Background()) }()
		a.ExpectDisconnect(t, mqtt.ServerShuttingDown)
		b.ExpectClosed(t)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseAllStopsAcknowledging(t *testing.T) {
	run(t, func(r *rig) {
		r.cl.Set(func(f *sessiontest.Faults) { f.Hold = true })
		c := r.open(mqtt.V5, "c")
		c.MustSend(t, pub("t", "x", 1, 1))
		settle()
		if n := r.nodes[0].Server.CloseAll(mqtt.ServerUnavailable); n != 1 {
			t.Errorf("closed %d", n)
		}
		r.cl.ReleaseAll()
		c.ExpectDisconnect(t, mqtt.ServerBusy)
	})
}

func TestDurableBecomesTransientAndBack(t *testing.T) {
	run(t, func(r *rig) {
		c, _ := r.durable(mqtt.V5, "c")
		c.Subscribe(t, 1, "t")
		c.MustSend(t, pub("q", "held", 2, 9))
		expect[*mqtt.Pubrec](r, c)
		c.Close()
		settle()
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("queued"), QoS: 1})
		// Resumed with expiry 0: what was queued and stored is still served.
		c = r.dial(mqtt.V5)
		if ack := c.Connect(t, &mqtt.Connect{ClientID: "c"}); !ack.SessionPresent {
			t.Error("session not present")
		}
		c.ExpectPublish(t, "t", "queued")
		r.cl.Publish(command.Message{Topic: []byte("t"), Payload: []byte("live"), QoS: 1})
		c.ExpectPublish(t, "t", "live")
		w := r.open(mqtt.V5, "w")
		w.Subscribe(t, 2, "q")
		c.MustSend(t, &mqtt.Pubrel{PacketID: 9}, &mqtt.Pubrel{PacketID: 9})
		if a := expect[*mqtt.Pubcomp](r, c); a.Code != mqtt.Success {
			t.Errorf("PUBCOMP %s", a.Code)
		}
		if a := expect[*mqtt.Pubcomp](r, c); a.Code != mqtt.PacketIdentifierNotFound {
			t.Errorf("PUBCOMP %s", a.Code)
		}
		w.ExpectPublish(t, "q", "held")
		c.MustSend(t, &mqtt.Disconnect{})
		c.ExpectClosed(t)
		settle()
		if _, ok := r.cl.Session("c"); ok {
			t.Error("the session outlived its connection")
		}
	})
}

func TestClientsPage(t *testing.T) {
	run(t, func(r *rig) {
		for i := range 30 {
			r.open([]mqtt.Version{mqtt.V311, mqtt.V5}[i%2], fmt.Sprintf("c%02d", i))
		}
		settle()
		var ids []string
		for after := ""; ; {
			page := r.nodes[0].Server.Clients("", after, 7)
			for _, ci := range page {
				ids = append(ids, ci.ClientID)
				after = ci.ClientID
			}
			if len(page) < 7 {
				break
			}
		}
		for i, id := range ids {
			if id != fmt.Sprintf("c%02d", i) {
				t.Errorf("place %d: %s", i, id)
			}
		}
		if len(ids) != 30 {
			t.Errorf("%d clients", len(ids))
		}
		ci, ok := r.nodes[0].Server.Client(command.SessionKey{ClientID: "c03"})
		if !ok || ci.Version != mqtt.V5 || ci.Listener != "test" || ci.Transport != "pipe" || ci.Epoch == 0 {
			t.Errorf("%+v", ci)
		}
	})
}

// A CONNECT that is under way when the node gives up is answered.
func TestPendingConnectIsRefused(t *testing.T) {
	versions(t, func(t *testing.T, v mqtt.Version) {
		for name, end := range map[string]func(s *session.Server){
			"lease":    func(s *session.Server) { s.CloseAll(mqtt.ServerUnavailable) },
			"drain":    func(s *session.Server) { _ = s.Drain(context.Background(), 100) },
			"shutdown": func(s *session.Server) { _ = s.Stop(context.Background()) },
		} {
			run(t, func(r *rig) {
				r.cl.Set(func(f *sessiontest.Faults) { f.Hang = true })
				cl := r.dial(v)
				cl.MustSend(t, &mqtt.Connect{Version: v, ClientID: "c", CleanStart: true})
				mute := r.dial(v) // has sent nothing, and gets nothing
				settle()
				end(r.nodes[0].Server)
				if ack := expect[*mqtt.Connack](r, cl); ack.Code != mqtt.ServerUnavailable {
					t.Errorf("%s: %s", name, ack.Code)
				}
				cl.ExpectClosed(t)
				mute.ExpectClosed(t)
			})
		}
		run(t, func(r *rig) { // the session is there, and its CONNACK waits
			r.nodes[0].BeforeConnectReturns = func(command.SessionRef) { r.nodes[0].Server.CloseAll(mqtt.ServerUnavailable) }
			cl := r.dial(v)
			cl.MustSend(t, &mqtt.Connect{Version: v, ClientID: "c", CleanStart: true})
			if ack := expect[*mqtt.Connack](r, cl); ack.Code != mqtt.ServerUnavailable {
				t.Errorf("%s", ack.Code)
			}
			cl.ExpectClosed(t)
		})
	})
}
