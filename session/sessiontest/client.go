package sessiontest

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Wait is how long a Client waits for a packet. Inside a synctest bubble it
// costs nothing.
const Wait = 10 * time.Second

// Client speaks MQTT as a script tells it: nothing is answered by itself. A
// Client belongs to one goroutine.
type Client struct {
	NC      net.Conn
	Version mqtt.Version
	// Server is the other end, if the client was made by Node.Dial.
	Server *PipeConn
	rd     *mqtt.Reader
	kept   []mqtt.Packet
}

// NewClient returns a client on an open connection.
func NewClient(nc net.Conn, v mqtt.Version) *Client {
	rd := mqtt.NewReader(nc, mqtt.Limits{MaxPacketSize: 64 << 20})
	rd.SetVersion(v)
	return &Client{NC: nc, Version: v, rd: rd}
}

// Send writes packets in one write.
func (c *Client) Send(ps ...mqtt.Packet) error {
	var b []byte
	for _, p := range ps {
		var err error
		if b, err = mqtt.Append(b, c.Version, p); err != nil {
			return fmt.Errorf("encode %s: %w", p.Type(), err)
		}
	}
	return c.SendRaw(b)
}

// SendRaw writes bytes.
func (c *Client) SendRaw(b []byte) error {
	_, err := c.NC.Write(b)
	return err
}

// Recv returns the next packet, or an error at the end of the stream or after
// Wait. The packet is the caller's.
func (c *Client) Recv() (mqtt.Packet, error) { return c.RecvWithin(Wait) }

// RecvWithin is Recv with another patience.
func (c *Client) RecvWithin(d time.Duration) (mqtt.Packet, error) {
	if len(c.kept) > 0 {
		p := c.kept[0]
		c.kept = c.kept[1:]
		return p, nil
	}
	_ = c.NC.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = c.NC.SetReadDeadline(time.Time{}) }()
	p, err := c.rd.Next()
	if err != nil {
		return nil, err
	}
	return Clone(p), nil
}

// Clone returns a packet that outlives the next read.
func Clone(p mqtt.Packet) mqtt.Packet {
	switch p := p.(type) {
	case *mqtt.Publish:
		return p.Clone()
	case *mqtt.Puback:
		q := *p
		return &q
	case *mqtt.Pubrec:
		q := *p
		return &q
	case *mqtt.Pubrel:
		q := *p
		return &q
	case *mqtt.Pubcomp:
		q := *p
		return &q
	case *mqtt.Suback:
		q := *p
		q.Codes = slices.Clone(p.Codes)
		return &q
	case *mqtt.Unsuback:
		q := *p
		q.Codes = slices.Clone(p.Codes)
		return &q
	}
	return p
}

// Close closes the connection without DISCONNECT.
func (c *Client) Close() { _ = c.NC.Close() }

// MustSend sends packets or fails the test.
func (c *Client) MustSend(tb testing.TB, ps ...mqtt.Packet) {
	tb.Helper()
	if err := c.Send(ps...); err != nil {
		tb.Fatalf("send %s: %v", ps[0].Type(), err)
	}
}

// MustRecv returns the next packet, of any type.
func (c *Client) MustRecv(tb testing.TB) mqtt.Packet {
	tb.Helper()
	p, err := c.Recv()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// Expect returns the next packet, which must be of type P.
func Expect[P mqtt.Packet](tb testing.TB, c *Client) P {
	tb.Helper()
	p, err := c.Recv()
	var want P
	if err != nil {
		tb.Fatalf("waiting for %T: %v", want, err)
	}
	got, ok := p.(P)
	if !ok {
		tb.Fatalf("got %s %+v, want %T", p.Type(), p, want)
	}
	return got
}

// ExpectClosed wants nothing more to come, and the end of the stream.
func (c *Client) ExpectClosed(tb testing.TB) {
	tb.Helper()
	p, err := c.Recv()
	if err == nil {
		tb.Fatalf("got %s %+v, want the end of the stream", p.Type(), p)
	}
	if isTimeout(err) {
		tb.Fatal("the connection is still open")
	}
}

// ExpectDisconnect wants DISCONNECT with a code and then the end.
func (c *Client) ExpectDisconnect(tb testing.TB, code mqtt.ReasonCode) {
	tb.Helper()
	d := Expect[*mqtt.Disconnect](tb, c)
	if d.Code != code {
		tb.Fatalf("DISCONNECT with %s (%s), want %s", d.Code, d.ReasonString, code)
	}
	c.ExpectClosed(tb)
}

// ExpectNothing wants silence for d.
func (c *Client) ExpectNothing(tb testing.TB, d time.Duration) {
	tb.Helper()
	p, err := c.RecvWithin(d)
	if err == nil {
		tb.Fatalf("got %s %+v, want nothing for %v", p.Type(), p, d)
	}
	if !isTimeout(err) {
		tb.Fatalf("the connection ended: %v", err)
	}
}

// ExpectPublish wants a PUBLISH with a topic and a payload.
func (c *Client) ExpectPublish(tb testing.TB, topic, payload string) *mqtt.Publish {
	tb.Helper()
	p := Expect[*mqtt.Publish](tb, c)
	if string(p.Topic) != topic || !bytes.Equal(p.Payload, []byte(payload)) {
		tb.Fatalf("got PUBLISH %q %q, want %q %q", p.Topic, p.Payload, topic, payload)
	}
	return p
}

// Connect sends CONNECT and returns the CONNACK, which must be a success.
func (c *Client) Connect(tb testing.TB, p *mqtt.Connect) *mqtt.Connack {
	tb.Helper()
	p.Version = c.Version
	c.MustSend(tb, p)
	ack := Expect[*mqtt.Connack](tb, c)
	if ack.Code != mqtt.Success {
		tb.Fatalf("CONNACK %s: %s", ack.Code, ack.ReasonString)
	}
	return ack
}

// Subscribe subscribes to filters with one QoS and wants it granted.
func (c *Client) Subscribe(tb testing.TB, qos byte, filters ...string) {
	tb.Helper()
	s := &mqtt.Subscribe{PacketID: 9999}
	for _, f := range filters {
		s.Filters = append(s.Filters, mqtt.SubscribeFilter{Filter: f, QoS: qos})
	}
	c.MustSend(tb, s)
	ack := Expect[*mqtt.Suback](tb, c)
	for i, code := range ack.Codes {
		if code != mqtt.ReasonCode(qos) {
			tb.Fatalf("SUBACK for %q is %s", filters[i], code)
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// Until reads until a packet fits. Packets before it are kept for later reads.
func (c *Client) Until(tb testing.TB, fits func(mqtt.Packet) bool) {
	tb.Helper()
	var skipped []mqtt.Packet
	for {
		p, err := c.Recv()
		if err != nil {
			tb.Fatalf("%v, after %d other packets", err, len(skipped))
		}
		if fits(p) {
			c.kept = append(skipped, c.kept...)
			return
		}
		skipped = append(skipped, p)
	}
}
