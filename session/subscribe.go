package session

import (
	"context"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// onSubscribe answers when the subscriptions are effective on every gateway.
// The local trie knows the new ones before the cluster is asked: from the
// moment that a message is routed to this node, it finds its receiver.
func (c *Conn) onSubscribe(p *mqtt.Subscribe) bool {
	start := c.srv.now()
	c.flushAcks()
	codes := make([]mqtt.ReasonCode, len(p.Filters))
	subs, at, why := c.judge(p, codes)
	if why != "" {
		return c.protocolError(why)
	}
	if len(subs) > 0 {
		fresh := make([]bool, len(subs))
		for i := range subs {
			if _, ok := c.filters[subs[i].Filter]; !ok {
				fresh[i] = true
				c.addLocal(&subs[i])
			}
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.SubscribeTimeout)
		granted, err := c.srv.be.Sessions.Subscribe(ctx, c.ref, subs)
		cancel()
		if err != nil || len(granted) != len(subs) {
			c.close(causeOfError(err, "SUBSCRIBE is not committed"))
			return false
		}
		c.settle(subs, granted, fresh)
		for i, g := range granted {
			codes[at[i]] = subscribeCode(g.Code, c.version)
		}
		c.subscribed(subs, granted)
	}
	c.srv.m.subAck.Observe(seconds(time.Duration(c.srv.now() - start)))
	if !c.reply(&mqtt.Suback{PacketID: p.PacketID, Codes: codes}) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wantPumpLocked()
	return true
}

// judge sorts out the filters that are refused here. subs are the others, at
// their places in codes. why is set for what ends the connection.
func (c *Conn) judge(p *mqtt.Subscribe, codes []mqtt.ReasonCode) (subs []command.Subscription, at []int, why string) {
	cfg := &c.srv.cfg
	room := cfg.MaxSubscriptions - len(c.filters)
	for i := range p.Filters {
		f := &p.Filters[i]
		_, _, shared, _ := router.SplitShare(f.Filter)
		if shared && f.NoLocal { // v5:MQTT-3.8.3-4
			return nil, nil, "No Local on a shared subscription"
		}
		_, known := c.filters[f.Filter]
		known = known || slices.ContainsFunc(subs, func(s command.Subscription) bool { return s.Filter == f.Filter })
		code := mqtt.Success
		switch {
		case router.CheckFilter(f.Filter, cfg.MaxTopicBytes, cfg.MaxTopicLevels) != nil:
			code = mqtt.TopicFilterInvalid
		case shared:
			code = mqtt.SharedSubscriptionsNotSupported
		case !c.srv.maySubscribe(c, f.Filter, f.QoS):
			code = mqtt.NotAuthorized
		case !known && room <= 0:
			code = mqtt.QuotaExceeded
		}
		if code.Failed() {
			codes[i] = subscribeCode(byte(code), c.version)
			continue
		}
		if !known {
			room--
		}
		subs = append(subs, command.Subscription{
			Filter: f.Filter, QoS: min(f.QoS, cfg.MaxQoS), NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
			RetainHandling: f.RetainHandling, ID: p.SubscriptionID,
		})
		at = append(at, i)
	}
	return subs, at, ""
}

// subscribeCode returns the SUBACK code of a version: before v5 there is one
// failure only. (MQTT 3.1 has none at all; its clients know 0x80 by custom.)
func subscribeCode(code byte, v mqtt.Version) mqtt.ReasonCode {
	if code <= 2 {
		return mqtt.ReasonCode(code)
	}
	if v != mqtt.V5 || !mqtt.ReasonCode(code).ValidIn(mqtt.TypeSuback) {
		return mqtt.UnspecifiedError
	}
	return mqtt.ReasonCode(code)
}

// settle makes the local trie agree with what was granted.
func (c *Conn) settle(subs []command.Subscription, granted []Granted, fresh []bool) {
	for i := range subs {
		switch g := granted[i]; {
		case g.Code <= 2:
			subs[i].QoS = g.Code
			c.addLocal(&subs[i])
		case fresh[i]:
			c.removeLocal(subs[i].Filter)
		}
	}
}

// subscribed queues the replay of retained messages. They are read only now
// that the subscription is effective: what is published after the read arrives
// live, so there is no gap (I14).
func (c *Conn) subscribed(subs []command.Subscription, granted []Granted) {
	if !c.srv.cfg.RetainAvailable {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range subs {
		s := &subs[i]
		// v5:MQTT-3.3.1-9, -10, -11
		if granted[i].Code > 2 || s.RetainHandling == 2 || s.RetainHandling == 1 && granted[i].Existed {
			continue
		}
		c.dropReplayLocked(s.Filter)
		c.replays = append(c.replays, &replay{sub: *s})
	}
}

func (c *Conn) dropReplayLocked(filter string) {
	c.replays = slices.DeleteFunc(c.replays, func(r *replay) bool { return r.sub.Filter == filter })
}

// onUnsubscribe answers when the change is committed. The local trie forgets a
// filter only then, and before the answer leaves (I6).
func (c *Conn) onUnsubscribe(p *mqtt.Unsubscribe) bool {
	c.flushAcks()
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.SubscribeTimeout)
	defer cancel()
	res, err := c.srv.be.Sessions.Unsubscribe(ctx, c.ref, p.Filters)
	if err != nil || len(res) != len(p.Filters) {
		c.close(causeOfError(err, "UNSUBSCRIBE is not committed"))
		return false
	}
	codes := make([]mqtt.ReasonCode, len(res))
	for i, f := range p.Filters {
		codes[i] = mqtt.ReasonCode(res[i])
		if !codes[i].Failed() {
			c.removeLocal(f)
		}
	}
	c.mu.Lock()
	for _, f := range p.Filters {
		c.dropReplayLocked(f)
	}
	c.mu.Unlock()
	return c.reply(&mqtt.Unsuback{PacketID: p.PacketID, Codes: codes})
}
