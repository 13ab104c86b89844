package mqttc

import (
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// startKeepAlive arms the timer that sends PINGREQ.
func (c *Client) startKeepAlive() {
	interval := time.Duration(keepAliveSeconds(c.opt.KeepAlive)) * time.Second
	if c.connack.HasServerKeepAlive {
		interval = time.Duration(c.connack.ServerKeepAlive) * time.Second
	}
	if interval == 0 {
		return
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.lastSent = time.Now()
	c.timer = time.AfterFunc(interval, func() { c.tick(interval) })
}

// tick pings if nothing was written for an interval, and gives up if the last
// ping of the timer has no answer after another one.
func (c *Client) tick(interval time.Duration) {
	c.s.mu.Lock()
	if c.err != nil {
		c.s.mu.Unlock()
		return
	}
	if c.awaiting {
		c.s.mu.Unlock()
		c.fail(ErrKeepAlive)
		return
	}
	idle := time.Since(c.lastSent)
	if idle < interval {
		c.timer.Reset(interval - idle)
		c.s.mu.Unlock()
		return
	}
	c.awaiting = true
	c.timer.Reset(interval)
	c.s.mu.Unlock()
	_ = c.Write(&mqtt.Pingreq{}) // fails only if the connection has ended
}
