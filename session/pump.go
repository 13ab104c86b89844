package session

import (
	"errors"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	// pullMessages and pullBytes bound one page of the inbox.
	pullMessages, pullBytes = 128, 256 << 10
	// replayMessages bounds one page of retained messages.
	replayMessages = 64
	// retryFirst and retryLast bound the pause after a failed read.
	retryFirst, retryLast = 20 * time.Millisecond, time.Second
	// spanPause is how long to wait for the commit of acknowledgements that
	// hold the next packet id. It takes 32,767 of them to get there.
	spanPause = 5 * time.Millisecond
)

// replay sends the retained messages that match a new subscription.
type replay struct {
	sub   command.Subscription
	after string // the last topic that was sent
	size  int    // average bytes of the messages so far
}

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
	return (c.due && c.pulls || len(c.replays) > 0) && !c.spanned && c.win.Free() > 0 && c.roomBytesLocked() > 0
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
			err = c.pumpRetained(r)
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
	if len(c.replays) > 0 && (turn%2 == 0 || !inbox) {
		return c.replays[0], pull{}, true
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
	var done []uint64
	done, wait = c.sendPage(&page, now)
	if len(done) > 0 {
		// The client never sees them: expired, too large, or denied.
		c.srv.be.Inbox.Ack(c.ref, Ack{Done: done}, nil)
	}
	return wait, nil
}

// sendPage puts a page into the outbox. It returns what is finished without
// being sent, and how long to wait if packet ids have run out.
func (c *Conn) sendPage(page *Page, now int64) (done []uint64, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return nil, 0
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
		stop, drop := c.sendDeliveryLocked(d, now)
		if stop {
			c.cursor, c.due = d.Seq, true
			break
		}
		if drop {
			done = append(done, d.Seq)
		}
	}
	c.flushLocked()
	return done, wait
}

// sendDeliveryLocked sends one inbox entry. stop means that it has to wait,
// drop that the client will never get it.
func (c *Conn) sendDeliveryLocked(d *Delivery, now int64) (stop, drop bool) {
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
	p := mqtt.Publish{
		Dup: d.Dup, Retain: d.Retain, QoS: d.QoS, PacketID: qos.PacketID(d.Seq),
		Topic: d.Msg.Topic, Payload: d.Msg.Payload, Props: d.Msg.Props,
	}
	if c.version == mqtt.V5 {
		p.SubscriptionIDs = d.SubIDs
	}
	if d.ExpiresAt != 0 {
		left := d.ExpiresAt - now
		if left <= 0 {
			c.srv.m.dropped[dropExpired].Inc()
			return false, true
		}
		p.HasExpiry, p.Expiry = true, uint32((left+999)/1000)
	}
	if c.srv.checkReceive && !c.srv.cfg.Authorizer.MayReceive(&c.ident, d.Msg.Topic) {
		c.srv.m.dropped[dropDenied].Inc()
		return false, true
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
	c.srv.m.pubDelivered[d.QoS].Inc()
	c.srv.m.sent[mqtt.TypePublish].Inc()
	if age := time.Now().UnixMilli() - d.Msg.PublishedAt; d.Msg.PublishedAt > 0 && age >= 0 && !d.Dup {
		c.srv.m.delivery.Observe(float64(age) / 1000)
	}
	return false, false
}

// pumpRetained sends one page of retained messages. The page is asked for only
// when there is room for it, so that what is read is sent at once.
func (c *Conn) pumpRetained(r *replay) error {
	c.mu.Lock()
	limit := min(c.win.Free(), replayMessages)
	if r.size == 0 {
		limit = min(limit, 8)
	} else {
		limit = max(1, min(limit, c.roomBytesLocked()/r.size))
	}
	c.mu.Unlock()
	msgs, next, err := c.srv.be.Retained.Retained(c.ctx, c.ident.Tenant, r.sub.Filter, r.after, limit)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 || len(c.replays) == 0 || c.replays[0] != r {
		return nil // unsubscribed or replaced meanwhile
	}
	sum := 0
	for i := range msgs {
		if !c.sendRetainedLocked(r, &msgs[i]) {
			// Read again from here when there is room; with room in the quota
			// it is the packet ids that are missing.
			c.spanned = c.win.Free() > 0
			c.flushLocked()
			return nil
		}
		r.after = string(msgs[i].Topic)
		sum += len(msgs[i].Topic) + len(msgs[i].Payload) + len(msgs[i].Props) + 16
	}
	if len(msgs) > 0 {
		r.size = sum / len(msgs)
	}
	if next == "" {
		c.replays = c.replays[1:]
	} else {
		r.after = next
		// The next replay gets its turn: none waits for the longest.
		c.replays = append(c.replays[1:], r)
	}
	c.flushLocked()
	return nil
}

// sendRetainedLocked sends one retained message; false if there is no room.
func (c *Conn) sendRetainedLocked(r *replay, m *command.Message) bool {
	if r.sub.NoLocal && m.Publisher == c.ident.ClientID {
		return true
	}
	if c.srv.checkReceive && !c.srv.cfg.Authorizer.MayReceive(&c.ident, m.Topic) {
		c.srv.m.dropped[dropDenied].Inc()
		return true
	}
	p := mqtt.Publish{
		QoS: min(m.QoS, r.sub.QoS), Retain: true, Topic: m.Topic, Payload: m.Payload, Props: m.Props,
		HasExpiry: m.HasExpiry, Expiry: m.Expiry,
	}
	if r.sub.ID != 0 {
		p.SubscriptionIDs = []uint32{r.sub.ID}
	}
	switch c.sendLocalLocked(&p) {
	case sendFull:
		return false
	case sendOK:
		c.srv.m.pubDelivered[p.QoS].Inc()
		c.srv.m.sent[mqtt.TypePublish].Inc()
	}
	return true
}
