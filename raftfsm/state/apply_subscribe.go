package state

import (
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// MQTT reason codes of SUBACK and UNSUBACK that a machine decides.
const (
	codeSuccess        = 0x00
	codeNoSubscription = 0x11
	codeQuotaExceeded  = 0x97
)

// validFilter holds for all versions of this program that share a log: only the
// protocol's own limits count, never a node's configuration.
func validFilter(filter string) bool {
	_, _, shared, err := router.SplitShare(filter)
	return err == nil && !shared && router.CheckFilter(filter, 0, 0) == nil
}

// applySubscribe adds or replaces subscriptions.
func (s *Shard) applySubscribe(c *command.Subscribe) command.Result {
	ss, code := s.current(&c.Ref)
	if code != command.OK {
		return command.Result{Code: code}
	}
	for i := range c.Subs {
		if !validFilter(c.Subs[i].Filter) {
			return command.Result{Code: command.Invalid}
		}
	}
	r := command.Result{Code: command.OK, Codes: make([]byte, len(c.Subs)), Existed: make([]bool, len(c.Subs))}
	for i := range c.Subs {
		r.Codes[i], r.Existed[i] = s.subscribe(ss, &c.Subs[i])
	}
	s.markDirty(ss)
	return r
}

func (s *Shard) subscribe(ss *session, c *command.Subscription) (code byte, existed bool) {
	at, existed := ss.findSub(c.Filter)
	var u *sub
	if existed { // v5:MQTT-3.8.4-3
		u = ss.subs[at]
		s.countRoute(u, -1)
		s.sum.sub(u.hash())
	} else {
		if limit := s.settings.MaxSubscriptions; limit != 0 && uint32(len(ss.subs)) >= limit {
			return codeQuotaExceeded, false
		}
		u = &sub{sess: ss, route: s.routeOf(ss.tenant, c.Filter)}
		s.touchRoute(u.route)
		u.route.subs++
		s.subscriptions++
		ss.subs = slices.Insert(ss.subs, at, u)
	}
	u.bits, u.id = bitsOf(c), c.ID
	u.dirty = true
	ss.subsNew = true
	if ss.durable && !existed {
		ss.tenant.trie.Set(u.route.filter, ss.sid, u)
	}
	s.countRoute(u, 1)
	s.sum.add(u.hash())
	return c.QoS, existed
}

// applyUnsubscribe removes subscriptions.
func (s *Shard) applyUnsubscribe(c *command.Unsubscribe) command.Result {
	ss, code := s.current(&c.Ref)
	if code != command.OK {
		return command.Result{Code: code}
	}
	r := command.Result{Code: command.OK, Codes: make([]byte, len(c.Filters))}
	for i, filter := range c.Filters {
		at, ok := ss.findSub(filter)
		if !ok {
			r.Codes[i] = codeNoSubscription
			continue
		}
		u := ss.subs[at]
		s.countRoute(u, -1)
		s.dropSub(u)
		ss.subs = slices.Delete(ss.subs, at, at+1)
		r.Codes[i] = codeSuccess
	}
	s.markDirty(ss)
	return r
}

// dropSub takes a subscription out of everything but its session's list and the
// route's counts.
func (s *Shard) dropSub(u *sub) {
	ss := u.sess
	s.touchRoute(u.route)
	u.route.subs--
	s.subscriptions--
	s.sum.sub(u.hash())
	if ss.durable {
		ss.tenant.trie.Delete(u.route.filter, ss.sid)
	}
	if u.inStore {
		s.ops.delete(keySubOf(nil, ss.sid, u.route.filter))
	}
}

func (u *sub) hash() uint64 {
	h := fold(recordHash(keySub, []byte(u.route.filter)), u.sess.sid)
	return fold(fold(h, uint64(u.bits)), uint64(u.id))
}
