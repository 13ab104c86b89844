package session

import (
	"bytes"
	"errors"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// queued is a message that waits for the Receive Maximum of a session without
// inbox.
type queued struct {
	m      *command.Message // shared between sessions
	qos    byte
	retain bool
	ids    []uint32
	at     int64 // when it came, ns of Server.now
}

// cost is what a queued message counts for.
func (q *queued) cost() int { return len(q.m.Topic) + len(q.m.Payload) + len(q.m.Props) + 64 }

// pending is the queue of a session without inbox, guarded by Conn.mu.
type pending struct {
	list  []queued
	head  int
	bytes int
	slow  int64 // since when it is above its limit, 0 = it is not
}

func (p *pending) empty() bool { return p.head == len(p.list) }
func (p *pending) len() int    { return len(p.list) - p.head }

func (p *pending) add(q queued) {
	if p.head > 64 && p.head*2 > len(p.list) {
		n := copy(p.list, p.list[p.head:])
		clear(p.list[n:])
		p.list, p.head = p.list[:n], 0
	}
	p.list = append(p.list, q)
	p.bytes += q.cost()
}

func (p *pending) front() *queued { return &p.list[p.head] }

func (p *pending) pop() {
	p.bytes -= p.list[p.head].cost()
	p.list[p.head] = queued{}
	if p.head++; p.head == len(p.list) {
		p.list, p.head = nil, 0
	}
}

// reset forgets everything, at the end of the connection and so of the session.
func (p *pending) reset(m *metrics) {
	if p.slow != 0 {
		m.slow.Add(-1)
	}
	*p = pending{}
}

// checkQueueLocked finds out whether the client is slow, and disconnects it if
// it stays so: dropping what a QoS above 0 promises is no choice, and making the
// publisher wait for its slowest receiver is none either.
func (c *Conn) checkQueueLocked() {
	cfg := &c.srv.cfg
	q := &c.queue
	over := q.len() > cfg.QueueMessages || q.bytes > cfg.QueueBytes
	switch {
	case !over:
		if q.slow != 0 && q.len() <= cfg.QueueMessages/2 && q.bytes <= cfg.QueueBytes/2 {
			q.slow = 0
			c.srv.m.slow.Add(-1)
		}
	case q.slow == 0:
		q.slow = max(c.srv.now(), 1)
		c.srv.m.slow.Add(1)
	case c.srv.now()-q.slow > int64(cfg.SlowTimeout), q.len() > 2*cfg.QueueMessages, q.bytes > 2*cfg.QueueBytes:
		c.closeLocked(causeOf(closeSlow, "client does not keep up"))
	}
}

// sendQueueLocked sends from the queue as far as the Receive Maximum and the
// outbox have room.
func (c *Conn) sendQueueLocked() {
	if c.queue.empty() || c.cause.kind != 0 {
		return
	}
	for !c.queue.empty() && c.out.bytes < c.srv.cfg.OutboxBytes {
		q := c.queue.front()
		p := mqtt.Publish{QoS: q.qos, Retain: q.retain, Topic: q.m.Topic, Payload: q.m.Payload, Props: q.m.Props, SubscriptionIDs: q.ids}
		if q.m.HasExpiry {
			left, ok := remaining(q.m.Expiry, time.Duration(c.srv.now()-q.at))
			if !ok {
				c.srv.m.dropped[dropExpired].Inc()
				c.queue.pop()
				continue
			}
			p.HasExpiry, p.Expiry = true, left
		}
		switch c.sendLocalLocked(&p) {
		case sendOK:
			c.srv.m.pubDelivered[q.qos].Inc()
			c.srv.m.sent[mqtt.TypePublish].Inc()
		case sendFull:
			c.checkQueueLocked()
			c.flushLocked()
			return
		}
		c.queue.pop()
	}
	c.checkQueueLocked()
	c.flushLocked()
}

// remaining returns what is left of a message expiry interval after waited.
func remaining(expiry uint32, waited time.Duration) (uint32, bool) {
	left := time.Duration(expiry)*time.Second - max(waited, 0)
	if left <= 0 {
		return 0, false
	}
	return wholeSeconds(left), true
}

// wholeSeconds is what is left in the unit of the protocol: the nearest number,
// but never 0 while something is left.
func wholeSeconds(left time.Duration) uint32 {
	return uint32(max((left+time.Second/2)/time.Second, 1))
}

// sendResult is what became of a connection-scoped delivery.
type sendResult byte

const (
	sendOK       sendResult = iota + 1
	sendFull                // no room in the Receive Maximum or among the packet ids
	sendTooLarge            // above what the client accepts: dropped and counted
)

// sendLocalLocked sends a publish whose packet id belongs to the connection.
func (c *Conn) sendLocalLocked(p *mqtt.Publish) sendResult {
	if p.QoS > 0 {
		c.spreadLocked()
		pid, err := c.win.SendLocal(p.QoS)
		if errors.Is(err, qos.ErrQuota) || errors.Is(err, qos.ErrSpan) {
			return sendFull
		}
		p.PacketID = pid
	}
	if !c.appendPublishLocked(p) {
		if p.QoS > 0 {
			c.win.Drop(p.PacketID)
		}
		c.srv.m.dropped[dropTooLarge].Inc()
		return sendTooLarge
	}
	return sendOK
}

// spreadLocked lets the connection-scoped packet ids of a durable session start
// elsewhere in each epoch. A client that got a QoS 2 message from an earlier
// connection and never its PUBREL still holds that packet id and would take a
// new message under it for a repetition.
func (c *Conn) spreadLocked() {
	if !c.durable || c.spread {
		return
	}
	c.spread = true
	const golden = 0x9E37 // odd, so that neighbouring epochs are far apart
	for range c.ref.Epoch * golden % qos.LocalIDs {
		if pid, err := c.win.SendLocal(1); err == nil {
			c.win.Drop(pid)
		}
	}
}

// cloneMessage copies a message whose slices are only lent.
func cloneMessage(m *command.Message) *command.Message {
	n := *m
	n.Topic, n.Payload, n.Props = bytes.Clone(m.Topic), bytes.Clone(m.Payload), bytes.Clone(m.Props)
	return &n
}
