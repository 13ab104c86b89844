package sessiontest

import (
	"context"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session"
)

// Retained implements session.Retained.
func (n *Node) Retained(ctx context.Context, tenant, filter, after string, limit int) ([]command.Message, string, error) {
	check(limit > 0, "retained with limit %d", limit)
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.failRead() {
		return nil, "", session.ErrUnavailable
	}
	var topics []string
	for k := range n.cl.retained {
		if k.tenant == tenant && k.topic > after && router.Matches(filter, []byte(k.topic)) {
			topics = append(topics, k.topic)
		}
	}
	slices.Sort(topics)
	next := ""
	if len(topics) > limit {
		topics = topics[:limit]
		next = topics[limit-1]
	}
	var out []command.Message
	for _, t := range topics {
		m := n.cl.retained[retainedKey{tenant, t}]
		if m.HasExpiry {
			left := int64(m.Expiry) - (time.Now().UnixMilli()-m.PublishedAt)/1000
			if left <= 0 {
				continue
			}
			m.Expiry = uint32(left)
		}
		out = append(out, m)
	}
	return out, next, ctx.Err()
}

// Replay implements session.Inbox.
func (n *Node) Replay(ctx context.Context, ref command.SessionRef, page session.ReplayPage) error {
	cl := n.cl
	cl.mu.Lock()
	gate := cl.gate
	cl.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
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
