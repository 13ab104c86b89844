package session

import (
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// onPublish2 takes a QoS 2 message in. For a durable session the cluster keeps
// it under its packet id until PUBREL, so that the handshake can be finished on
// another node. For a transient one it is published at once, and the id lives
// in the connection, as the session does.
func (c *Conn) onPublish2(p *mqtt.Publish) bool {
	done, ok := c.accept(qos.Ack{Kind: qos.Pubrec, PacketID: p.PacketID})
	if done != nil {
		if c.durable {
			c.srv.be.Publisher.Receive(c.ctx, c.ref, p.PacketID, &c.msg, done)
		} else {
			c.srv.be.Publisher.Publish(c.ctx, c.ident.Tenant, &c.msg, done)
		}
	}
	return ok && c.waitWindow()
}

// onPubrel finishes an inbound QoS 2 message.
func (c *Conn) onPubrel(pid uint16) bool {
	a := owed{Ack: qos.Ack{Kind: qos.Pubcomp, PacketID: pid}, at: c.srv.now()}
	done := c.release(a)
	if done != nil {
		c.srv.be.Publisher.Release(c.ctx, c.ref, pid, done)
	}
	return !c.closing.Load() && c.waitWindow()
}

// release notes the PUBCOMP that is owed; done is nil if it needs nobody else.
func (c *Conn) release(a owed) (done func(Outcome)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return nil
	}
	slot := c.acks.Add(a)
	held := c.in.Holds(a.PacketID)
	_, stored := c.stored[a.PacketID]
	delete(c.stored, a.PacketID)
	if held && (c.durable || stored) {
		return c.srv.completion(c, slot, a)
	}
	if !held { // v5:MQTT-4.3.3-12: never an error, the client may repeat itself
		a.Code = byte(mqtt.PacketIdentifierNotFound)
	}
	if c.acks.Done(slot, a) {
		c.sendAcksLocked()
	}
	return nil
}

// onPubrec notes that the client has a QoS 2 message. Its PUBREL leaves when
// that is committed.
func (c *Conn) onPubrec(pid uint16, code mqtt.ReasonCode) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress = true
	d, err := c.win.Pubrec(pid, code.Failed())
	if err != nil {
		if !isUnknownID(err) {
			c.closeLocked(causeOfInput(err))
			return false
		}
		if code.Failed() {
			return true
		}
		// v5:MQTT-4.3.3: the client waits for a PUBREL, whatever we have lost.
		c.answerRelLocked(release{pid: pid, code: mqtt.PacketIdentifierNotFound})
		return true
	}
	switch {
	case code.Failed():
		if d.Seq != 0 {
			c.pend.Done = append(c.pend.Done, d.Seq)
		}
	case d.Seq == 0:
		c.answerRelLocked(release{pid: pid})
	default:
		c.pend.Received = append(c.pend.Received, d.Seq)
		c.relSlots = append(c.relSlots, c.rels.Add(release{pid: pid}))
	}
	return true
}

// answerRelLocked adds a PUBREL that waits for no commit, in its turn: PUBRELs
// leave in the order of the PUBRECs. v5:MQTT-4.6.0-4
func (c *Conn) answerRelLocked(r release) {
	if c.rels.Done(c.rels.Add(r), r) {
		c.sendRelsLocked()
		c.flushLocked()
	}
}

// sendRelsLocked sends the PUBRELs whose turn has come.
func (c *Conn) sendRelsLocked() {
	for {
		r, ok := c.rels.Pop()
		if !ok || c.cause.kind != 0 {
			return
		}
		c.appendAckLocked(mqtt.TypePubrel, r.pid, r.code)
	}
}

// received is called when PUBRECs are committed.
func (c *Conn) received(slots []qos.Slot, err error) {
	defer c.guard("completion")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return
	}
	if err != nil {
		c.closeLocked(causeOfError(err, "PUBREC was not stored"))
		return
	}
	ready := false
	for _, s := range slots {
		ready = c.rels.Done(s, release{pid: c.relID(s)}) || ready
	}
	if ready {
		c.sendRelsLocked()
		c.flushLocked()
	}
}

func (c *Conn) relID(s qos.Slot) uint16 {
	r, _ := c.rels.Get(s)
	return r.pid
}

// onPubcomp ends an outbound QoS 2 message.
func (c *Conn) onPubcomp(pid uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.win.Pubcomp(pid)
	return c.ackedLocked(d, err)
}
