package integration

import (
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// paho3Checks drives paho.mqtt.golang: MQTT 3.1 and 3.1.1.
func paho3Checks(t *testing.T, s *clientSite) {
	for _, v := range []struct {
		name  string
		level uint
	}{{"3.1", 3}, {"3.1.1", 4}} {
		t.Run(v.name, func(t *testing.T) {
			libraryChecks(t, s, clientLibrary{hasPresent: v.level == 4, open: func(t testing.TB, d libDial) libClient {
				return openPaho3(t, s, v.level, d)
			}})
		})
	}
}

// paho3Client is one connection of paho.mqtt.golang.
type paho3Client struct {
	paho3.Client
	present  bool
	messages chan libMessage

	mu   sync.Mutex
	conn net.Conn // guarded by mu; nil with WebSocket and TLS
}

func openPaho3(t testing.TB, s *clientSite, level uint, d libDial) libClient {
	t.Helper()
	c := &paho3Client{messages: make(chan libMessage, 256)} // more than any check receives
	o := paho3.NewClientOptions().AddBroker(d.url).SetClientID(d.id).SetProtocolVersion(level).SetCleanSession(!d.durable).
		SetAutoReconnect(false).SetKeepAlive(30 * time.Second).SetConnectTimeout(libWait).SetTLSConfig(s.tls.Clone()).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) {
			c.messages <- libMessage{m.Topic(), string(m.Payload()), m.Qos(), m.Retained(), m.Duplicate()}
		})
	if strings.HasPrefix(d.url, "mqtt://") {
		o.SetCustomOpenConnectionFn(func(u *url.URL, _ paho3.ClientOptions) (net.Conn, error) {
			conn, err := net.DialTimeout("tcp", u.Host, libWait)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.conn = conn
			return conn, err
		})
	}
	if d.will != nil {
		o.SetWill(d.will.topic, d.will.payload, d.will.qos, d.will.retain)
	}
	c.Client = paho3.NewClient(o)
	token := c.Connect().(*paho3.ConnectToken)
	c.end(t, "CONNECT", token)
	c.present = token.SessionPresent()
	return c
}

// end waits for the end of an exchange.
func (c *paho3Client) end(t testing.TB, what string, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(libWait) {
		t.Fatalf("%s: no answer within %v", what, libWait)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (c *paho3Client) subscribe(t testing.TB, filter string, qos byte) byte {
	t.Helper()
	token := c.Subscribe(filter, qos, nil).(*paho3.SubscribeToken)
	c.end(t, "SUBSCRIBE", token)
	for _, granted := range token.Result() { // there is one, under a name without $share
		return granted
	}
	t.Fatalf("SUBACK without a code for %s", filter)
	return 0
}

func (c *paho3Client) unsubscribe(t testing.TB, filter string) {
	t.Helper()
	c.end(t, "UNSUBSCRIBE", c.Unsubscribe(filter))
}

func (c *paho3Client) publish(t testing.TB, topic, payload string, qos byte, retain bool) {
	t.Helper()
	c.end(t, "PUBLISH", c.Publish(topic, qos, retain, payload))
}

func (c *paho3Client) inbox() <-chan libMessage { return c.messages }
func (c *paho3Client) sessionPresent() bool     { return c.present }

func (c *paho3Client) disconnect(testing.TB) { c.Disconnect(uint(libWait.Milliseconds())) }

func (c *paho3Client) kill() {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	_ = conn.Close()
	c.Disconnect(0) // it finds no connection to say it on
}
