package mqttc

import (
	"context"
	"crypto/tls"
	"errors"
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
	// Dial replaces the way to the server, for tests; it gets the address of
	// the URL, or nothing if URL is empty.
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
	// nothing was sent for that long. The server's own keep-alive wins.
	KeepAlive time.Duration
	Username  string
	Password  []byte // nil: none
	Will      *mqtt.Will
	// ReceiveMaximum tells a v5 server how many QoS 1 and 2 publishes it may
	// have under way. 0: 65,535.
	ReceiveMaximum uint16
	// TopicAliasMaximum is how many topic aliases a v5 server may use.
	TopicAliasMaximum uint16
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

const (
	defaultWindow      = 64
	defaultWriteBuffer = 256 << 10
)

// Ack is the end of a publish of QoS 1 or 2.
type Ack struct {
	PacketID uint16
	QoS      byte
	// Token is what Send was given.
	Token uint64
	// Code is mqtt.Success before MQTT 5.
	Code mqtt.ReasonCode
	// Payload is a copy of the payload if the server refused the publish.
	Payload []byte
}

// Client is one connection to a server.
type Client struct {
	opt       Options
	version   mqtt.Version
	conn      net.Conn
	reader    *mqtt.Reader
	connack   mqtt.Connack
	window    int
	maxBuffer int
	s         *Session

	done   chan struct{} // closed when the connection has ended
	joined sync.WaitGroup

	wake sync.Cond // writer: there is output or the end
	room sync.Cond // senders: window or buffer has room, or the end

	// Under s.mu:
	out      []byte // not written yet
	spare    []byte // the writer's other buffer
	queued   uint64 // bytes ever put into out
	written  uint64 // bytes ever handed to the operating system
	waiters  int    // in room.Wait
	closing  bool   // the writer ends when out is empty
	err      error  // why it ended; nil while open
	pongs    []chan<- response
	lastSent time.Time   // of the keep-alive
	timer    *time.Timer // of the keep-alive; nil: off
	awaiting bool        // a PINGREQ of the keep-alive has no answer yet

	// The reader's own:
	acks    []byte            // answers not yet in out
	freed   bool              // the window has room again
	aliases map[uint16][]byte // topic aliases of the server
}

// Dial connects, sends CONNECT and waits for CONNACK. A refusal is a
// *RefusedError. Callbacks may run before Dial returns.
func Dial(ctx context.Context, opt Options) (*Client, error) {
	c := &Client{opt: opt, version: opt.Version, s: opt.Session, done: make(chan struct{})}
	if c.version == 0 {
		c.version = mqtt.V5
	}
	if c.s == nil {
		c.s = NewSession()
	}
	if err := c.s.take(c); err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		c.s.leave(c)
		return nil, err
	}
	return c, nil
}

func (c *Client) open(ctx context.Context) error {
	conn, err := dialConn(ctx, &c.opt)
	if err != nil {
		return err
	}
	c.conn = conn
	c.reader = mqtt.NewReader(conn, c.opt.Limits)
	c.reader.SetVersion(c.version)
	if err := c.handshake(ctx, c.reader); err != nil {
		return errors.Join(err, conn.Close())
	}
	c.window, c.maxBuffer = c.opt.Window, c.opt.WriteBuffer
	if c.window <= 0 {
		c.window = defaultWindow
	}
	if rm := int(c.connack.ReceiveMaximum); c.version == mqtt.V5 && rm > 0 {
		c.window = min(c.window, rm)
	}
	if c.maxBuffer <= 0 {
		c.maxBuffer = defaultWriteBuffer
	}
	c.wake.L, c.room.L = &c.s.mu, &c.s.mu
	if !c.connack.SessionPresent {
		c.s.forgetReceived() // the server knows none of these packet ids
	}
	c.startKeepAlive()
	c.joined.Add(2)
	go c.readLoop()
	go c.writeLoop()
	return nil
}

func (s *Session) take(c *Client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil {
		return ErrSessionInUse
	}
	s.owner = c
	return nil
}

func (s *Session) leave(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == c {
		s.owner = nil
	}
}

// Connack is the server's answer.
func (c *Client) Connack() mqtt.Connack { return c.connack }

// SessionPresent says whether the server continued a session.
func (c *Client) SessionPresent() bool { return c.connack.SessionPresent }

// ClientID is the client id, also if the server chose it.
func (c *Client) ClientID() string {
	if c.connack.AssignedClientID != "" {
		return c.connack.AssignedClientID
	}
	return c.opt.ClientID
}

// Version is the protocol version of the connection.
func (c *Client) Version() mqtt.Version { return c.version }

// Session is the client's half of the session, for a next Dial.
func (c *Client) Session() *Session { return c.s }

// Done is closed when the connection has ended and no callback runs any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection ended, nil before that.
func (c *Client) Err() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.err
}

// goodbyeWait bounds how long Disconnect waits for the server to close.
const goodbyeWait = time.Second

// Disconnect sends DISCONNECT with that code (v5), flushes, waits up to a
// second for the server to close, and closes. Without that wait, closing with
// unread data would reset the connection and could destroy the DISCONNECT.
func (c *Client) Disconnect(ctx context.Context, code mqtt.ReasonCode) error {
	err := c.Write(&mqtt.Disconnect{Code: code})
	if err == nil {
		c.s.mu.Lock()
		c.closing = true
		c.wake.Signal()
		c.s.mu.Unlock()
		if err = c.Flush(ctx); errors.Is(err, ErrClosed) {
			err = nil // the server was quicker than the count of what was written
		}
	}
	if err == nil {
		if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // Close follows in any case
		}
		late := time.NewTimer(goodbyeWait)
		defer late.Stop()
		select {
		case <-c.done:
		case <-late.C:
		case <-ctx.Done():
		}
	}
	return errors.Join(err, c.Close())
}

// Close ends the connection without DISCONNECT, as a crash does, and joins the
// goroutines. What was not written yet is lost. It is idempotent.
func (c *Client) Close() error {
	c.Abort()
	c.joined.Wait()
	return nil
}

// Abort is Close without waiting, for callbacks.
func (c *Client) Abort() { c.fail(ErrClosed) }

// fail ends the connection once, with the first reason.
func (c *Client) fail(err error) {
	c.s.mu.Lock()
	if c.err != nil {
		c.s.mu.Unlock()
		return
	}
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	c.wake.Broadcast()
	c.room.Broadcast()
	c.s.mu.Unlock()
	_ = c.conn.Close() // it has nothing to say that err does not
}

// finish runs once, on the reader, when both loops can do no more harm: it
// answers whoever waits and gives the session back.
func (c *Client) finish() {
	c.s.mu.Lock()
	err := c.err
	waiting := c.pongs
	c.pongs = nil
	for _, f := range c.s.flights {
		if f.answer != nil {
			waiting = append(waiting, f.answer)
			f.answer = nil
		}
		if f.request {
			c.s.removeLocked(f)
		}
	}
	c.s.mu.Unlock()
	for _, w := range waiting {
		w <- response{err: err}
	}
	c.s.leave(c)
	if c.opt.OnClose != nil {
		c.opt.OnClose(c, err)
	}
	close(c.done)
}
