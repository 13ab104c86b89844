package state

import (
	"slices"
	"strings"

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
	_, inner, _, err := router.SplitShare(filter)
	return err == nil && router.CheckFilter(inner, 0, 0) == nil && strings.IndexByte(filter, 0) < 0
}

// isShared reports whether a valid filter is shared.
func isShared(filter string) bool {
	_, _, shared, _ := router.SplitShare(filter)
	return shared
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
		r.Codes[i], r.Existed[i] = s.subscribe(ss, &c.Subs[i], c.ShareRoom)
		if r.Codes[i] == codeQuotaExceeded {
			continue
		}
		if isShared(c.Subs[i].Filter) {
			r.Gate = s.lastOrigin // that of the join
		} else if c.Replay && s.startReplay(ss, &c.Subs[i], r.Existed[i]) {
			r.Replays = append(r.Replays, command.PendingReplay{Filter: c.Subs[i].Filter})
		}
	}
	s.markDirty(ss)
	return r
}

func (s *Shard) subscribe(ss *session, c *command.Subscription, room uint16) (code byte, existed bool) {
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
		u = s.newSub(ss, c.Filter)
		s.subscriptions++
		ss.subs = slices.Insert(ss.subs, at, u)
	}
	u.bits, u.id = bitsOf(c), c.ID
	u.dirty = true
	ss.subsNew = true
	if ss.durable && !existed && u.route != nil {
		ss.tenant.trie.Set(u.filter, ss.sid, u)
	}
	s.countRoute(u, 1)
	s.sum.add(u.hash())
	if u.route == nil {
		if ss.box == nil { // for what the share gives it
			ss.box = newInbox()
		}
		s.tellShare(u, command.ShareJoin, room)
	}
	return c.QoS, existed
}

// newSub makes a subscription. One that is shared has no route: its share does.
func (s *Shard) newSub(ss *session, filter string) *sub {
	if isShared(filter) {
		return &sub{sess: ss, filter: strings.Clone(filter)}
	}
	r := s.routeOf(ss.tenant, filter)
	s.touchRoute(r)
	r.subs++
	return &sub{sess: ss, filter: r.filter, route: r}
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
		if u.route == nil {
			s.giveBackOf(ss, u.filter)
		}
		s.dropSub(u)
		ss.subs = slices.Delete(ss.subs, at, at+1)
		s.stopReplay(ss, u.filter)
		r.Codes[i] = codeSuccess
	}
	s.markDirty(ss)
	return r
}

// dropSub takes a subscription out of everything but its session's list and the
// route's counts.
func (s *Shard) dropSub(u *sub) {
	ss := u.sess
	if u.route == nil {
		s.tellShare(u, command.ShareLeave, 0)
	}
	s.subscriptions--
	s.sum.sub(u.hash())
	if u.route != nil {
		s.touchRoute(u.route)
		u.route.subs--
		if ss.durable {
			ss.tenant.trie.Delete(u.filter, ss.sid)
		}
	}
	if u.inStore {
		s.ops.delete(keySubOf(nil, ss.sid, u.filter))
	}
}

func (u *sub) hash() uint64 {
	h := fold(recordHash(keySub, []byte(u.filter)), u.sess.sid)
	h = fold(fold(h, uint64(u.bits)), uint64(u.id))
	if u.route == nil {
		h = fold(h, u.fence)
	}
	return h
}
