package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// autopahoChecks drives autopaho, which speaks MQTT 5 only.
func autopahoChecks(t *testing.T, s *clientSite) {
	libraryChecks(t, s, clientLibrary{hasPresent: true, open: func(t testing.TB, d libDial) libClient {
		return openAutopaho(t, s, d)
	}})
	var checks []clientCheck
	for name, fn := range map[string]func(*testing.T, *clientSite){
		"properties": autopahoProperties, "options": autopahoOptions, "topic alias": autopahoAlias, "will delay": autopahoWillDelay,
		"session expiry": autopahoExpiry, "receive maximum": autopahoReceiveMaximum, "reconnect": autopahoReconnect, "reason codes": autopahoReasons,
	} {
		checks = append(checks, clientCheck{name, func(t *testing.T) { fn(t, s) }})
	}
	atOnce(t, checks)
}

// autopahoClient is a connection manager that connects once, unless reconnects is set.
type autopahoClient struct {
	*autopaho.ConnectionManager
	connack  chan *paho.Connack
	first    *paho.Connack
	messages chan libMessage
	packets  chan *paho.Publish // the same messages with their properties
	told     chan byte          // reason codes of DISCONNECT
	cancel   context.CancelFunc

	mu         sync.Mutex
	conn       net.Conn     // guarded by mu; nil with WebSocket and TLS
	inner      *paho.Client // guarded by mu; of the last message
	dead       bool         // guarded by mu
	reconnects bool         // guarded by mu
}

func openAutopaho(t testing.TB, s *clientSite, d libDial, edits ...func(*autopaho.ClientConfig)) *autopahoClient {
	t.Helper()
	server, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	c := &autopahoClient{
		connack: make(chan *paho.Connack, 16), told: make(chan byte, 16), // more than any check has connections
		messages: make(chan libMessage, 256), packets: make(chan *paho.Publish, 256), // or receives
	}
	cfg := autopaho.ClientConfig{
		ServerUrls: []*url.URL{server}, TlsCfg: s.tls.Clone(), KeepAlive: 30, ConnectTimeout: libWait, CleanStartOnInitialConnection: !d.durable,
		ReconnectBackoff: func(n int) time.Duration { return time.Duration(min(n, 1)) * reconnectDelay },
		OnConnectionUp:   func(_ *autopaho.ConnectionManager, ack *paho.Connack) { c.connack <- ack },
		OnConnectionDown: func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.reconnects && !c.dead
		},
		ClientConfig: paho.ClientConfig{
			ClientID: d.id, PacketTimeout: libWait, OnServerDisconnect: func(d *paho.Disconnect) { c.told <- d.ReasonCode },
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
				m := r.Packet
				c.mu.Lock()
				c.inner = r.Client
				c.mu.Unlock()
				c.messages <- libMessage{m.Topic, string(m.Payload), m.QoS, m.Retain, m.Duplicate()}
				c.packets <- m
				return true, nil
			}},
		},
	}
	if d.durable {
		cfg.SessionExpiryInterval = 3600
	}
	if d.will != nil {
		cfg.WillMessage = &paho.WillMessage{Topic: d.will.topic, Payload: []byte(d.will.payload), QoS: d.will.qos, Retain: d.will.retain}
	}
	if server.Scheme == "mqtt" {
		cfg.AttemptConnection = c.attempt
	}
	for _, e := range edits {
		e(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c.cancel = cancel
	c.ConnectionManager, err = autopaho.NewConnection(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.first = c.up(t)
	return c
}

// attempt keeps the connection, so that it can be broken.
func (c *autopahoClient) attempt(ctx context.Context, _ autopaho.ClientConfig, u *url.URL) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil, errors.Join(errors.New("killed"), conn.Close())
	}
	c.conn = packets.NewThreadSafeConn(conn) // it writes a packet in parts
	return c.conn, nil
}

// up waits for the next CONNACK.
func (c *autopahoClient) up(t testing.TB) *paho.Connack {
	t.Helper()
	select {
	case ack := <-c.connack:
		return ack
	case <-time.After(libWait):
		t.Fatalf("no CONNACK within %v", libWait)
		return nil
	}
}

func (c *autopahoClient) subscribe(t testing.TB, filter string, qos byte) byte {
	t.Helper()
	return c.subscribeWith(t, paho.SubscribeOptions{Topic: filter, QoS: qos}, 0)
}

