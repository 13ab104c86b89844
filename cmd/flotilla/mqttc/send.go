package mqttc

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Send queues a publish and returns; it blocks while the window or the write
// buffer is full. For QoS 1 and 2 it sets p.PacketID and keeps a copy of p in
// the session until OnAck has been called with token. p is not retained.
func (c *Client) Send(ctx context.Context, p *mqtt.Publish, token uint64) (packetID uint16, err error) {
	return c.send(ctx, p, token, nil)
}

func (c *Client) send(ctx context.Context, p *mqtt.Publish, token uint64, answer chan<- response) (uint16, error) {
	if p.QoS > 2 || (len(p.Topic) == 0 && (p.TopicAlias == 0 || p.QoS > 0)) {
		return 0, fmt.Errorf("%w: QoS %d, topic %q", mqtt.ErrInvalidPacket, p.QoS, p.Topic)
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.hasRoomLocked(p.QoS) {
		if err := c.waitRoomLocked(ctx, p.QoS); err != nil {
			return 0, err
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	if p.QoS > 0 {
		f := s.addLocked()
		f.holdLocked(p)
		f.token, f.answer = token, answer
		p.PacketID = f.pub.PacketID
	}
	before := len(c.out)
	c.out = mqtt.AppendPublish(c.out, c.version, p)
	c.queuedLocked(before)
	return p.PacketID, nil
}

// hasRoomLocked says whether a Send need not wait, also because of the end.
func (c *Client) hasRoomLocked(qos byte) bool {
	return c.err != nil || (len(c.out) < c.maxBuffer && (qos == 0 || len(c.s.flights) < c.window))
}

func (c *Client) waitRoomLocked(ctx context.Context, qos byte) error {
	stop := context.AfterFunc(ctx, func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.room.Broadcast()
	})
	defer stop()
	c.waiters++
	defer func() { c.waiters-- }()
	for !c.hasRoomLocked(qos) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.room.Wait()
	}
	return nil
}

// queuedLocked accounts for what was appended to out and wakes the writer.
func (c *Client) queuedLocked(before int) {
	c.queued += uint64(len(c.out) - before)
	if before == 0 {
		c.wake.Signal()
	}
}

// Publish sends and waits for the acknowledgement; for QoS 0 until the bytes
// were handed to the operating system. OnAck is not called. If it fails with a
// QoS above 0, the publish may still be in flight: see Session.InFlight.
func (c *Client) Publish(ctx context.Context, p *mqtt.Publish) (Ack, error) {
	if p.QoS == 0 {
		if _, err := c.Send(ctx, p, 0); err != nil {
			return Ack{}, err
		}
		return Ack{}, c.Flush(ctx)
	}
	answer := make(chan response, 1)
	if _, err := c.send(ctx, p, 0, answer); err != nil {
		return Ack{}, err
	}
	r, err := wait(ctx, answer)
	return r.ack, err
}

func wait(ctx context.Context, answer <-chan response) (response, error) {
	select {
	case r := <-answer:
		return r, r.err
	case <-ctx.Done():
		return response{}, context.Cause(ctx)
	}
}

// Resend sends everything that is in flight in the session again, in the order
// of the first sending: PUBLISH with DUP, or PUBREL. It is meant for the time
// right after Dial and returns how many packets it queued.
func (c *Client) Resend(ctx context.Context) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	fs := c.s.publishesLocked()
	before := len(c.out)
	for _, f := range fs {
		if f.released {
			c.out = mqtt.AppendAck(c.out, c.version, mqtt.TypePubrel, f.pub.PacketID, mqtt.Success)
			continue
		}
		again := f.pub
		again.Dup = true
		c.out = mqtt.AppendPublish(c.out, c.version, &again)
	}
	if len(fs) > 0 {
		c.queuedLocked(before)
	}
	return len(fs), nil
}

// Ack answers a PUBLISH by hand: PUBACK for QoS 1, PUBREC for QoS 2. A code
// that means failure cannot be said before MQTT 5.
func (c *Client) Ack(qos byte, packetID uint16, code mqtt.ReasonCode) error {
	switch qos {
	case 1:
		return c.Write(&mqtt.Puback{PacketID: packetID, Code: code})
	case 2:
		return c.Write(&mqtt.Pubrec{PacketID: packetID, Code: code})
	default:
		return fmt.Errorf("%w: QoS %d has no acknowledgement", mqtt.ErrInvalidPacket, qos)
	}
}

// Write queues any packet as it is, without touching the session and without
// waiting for room.
func (c *Client) Write(p mqtt.Packet) error {
	return c.queue(func(dst []byte) ([]byte, error) { return mqtt.Append(dst, c.version, p) })
}

// WriteBytes queues bytes that need not be a packet.
func (c *Client) WriteBytes(b []byte) error {
	return c.queue(func(dst []byte) ([]byte, error) { return append(dst, b...), nil })
}

func (c *Client) queue(appendTo func([]byte) ([]byte, error)) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	out, err := appendTo(c.out)
	if err != nil {
		return err
	}
	before := len(c.out)
	c.out = out
	c.queuedLocked(before)
	return nil
}

// Flush waits until everything queued so far was handed to the operating system.
func (c *Client) Flush(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.room.Broadcast()
	})
	defer stop()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.waiters++
	defer func() { c.waiters-- }()
	goal := c.queued
	for c.written < goal {
		if c.err != nil {
			return c.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.room.Wait()
	}
	return nil
}

// writeLoop hands out to the connection, whatever has gathered at a time.
func (c *Client) writeLoop() {
	defer c.joined.Done()
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(c.out) == 0 && c.err == nil && !c.closing {
			c.wake.Wait()
		}
		if c.err != nil || len(c.out) == 0 {
			return
		}
		// Let those who are ready to send do so: one write for all of them.
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
		buf := c.out
		c.out = c.spare[:0]
		c.spare = nil
		s.mu.Unlock()
		_, err := c.conn.Write(buf)
		if err != nil {
			c.fail(fmt.Errorf("%w: %w", ErrLost, err))
		}
		s.mu.Lock()
		if cap(buf) <= 4*c.maxBuffer {
			c.spare = buf
		}
		if err == nil {
			c.written += uint64(len(buf))
		}
		if c.timer != nil {
			c.lastSent = time.Now()
		}
		if c.waiters > 0 {
			c.room.Broadcast()
		}
	}
}
