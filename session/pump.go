package session

import (
	"errors"
	"time"

	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	// pullMessages and pullBytes bound one page of the inbox.
	pullMessages, pullBytes = 128, 256 << 10
	// retryFirst and retryLast bound the pause after a failed read.
	retryFirst, retryLast = 20 * time.Millisecond, time.Second
	// spanPause is how long to wait for the commit of acknowledgements that
	// hold the next packet id. It takes 32,767 of them to get there.
	spanPause = 5 * time.Millisecond
)

// wantPumpLocked starts the pump if it has something to do and room to do it.
func (c *Conn) wantPumpLocked() {
	if c.pumping || c.cause.kind != 0 || !c.pumpableLocked() {
		return
	}
	c.pumping = true
	c.startLocked()
	go c.pumpLoop()
}

func (c *Conn) pumpableLocked() bool {
	return (c.due && c.pulls || c.nextReplayLocked(0, false) != nil) && !c.spanned && c.win.Free() > 0 && c.roomBytesLocked() > 0
}

// roomBytesLocked is how much the pump may add to the outbox.
func (c *Conn) roomBytesLocked() int { return c.srv.cfg.OutboxBytes/2 - c.out.bytes }

// pumpLoop pulls: a page of retained messages, a page of the inbox, in turn,
// until there is nothing more or no room. Acknowledgements, an emptier outbox
// and Wake start it again. One goroutine does both, one after the other, so a
// retained message is hardly ever sent behind a newer one from the inbox.
func (c *Conn) pumpLoop() {
	defer c.ended()
	defer c.guard("pump")
	pause := time.Duration(0)
	for turn := 0; ; turn++ {
		r, pull, ok := c.pumpTask(turn)
		if !ok {
			return
		}
		var err error
		wait := time.Duration(0)
		if r != nil {
			err = c.pumpReplay(r)
		} else {
			wait, err = c.pumpInbox(pull)
		}
		switch {
		case errors.Is(err, ErrStale):
			c.close(causeOf(closeTakeover, "session is owned by a newer connection"))
		case err != nil:
			pause = min(max(2*pause, retryFirst), retryLast)
			wait = pause
		default:
			pause = 0
		}
		if wait > 0 && !c.sleep(wait) {
			wait = 0 // closing: the next pumpTask ends the loop
		}
	}
}

// pull is what one page of the inbox may hold.
type pull struct {
	cursor      uint64
	msgs, bytes int
}

// pumpTask returns what to do next; ok is false when the pump is to end.
func (c *Conn) pumpTask(turn int) (r *replay, p pull, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 || !c.pumpableLocked() {
		c.pumping = false
		return nil, pull{}, false
	}
	inbox := c.due && c.pulls
	if r := c.nextReplayLocked(turn, inbox); r != nil {
		return r, pull{}, true
	}
	c.due = false // a Wake from now on sets it again
	return nil, pull{cursor: c.cursor, msgs: min(c.win.Free(), pullMessages), bytes: min(c.roomBytesLocked(), pullBytes)}, true
}

// sleep waits for d; false if the connection closes meanwhile.
func (c *Conn) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// pumpInbox sends one page of the inbox.
func (c *Conn) pumpInbox(p pull) (wait time.Duration, err error) {
	page, err := c.srv.be.Inbox.Fetch(c.ctx, c.ref, p.cursor, p.msgs, p.bytes)
	if err != nil {
		c.mu.Lock()
		c.due = true
		c.mu.Unlock()
		return 0, err
	}
	now := page.Now
	if now == 0 {
		now = time.Now().UnixMilli()
	}
	done, sentTo, wait := c.sendPage(&page, now)
	if len(done) > 0 {
		// What the client never sees (expired, too large, denied), and QoS 0.
		c.srv.be.Inbox.Ack(c.ref, Ack{SentTo: sentTo, Done: done}, nil)
	}
	if page.Clamped && c.sentAll(&page) {
		// All before Next is sent or gone. The commit of that lets the next ones leave.
		c.srv.be.Inbox.Ack(c.ref, Ack{SentTo: page.Next - 1}, func(err error) { c.unclamped(err) })
	}
	return wait, nil
}

// sentAll says that nothing of a page was put off.
func (c *Conn) sentAll(page *Page) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause.kind == 0 && c.cursor >= page.Next
}

