package session

import (
	"context"
	"errors"
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
	if why.kind != 0 {
		c.close(why)
		return false
	}
	var granted []Granted
	if len(subs) > 0 {
		if granted = c.subscribe(subs); granted == nil {
			return false
		}
		for i, g := range granted {
			codes[at[i]] = subscribeCode(g.Code, p.Filters[at[i]].QoS, c.version)
		}
	}
	fresh := c.subscribed(subs, granted)
	c.beginReplays(fresh)
	c.srv.m.subAck.Observe(seconds(time.Duration(c.srv.now() - start)))
	if !c.reply(&mqtt.Suback{PacketID: p.PacketID, Codes: codes}) {
		return false
	}
	c.releaseReplays(fresh) // behind SUBACK, where clients look for retained messages
	return true
}

// subscribe asks the cluster and makes the local tries agree with its answer.
// nil means that the connection is closing.
func (c *Conn) subscribe(subs []command.Subscription) []Granted {
	c.holdReplays(subs)
	fresh := make([]bool, len(subs))
	for i := range subs {
		if _, ok := c.filters[subs[i].Filter]; !ok {
			fresh[i] = true
			c.addLocal(&subs[i])
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.SubscribeTimeout)
	defer cancel()
	granted, err := c.srv.be.Sessions.Subscribe(ctx, c.ref, subs)
	var refused *RefusedError
	if errors.As(err, &refused) { // certain to have had no effect
		granted, err = refuseAll(subs, refused), nil
	}
	if err != nil || len(granted) != len(subs) {
		c.close(causeOfError(err, "SUBSCRIBE is not committed"))
		return nil
	}
	c.settle(subs, granted, fresh)
	return granted
}

// judge sorts out the filters that are refused here. subs are the others, at
// their places in codes. why is set for what ends the connection.
func (c *Conn) judge(p *mqtt.Subscribe, codes []mqtt.ReasonCode) (subs []command.Subscription, at []int, why cause) {
	cfg := &c.srv.cfg
	room := c.lim.MaxSubscriptions - len(c.filters)
	if p.SubscriptionID != 0 && !cfg.SubscriptionIDsAvailable { // v5:MQTT 3.8.2.1.2
		return nil, nil, cause{kind: closeProtocol, code: mqtt.SubscriptionIdentifiersNotSupported, msg: "subscription identifiers are not available"}
	}
	for i := range p.Filters {
		f := &p.Filters[i]
		_, inner, shared, _ := router.SplitShare(f.Filter)
		if shared && f.NoLocal { // v5:MQTT-3.8.3-4
			return nil, nil, causeOf(closeProtocol, "No Local on a shared subscription")
		}
		_, known := c.filters[f.Filter]
		known = known || slices.ContainsFunc(subs, func(s command.Subscription) bool { return s.Filter == f.Filter })
		code := mqtt.Success
		switch {
		case router.CheckFilter(f.Filter, c.lim.MaxTopicBytes, c.lim.MaxTopicLevels) != nil:
			code = mqtt.TopicFilterInvalid
		case shared && !cfg.SharedAvailable:
			code = mqtt.SharedSubscriptionsNotSupported
		case !cfg.WildcardAvailable && router.HasWildcard(inner):
			code = mqtt.WildcardSubscriptionsNotSupported
		case !c.srv.maySubscribe(c, inner, f.QoS): // a share is authorised on what it matches
			code = mqtt.NotAuthorized
		case !known && room <= 0:
			code = mqtt.QuotaExceeded
		}
		if code.Failed() {
			codes[i] = subscribeCode(byte(code), f.QoS, c.version)
			continue
		}
		if !known {
			room--
		}
		sub := command.Subscription{
			Filter: f.Filter, QoS: min(f.QoS, c.lim.MaxQoS), NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
			RetainHandling: f.RetainHandling, ID: p.SubscriptionID,
		}
		if shared || !c.lim.RetainAvailable {
			sub.RetainHandling = 2 // no replay, whoever decides
		}
		subs = append(subs, sub)
		at = append(at, i)
	}
	return subs, at, cause{}
}

// subscribeCode returns the SUBACK code of a version. v3.1.1 has one failure.
// MQTT 3.1 has none: its server acknowledges what was asked for, whatever it does.
func subscribeCode(code, asked byte, v mqtt.Version) mqtt.ReasonCode {
	switch {
	case code <= 2:
		return mqtt.ReasonCode(code)
	case v == mqtt.V31:
		return mqtt.ReasonCode(asked)
	case v != mqtt.V5 || !mqtt.ReasonCode(code).ValidIn(mqtt.TypeSuback):
		return mqtt.UnspecifiedError
	}
	return mqtt.ReasonCode(code)
}

// refuseAll is the answer to a SUBSCRIBE that the cluster has refused.
func refuseAll(subs []command.Subscription, e *RefusedError) []Granted {
	granted := make([]Granted, len(subs))
	for i := range granted {
		granted[i].Code = byte(e.Code)
	}
	return granted
}

// settle makes the local trie agree with what was granted.
func (c *Conn) settle(subs []command.Subscription, granted []Granted, fresh []bool) {
	share := false
	for i := range subs {
		switch g := granted[i]; {
		case g.Code <= 2:
			subs[i].QoS = g.Code
			c.addLocal(&subs[i])
			share = share || isShare(subs[i].Filter)
		case fresh[i]:
			c.removeLocal(subs[i].Filter)
		}
	}
	if share {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pulls, c.due = true, true // a share fills the inbox of any session
	}
}

func isShare(filter string) bool {
	_, _, shared, _ := router.SplitShare(filter)
	return shared
}

// onUnsubscribe answers when the change is committed. The local trie forgets a
// filter only then, and before the answer leaves (I6).
func (c *Conn) onUnsubscribe(p *mqtt.Unsubscribe) bool {
	c.flushAcks()
	codes := make([]mqtt.ReasonCode, len(p.Filters))
	var filters []string
	var at []int
	for i, f := range p.Filters {
		if router.CheckFilter(f, c.lim.MaxTopicBytes, c.lim.MaxTopicLevels) != nil {
			codes[i] = mqtt.TopicFilterInvalid
			continue
		}
		filters, at = append(filters, f), append(at, i)
	}
	if len(filters) > 0 && !c.unsubscribe(filters, at, codes) {
		return false
	}
	return c.reply(&mqtt.Unsuback{PacketID: p.PacketID, Codes: codes})
}

// unsubscribe removes filters, whose codes stand at their places in codes.
func (c *Conn) unsubscribe(filters []string, at []int, codes []mqtt.ReasonCode) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.cfg.SubscribeTimeout)
	defer cancel()
	res, err := c.srv.be.Sessions.Unsubscribe(ctx, c.ref, filters)
	if err != nil || len(res) != len(filters) {
		c.close(causeOfError(err, "UNSUBSCRIBE is not committed"))
		return false
	}
	c.mu.Lock()
	for _, f := range filters {
		c.dropReplayLocked(f)
	}
	c.mu.Unlock()
	for i, f := range filters {
		codes[at[i]] = mqtt.ReasonCode(res[i])
		if res[i] < 0x80 {
			c.removeLocal(f)
		}
	}
	return true
}
