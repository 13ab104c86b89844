package state_test

import (
	"cmp"
	"slices"
)

// tick handles at most limit entries, sessions, originated and retained messages
// each, those that are due longest first.
func (m *model) tick() {
	m.tickEntries()
	m.tickSessions()
	n := 0
	m.origins = slices.DeleteFunc(m.origins, func(o mOrigin) bool {
		gone := m.expired(o.m.expiresAt) && n < m.limit
		if gone {
			n++
			m.dropped.OriginExpired++
		}
		return gone
	})
	var due []mTopic
	for k, r := range m.retained {
		if m.expired(r.expiresAt) {
			due = append(due, k)
		}
	}
	slices.SortFunc(due, func(a, b mTopic) int {
		return cmp.Or(cmp.Compare(m.retained[a].expiresAt, m.retained[b].expiresAt), cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.topic, b.topic))
	})
	for _, k := range due[:min(len(due), m.limit)] {
		m.dropped.RetainedExpired++
		delete(m.retained, k)
	}
}

func (m *model) tickEntries() {
	type dueEntry struct {
		s *mSession
		e *mEntry
	}
	var due []dueEntry
	for _, s := range m.byAge() {
		for _, e := range s.inbox {
			if !e.received && !e.seen && m.expired(e.m.expiresAt) {
				due = append(due, dueEntry{s, e})
			}
		}
	}
	slices.SortStableFunc(due, func(a, b dueEntry) int { return cmp.Compare(a.e.m.expiresAt, b.e.m.expiresAt) })
	for _, d := range due[:min(len(due), m.limit)] {
		d.e.seen = true
		if d.e.seq <= d.s.perhapsSent() {
			continue // it is delivered to the end
		}
		m.dropped.Expired++
		d.s.inbox = slices.DeleteFunc(d.s.inbox, func(e *mEntry) bool { return e == d.e })
		m.checkFull(d.s)
	}
}

func (m *model) tickSessions() {
	at := func(s *mSession) int64 {
		if s.will != nil && s.willDue != 0 && (s.expiresAt == 0 || s.willDue < s.expiresAt) {
			return s.willDue
		}
		return s.expiresAt
	}
	due := slices.DeleteFunc(m.byAge(), func(s *mSession) bool { return !m.expired(at(s)) })
	slices.SortStableFunc(due, func(a, b *mSession) int { return cmp.Compare(at(a), at(b)) })
	due = due[:min(len(due), m.limit)]
	slices.SortFunc(due, func(a, b *mSession) int { return cmp.Compare(a.born, b.born) })
	for _, s := range due {
		if m.expired(s.expiresAt) {
			m.sessionsExpired++
			m.end(s)
		} else {
			m.fire(s)
		}
	}
}