func (c *autopahoClient) subscribeWith(t testing.TB, o paho.SubscribeOptions, id int) byte {
	t.Helper()
	s := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{o}}
	if id != 0 {
		s.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
	}
	ack, err := c.Subscribe(t.Context(), s)
	if err != nil {
		t.Fatalf("SUBSCRIBE: %v", err)
	}
	return ack.Reasons[0]
}

func (c *autopahoClient) unsubscribe(t testing.TB, filter string) {
	t.Helper()
	if _, err := c.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{filter}}); err != nil {
		t.Fatalf("UNSUBSCRIBE: %v", err)
	}
}

func (c *autopahoClient) publish(t testing.TB, topic, payload string, qos byte, retain bool) {
	t.Helper()
	c.publishWith(t, &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: retain})
}

func (c *autopahoClient) publishWith(t testing.TB, p *paho.Publish) byte {
	t.Helper()
	r, err := c.Publish(t.Context(), p)
	if err != nil {
		t.Fatalf("PUBLISH to %s: %v", p.Topic, err)
	}
	if p.QoS == 0 {
		return 0
	}
	return r.ReasonCode
}

// client is what acknowledges by hand.
func (c *autopahoClient) client() *paho.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inner
}

func (c *autopahoClient) inbox() <-chan libMessage { return c.messages }
func (c *autopahoClient) sessionPresent() bool     { return c.first.SessionPresent }

func (c *autopahoClient) disconnect(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), libWait)
	defer cancel()
	if err := c.Disconnect(ctx); err != nil {
		t.Errorf("DISCONNECT: %v", err)
	}
}

func (c *autopahoClient) kill() {
	c.mu.Lock()
	c.dead = true
	conn := c.conn
	c.mu.Unlock()
	_ = conn.Close()
	c.cancel() // it finds no connection to say DISCONNECT on
	<-c.Done()
}

// packet waits for the next message with its properties.
func (c *autopahoClient) packet(t testing.TB) *paho.Publish {
	t.Helper()
	libReceive(t, c, 1)
	return <-c.packets
}

// pairOf opens a subscriber and a publisher.
func pairOf(t testing.TB, s *clientSite) (sub, pub *autopahoClient) {
	t.Helper()
	return openAutopaho(t, s, libDial{url: "mqtt://" + s.sub.MQTTAddr(), id: clientName(t, "s")}),
		openAutopaho(t, s, libDial{url: "mqtt://" + s.pub.MQTTAddr(), id: clientName(t, "p")})
}

func pointer[T any](v T) *T { return &v }

