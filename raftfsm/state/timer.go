package state

// timer is the place of a session in a heap of due times.
type timer struct {
	due int64
	pos int // 1-based, 0: not there
}

// timers is a heap of sessions by due time. There are two: one for the end of
// sessions and their wills, whose times are exact, and one for hot entries that
// expire, whose times may be too early (the entry may be gone by then), never too late.
type timers struct {
	heap []*session
	at   func(*session) *timer
}

func lifeTimer(ss *session) *timer   { return &ss.life }
func expiryTimer(ss *session) *timer { return &ss.expiry }

// updateLife puts a session where its end or its will wants it.
func (s *Shard) updateLife(ss *session) {
	due := ss.expiresAt
	if w := ss.will; w != nil && w.dueAt != 0 && (due == 0 || w.dueAt < due) {
		due = w.dueAt
	}
	s.timers.update(ss, due)
}

// update puts a session where its due time wants it, 0 for nowhere.
func (t *timers) update(ss *session, due int64) {
	if due == 0 {
		t.remove(ss)
		return
	}
	tm := t.at(ss)
	old := tm.due
	tm.due = due
	switch {
	case tm.pos == 0:
		t.heap = append(t.heap, ss)
		tm.pos = len(t.heap)
		t.up(tm.pos - 1)
	case due < old:
		t.up(tm.pos - 1)
	case due > old:
		t.down(tm.pos - 1)
	}
}

func (t *timers) remove(ss *session) {
	tm := t.at(ss)
	i := tm.pos - 1
	if i < 0 {
		return
	}
	*tm = timer{}
	last := len(t.heap) - 1
	moved := t.heap[last]
	t.heap[last] = nil
	t.heap = t.heap[:last]
	if i == last {
		return
	}
	t.heap[i] = moved
	t.at(moved).pos = i + 1
	t.up(i)
	t.down(t.at(moved).pos - 1)
}

// first is the earliest due time, 0 for none.
func (t *timers) first() int64 {
	if len(t.heap) == 0 {
		return 0
	}
	return t.at(t.heap[0]).due
}

// popDue takes off the first session that is due, nil if none is.
func (t *timers) popDue(now int64) *session {
	if due := t.first(); due == 0 || due > now {
		return nil
	}
	ss := t.heap[0]
	t.remove(ss)
	return ss
}

// less orders by time, then by session, so that machines agree on the order.
func (t *timers) less(i, j int) bool {
	a, b := t.heap[i], t.heap[j]
	da, db := t.at(a).due, t.at(b).due
	return da < db || da == db && a.sid < b.sid
}

func (t *timers) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.at(t.heap[i]).pos, t.at(t.heap[j]).pos = i+1, j+1
}

func (t *timers) up(i int) {
	for i > 0 && t.less(i, (i-1)/2) {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (t *timers) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(t.heap) {
			return
		}
		if child+1 < len(t.heap) && t.less(child+1, child) {
			child++
		}
		if !t.less(child, i) {
			return
		}
		t.swap(i, child)
		i = child
	}
}
