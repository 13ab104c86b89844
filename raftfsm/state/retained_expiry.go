package state

// expiryHeap orders retained messages by expiry. A record that was replaced or
// deleted leaves a stale item behind, which is recognised when it comes up; too many
// of them are swept out.
type expiryHeap struct {
	items   []expiryItem
	sweepAt int
}

type expiryItem struct {
	at int64
	r  *retained
}

func (it expiryItem) stale() bool { return it.r.gone || it.r.expiresAt != it.at }

func (h *expiryHeap) less(i, j int) bool {
	a, b := h.items[i], h.items[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.r.tenant != b.r.tenant {
		return a.r.tenant.name < b.r.tenant.name
	}
	return a.r.topic < b.r.topic
}

func (h *expiryHeap) push(r *retained) {
	h.items = append(h.items, expiryItem{at: r.expiresAt, r: r})
	h.up(len(h.items) - 1)
	if len(h.items) > max(h.sweepAt, 1024) {
		h.sweep()
	}
}

// sweep rebuilds the heap without what is stale. Twice as many items may come
// before the next one, so it costs little per push.
func (h *expiryHeap) sweep() {
	old := h.items
	h.items = nil
	for _, it := range old {
		if !it.stale() {
			h.items = append(h.items, it)
			h.up(len(h.items) - 1)
		}
	}
	h.sweepAt = 2 * len(h.items)
}

// first is the earliest time at which something expires, 0 for never. It may be too early.
func (h *expiryHeap) first() int64 {
	if len(h.items) == 0 {
		return 0
	}
	return h.items[0].at
}

// pop takes the first item off.
func (h *expiryHeap) pop() expiryItem {
	it := h.items[0]
	last := len(h.items) - 1
	h.items[0] = h.items[last]
	h.items[last] = expiryItem{}
	h.items = h.items[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return it
		}
		if child+1 < last && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return it
		}
		h.items[i], h.items[child] = h.items[child], h.items[i]
		i = child
	}
}

func (h *expiryHeap) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.items[i], h.items[(i-1)/2] = h.items[(i-1)/2], h.items[i]
		i = (i - 1) / 2
	}
}

// expireRetained drops what is no longer to be given to anybody.
func (s *Shard) expireRetained(limit int) {
	for n := 0; n < limit && len(s.expiring.items) > 0 && s.expiring.items[0].at <= s.clock; {
		it := s.expiring.pop()
		if !it.stale() {
			n++
			s.dropped.RetainedExpired++
			s.dropRetained(it.r)
		}
	}
}