func autopahoProperties(t *testing.T, s *clientSite) {
	topic := clientName(t, "p")
	sub, pub := pairOf(t, s)
	sub.subscribeWith(t, paho.SubscribeOptions{Topic: topic, QoS: 1}, 7)
	pub.publishWith(t, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("x"), Properties: &paho.PublishProperties{
		PayloadFormat: pointer(byte(1)), MessageExpiry: pointer(uint32(100)), ContentType: "text/plain", ResponseTopic: "answers/here",
		CorrelationData: []byte{0, 255}, User: paho.UserProperties{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
	}})
	got := sub.packet(t).Properties
	if left := *got.MessageExpiry; left > 100 || left < 90 {
		t.Errorf("message expiry interval %d, want what remains of 100", left)
	}
	want := &paho.PublishProperties{
		PayloadFormat: pointer(byte(1)), MessageExpiry: got.MessageExpiry, ContentType: "text/plain", ResponseTopic: "answers/here",
		CorrelationData: []byte{0, 255}, User: paho.UserProperties{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
		SubscriptionIdentifier: pointer(7),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

func autopahoOptions(t *testing.T, s *clientSite) {
	topic := clientName(t, "o")
	sub, pub := pairOf(t, s)
	pub.publish(t, topic, "kept", 1, true)
	sub.subscribeWith(t, paho.SubscribeOptions{Topic: topic, QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}, 0)
	sub.publish(t, topic, "own", 1, false)
	pub.publish(t, topic, "flag", 1, true)
	if m := sub.packet(t); string(m.Payload) != "flag" || !m.Retain {
		t.Errorf("No Local, Retain Handling 2 and Retain As Published: got %s, RETAIN %v", m.Payload, m.Retain)
	}
	sub.subscribeWith(t, paho.SubscribeOptions{Topic: topic, QoS: 1, RetainHandling: 1}, 0) // not new: no retained message
	sub.publish(t, topic, "mine", 1, false)
	libPayloads(t, sub, "mine")
	sub.subscribeWith(t, paho.SubscribeOptions{Topic: topic, QoS: 1}, 0)
	libPayloads(t, sub, "flag")
	pub.publish(t, topic, "", 1, true)
}

// autopahoAlias uses aliases on the way in, and allows the server some on the way out.
func autopahoAlias(t *testing.T, s *clientSite) {
	topic := clientName(t, "a")
	sub := openAutopaho(t, s, libDial{url: "mqtt://" + s.sub.MQTTAddr(), id: clientName(t, "s")}, func(cfg *autopaho.ClientConfig) {
		cfg.ConnectPacketBuilder = func(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			p.Properties = &paho.ConnectProperties{TopicAliasMaximum: pointer(uint16(4)), RequestProblemInfo: true}
			return p, nil
		}
	})
	pub := openAutopaho(t, s, libDial{url: "mqtt://" + s.pub.MQTTAddr(), id: clientName(t, "p")})
	if pub.first.Properties.TopicAliasMaximum == nil || *pub.first.Properties.TopicAliasMaximum == 0 {
		t.Fatal("CONNACK allows no topic alias")
	}
	sub.subscribe(t, topic+"/#", 1)
	for i := range 6 {
		name := ""
		if i < 2 {
			name = fmt.Sprintf("%s/%d", topic, i)
		}
		pub.publishWith(t, &paho.Publish{Topic: name, QoS: 1, Payload: []byte(fmt.Sprint(i)), Properties: &paho.PublishProperties{TopicAlias: pointer(uint16(i%2 + 1))}})
	}
	aliases := map[uint16]string{}
	for i := range 6 {
		m := sub.packet(t)
		if a := m.Properties.TopicAlias; a != nil { // the server may use aliases, autopaho leaves them to its user
			if m.Topic == "" {
				m.Topic = aliases[*a]
			}
			aliases[*a] = m.Topic
		}
		if want := fmt.Sprintf("%s/%d", topic, i%2); m.Topic != want || string(m.Payload) != fmt.Sprint(i) {
			t.Errorf("message %d: got %q on %q, want it on %q", i, m.Payload, m.Topic, want)
		}
	}
}

func autopahoWillDelay(t *testing.T, s *clientSite) {
	topic := clientName(t, "w")
	watcher, _ := pairOf(t, s)
	watcher.subscribe(t, topic, 1)
	withWill := func(cfg *autopaho.ClientConfig) {
		cfg.WillProperties = &paho.WillProperties{
			// autopaho 0.23 does not send the content type of a will.
			WillDelayInterval: pointer(uint32(1)), User: paho.UserProperties{{Key: "k", Value: "v"}},
		}
	}
	d := libDial{url: "mqtt://" + s.sub.MQTTAddr(), id: clientName(t, "will"), durable: true, will: &libMessage{topic: topic, payload: "gone", qos: 1}}
	openAutopaho(t, s, d, withWill).kill()
	d.url = "mqtt://" + s.pub.MQTTAddr()
	back := openAutopaho(t, s, d, withWill) // in time: no will
	if !back.sessionPresent() {
		t.Error("no session present")
	}
	start := time.Now()
	back.kill()
	m := watcher.packet(t)
	if after := time.Since(start); after < 800*time.Millisecond {
		t.Errorf("the will came after %v, before its delay of 1 s", after)
	}
	if !slices.Equal(m.Properties.User, paho.UserProperties{{Key: "k", Value: "v"}}) {
		t.Errorf("will properties: %+v", m.Properties)
	}
	watcher.publish(t, topic, "end", 1, false)
	libPayloads(t, watcher, "end")
}

// autopahoExpiry ends its session at DISCONNECT by an expiry of 0.
func autopahoExpiry(t *testing.T, s *clientSite) {
	d := libDial{url: "mqtt://" + s.sub.MQTTAddr(), id: clientName(t, "e"), durable: true}
	openAutopaho(t, s, d).disconnect(t)
	d.url = "mqtt://" + s.pub.MQTTAddr()
	ending := func(cfg *autopaho.ClientConfig) {
		cfg.DisconnectPacketBuilder = func() *paho.Disconnect {
			return &paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: pointer(uint32(0))}}
		}
	}
	again := openAutopaho(t, s, d, ending)
	if !again.sessionPresent() {
		t.Error("no session present")
	}
	again.disconnect(t)
	// A new connection may overtake the last packet of the old one.
	harness.Wait(t, libWait, "the session to end with DISCONNECT", func(context.Context) error {
		c := openAutopaho(t, s, d, ending)
		c.disconnect(t)
		if c.sessionPresent() {
			return errors.New("session present")
		}
		return nil
	})
}

// autopahoReceiveMaximum acknowledges nothing and gets no more than it allows.
func autopahoReceiveMaximum(t *testing.T, s *clientSite) {
	topic := clientName(t, "m")
	_, pub := pairOf(t, s)
	var got []*paho.Publish
	sub := openAutopaho(t, s, libDial{url: "mqtt://" + s.sub.MQTTAddr(), id: clientName(t, "few"), durable: true}, func(cfg *autopaho.ClientConfig) {
		cfg.EnableManualAcknowledgment = true
		cfg.ConnectPacketBuilder = func(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			p.Properties.ReceiveMaximum = pointer(uint16(3))
			return p, nil
		}
	})
	sub.subscribe(t, topic, 1)
	for i := range 9 {
		pub.publish(t, topic, fmt.Sprint(i), 1, false)
	}
	for range 3 {
		got = append(got, sub.packet(t))
	}
	sub.subscribe(t, topic+"/fence", 0) // what was allowed had time to come
	if n := len(sub.packets); n != 0 {
		t.Errorf("%d messages above a Receive Maximum of 3", n)
	}
	for i := range 9 {
		if string(got[i].Payload) != fmt.Sprint(i) {
			t.Errorf("message %d: got %s", i, got[i].Payload)
		}
		if err := sub.client().Ack(got[i]); err != nil {
			t.Fatal(err)
		}
		if len(got) < 9 {
			got = append(got, sub.packet(t))
		}
	}
	sub.disconnect(t)
	openAutopaho(t, s, libDial{url: "mqtt://" + s.pub.MQTTAddr(), id: clientName(t, "few")}).disconnect(t)
}

// autopahoReconnect breaks the connection below a manager that comes back by itself and goes on with its session.
func autopahoReconnect(t *testing.T, s *clientSite) {
	topic := clientName(t, "r")
	_, pub := pairOf(t, s)
	sub := openAutopaho(t, s, libDial{url: "mqtt://" + s.sub.MQTTAddr(), id: clientName(t, "back"), durable: true})
	sub.mu.Lock()
	sub.reconnects = true
	conn := sub.conn
	sub.mu.Unlock()
	sub.subscribe(t, topic, 2)
	pub.publish(t, topic, "before", 2, false)
	libPayloads(t, sub, "before")
	_ = conn.Close()
	pub.publish(t, topic, "while it was away", 2, false)
	if ack := sub.up(t); !ack.SessionPresent {
		t.Error("no session present")
	}
	libPayloads(t, sub, "while it was away")
	sub.publish(t, topic, "after", 2, false)
	libPayloads(t, sub, "after")
	sub.disconnect(t)
	openAutopaho(t, s, libDial{url: "mqtt://" + s.pub.MQTTAddr(), id: clientName(t, "back")}).disconnect(t)
}

func autopahoReasons(t *testing.T, s *clientSite) {
	topic := clientName(t, "n")
	sub, pub := pairOf(t, s)
	if code := pub.publishWith(t, &paho.Publish{Topic: topic, QoS: 1}); code != packets.PubackNoMatchingSubscribers {
		t.Errorf("PUBACK without a subscriber: 0x%02X, want 0x10", code)
	}
	if code := pub.publishWith(t, &paho.Publish{Topic: topic, QoS: 2}); code != packets.PubcompSuccess && code != packets.PubrecNoMatchingSubscribers {
		t.Errorf("PUBREC without a subscriber: 0x%02X", code)
	}
	again := openAutopaho(t, s, libDial{url: "mqtt://" + s.pub.MQTTAddr(), id: clientName(t, "s")}) // the subscriber's id
	select {
	case code := <-sub.told:
		if code != packets.DisconnectSessionTakenOver {
			t.Errorf("DISCONNECT 0x%02X, want 0x8E", code)
		}
	case <-time.After(libWait):
		t.Error("the old connection got no DISCONNECT")
	}
	again.disconnect(t)
	anonymous := openAutopaho(t, s, libDial{url: "mqtt://" + s.pub.MQTTAddr()})
	if id := anonymous.first.Properties.AssignedClientID; strings.TrimSpace(id) == "" {
		t.Error("no assigned client identifier")
	}
	anonymous.disconnect(t)
}
