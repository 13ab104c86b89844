package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// NextDue is the unix ms of the earliest thing that a Tick would do, 0 for none. It
// may be too early (what was due is gone), never too late.
func (s *Shard) NextDue() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	due := int64(0)
	if s.restore != nil {
		return due
	}
	for _, t := range [...]int64{s.timers.first(), s.expiries.first(), s.coldExpiry, s.origins.expiry, s.expiring.first()} {
		if t != 0 && (due == 0 || t < due) {
			due = t
		}
	}
	return due
}

// Session describes one session.
func (s *Shard) Session(key command.SessionKey) (SessionInfo, bool) {
	s.mu.RLock()
	ss := s.find(key)
	if ss == nil {
		s.mu.RUnlock()
		return SessionInfo{}, false
	}
	in := ss.info()
	if w := ss.will; w != nil {
		in.Will = &command.Will{Message: w.body, DelayS: w.delayS}
	}
	for i := range ss.inbound {
		in.AwaitingRelease = append(in.AwaitingRelease, ss.inbound[i].pid)
	}
	ref := command.SessionRef{SessionKey: key, Epoch: ss.epoch}
	s.mu.RUnlock()
	if in.InboxMessages > 0 {
		// A figure for operators: if it cannot be had now, it is left out.
		if p, err := s.Fetch(ref, 0, 1, 1); err == nil && len(p.Deliveries) > 0 {
			in.OldestAt = p.Deliveries[0].Msg.PublishedAt
		}
	}
	return in, true
}

func (ss *session) info() SessionInfo {
	in := SessionInfo{
		Key: ss.key, Epoch: ss.epoch, Connected: ss.owner != nil, Token: ss.token, Version: ss.version,
		Username: ss.username, ConnectedAt: ss.connectedAt, ExpiryS: ss.expiryS, ExpiresAt: ss.expiresAt,
		ReceiveMax: ss.receiveMax, Durable: ss.durable, Subscriptions: len(ss.subs), Inbound: len(ss.inbound),
		HasWill: ss.will != nil, Full: ss.full,
	}
	if o := ss.owner; o != nil {
		in.Owner = command.Owner{Node: o.key.node, Incarnation: o.key.incarnation, Epoch: ss.epoch}
	}
	if b := ss.box; b != nil {
		in.InboxMessages, in.InboxBytes, in.InboxReceived, in.SentTo = b.count, b.bytes, b.received, b.sentTo
	}
	return in
}

// Sessions lists sessions by tenant and client id, after the given key (zero: from
// the start). more: there are others behind.
func (s *Shard) Sessions(after command.SessionKey, limit int) (items []SessionInfo, more bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at := func(ss *session) int {
		if compareKeys(ss.key, after) <= 0 {
			return -1
		}
		return 1
	}
	s.sessions.ascend(at, func(ss *session) bool {
		if len(items) >= limit {
			more = true
			return false
		}
		items = append(items, ss.info())
		return true
	})
	return items, more
}

// Subscriptions lists the subscriptions of a session, sorted by filter.
func (s *Shard) Subscriptions(key command.SessionKey) ([]command.Subscription, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ss := s.find(key)
	if ss == nil {
		return nil, false
	}
	out := make([]command.Subscription, 0, len(ss.subs))
	for _, u := range ss.subs {
		out = append(out, u.command())
	}
	return out, true
}

// Routes is the full record of every filter that is routed, sorted, at an index.
func (s *Shard) Routes() (index uint64, routes []router.RouteChange) {
	s.mu.RLock()
	index = s.applied
	for _, t := range s.tenants {
		for _, r := range t.routes {
			if c := r.record(); c.Durable || len(c.Nodes) > 0 || len(c.Groups) > 0 {
				routes = append(routes, c)
			}
		}
	}
	s.mu.RUnlock()
	sortRoutes(routes)
	return index, routes
}