// unclamped looks at the inbox again after a commit of how far it was sent.
func (c *Conn) unclamped(err error) {
	if err != nil {
		return // a stale owner has nothing to send; a new lease begins anew
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	c.wantPumpLocked()
}

// sendPage puts a page into the outbox. It returns what the client will not
// acknowledge, and how long to wait if packet ids have run out.
func (c *Conn) sendPage(page *Page, now int64) (done []uint64, sentTo uint64, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return nil, 0, 0
	}
	c.cursor = max(c.cursor, page.Next)
	c.due = c.due || page.More
	for i := range page.Deliveries {
		d := &page.Deliveries[i]
		if page.Floor > 0 && d.Seq >= page.Floor+qos.InboxIDs {
			// The packet id of an acknowledgement that is not committed yet: a
			// takeover could still send it under its old message (I17).
			c.cursor, c.due = d.Seq, true
			if oldest, ok := c.win.Oldest(); ok && oldest <= page.Floor {
				c.spanned = true // it is the client that holds the id
			} else {
				wait = spanPause
			}
			break
		}
		stop, finished := c.sendDeliveryLocked(d, now)
		if stop {
			c.cursor, c.due = d.Seq, true
			break
		}
		if finished {
			done = append(done, d.Seq)
		}
	}
	c.flushLocked()
	return done, c.win.SentTo(), wait
}

// sendDeliveryLocked sends one inbox entry. stop means that it has to wait,
// finished that no acknowledgement of the client will end it.
func (c *Conn) sendDeliveryLocked(d *Delivery, now int64) (stop, finished bool) {
	if d.State == Received {
		pid, err := c.win.Resume(d.Seq)
		if err == nil {
			c.appendAckLocked(mqtt.TypePubrel, pid, mqtt.Success)
		}
		c.spanned = errors.Is(err, qos.ErrSpan)
		return c.spanned, false
	}
	if d.Seq <= c.win.SentTo() {
		return false, false // sent already on this connection
	}
	p := mqtt.Publish{Retain: d.Retain, QoS: d.QoS, Topic: d.Msg.Topic, Payload: d.Msg.Payload, Props: d.Msg.Props}
	if c.version == mqtt.V5 {
		p.SubscriptionIDs = d.SubIDs
	}
	if d.ExpiresAt != 0 {
		left := d.ExpiresAt - now
		// What may have been sent is sent to the end. v5:MQTT-4.3.3-7, v5:MQTT-4.4.0-1
		if left <= 0 && !d.Dup { // v5:MQTT-3.3.2-5
			c.srv.m.dropped[dropExpired].Inc()
			return false, true
		}
		p.HasExpiry = true
		if left > 0 {
			p.Expiry = wholeSeconds(time.Duration(left) * time.Millisecond) // v5:MQTT-3.3.2-6
		}
	}
	if c.srv.checkReceive && !c.srv.cfg.Authorizer.MayReceive(&c.ident, d.Msg.Topic) {
		c.srv.m.dropped[dropDenied].Inc()
		return false, true
	}
	if d.QoS == 0 {
		c.sendOnceLocked(d, &p)
		return false, true
	}
	p.Dup, p.PacketID = d.Dup, qos.PacketID(d.Seq)
	if planted("packet-id-moved") {
		p.PacketID = qos.PacketID(d.Seq + c.ref.Epoch)
	}
	if c.maxPacket != 0 && mqtt.PublishSize(c.version, &p) > int(c.maxPacket) {
		c.srv.m.dropped[dropTooLarge].Inc()
		return false, true // v5:MQTT-3.1.2-25: as if it had been sent
	}
	if _, err := c.win.Send(d.Seq, d.QoS); err != nil {
		c.spanned = errors.Is(err, qos.ErrSpan)
		return true, false
	}
	c.appendPublishLocked(&p)
	c.deliveredLocked(d)
	return false, false
}

// sendOnceLocked sends an inbox entry of QoS 0: never twice, also where it is
// not known whether an earlier connection has sent it.
func (c *Conn) sendOnceLocked(d *Delivery, p *mqtt.Publish) {
	c.win.Skip(d.Seq)
	switch {
	case d.Dup:
		c.srv.m.dropped[dropUncertain].Inc()
	case !c.appendPublishLocked(p):
		c.srv.m.dropped[dropTooLarge].Inc()
	default:
		c.deliveredLocked(d)
	}
}

// deliveredLocked counts an inbox entry that is in the outbox.
func (c *Conn) deliveredLocked(d *Delivery) {
	c.srv.m.pubDelivered[d.QoS].Inc()
	c.srv.m.sent[mqtt.TypePublish].Inc()
	if age := time.Now().UnixMilli() - d.Msg.PublishedAt; d.Msg.PublishedAt > 0 && age >= 0 && !d.Dup {
		c.srv.m.delivery.Observe(float64(age) / 1000)
	}
}
