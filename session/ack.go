package session

import (
	"errors"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// completion carries the outcome of one publish back to its connection. It is
// pooled, with the func value that the backend is given, so that a publish
// costs no allocation for it.
type completion struct {
	s    *Server
	c    *Conn
	slot qos.Slot
	owed owed
	fn   func(Outcome)
}

func newCompletionPool(s *Server) *sync.Pool {
	return &sync.Pool{New: func() any {
		p := &completion{s: s}
		p.fn = p.run
		return p
	}}
}

// completion returns the done of one acknowledgement.
func (s *Server) completion(c *Conn, slot qos.Slot, o owed) func(Outcome) {
	p := s.completions.Get().(*completion)
	p.c, p.slot, p.owed = c, slot, o
	return p.fn
}

func (p *completion) run(o Outcome) {
	c, slot, ow := p.c, p.slot, p.owed
	if c == nil {
		return // called twice: the contract forbids it
	}
	p.c = nil
	p.s.completions.Put(p)
	c.complete(slot, ow, o)
}

// ackType is the packet of an acknowledgement.
func ackType(k qos.AckKind) mqtt.Type {
	switch k {
	case qos.Pubrec:
		return mqtt.TypePubrec
	case qos.Pubcomp:
		return mqtt.TypePubcomp
	}
	return mqtt.TypePuback
}

// complete is called by the backend, on any goroutine.
func (c *Conn) complete(slot qos.Slot, ow owed, o Outcome) {
	defer c.guard("completion")
	code, err := publishCode(o, ackType(ow.Kind))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return
	}
	if err != nil {
		// No positive acknowledgement for what may not be stored. The client
		// repeats it on its next connection.
		c.closeLocked(causeOfError(err, "publish is not committed"))
		return
	}
	ow.Code, ow.why = byte(code), o.Reason
	if c.acks.Done(slot, ow) {
		c.sendAcksLocked()
	}
}

// sendAcksLocked sends the acknowledgements whose turn has come: they leave in
// the order of their packets. v5:MQTT-4.6.0-2, v5:MQTT-4.6.0-3
func (c *Conn) sendAcksLocked() {
	now := c.srv.now()
	for c.cause.kind == 0 {
		a, ok := c.acks.Pop()
		if !ok {
			break
		}
		code := mqtt.ReasonCode(a.Code)
		if a.Kind == qos.Pubrec && !code.Failed() && !c.in.Holds(a.PacketID) {
			continue // the repetition of a publish that was refused meanwhile
		}
		c.in.Acked(a.Ack)
		if code.Failed() && a.Kind != qos.Pubcomp {
			why := a.why
			if why == "" {
				why = refusalLabel(code)
			}
			c.srv.m.refused.WithLabelValues(why).Inc()
			if c.version != mqtt.V5 {
				// 3.x has no negative acknowledgement.
				c.closeLocked(cause{kind: closeRefused, msg: "publish refused: " + code.String()})
				return
			}
		}
		c.appendAckLocked(ackType(a.Kind), a.PacketID, code)
		switch a.Kind {
		case qos.Puback:
			c.srv.m.pubAck[1].Observe(seconds(time.Duration(now - a.at)))
		case qos.Pubrec:
			c.srv.m.pubAck[2].Observe(seconds(time.Duration(now - a.at)))
		}
	}
	c.roomLocked()
	c.flushLocked()
}

// appendAckLocked adds PUBACK, PUBREC, PUBREL or PUBCOMP. A failure gets a
// reason string where the client wants one.
func (c *Conn) appendAckLocked(t mqtt.Type, pid uint16, code mqtt.ReasonCode) {
	c.srv.m.sent[t].Inc()
	if code.Failed() && c.version == mqtt.V5 {
		if s := c.reasonString(code.String()); s != "" {
			c.appendFailedLocked(t, mqtt.Puback{PacketID: pid, Code: code, ReasonString: s})
			return
		}
	}
	if c.version != mqtt.V5 {
		code = mqtt.Success // 0x92 and 0x10 say nothing that 3.x could carry
	}
	c.out.commit(mqtt.AppendAck(c.out.grow(8), c.version, t, pid, code))
}

func (c *Conn) appendFailedLocked(t mqtt.Type, a mqtt.Puback) {
	var p mqtt.Packet
	switch t {
	case mqtt.TypePubrec:
		p = (*mqtt.Pubrec)(&a)
	case mqtt.TypePubrel:
		p = (*mqtt.Pubrel)(&a)
	case mqtt.TypePubcomp:
		p = (*mqtt.Pubcomp)(&a)
	default:
		p = &a
	}
	b, err := mqtt.Append(c.out.grow(64), c.version, p)
	if err != nil {
		b = mqtt.AppendAck(c.out.grow(8), c.version, t, a.PacketID, a.Code)
	}
	c.out.commit(b)
}

// onPuback ends an outbound QoS 1 message.
func (c *Conn) onPuback(pid uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.win.Puback(pid)
	return c.ackedLocked(d, err)
}

// ackedLocked notes that the client is done with a delivery. It is called by
// the reader, which owns pend.
func (c *Conn) ackedLocked(d qos.Delivery, err error) bool {
	if err != nil {
		if isUnknownID(err) {
			return true // late or repeated: nothing to undo
		}
		c.closeLocked(causeOfInput(err))
		return false
	}
	c.progress = true
	if d.Seq != 0 {
		c.pend.Done = append(c.pend.Done, d.Seq)
	}
	return true
}

func isUnknownID(err error) bool { return errors.Is(err, qos.ErrPacketID) }

// flushAcks hands what the client has acknowledged to the cluster, in one call.
// It runs on the reader.
func (c *Conn) flushAcks() {
	if len(c.pend.Done) == 0 && len(c.pend.Received) == 0 {
		return
	}
	c.mu.Lock()
	c.pend.SentTo = c.win.SentTo()
	c.mu.Unlock()
	var done func(error)
	if len(c.pend.Received) > 0 {
		slots := c.relSlots
		c.relSlots = nil
		done = func(err error) { c.received(slots, err) }
	}
	c.srv.be.Inbox.Ack(c.ref, c.pend, done)
	c.pend.Done, c.pend.Received = c.pend.Done[:0], c.pend.Received[:0]
}
