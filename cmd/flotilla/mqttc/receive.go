package mqttc

import (
	"errors"
	"fmt"
	"io"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// maxAcks is how many bytes of answers the reader gathers at most before it
// gives them to the writer.
const maxAcks = 16 << 10

// readLoop reads until the connection ends, and runs all callbacks.
func (c *Client) readLoop() {
	defer c.joined.Done()
	defer c.finish()
	for {
		p, err := c.reader.Next()
		if err != nil {
			c.readFailed(err)
			return
		}
		if err := c.handle(p); err != nil {
			c.fail(err)
			return
		}
		if !c.reader.Ready() || len(c.acks) >= maxAcks {
			c.hand()
		}
	}
}

func (c *Client) readFailed(err error) {
	var bad *mqtt.Error
	if errors.As(err, &bad) {
		c.fail(fmt.Errorf("server broke the protocol: %w", err))
		return
	}
	c.s.mu.Lock()
	closing := c.closing
	c.s.mu.Unlock()
	if closing {
		c.fail(ErrClosed)
		return
	}
	if errors.Is(err, io.EOF) {
		c.fail(ErrLost)
		return
	}
	c.fail(fmt.Errorf("%w: %w", ErrLost, err))
}

// hand gives the gathered answers to the writer and wakes the senders, once
// for all that was read together.
func (c *Client) hand() {
	if len(c.acks) == 0 && !c.freed {
		return
	}
	c.s.mu.Lock()
	if len(c.acks) > 0 {
		before := len(c.out)
		c.out = append(c.out, c.acks...)
		c.queuedLocked(before)
		c.acks = c.acks[:0]
	}
	if c.freed && c.waiters > 0 {
		c.room.Broadcast()
	}
	c.freed = false
	c.s.mu.Unlock()
}

func (c *Client) handle(p mqtt.Packet) error {
	if c.opt.OnPacket != nil && c.opt.OnPacket(c, p) {
		return nil
	}
	switch p := p.(type) {
	case *mqtt.Publish:
		return c.onPublish(p)
	case *mqtt.Puback:
		c.onEnd(p.PacketID, 1, p.Code)
	case *mqtt.Pubrec:
		c.onPubrec(p)
	case *mqtt.Pubcomp:
		c.onEnd(p.PacketID, 2, p.Code)
	case *mqtt.Pubrel:
		c.onPubrel(p)
	case *mqtt.Suback:
		c.onAnswer(p.PacketID, p.Codes)
	case *mqtt.Unsuback:
		c.onAnswer(p.PacketID, p.Codes)
	case *mqtt.Pingresp:
		c.onPong()
	case *mqtt.Disconnect:
		return &DisconnectError{Code: p.Code, Reason: p.ReasonString, Reference: p.ServerReference}
	default:
		return fmt.Errorf("%w: server sent %s", ErrLost, p.Type())
	}
	return nil
}

func (c *Client) onPublish(p *mqtt.Publish) error {
	if p.TopicAlias != 0 {
		if err := c.resolve(p); err != nil {
			return err
		}
	}
	repeated := false
	if p.QoS == 2 {
		c.s.mu.Lock()
		_, repeated = c.s.received[p.PacketID]
		c.s.received[p.PacketID] = struct{}{}
		c.s.mu.Unlock()
	}
	if c.opt.OnMessage != nil && (!repeated || c.opt.ManualAck) {
		c.opt.OnMessage(c, p)
	}
	if c.opt.ManualAck {
		return nil
	}
	switch p.QoS {
	case 1:
		c.acks = mqtt.AppendAck(c.acks, c.version, mqtt.TypePuback, p.PacketID, mqtt.Success)
	case 2:
		c.acks = mqtt.AppendAck(c.acks, c.version, mqtt.TypePubrec, p.PacketID, mqtt.Success)
	}
	return nil
}

// resolve gives p the topic of its alias, or learns the alias.
func (c *Client) resolve(p *mqtt.Publish) error {
	if len(p.Topic) == 0 {
		topic, ok := c.aliases[p.TopicAlias]
		if !ok {
			return fmt.Errorf("%w: server used topic alias %d before it was set", ErrLost, p.TopicAlias)
		}
		p.Topic = topic
		return nil
	}
	if p.TopicAlias > c.opt.TopicAliasMaximum {
		return fmt.Errorf("%w: server set topic alias %d above the maximum", ErrLost, p.TopicAlias)
	}
	if c.aliases == nil {
		c.aliases = make(map[uint16][]byte)
	}
	c.aliases[p.TopicAlias] = append([]byte(nil), p.Topic...)
	return nil
}

// onEnd handles PUBACK and PUBCOMP. One that nobody waits for is ignored.
func (c *Client) onEnd(id uint16, qos byte, code mqtt.ReasonCode) {
	c.s.mu.Lock()
	f := c.s.flights[id]
	if f == nil || f.request || f.pub.QoS != qos {
		c.s.mu.Unlock()
		return
	}
	a := Ack{PacketID: id, QoS: qos, Token: f.token, Code: code}
	if code.Failed() {
		a.Payload = append([]byte(nil), f.pub.Payload...)
	}
	answer := f.answer
	c.s.removeLocked(f)
	c.s.mu.Unlock()
	c.freed = true
	if answer != nil {
		answer <- response{ack: a}
		return
	}
	if c.opt.OnAck != nil {
		c.opt.OnAck(c, a)
	}
}

// onPubrec answers with PUBREL, or ends the publish if the server refused it.
func (c *Client) onPubrec(p *mqtt.Pubrec) {
	if p.Code.Failed() {
		c.onEnd(p.PacketID, 2, p.Code)
		return
	}
	code := mqtt.Success
	c.s.mu.Lock()
	f := c.s.flights[p.PacketID]
	if f != nil && f.pub.QoS == 2 {
		f.released = true
	} else if c.version == mqtt.V5 {
		code = mqtt.PacketIdentifierNotFound
	}
	c.s.mu.Unlock()
	c.acks = mqtt.AppendAck(c.acks, c.version, mqtt.TypePubrel, p.PacketID, code)
}

func (c *Client) onPubrel(p *mqtt.Pubrel) {
	code := mqtt.Success
	c.s.mu.Lock()
	if _, ok := c.s.received[p.PacketID]; !ok && c.version == mqtt.V5 {
		code = mqtt.PacketIdentifierNotFound
	}
	delete(c.s.received, p.PacketID)
	c.s.mu.Unlock()
	c.acks = mqtt.AppendAck(c.acks, c.version, mqtt.TypePubcomp, p.PacketID, code)
}

// onAnswer handles SUBACK and UNSUBACK.
func (c *Client) onAnswer(id uint16, codes []mqtt.ReasonCode) {
	c.s.mu.Lock()
	f := c.s.flights[id]
	if f == nil || !f.request {
		c.s.mu.Unlock()
		return
	}
	answer := f.answer
	c.s.removeLocked(f)
	c.s.mu.Unlock()
	c.freed = true
	answer <- response{codes: append([]mqtt.ReasonCode(nil), codes...)}
}

// onPong gives the answers to the writer first: who has pinged may rely on all
// that came before the answer being acknowledged before what it sends next.
func (c *Client) onPong() {
	c.hand()
	c.s.mu.Lock()
	c.awaiting = false
	var first chan<- response
	if len(c.pongs) > 0 {
		first, c.pongs = c.pongs[0], c.pongs[1:]
	}
	c.s.mu.Unlock()
	if first != nil {
		first <- response{}
	}
}
