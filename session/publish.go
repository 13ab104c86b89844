package session

import (
	"bytes"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func isProtocol(err error) bool {
	var e *mqtt.Error
	return errors.As(err, &e)
}

// reservedTopic reports whether a topic belongs to the broker.
func reservedTopic(topic []byte) bool {
	return len(topic) >= 4 && topic[0] == '$' && (bytes.HasPrefix(topic, []byte("$SYS/")) || string(topic) == "$SYS")
}

// onPublish takes a message in. It waits only while a lane is full, or while a
// 3.x client has too many under way.
func (c *Conn) onPublish(p *mqtt.Publish) bool {
	if p.QoS > 2 {
		return c.protocolError("PUBLISH with QoS 3")
	}
	c.srv.m.pubReceived[p.QoS].Inc()
	if c.srv.limited && !c.throttle(c.rd.Size()) {
		return false
	}
	if why := c.checkPublish(p); why.kind != 0 {
		c.close(why)
		return false
	}
	// Rights are asked for the topic that is meant, after the alias.
	if reservedTopic(p.Topic) || !c.srv.cfg.Authorizer.MayPublish(&c.ident, p.Topic, p.QoS, p.Retain) {
		return c.denied(p)
	}
	if !payloadFits(p.Props, p.Payload) {
		return c.badPayload(p)
	}
	m := &c.msg
	m.Topic, m.Payload, m.Props = p.Topic, p.Payload, p.Props
	m.QoS, m.Retain, m.HasExpiry, m.Expiry = p.QoS, p.Retain, p.HasExpiry, p.Expiry
	m.PublishedAt = time.Now().UnixMilli()
	m.Publisher, m.Epoch = c.ident.ClientID, c.ref.Epoch
	switch p.QoS {
	case 0:
		c.srv.be.Publisher.Publish(c.ctx, c.ident.Tenant, m, nil)
		return true
	case 1:
		done, ok := c.accept(qos.Ack{Kind: qos.Puback, PacketID: p.PacketID})
		if done != nil {
			c.srv.be.Publisher.Publish(c.ctx, c.ident.Tenant, m, done)
		}
		return ok && c.waitWindow()
	}
	return c.onPublish2(p)
}

// checkPublish resolves the alias and judges what the codec cannot.
func (c *Conn) checkPublish(p *mqtt.Publish) cause {
	cfg := c.lim
	if c.aliasIn != nil && (p.TopicAlias != 0 || len(p.Topic) == 0) {
		topic, err := c.aliasIn.Resolve(p.TopicAlias, p.Topic)
		if err != nil {
			return causeOfInput(err)
		}
		p.Topic = topic
	}
	if err := router.CheckTopic(p.Topic, cfg.MaxTopicBytes, cfg.MaxTopicLevels); err != nil {
		return cause{kind: closeProtocol, code: mqtt.TopicNameInvalid, msg: err.Error()}
	}
	if p.QoS > cfg.MaxQoS { // v5:MQTT-3.2.2-11
		return cause{kind: closeProtocol, code: mqtt.QoSNotSupported, msg: "QoS is above the maximum"}
	}
	if p.Retain && !cfg.RetainAvailable { // v5:MQTT-3.2.2-14
		return cause{kind: closeProtocol, code: mqtt.RetainNotSupported, msg: "retained messages are not available"}
	}
	return cause{}
}

// accept notes an inbound QoS 1 or 2 publish. done is nil if it must not be
// passed on: the client broke its quota (ok is false), or it is a repetition.
func (c *Conn) accept(a qos.Ack) (done func(Outcome), ok bool) {
	level := byte(1)
	if a.Kind == qos.Pubrec {
		level = 2
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return nil, false
	}
	dup, err := c.in.Publish(level, a.PacketID)
	if err != nil {
		c.closeLocked(causeOfInput(err))
		return nil, false
	}
	c.accepted = true
	o := owed{Ack: a, at: c.srv.now()}
	slot := c.acks.Add(o)
	if !dup {
		return c.srv.completion(c, slot, o), true
	}
	// The id is held: the message is stored, or on its way in front of this
	// acknowledgement, which leaves only if it still is when its turn comes.
	if c.acks.Done(slot, o) {
		c.sendAcksLocked()
	}
	return nil, true
}

// denied answers a publish that the client may not make. It has no effect.
func (c *Conn) denied(p *mqtt.Publish) bool {
	if p.QoS == 0 || c.version == mqtt.V31 { // the others count when they are answered
		c.srv.m.refused.WithLabelValues("denied").Inc()
	}
	if p.QoS == 0 {
		return true
	}
	return c.refuse(p, mqtt.NotAuthorized)
}

// refuse answers a publish of QoS 1 or 2 without passing it on.
func (c *Conn) refuse(p *mqtt.Publish, code mqtt.ReasonCode) bool {
	kind := qos.Puback
	if p.QoS == 2 {
		kind = qos.Pubrec
	}
	if c.version == mqtt.V31 && code == mqtt.NotAuthorized {
		code = mqtt.Success // v31:3.3: its client is not informed
	}
	done, ok := c.accept(qos.Ack{Kind: kind, PacketID: p.PacketID})
	if done != nil {
		done(Outcome{Code: code})
	}
	return ok
}

// payloadFits reports whether a payload that is said to be text is UTF-8.
func payloadFits(props, payload []byte) bool {
	if len(props) == 0 || bytes.IndexByte(props, byte(mqtt.PropPayloadFormat)) < 0 {
		return true
	}
	text := false
	err := mqtt.ReadProps(props, func(p mqtt.Property) bool {
		text = p.ID == mqtt.PropPayloadFormat && p.Num == 1
		return !text
	})
	return err == nil && (!text || utf8.Valid(payload))
}

// badPayload answers a payload that is not what its publisher says. QoS 0 has
// no other answer than the end. v5:MQTT 3.3.2.3.2
func (c *Conn) badPayload(p *mqtt.Publish) bool {
	if p.QoS == 0 {
		c.srv.m.refused.WithLabelValues(refusalLabel(mqtt.PayloadFormatInvalid)).Inc()
		c.close(cause{kind: closeProtocol, code: mqtt.PayloadFormatInvalid, msg: "the payload is not UTF-8"})
		return false
	}
	return c.refuse(p, mqtt.PayloadFormatInvalid)
}

// waitWindow slows a 3.x client down; a v5 client keeps within its quota.
func (c *Conn) waitWindow() bool {
	if c.version == mqtt.V5 {
		return true
	}
	return c.waitRoom()
}
