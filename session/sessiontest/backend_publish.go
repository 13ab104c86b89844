package sessiontest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Subscribe implements session.Sessions.
func (n *Node) Subscribe(ctx context.Context, ref command.SessionRef, subs []command.Subscription) ([]session.Granted, error) {
	if err := n.ready(ctx); err != nil {
		return nil, err
	}
	n.cl.mu.Lock()
	var wakes []wake
	defer func() { n.cl.mu.Unlock(); n.cl.wakeAll(wakes) }()
	s := n.cl.current(ref)
	if s == nil {
		return nil, session.ErrStale
	}
	if code := n.cl.faults.RefuseSubscribe; code != 0 {
		return nil, session.ErrRefused(code, "as the test wants")
	}
	out := make([]session.Granted, len(subs))
	for i, sub := range subs {
		if sub.Filter == n.cl.faults.DenyFilter {
			out[i].Code = byte(mqtt.NotAuthorized)
			continue
		}
		_, out[i].Existed = s.subs[sub.Filter]
		out[i].Code = sub.QoS
		s.subs[sub.Filter] = sub
		n.cl.join(s, sub.Filter)
		if s.expiryS > 0 && !n.cl.faults.NoReplay && sub.QoS > 0 && (sub.RetainHandling == 0 || sub.RetainHandling == 1 && !out[i].Existed) {
			out[i].Replay = true
			s.replays[sub.Filter] = ""
		}
	}
	wakes = n.cl.assign()
	return out, nil
}

// Unsubscribe implements session.Sessions.
func (n *Node) Unsubscribe(ctx context.Context, ref command.SessionRef, filters []string) ([]byte, error) {
	if err := n.ready(ctx); err != nil {
		return nil, err
	}
	n.cl.mu.Lock()
	var wakes []wake
	defer func() { n.cl.mu.Unlock(); n.cl.wakeAll(wakes) }()
	s := n.cl.current(ref)
	if s == nil {
		return nil, session.ErrStale
	}
	out := make([]byte, len(filters))
	for i, f := range filters {
		if _, ok := s.subs[f]; !ok {
			out[i] = byte(mqtt.NoSubscriptionExisted)
		}
		n.cl.leave(s, f)
		delete(s.subs, f)
		delete(s.replays, f)
	}
	wakes = n.cl.assign()
	return out, nil
}

// route gives a message to inboxes, retained store and connected sessions, and
// reports whether anybody matched.
func (cl *Cluster) route(tenant string, m *command.Message) bool {
	var wakes []wake
	matched := false
	cl.mu.Lock()
	cl.published++
	stored := clone(m)
	if m.Retain {
		if k := (retainedKey{tenant, string(m.Topic)}); len(m.Payload) == 0 {
			delete(cl.retained, k)
		} else {
			cl.retained[k] = retained{stored, cl.published}
		}
	}
	for _, s := range cl.sessions {
		if s.key.Tenant != tenant {
			continue
		}
		best, rap, ids, hit := s.match(m)
		matched = matched || hit
		if !hit || s.expiryS == 0 || best == 0 || m.QoS == 0 {
			continue
		}
		e := entry{seq: s.next, msg: stored, qos: min(best, m.QoS), retain: rap && m.Retain, ids: ids}
		if m.HasExpiry {
			e.expiresAt = time.Now().UnixMilli() + int64(m.Expiry)*1000
		}
		s.next++
		s.inbox = append(s.inbox, e)
		if s.owner != nil {
			wakes = append(wakes, wake{s.owner, s.key, s.epoch})
		}
	}
	direct, shared := cl.routeShares(tenant, m)
	wakes = append(wakes, cl.assign()...)
	nodes := slices.Clone(cl.nodes)
	cl.mu.Unlock()
	for _, n := range nodes {
		n.Server.Deliver(tenant, m)
	}
	for _, deliver := range direct {
		deliver()
	}
	cl.wakeAll(wakes)
	return matched || shared
}

// match finds what a session's subscriptions say to a message.
func (s *state) match(m *command.Message) (best byte, rap bool, ids []uint32, hit bool) {
	for _, f := range slices.Sorted(maps.Keys(s.subs)) {
		sub := s.subs[f]
		if strings.HasPrefix(f, "$share/") || !router.Matches(f, m.Topic) || sub.NoLocal && m.Publisher == s.key.ClientID {
			continue
		}
		hit = true
		best = max(best, sub.QoS)
		rap = rap || sub.RetainAsPublished
		if sub.ID != 0 {
			ids = append(ids, sub.ID)
		}
	}
	return best, rap, ids, hit
}

// Publish implements session.Publisher.
func (n *Node) Publish(ctx context.Context, tenant string, m *command.Message, done func(session.Outcome)) {
	check(m.QoS == 0 || done != nil, "publish with QoS %d and no done", m.QoS)
	out, stop := n.gate(ctx, m.QoS)
	if !stop && !n.cl.route(tenant, m) {
		out.Code = mqtt.NoMatchingSubscribers
	}
	if done != nil {
		n.cl.answer("publish", 0, out, done)
	}
}

// Receive implements session.Publisher.
func (n *Node) Receive(ctx context.Context, ref command.SessionRef, pid uint16, m *command.Message, done func(session.Outcome)) {
	out, stop := n.gate(ctx, m.QoS)
	if !stop {
		n.cl.mu.Lock()
		if s := n.cl.current(ref); s == nil {
			out.Err = session.ErrStale
		} else if _, ok := s.inbound[pid]; !ok {
			s.inbound[pid] = clone(m)
		}
		n.cl.mu.Unlock()
	}
	n.cl.answer("receive", pid, out, done)
}

// Release implements session.Publisher.
func (n *Node) Release(ctx context.Context, ref command.SessionRef, pid uint16, done func(session.Outcome)) {
	out, stop := n.gate(ctx, 0)
	if !stop {
		n.cl.mu.Lock()
		s := n.cl.current(ref)
		var m command.Message
		ok := false
		if s != nil {
			m, ok = s.inbound[pid]
			delete(s.inbound, pid)
		}
		n.cl.mu.Unlock()
		switch {
		case s == nil:
			out.Err = session.ErrStale
		case ok:
			n.cl.route(ref.Tenant, &m)
		default:
			out.Code = mqtt.PacketIdentifierNotFound
		}
	}
	n.cl.answer("release", pid, out, done)
}
