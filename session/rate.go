package session

import "time"

// bucket is how much a client may publish: what a second allows, refilled as
// time goes. It belongs to the reader.
type bucket struct {
	left float64
	at   int64 // when left was right, ns of Server.now
}

// take takes n and returns how long the client has to wait for it. More than a
// second allows is given once there is a whole second's worth, and owed.
func (b *bucket) take(n, rate float64, now int64) time.Duration {
	b.left = min(rate, b.left+rate*float64(now-b.at)/float64(time.Second))
	b.at = now
	b.left -= n
	if b.left >= 0 {
		return 0
	}
	return time.Duration(-b.left / rate * float64(time.Second))
}

// throttle lets a client that publishes faster than it may wait: its reader
// stops, and TCP tells it. It loses nothing. false means that the connection is
// closing.
func (c *Conn) throttle(bytes int) bool {
	cfg := &c.srv.cfg
	now := c.srv.now()
	wait := time.Duration(0)
	if cfg.ClientMessages > 0 {
		wait = c.rateMessages.take(1, cfg.ClientMessages, now)
	}
	if cfg.ClientBytes > 0 {
		wait = max(wait, c.rateBytes.take(float64(bytes), cfg.ClientBytes, now))
	}
	if wait <= 0 {
		return true
	}
	c.srv.m.throttled.Inc()
	c.flushAcks() // what it has acknowledged does not wait with it
	return c.sleep(wait)
}
