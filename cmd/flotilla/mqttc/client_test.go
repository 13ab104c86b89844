package mqttc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func versions() []mqtt.Version { return []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} }

func TestPublishWaitsForTheAcknowledgement(t *testing.T) {
	for _, v := range versions() {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s/qos%d", v, qos), func(t *testing.T) {
				y := newToy(t)
				c := y.open(Options{Version: v, ClientID: "a", Clean: true})
				ack, err := c.Publish(t.Context(), &mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("x"), QoS: qos})
				if err != nil || ack.QoS != qos || ack.Code != mqtt.Success {
					t.Fatalf("ack %+v, error %v", ack, err)
				}
				if n := len(c.Session().InFlight()); n != 0 {
					t.Errorf("%d publishes are in flight after the acknowledgement", n)
				}
				if err := c.Disconnect(t.Context(), mqtt.Success); err != nil {
					t.Error(err)
				}
				if !isClosed(c.Err()) {
					t.Errorf("after Disconnect Err is %v, want ErrClosed", c.Err())
				}
				if n := len(packets[*mqtt.Disconnect](y)); n != 1 {
					t.Errorf("server saw %d DISCONNECT, want 1", n)
				}
			})
		}
	}
}

func TestRequests(t *testing.T) {
	for _, v := range versions() {
		y := newToy(t)
		c := y.open(Options{Version: v, ClientID: "a", Clean: true})
		codes, err := c.Subscribe(t.Context(), mqtt.SubscribeFilter{Filter: "a", QoS: 1}, mqtt.SubscribeFilter{Filter: "b", QoS: 0})
		if want := []mqtt.ReasonCode{1, 0}; err != nil || !slices.Equal(codes, want) {
			t.Errorf("%s: codes %v, error %v", v, codes, err)
		}
		if _, err := c.Unsubscribe(t.Context(), "a"); err != nil {
			t.Errorf("%s: unsubscribe: %v", v, err)
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Errorf("%s: ping: %v", v, err)
		}
	}
}

func TestRefusalIsATypedError(t *testing.T) {
	y := newToy(t)
	y.connack = mqtt.Connack{Code: mqtt.NotAuthorized, ReasonString: "go away"}
	_, err := Dial(t.Context(), Options{Dial: y.dial, ClientID: "a"})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != mqtt.NotAuthorized || !strings.Contains(err.Error(), "go away") {
		t.Errorf("got %v", err)
	}
}

