package mqttc

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Options configure one connection. Only URL (or Dial) is required.
type Options struct {
	// URL is mqtt://HOST:PORT, or with mqtts, ws, wss; HOST:PORT means mqtt.
	URL string
	// TLS is used with mqtts and wss. Nil: the system's roots.
	TLS *tls.Config
	// Dial replaces the way to the server, for tests; it gets Addr of the URL.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// Version defaults to mqtt.V5.
	Version mqtt.Version
	// ClientID may be empty with Clean: the server chooses one (v5) or the
	// connection has none.
	ClientID string
	// Clean is Clean Start (v5) or Clean Session.
	Clean bool
	// SessionExpiry in seconds is sent to v5 servers if it is not 0.
	SessionExpiry uint32
	// KeepAlive is rounded up to seconds; 0 is off. A PINGREQ is sent when
	// nothing was sent for that long.
	KeepAlive time.Duration
	Username  string
	Password  []byte
	Will      *mqtt.Will
	// ReceiveMaximum tells a v5 server how many QoS 1 and 2 publishes it may
	// have under way. 0: 65,535.
	ReceiveMaximum uint16
	// EditConnect may change the CONNECT packet before it is sent.
	EditConnect func(*mqtt.Connect)

	// Window is the most QoS 1 and 2 publishes in flight. Default 64. A lower
	// Receive Maximum of the server wins.
	Window int
	// WriteBuffer is how many bytes may wait to be written before Send
	// blocks. Default 256 KiB.
	WriteBuffer int
	// Limits bound what the server may send. The zero value means the defaults.
	Limits mqtt.Limits
	// Session continues a session of an earlier client. Nil: a new one.
	Session *Session

	// ManualAck leaves the answer to PUBLISH to the caller: see Ack. PUBREL is
	// still answered with PUBCOMP, and repeated QoS 2 publishes are delivered.
	ManualAck bool
	// OnMessage gets every PUBLISH, with its topic alias resolved. With
	// automatic acknowledgement it returns before the answer is written, and a
	// QoS 2 packet id that awaits PUBREL is not delivered again. p and its
	// slices are valid during the call.
	OnMessage func(c *Client, p *mqtt.Publish)
	// OnAck gets the end of every Send with QoS 1 or 2.
	OnAck func(c *Client, a Ack)
	// OnPacket sees every packet after CONNACK first. If it returns true the
	// client does nothing with the packet. p is valid during the call.
	OnPacket func(c *Client, p mqtt.Packet) bool
	// OnClose is called once, last, from the reader, with the reason.
	OnClose func(c *Client, err error)
}

// Ack is the end of a publish of QoS 1 or 2.
type Ack struct {
	PacketID uint16
	QoS      byte
	// Token is what Send was given.
	Token uint64
	// Code is mqtt.Success before MQTT 5.
	Code mqtt.ReasonCode
}

// Client is one connection to a server.
type Client struct {
	opt     Options
	version mqtt.Version
	conn    net.Conn
	connack mqtt.Connack
	window  int
	s       *Session

	done   chan struct{} // closed when the connection has ended
	joined sync.WaitGroup
}

// Dial connects, sends CONNECT and waits for CONNACK. A refusal is a
// *RefusedError. Callbacks may run before Dial returns.
func Dial(ctx context.Context, opt Options) (*Client, error) { panic("todo") }

// Connack is the server's answer.
func (c *Client) Connack() mqtt.Connack { return c.connack }

// SessionPresent says whether the server continued a session.
func (c *Client) SessionPresent() bool { return c.connack.SessionPresent }

// ClientID is the client id, also if the server chose it.
func (c *Client) ClientID() string { panic("todo") }

// Version is the protocol version of the connection.
func (c *Client) Version() mqtt.Version { return c.version }

// Session is the client's half of the session, for a next Dial.
func (c *Client) Session() *Session { return c.s }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection ended, nil before that.
func (c *Client) Err() error { panic("todo") }

// Disconnect sends DISCONNECT with that code (v5), flushes and closes.
func (c *Client) Disconnect(ctx context.Context, code mqtt.ReasonCode) error { panic("todo") }

// Close ends the connection without DISCONNECT, as a crash does, and joins the
// goroutines. What was not written yet is lost. It is idempotent.
func (c *Client) Close() error { panic("todo") }

// Abort is Close without waiting, for callbacks.
func (c *Client) Abort() { panic("todo") }
