package mqttc

import (
	"context"
	"errors"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// errNoPacketID cannot happen below 65,535 packets in flight.
var errNoPacketID = errors.New("all packet ids are in use")

// Subscribe subscribes and waits for SUBACK, which has a code per filter.
func (c *Client) Subscribe(ctx context.Context, filters ...mqtt.SubscribeFilter) ([]mqtt.ReasonCode, error) {
	return c.SubscribePacket(ctx, &mqtt.Subscribe{Filters: filters})
}

// SubscribePacket is Subscribe with all fields; it sets p.PacketID.
func (c *Client) SubscribePacket(ctx context.Context, p *mqtt.Subscribe) ([]mqtt.ReasonCode, error) {
	return c.request(ctx, func(id uint16) mqtt.Packet {
		p.PacketID = id
		return p
	})
}

// Unsubscribe unsubscribes and waits for UNSUBACK. Codes are nil before MQTT 5.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]mqtt.ReasonCode, error) {
	return c.request(ctx, func(id uint16) mqtt.Packet {
		return &mqtt.Unsubscribe{PacketID: id, Filters: filters}
	})
}

func (c *Client) request(ctx context.Context, packet func(id uint16) mqtt.Packet) ([]mqtt.ReasonCode, error) {
	answer := make(chan response, 1)
	if err := c.startRequest(answer, packet); err != nil {
		return nil, err
	}
	r, err := wait(ctx, answer)
	return r.codes, err
}

func (c *Client) startRequest(answer chan<- response, packet func(id uint16) mqtt.Packet) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	f := c.s.addLocked()
	if f == nil {
		return errNoPacketID
	}
	f.request, f.answer = true, answer
	out, err := mqtt.Append(c.out, c.version, packet(f.pub.PacketID))
	if err != nil {
		c.s.removeLocked(f)
		return err
	}
	before := len(c.out)
	c.out = out
	c.queuedLocked(before)
	return nil
}

// Ping sends PINGREQ and waits for the answer. What came before the answer is
// then handled, and acknowledged before anything that is sent later.
func (c *Client) Ping(ctx context.Context) error {
	answer := make(chan response, 1)
	c.s.mu.Lock()
	if c.err != nil {
		defer c.s.mu.Unlock()
		return c.err
	}
	out, err := mqtt.Append(c.out, c.version, &mqtt.Pingreq{})
	if err != nil {
		defer c.s.mu.Unlock()
		return err
	}
	before := len(c.out)
	c.out = out
	c.queuedLocked(before)
	c.pongs = append(c.pongs, answer)
	c.s.mu.Unlock()
	_, err = wait(ctx, answer)
	return err
}