// TestResend is what fault tests build on: the connection is cut in each state
// of a publish, and the next one continues in order, with DUP.
func TestResend(t *testing.T) {
	y := newToy(t)
	y.answer = func(p mqtt.Packet) ([]mqtt.Packet, bool) {
		switch p := p.(type) {
		case *mqtt.Publish:
			if p.QoS == 2 && string(p.Payload) == "released" {
				return nil, false
			}
			return nil, true // neither PUBACK nor PUBREC
		case *mqtt.Pubrel:
			return nil, true
		}
		return nil, false
	}
	s := NewSession()
	c := y.open(Options{ClientID: "a", Session: s})
	send := func(payload string, qos byte) uint16 {
		id, err := c.Send(t.Context(), &mqtt.Publish{Topic: []byte("t"), Payload: []byte(payload), QoS: qos, Props: []byte{0x01, 1}, TopicAlias: 0}, uint64(len(payload)))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	ids := []uint16{send("first", 1), send("released", 2), send("second", 2)}
	waitFor(t, "PUBREC", func() bool {
		return slices.ContainsFunc(s.InFlight(), func(f InFlight) bool { return f.Released })
	})
	if _, err := Dial(t.Context(), Options{Dial: y.dial, Session: s}); !errors.Is(err, ErrSessionInUse) {
		t.Errorf("second client on the session: %v", err)
	}
	c.Abort()
	<-c.Done()

	y.script(true, nil)
	var acks []Ack
	c = y.open(Options{ClientID: "a", Session: s, OnAck: func(_ *Client, a Ack) { acks = append(acks, a) }})
	if n, err := c.Resend(t.Context()); n != 3 || err != nil {
		t.Fatalf("resent %d, error %v", n, err)
	}
	waitFor(t, "all acknowledgements", func() bool { return len(s.InFlight()) == 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	pubs := packets[*mqtt.Publish](y)[3:]
	if len(pubs) != 2 || string(pubs[0].Payload) != "first" || string(pubs[1].Payload) != "second" || !pubs[0].Dup || !pubs[1].Dup ||
		!bytes.Equal(pubs[0].Props, []byte{0x01, 1}) || pubs[0].PacketID != ids[0] {
		t.Errorf("resent %+v", pubs)
	}
	got := map[uint64]Ack{}
	for _, a := range acks {
		got[a.Token] = a
	}
	want := map[uint64]Ack{5: {ids[0], 1, 5, 0, nil}, 8: {ids[1], 2, 8, 0, nil}, 6: {ids[2], 2, 6, 0, nil}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("acknowledgements (-want +got):\n%s", diff)
	}
}

func TestWindowAndReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newToy(t)
		y.connack.ReceiveMaximum = 3
		y.answer = func(p mqtt.Packet) ([]mqtt.Packet, bool) {
			_, isPublish := p.(*mqtt.Publish)
			return nil, isPublish
		}
		c := y.open(Options{ClientID: "a", Window: 10})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent := 0
		for {
			if _, err := c.Send(ctx, &mqtt.Publish{Topic: []byte("t"), QoS: 1}, 0); err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("full window: %v", err)
				}
				break
			}
			sent++
		}
		if sent != 3 {
			t.Errorf("sent %d publishes, want the server's Receive Maximum of 3", sent)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestReceivedQoS2IsDeliveredOnce(t *testing.T) {
	push := func(y *toy, p mqtt.Packet) {
		y.mu.Lock()
		conn := y.conns[len(y.conns)-1]
		y.mu.Unlock()
		if err := mqtt.WritePacket(conn, mqtt.V5, p); err != nil {
			t.Error(err)
		}
	}
	for _, manual := range []bool{false, true} {
		t.Run(fmt.Sprintf("manual=%v", manual), func(t *testing.T) {
			y := newToy(t)
			s := NewSession()
			var got []string
			c := y.open(Options{ClientID: "a", Session: s, ManualAck: manual, OnMessage: func(c *Client, p *mqtt.Publish) {
				got = append(got, fmt.Sprintf("%s/%v/%d", p.Payload, p.Dup, p.PacketID))
				if manual {
					if err := c.Ack(p.QoS, p.PacketID, mqtt.Success); err != nil {
						t.Error(err)
					}
				}
			}})
			pub := &mqtt.Publish{Topic: []byte("t"), Payload: []byte("x"), QoS: 2, PacketID: 9}
			push(y, pub)
			pub.Dup = true
			push(y, pub)
			waitFor(t, "two PUBREC", func() bool { return len(packets[*mqtt.Pubrec](y)) == 2 })
			if diff := cmp.Diff([]uint16{9}, s.Received()); diff != "" {
				t.Error(diff)
			}
			push(y, &mqtt.Pubrel{PacketID: 9})
			push(y, &mqtt.Pubrel{PacketID: 10})
			waitFor(t, "two PUBCOMP", func() bool { return len(packets[*mqtt.Pubcomp](y)) == 2 })
			if code := packets[*mqtt.Pubcomp](y)[1].Code; code != mqtt.PacketIdentifierNotFound {
				t.Errorf("PUBCOMP of an unknown id has %v", code)
			}
			_ = c.Close()
			want := []string{"x/false/9"}
			if manual {
				want = append(want, "x/true/9")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestQoS2IdsDieWithTheServersSession(t *testing.T) {
	y := newToy(t)
	s := NewSession()
	s.received[4] = struct{}{}
	y.script(true, nil)
	_ = y.open(Options{ClientID: "a", Session: s}).Close()
	if len(s.Received()) != 1 {
		t.Error("a continued session forgot its packet ids")
	}
	y.script(false, nil)
	_ = y.open(Options{ClientID: "a", Session: s}).Close()
	if len(s.Received()) != 0 {
		t.Error("a new session remembers packet ids of an old one")
	}
}

func TestTopicAliasesAreResolved(t *testing.T) {
	y := newToy(t)
	got := make(chan string, 3)
	c := y.open(Options{ClientID: "a", TopicAliasMaximum: 1, OnMessage: func(_ *Client, p *mqtt.Publish) { got <- string(p.Topic) }})
	y.mu.Lock()
	conn := y.conns[0]
	y.mu.Unlock()
	for _, p := range []*mqtt.Publish{{Topic: []byte("a/b"), TopicAlias: 1}, {TopicAlias: 1}, {TopicAlias: 2}} {
		if err := mqtt.WritePacket(conn, mqtt.V5, p); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := <-got, <-got; a != "a/b" || b != "a/b" {
		t.Errorf("topics %q, %q", a, b)
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "alias 2") {
		t.Errorf("unknown alias: %v", err)
	}
}

func TestEveryWaiterLearnsOfTheEnd(t *testing.T) {
	y := newToy(t)
	y.answer = func(p mqtt.Packet) ([]mqtt.Packet, bool) {
		_, isConnect := p.(*mqtt.Connect)
		return nil, !isConnect
	}
	closed := make(chan error, 1)
	c := y.open(Options{ClientID: "a", Window: 1, OnClose: func(_ *Client, err error) { closed <- err }})
	errs := make(chan error, 5)
	go func() {
		_, err := c.Publish(context.Background(), &mqtt.Publish{Topic: []byte("t"), QoS: 1})
		errs <- err
	}()
	waitFor(t, "the window to fill", func() bool { return len(c.Session().InFlight()) == 1 })
	go func() {
		_, err := c.Send(context.Background(), &mqtt.Publish{Topic: []byte("t"), QoS: 1}, 0)
		errs <- err
	}()
	go func() {
		_, err := c.Subscribe(context.Background(), mqtt.SubscribeFilter{Filter: "a"})
		errs <- err
	}()
	go func() { errs <- c.Ping(context.Background()) }()
	waitFor(t, "all to wait", func() bool {
		return len(packets[*mqtt.Pingreq](y)) == 1 && len(packets[*mqtt.Subscribe](y)) == 1
	})
	y.mu.Lock()
	_ = y.conns[0].Close()
	y.mu.Unlock()
	for range 4 {
		if err := <-errs; !errors.Is(err, ErrLost) {
			t.Errorf("a waiter got %v, want ErrLost", err)
		}
	}
	if err := <-closed; !errors.Is(err, ErrLost) {
		t.Errorf("OnClose got %v", err)
	}
	<-c.Done()
	if _, err := c.Send(context.Background(), &mqtt.Publish{Topic: []byte("t")}, 0); !errors.Is(err, ErrLost) {
		t.Errorf("Send after the end: %v", err)
	}
	if n := len(c.Session().InFlight()); n != 1 {
		t.Errorf("%d publishes in flight, want the one that has no answer", n)
	}
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newToy(t)
		c := y.open(Options{ClientID: "a", KeepAlive: 10 * time.Second})
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if n := len(packets[*mqtt.Pingreq](y)); n != 3 || c.Err() != nil {
			t.Errorf("%d pings in 35 s of silence, error %v", n, c.Err())
		}
		y.script(false, func(mqtt.Packet) ([]mqtt.Packet, bool) { return nil, true })
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if !errors.Is(c.Err(), ErrKeepAlive) {
			t.Errorf("silent server: %v", c.Err())
		}
	})
}

func TestDisconnectFromTheServer(t *testing.T) {
	y := newToy(t)
	y.answer = func(p mqtt.Packet) ([]mqtt.Packet, bool) {
		_, isPing := p.(*mqtt.Pingreq)
		return []mqtt.Packet{&mqtt.Disconnect{Code: mqtt.SessionTakenOver}}, isPing
	}
	c := y.open(Options{ClientID: "a"})
	err := c.Ping(t.Context())
	var gone *DisconnectError
	if !errors.As(err, &gone) || gone.Code != mqtt.SessionTakenOver || !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]Target{
		"mqtt://h:1":       {"mqtt", "h:1", ""},
		"h":                {"mqtt", "h:1883", ""},
		"127.0.0.1:1884":   {"mqtt", "127.0.0.1:1884", ""},
		"mqtts://h":        {"mqtts", "h:8883", ""},
		"ws://h":           {"ws", "h:80", "/mqtt"},
		"wss://h:1/other":  {"wss", "h:1", "/other"},
		"mqtt://[::1]:9/":  {"mqtt", "[::1]:9", ""},
		"tcp://h":          {},
		"mqtt://":          {},
		"mqtt://h/path":    {},
		"mqtt://u:p@h":     {},
		"mqtt://h:port":    {},
		"mqtt://h:1883 :x": {},
	} {
		got, err := ParseURL(raw)
		if got != want || (err == nil) != (want != Target{}) || (err != nil && !errors.Is(err, ErrURL)) {
			t.Errorf("%q: %+v, %v", raw, got, err)
		}
	}
}

func TestDialHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		go func() { _, _ = server.Read(make([]byte, 1000)) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Dial(ctx, Options{Dial: func(context.Context, string) (net.Conn, error) { return client, nil }})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// waitFor polls for a state, since callbacks of other goroutines bring it about.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSendDoesNotAllocate(t *testing.T) {
	y := newToy(t)
	y.answer = func(p mqtt.Packet) ([]mqtt.Packet, bool) {
		_, isConnect := p.(*mqtt.Connect)
		return nil, !isConnect
	}
	c := y.open(Options{ClientID: "a", WriteBuffer: 64 << 20})
	p := &mqtt.Publish{Topic: []byte("a/b"), Payload: make([]byte, 256)}
	c.s.mu.Lock()
	c.out = make([]byte, 0, 32<<20)
	c.s.mu.Unlock()
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := c.Send(ctx, p, 0); err != nil {
			t.Error(err)
		}
	}); n > 0.05 {
		t.Errorf("%v allocations per QoS 0 publish", n)
	}
}
