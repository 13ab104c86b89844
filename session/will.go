package session

import (
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// checkWill judges the will of a CONNECT as if it were published now. The right
// is checked again when it fires, by who routes it.
func (c *Conn) checkWill(w *mqtt.Will) error {
	if w == nil {
		return nil
	}
	cfg := c.lim
	if w.QoS > cfg.MaxQoS { // v5:MQTT-3.2.2-12
		return ErrRefused(mqtt.QoSNotSupported, "will QoS is above the maximum")
	}
	if w.Retain && !cfg.RetainAvailable { // v5:MQTT-3.2.2-13
		return ErrRefused(mqtt.RetainNotSupported, "retained messages are not available")
	}
	if err := router.CheckTopic([]byte(w.Topic), cfg.MaxTopicBytes, cfg.MaxTopicLevels); err != nil {
		return ErrRefused(mqtt.TopicNameInvalid, "will: "+err.Error())
	}
	if !payloadFits(w.Props, w.Payload) {
		return ErrRefused(mqtt.PayloadFormatInvalid, "the will's payload is not UTF-8")
	}
	if reservedTopic([]byte(w.Topic)) || !c.srv.cfg.Authorizer.MayPublish(&c.ident, []byte(w.Topic), w.QoS, w.Retain) {
		return ErrRefused(mqtt.NotAuthorized, "may not publish the will")
	}
	return nil
}

// will encodes a will for the session's shard.
func (c *Conn) will(w *mqtt.Will) *command.Will {
	m := command.Message{
		Topic: []byte(w.Topic), Payload: w.Payload, Props: w.Props, QoS: w.QoS, Retain: w.Retain,
		HasExpiry: w.HasExpiry, Expiry: w.Expiry, Publisher: c.ident.ClientID,
	}
	return &command.Will{Message: m.Append(nil), DelayS: w.Delay}
}
