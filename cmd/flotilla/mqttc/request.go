package mqttc

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Subscribe subscribes and waits for SUBACK, which has a code per filter.
func (c *Client) Subscribe(ctx context.Context, filters ...mqtt.SubscribeFilter) ([]mqtt.ReasonCode, error) {
	return c.SubscribePacket(ctx, &mqtt.Subscribe{Filters: filters})
}

// SubscribePacket is Subscribe with all fields; it sets p.PacketID.
func (c *Client) SubscribePacket(ctx context.Context, p *mqtt.Subscribe) ([]mqtt.ReasonCode, error) {
	panic("todo")
}

// Unsubscribe unsubscribes and waits for UNSUBACK. Codes are nil before MQTT 5.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) ([]mqtt.ReasonCode, error) {
	panic("todo")
}

// Ping sends PINGREQ and waits for the answer.
func (c *Client) Ping(ctx context.Context) error { panic("todo") }
