package state

// timers is a heap of the sessions for which time will do something: they
// expire, their will fires, a hot entry of their inbox expires. A session's due time may
// be too early (the entry may be gone by then), never too late.
type timers struct{ heap []*session }

// dueOf is when time does something to a session, 0 for never.
func dueOf(ss *session) int64 {
	due := ss.expiresAt
	earlier := func(t int64) {
		if t != 0 && (due == 0 || t < due) {
			due = t
		}
	}
	if ss.will != nil {
		earlier(ss.will.dueAt)
	}
	if ss.box != nil {
		earlier(ss.box.hotExpiry)
	}
	return due
}

// update puts a session where its due time wants it.
func (t *timers) update(ss *session) {
	due := dueOf(ss)
	if due == 0 {
		t.remove(ss)
		return
	}
	old := ss.due
	ss.due = due
	switch {
	case ss.heapPos < 0:
		ss.heapPos = len(t.heap)
		t.heap = append(t.heap, ss)
		t.up(ss.heapPos)
	case due < old:
		t.up(ss.heapPos)
	case due > old:
		t.down(ss.heapPos)
	}
}

func (t *timers) remove(ss *session) {
	i := ss.heapPos
	if i < 0 {
		return
	}
	ss.heapPos, ss.due = -1, 0
	last := len(t.heap) - 1
	moved := t.heap[last]
	t.heap[last] = nil
	t.heap = t.heap[:last]
	if i == last {
		return
	}
	t.heap[i] = moved
	moved.heapPos = i
	t.up(i)
	t.down(moved.heapPos)
}

// first is the earliest due time, 0 for none.
func (t *timers) first() int64 {
	if len(t.heap) == 0 {
		return 0
	}
	return t.heap[0].due
}

// less orders by time, then by session, so that machines agree on the order.
func (t *timers) less(i, j int) bool {
	a, b := t.heap[i], t.heap[j]
	return a.due < b.due || a.due == b.due && a.sid < b.sid
}

func (t *timers) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].heapPos, t.heap[j].heapPos = i, j
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
