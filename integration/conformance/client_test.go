package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

// The versions, short.
const (
	v31  = mqtt.V31
	v311 = mqtt.V311
	v5   = mqtt.V5
)

// patience is how long a client waits for a packet or for the end.
const patience = 30 * time.Second

// client is one connection that does what the test says and nothing by itself. It belongs to the test's goroutine.
type client struct {
	t   testing.TB
	nc  net.Conn
	in  *bufio.Reader
	v   mqtt.Version
	id  string
	ack *mqtt.Connack
	pid uint16
	// frame is the last packet that came, as it was on the wire.
	frame []byte
	kept  []mqtt.Packet // came while the client waited for something else
}

// setup is what a connection begins with.
type setup struct {
	mqtt.Connect
	node *cluster.Node
}

// as sets the client id.
func as(id string) func(*setup) { return func(s *setup) { s.ClientID = id } }

// on connects to another broker than the shared one.
func on(n *cluster.Node) func(*setup) { return func(s *setup) { s.node = n } }

// durable asks for a session that outlives the connection, and for the one that exists.
func durable(s *setup) {
	s.CleanStart = false
	s.HasSessionExpiry, s.SessionExpiry = true, 3600
}

// serial makes ids and topics of tests different.
var serial atomic.Uint64

// own returns a name that no other test uses: for a topic or a client id.
func own(suffix string) string { return fmt.Sprintf("c%d/%s", serial.Add(1), suffix) }

// dial opens a connection and sends nothing.
func dial(t testing.TB, v mqtt.Version, opts ...func(*setup)) *client {
	t.Helper()
	s := &setup{}
	for _, o := range opts {
		o(s)
	}
	if s.node == nil {
		s.node = broker(t)
	}
	nc, err := net.DialTimeout("tcp", s.node.Addrs().MQTT, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &client{t: t, nc: nc, in: bufio.NewReader(nc), v: v}
}

// connect opens a connection with Clean Start (unless an option says otherwise) and wants CONNACK 0x00.
func connect(t testing.TB, v mqtt.Version, opts ...func(*setup)) *client {
	t.Helper()
	c := dial(t, v, opts...)
	if ack := c.handshake(opts...); ack.Code != mqtt.Success {
		t.Fatalf("CONNECT refused: %s: %s", ack.Code, ack.ReasonString)
	}
	return c
}

// handshake sends CONNECT and returns the CONNACK.
func (c *client) handshake(opts ...func(*setup)) *mqtt.Connack {
	c.t.Helper()
	s := &setup{Connect: mqtt.Connect{CleanStart: true, ClientID: fmt.Sprint("conf", serial.Add(1)), RequestProblemInfo: true}}
	for _, o := range opts {
		o(s)
	}
	c.id = s.ClientID
	c.put(&s.Connect)
	c.ack = expect[*mqtt.Connack](c)
	if c.ack.AssignedClientID != "" {
		c.id = c.ack.AssignedClientID
	}
	return c.ack
}

// refused wants a CONNECT to be answered with a code and the end of the connection.
func refused(t testing.TB, v mqtt.Version, code mqtt.ReasonCode, opts ...func(*setup)) *mqtt.Connack {
	t.Helper()
	c := dial(t, v, opts...)
	ack := c.handshake(opts...)
	if ack.Code != code || ack.SessionPresent {
		t.Errorf("CONNACK %s, session present %v; want %s", ack.Code, ack.SessionPresent, code)
	}
	c.expectClosed()
	return ack
}

// put sends packets in one write.
func (c *client) put(packets ...mqtt.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		var err error
		if b, err = mqtt.Append(b, c.v, p); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(b)
}

// send sends bytes in the notation of mqtttest.Wire: hexadecimal, 'text', (string or data) and [length].
func (c *client) send(format string, args ...any) {
	c.t.Helper()
	c.write(mqtttest.Wire(fmt.Sprintf(format, args...)))
}

func (c *client) write(b []byte) {
	c.t.Helper()
	_ = c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("%s: write: %v", c.id, err)
	}
}

// receive returns the next packet, or an error at the end of the connection.
func (c *client) receive() (mqtt.Packet, error) {
	if len(c.kept) > 0 {
		p := c.kept[0]
		c.kept = c.kept[1:]
		return p, nil
	}
	return c.read()
}

// read is receive past what was kept.
func (c *client) read() (mqtt.Packet, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	head, err := c.in.ReadByte()
	if err != nil {
		return nil, err
	}
	frame := []byte{head}
	length, shift := 0, 0
	for {
		b, err := c.in.ReadByte()
		if err != nil {
			return nil, errors.Join(io.ErrUnexpectedEOF, err)
		}
		frame = append(frame, b)
		length |= int(b&0x7F) << shift
		if shift += 7; b < 0x80 {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	c.frame = append(frame, body...)
	rd := mqtt.NewReader(bytes.NewReader(c.frame), mqtt.Limits{MaxPacketSize: mqtt.MaxRemaining, MaxFilters: 1 << 16})
	rd.SetVersion(c.v)
	return rd.Next()
}

// next returns the next packet.
func (c *client) next() mqtt.Packet {
	c.t.Helper()
	p, err := c.receive()
	if err != nil {
		c.t.Fatalf("%s: waiting for a packet: %v (% X)", c.id, err, c.frame)
	}
	return p
}

// expect returns the next packet, which must be a P.
func expect[P mqtt.Packet](c *client) P {
	c.t.Helper()
	p := c.next()
	want, ok := p.(P)
	if !ok {
		c.t.Fatalf("%s: got %s %+v, want %T", c.id, p.Type(), p, want)
	}
	return want
}

// expectClosed wants the end of the connection as the next thing.
func (c *client) expectClosed() {
	c.t.Helper()
	p, err := c.receive()
	if err == nil {
		c.t.Fatalf("%s: got %s %+v, want the end of the connection", c.id, p.Type(), p)
	}
	c.wasEnd(err)
}

// expectEnd wants the end of the connection, whatever comes before it, and returns what did.
func (c *client) expectEnd() []mqtt.Packet {
	c.t.Helper()
	var came []mqtt.Packet
	for {
		p, err := c.receive()
		if err != nil {
			c.wasEnd(err)
			return came
		}
		came = append(came, p)
	}
}

func (c *client) wasEnd(err error) {
	c.t.Helper()
	var broken *mqtt.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &broken) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Fatalf("%s: waiting for the end of the connection: %v", c.id, err)
	}
}