// Origins lists originated messages with a sequence above after, in order.
func (s *Shard) Origins(after uint64, limit int) []Originated {
	s.mu.RLock()
	if s.restore != nil { // its targets may not be whole yet
		limit = 0
	}
	list := s.origins.list[s.origins.find(after+1):]
	out := make([]Originated, 0, min(limit, len(list)))
	for _, o := range list {
		if len(out) >= limit {
			break
		}
		if !o.done {
			out = append(out, o.view(s.clock))
		}
	}
	clock := s.clock
	s.mu.RUnlock()
	for i := range out {
		out[i].finish(clock)
	}
	return out
}

// OriginLow is the lowest sequence that is not yet confirmed by all targets, and
// so the Low of the origin keys of what is routed now.
func (s *Shard) OriginLow() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.origins.list {
		if !o.done {
			return o.seq
		}
	}
	return s.lastOrigin + 1
}

// Owners counts the connected sessions of each process, sorted.
func (s *Shard) Owners() []OwnerCount {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]OwnerCount, 0, len(s.owners))
	for _, o := range s.owners {
		out = append(out, OwnerCount{Node: o.key.node, Incarnation: o.key.incarnation, Sessions: len(o.sessions)})
	}
	slices.SortFunc(out, func(a, b OwnerCount) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	return out
}

// FullSessions lists the sessions whose inbox is full, sorted, and then the shares
// whose queue is, with their filter in place of a client id.
func (s *Shard) FullSessions() []command.SessionKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []command.SessionKey
	if s.fullSessions == 0 {
		return nil
	}
	for _, chunk := range s.sessions.chunks {
		for _, ss := range chunk {
			if ss.full {
				out = append(out, ss.key)
			}
		}
	}
	for _, chunk := range s.shares.chunks {
		for _, ss := range chunk {
			if ss.full {
				out = append(out, ss.key)
			}
		}
	}
	return out
}

// IsFull reports whether the inbox of a session is full.
func (s *Shard) IsFull(key command.SessionKey) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ss := s.find(key)
	return ss != nil && ss.full
}

// Refuses reports whether the policy refuse turns a publish at QoS 1 or 2 away: a
// matching inbox or share is full. The key names one of them. It costs nothing while no
// inbox is full, and a match otherwise.
func (s *Shard) Refuses(tenant string, topic []byte, publisher string) (command.SessionKey, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fullSessions == 0 || s.settings.InboxOverflow != command.OverflowRefuse && s.settings.InboxOverflow != 0 {
		return command.SessionKey{}, false
	}
	t := s.tenants[tenant]
	if t == nil {
		return command.SessionKey{}, false
	}
	var found *session
	t.trie.Match(topic, func(_ uint64, u *sub) {
		if u.sess.full && u.bits.qos() > 0 && !(u.bits&subNoLocal != 0 && u.sess.key.ClientID == publisher) {
			if found == nil || u.sess.sid < found.sid {
				found = u.sess
			}
		}
	})
	if t.shareTrie != nil {
		t.shareTrie.Match(topic, func(_ uint64, ss *session) {
			if ss.full && (found == nil || ss.sid < found.sid) {
				found = ss
			}
		})
	}
	if found == nil {
		return command.SessionKey{}, false
	}
	return found.key, true
}

// Stats are figures for status and metrics.
func (s *Shard) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{
		Sessions: s.sessions.n, Shares: s.shares.n, Durable: s.durables, Subscriptions: s.subscriptions,
		RetainedMessages: s.retainedCount, RetainedBytes: s.retainedBytes,
		InboxMessages: s.inboxMessages, InboxBytes: s.inboxBytes, FullSessions: s.fullSessions,
		Originated: s.origins.live, Inbound: s.inboundCount, Dropped: s.dropped, SessionsExpired: s.sessionsExpired,
		HotBytes: s.hotBytes, HotMessages: int64(s.hotEntries), DirtyBytes: s.dirtyBytes,
	}
	for _, o := range s.owners {
		st.Connected += len(o.sessions)
	}
	for _, t := range s.tenants {
		st.Routes += len(t.routes)
	}
	return st
}
