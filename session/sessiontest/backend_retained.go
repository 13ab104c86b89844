package sessiontest

import (
	"context"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session"
)

// retained is a message, and the number of its publish.
type retained struct {
	command.Message
	id int
}

// Horizon implements session.Retained: the store is one shard.
func (n *Node) Horizon(ctx context.Context, _ string, filters []string) (session.Horizon, error) {
	check(len(filters) > 0, "a horizon of nothing")
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.failRead() {
		return nil, session.ErrUnavailable
	}
	return session.Horizon{0: uint64(n.cl.published) + 1}, ctx.Err()
}

// Retained implements session.Retained.
func (n *Node) Retained(ctx context.Context, q session.RetainedQuery) (session.RetainedPage, error) {
	check(q.Limit > 0, "retained with limit %d", q.Limit)
	n.cl.passGate(ctx, &n.cl.readGate)
	page, err := n.readRetained(&q)
	n.cl.passGate(ctx, &n.cl.pageGate)
	if err == nil {
		err = ctx.Err()
	}
	return page, err
}

func (n *Node) readRetained(q *session.RetainedQuery) (session.RetainedPage, error) {
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.failRead() {
		return session.RetainedPage{}, session.ErrUnavailable
	}
	page := session.RetainedPage{Horizon: q.Horizon}
	if page.Horizon == nil {
		page.Horizon = session.Horizon{0: uint64(n.cl.published) + 1}
	}
	var topics []string
	for k, m := range n.cl.retained {
		if k.tenant == q.Tenant && k.topic > q.After && router.Matches(q.Filter, []byte(k.topic)) && uint64(m.id) < page.Horizon[0] {
			topics = append(topics, k.topic)
		}
	}
	slices.Sort(topics)
	if len(topics) > q.Limit {
		topics = topics[:q.Limit]
		page.Next = topics[q.Limit-1]
	}
	for _, t := range topics {
		m := n.cl.retained[retainedKey{q.Tenant, t}].Message
		if m.HasExpiry {
			left := int64(m.Expiry) - (time.Now().UnixMilli()-m.PublishedAt)/1000
			if left <= 0 {
				continue
			}
			m.Expiry = uint32(left)
		}
		page.Msgs = append(page.Msgs, m)
	}
	return page, nil
}

// Replay implements session.Inbox.
func (n *Node) Replay(ctx context.Context, ref command.SessionRef, page session.ReplayPage) error {
	cl := n.cl
	cl.passGate(ctx, &cl.gate)
	if err := n.ready(ctx); err != nil {
		return err
	}
	cl.mu.Lock()
	s := cl.current(ref)
	if s == nil || cl.faults.DropReplays > 0 {
		cl.faults.DropReplays--
		cl.mu.Unlock()
		if s == nil {
			return session.ErrStale
		}
		return session.ErrUnavailable
	}
	cl.replays++
	after, ok := s.replays[page.Filter]
	if ok && after == page.After {
		s.addReplay(&page)
	} else {
		cl.misfits++
	}
	lost := cl.faults.LoseReplays > 0
	if lost {
		cl.faults.LoseReplays--
	}
	cl.mu.Unlock()
	n.Server.Wake(ref.SessionKey, ref.Epoch)
	if lost {
		return session.ErrUnavailable
	}
	return nil
}

// addReplay adds a page that fits to the inbox.
func (s *state) addReplay(page *session.ReplayPage) {
	sub := s.subs[page.Filter]
	for i := range page.Msgs {
		m := &page.Msgs[i]
		check(min(m.QoS, sub.QoS) > 0, "a retained message of QoS 0 is replayed by the inbox")
		e := entry{seq: s.next, msg: clone(m), qos: min(m.QoS, sub.QoS), retain: true}
		if sub.ID != 0 {
			e.ids = []uint32{sub.ID}
		}
		if m.HasExpiry {
			e.expiresAt = time.Now().UnixMilli() + int64(m.Expiry)*1000
		}
		s.next++
		s.inbox = append(s.inbox, e)
	}
	s.replays[page.Filter] = page.Next
	if page.Last {
		delete(s.replays, page.Filter)
	}
}