// expectDisconnect wants DISCONNECT with that code, and then the end.
func (c *client) expectDisconnect(code mqtt.ReasonCode) *mqtt.Disconnect {
	c.t.Helper()
	d := expect[*mqtt.Disconnect](c)
	if d.Code != code {
		c.t.Errorf("%s: DISCONNECT %s (%s), want %s", c.id, d.Code, d.ReasonString, code)
	}
	c.expectClosed()
	return d
}

// quiet shows that nothing else came: the answer to PINGREQ is next.
func (c *client) quiet() {
	c.t.Helper()
	c.put(&mqtt.Pingreq{})
	expect[*mqtt.Pingresp](c)
}

// nextID returns a packet identifier that this client has not used.
func (c *client) nextID() uint16 {
	c.pid++
	return c.pid
}

// subscribe subscribes and wants the QoS to be granted.
func (c *client) subscribe(filter string, qos byte, edits ...func(*mqtt.Subscribe)) *mqtt.Suback {
	c.t.Helper()
	s := &mqtt.Subscribe{PacketID: c.nextID(), Filters: []mqtt.SubscribeFilter{{Filter: filter, QoS: qos}}}
	for _, e := range edits {
		e(s)
	}
	c.put(s)
	a := expect[*mqtt.Suback](c)
	if a.PacketID != s.PacketID || len(a.Codes) != len(s.Filters) || byte(a.Codes[0]) != s.Filters[0].QoS {
		c.t.Fatalf("%s: SUBACK %+v for %+v", c.id, a, s)
	}
	return a
}

// unsubscribe ends a subscription and wants it to have existed.
func (c *client) unsubscribe(filter string) {
	c.t.Helper()
	u := &mqtt.Unsubscribe{PacketID: c.nextID(), Filters: []string{filter}}
	c.put(u)
	a := expect[*mqtt.Unsuback](c)
	if a.PacketID != u.PacketID || c.v == v5 && a.Codes[0] != mqtt.Success {
		c.t.Fatalf("%s: UNSUBACK %+v for %+v", c.id, a, u)
	}
}

// publish publishes and wants the whole exchange to succeed, with nothing else in between.
func (c *client) publish(topic, payload string, qos byte, edits ...func(*mqtt.Publish)) {
	c.t.Helper()
	p := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}
	if qos > 0 {
		p.PacketID = c.nextID()
	}
	for _, e := range edits {
		e(p)
	}
	c.put(p)
	switch p.QoS {
	case 1:
		if a := expect[*mqtt.Puback](c); a.PacketID != p.PacketID || a.Code.Failed() {
			c.t.Fatalf("%s: PUBACK %+v for %d", c.id, a, p.PacketID)
		}
	case 2:
		if a := expect[*mqtt.Pubrec](c); a.PacketID != p.PacketID || a.Code.Failed() {
			c.t.Fatalf("%s: PUBREC %+v for %d", c.id, a, p.PacketID)
		}
		c.put(&mqtt.Pubrel{PacketID: p.PacketID})
		if a := expect[*mqtt.Pubcomp](c); a.PacketID != p.PacketID || a.Code.Failed() {
			c.t.Fatalf("%s: PUBCOMP %+v for %d", c.id, a, p.PacketID)
		}
	}
}

// message returns the next packet, a PUBLISH, and finishes its exchange.
func (c *client) message() *mqtt.Publish {
	c.t.Helper()
	m := expect[*mqtt.Publish](c)
	c.acknowledge(m)
	return m
}

// acknowledge finishes the exchange of a message.
func (c *client) acknowledge(m *mqtt.Publish) {
	c.t.Helper()
	switch m.QoS {
	case 1:
		c.put(&mqtt.Puback{PacketID: m.PacketID})
	case 2:
		c.put(&mqtt.Pubrec{PacketID: m.PacketID})
		c.untilPubrel(m.PacketID)
		c.put(&mqtt.Pubcomp{PacketID: m.PacketID})
	}
}

// untilPubrel keeps what comes before the PUBREL of an exchange.
func (c *client) untilPubrel(id uint16) {
	c.t.Helper()
	for {
		p, err := c.read()
		if err != nil {
			c.t.Fatalf("%s: waiting for PUBREL %d: %v", c.id, id, err)
		}
		if r, ok := p.(*mqtt.Pubrel); ok && r.PacketID == id {
			return
		}
		c.kept = append(c.kept, p)
	}
}

// payloads wants messages with these payloads, in this order.
func (c *client) payloads(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if m := c.message(); string(m.Payload) != w {
			c.t.Fatalf("%s: got %q on %s, want %q", c.id, m.Payload, m.Topic, w)
		}
	}
}

// disconnect ends the connection in good order.
func (c *client) disconnect() {
	c.t.Helper()
	c.put(&mqtt.Disconnect{})
	c.expectEnd()
}

// abort ends the connection without a word.
func (c *client) abort() { _ = c.nc.Close() }
