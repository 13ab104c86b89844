package mqttc

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Send queues a publish and returns; it blocks while the window or the write
// buffer is full. For QoS 1 and 2 it sets p.PacketID and keeps a copy of p in
// the session until OnAck has been called with token. p is not retained.
func (c *Client) Send(ctx context.Context, p *mqtt.Publish, token uint64) (packetID uint16, err error) {
	panic("todo")
}

// Publish sends and waits for the acknowledgement; for QoS 0 until the bytes
// were handed to the operating system. OnAck is not called.
func (c *Client) Publish(ctx context.Context, p *mqtt.Publish) (Ack, error) { panic("todo") }

// Resend sends everything that is in flight in the session again, in the order
// of the first sending: PUBLISH with DUP, or PUBREL. It is meant for the time
// right after Dial and returns how many packets it queued.
func (c *Client) Resend(ctx context.Context) (int, error) { panic("todo") }

// Ack answers a PUBLISH by hand: PUBACK for QoS 1, PUBREC for QoS 2.
func (c *Client) Ack(qos byte, packetID uint16, code mqtt.ReasonCode) error { panic("todo") }

// Write queues any packet as it is, without touching the session and without
// waiting for room.
func (c *Client) Write(p mqtt.Packet) error { panic("todo") }

// WriteBytes queues bytes that need not be a packet.
func (c *Client) WriteBytes(b []byte) error { panic("todo") }

// Flush waits until everything queued so far was handed to the operating system.
func (c *Client) Flush(ctx context.Context) error { panic("todo") }
