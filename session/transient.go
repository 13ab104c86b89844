package session

import (
	"cmp"
	"slices"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// local is the trie of the filters of connected sessions, by tenant.
type local struct {
	mu      sync.RWMutex
	tenants map[string]*tenantTrie // guarded by mu; tenants stay
}

type tenantTrie struct {
	mu   sync.RWMutex
	trie *router.Trie[localSub] // guarded by mu
}

// localSub is one subscription of one connected session.
type localSub struct {
	c       *Conn
	id      uint32
	qos     byte
	noLocal bool
	rap     bool
}

func newLocal() *local { return &local{tenants: make(map[string]*tenantTrie)} }

// tenant returns the trie of a tenant, nil if there is none and make is false.
func (l *local) tenant(name string, create bool) *tenantTrie {
	l.mu.RLock()
	t := l.tenants[name]
	l.mu.RUnlock()
	if t != nil || !create {
		return t
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t = l.tenants[name]; t == nil {
		t = &tenantTrie{trie: router.NewTrie[localSub]()}
		l.tenants[name] = t
	}
	return t
}

// addLocal adds or replaces a filter of c. It runs on the reader.
func (c *Conn) addLocal(s *command.Subscription) {
	if name, inner, shared, _ := router.SplitShare(s.Filter); shared {
		c.addShare(name, inner, s)
		return
	}
	c.filter(s.Filter)
	t := c.srv.local.tenant(c.ident.Tenant, true)
	t.mu.Lock()
	defer t.mu.Unlock()
	_, existed := t.trie.Set(s.Filter, c.id, localSub{c: c, id: s.ID, qos: s.QoS, noLocal: s.NoLocal, rap: s.RetainAsPublished})
	if !existed {
		c.localFilters++
	}
}

// filter notes a filter of the session.
func (c *Conn) filter(f string) {
	if c.filters == nil {
		c.filters = make(map[string]struct{})
	}
	c.filters[f] = struct{}{}
}

// removeLocal forgets a filter of c. It runs on the reader.
func (c *Conn) removeLocal(filter string) {
	if _, ok := c.filters[filter]; !ok {
		return
	}
	delete(c.filters, filter)
	if name, inner, shared, _ := router.SplitShare(filter); shared {
		c.srv.shares.remove(shareKey{c.ident.Tenant, name, inner}, c)
		return
	}
	t := c.srv.local.tenant(c.ident.Tenant, true)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.trie.Delete(filter, c.id); ok {
		c.localFilters--
	}
}

// removeAll forgets every filter of c, a lock at a time so that a session with
// many does not stop the fan-out.
func (l *local) removeAll(c *Conn) {
	for f := range c.filters {
		c.removeLocal(f)
	}
}

// count returns the number of filters of connected sessions.
func (l *local) count() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := 0
	for _, t := range l.tenants {
		t.mu.RLock()
		n += t.trie.Len()
		t.mu.RUnlock()
	}
	return n
}

// fanout is the scratch space of one Deliver.
type fanout struct {
	m    *command.Message
	hits []hit
	// members are those of a share, if the message is for one.
	members []shareMember
	multi   bool // some session may have been hit twice
	match   func(key uint64, s localSub)

	pub mqtt.Publish
	ids []uint32
	// enc are the encoded QoS 0 packets without subscription ids, by version
	// (v5 or before) and retain flag: encoded once, copied to each outbox.
	enc  [4][]byte
	have [4]bool
	// shared is the copy of m for sessions that cannot take it now.
	shared *command.Message

	sent  [3]int
	drops int // QoS 0, and the client does not keep up
	large int // QoS 0, above what the client accepts
}

type hit struct {
	key uint64
	localSub
}

func newFanoutPool() *sync.Pool {
	return &sync.Pool{New: func() any {
		f := &fanout{}
		f.match = f.add // bound once: a method value allocates
		return f
	}}
}

// add is called by the trie under its lock.
func (f *fanout) add(key uint64, s localSub) {
	if s.noLocal && s.c.ident.ClientID == f.m.Publisher { // v5:MQTT-3.8.3-3
		return
	}
	f.multi = f.multi || s.c.localFilters > 1
	f.hits = append(f.hits, hit{key: key, localSub: s})
}

func (f *fanout) reset() {
	clear(f.hits)
	clear(f.members)
	f.members = f.members[:0]
	f.hits, f.multi, f.m, f.shared = f.hits[:0], false, nil, nil
	f.pub = mqtt.Publish{}
	f.have = [4]bool{}
	f.sent, f.drops, f.large = [3]int{}, 0, 0
	for i, b := range f.enc {
		if cap(b) >= refBytes {
			f.enc[i] = nil // outboxes may still refer to it
		}
	}
}

// deliver hands m to the sessions that no inbox serves and returns how many
// sessions matched.
func (s *Server) deliver(tenant string, m *command.Message) int {
	t := s.local.tenant(tenant, false)
	if t == nil {
		return 0
	}
	f := s.fanouts.Get().(*fanout)
	f.m = m
	t.mu.RLock()
	t.trie.Match(m.Topic, f.match)
	t.mu.RUnlock()
	if f.multi {
		slices.SortFunc(f.hits, func(a, b hit) int { return cmp.Compare(a.key, b.key) })
	}
	n := 0
	for i := 0; i < len(f.hits); n++ {
		j := i + 1
		for j < len(f.hits) && f.hits[j].key == f.hits[i].key {
			j++
		}
		s.deliverTo(f, f.hits[i:j])
		i = j
	}
	s.countFanout(f)
	f.reset()
	s.fanouts.Put(f)
	return n
}

// countFanout adds what one fan-out has done to the metrics.
func (s *Server) countFanout(f *fanout) {
	for q, k := range f.sent {
		if k > 0 {
			s.m.pubDelivered[q].Add(float64(k))
			s.m.sent[mqtt.TypePublish].Add(float64(k))
		}
	}
	if f.drops > 0 {
		s.m.dropped[dropQoS0Slow].Add(float64(f.drops))
	}
	if f.large > 0 {
		s.m.dropped[dropTooLarge].Add(float64(f.large))
	}
}

// deliverTo hands the message to one session, of which hits are the matching
// subscriptions: one copy, with the highest QoS and all subscription ids.
func (s *Server) deliverTo(f *fanout, hits []hit) {
	c := hits[0].c
	best, rap := byte(0), false
	f.ids = f.ids[:0]
	for i := range hits {
		best = max(best, hits[i].qos)
		rap = rap || hits[i].rap
		if hits[i].id != 0 && c.version == mqtt.V5 {
			f.ids = append(f.ids, hits[i].id)
		}
	}
	if c.durable && f.m.QoS > 0 && best > 0 {
		return // its inbox has it
	}
	if s.checkReceive && !s.cfg.Authorizer.MayReceive(&c.ident, f.m.Topic) {
		s.m.dropped[dropDenied].Inc()
		return
	}
	retain := rap && f.m.Retain // v5:MQTT-3.3.1-12, -13
	if q := min(best, f.m.QoS); q > 0 {
		c.push(f, q, retain)
		return
	}
	switch c.push0(f, retain) {
	case sendFull:
		f.drops++
	case sendTooLarge:
		f.large++
	}
}

// packet fills the scratch packet.
func (f *fanout) packet(qos byte, retain bool) *mqtt.Publish {
	m := f.m
	f.pub = mqtt.Publish{Retain: retain, QoS: qos, Topic: m.Topic, Payload: m.Payload, HasExpiry: m.HasExpiry, Expiry: m.Expiry,
		SubscriptionIDs: f.ids, Props: m.Props}
	return &f.pub
}

// encoded returns the QoS 0 packet that all clients of a version share.
func (f *fanout) encoded(v mqtt.Version, retain bool) []byte {
	i := bit(v == mqtt.V5)*2 + bit(retain)
	if !f.have[i] {
		p := f.packet(0, retain)
		b := f.enc[i][:0]
		if n := mqtt.PublishSize(v, p); n >= refBytes {
			b = make([]byte, 0, n) // outboxes refer to it: it is never used again
		}
		f.enc[i], f.have[i] = mqtt.AppendPublish(b, v, p), true
	}
	return f.enc[i]
}

// push0 sends the message with QoS 0, unless the client does not keep up. The
// zero result means that the connection is closing.
func (c *Conn) push0(f *fanout, retain bool) (res sendResult) {
	own := len(f.ids) > 0 || c.aliases
	var b []byte
	if !own {
		b = f.encoded(c.version, retain)
	}
	defer c.guard("fan-out")
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause.kind != 0:
		return 0
	case c.out.waiting() > 0 && c.out.waiting()+len(f.m.Payload) > c.srv.cfg.OutboxBytes:
		return sendFull
	case own:
		if !c.appendPublishLocked(f.packet(0, retain)) {
			return sendTooLarge
		}
	case c.maxPacket != 0 && len(b) > int(c.maxPacket):
		return sendTooLarge
	case len(b) >= refBytes:
		c.out.ref(b)
	default:
		c.out.commit(append(c.out.grow(len(b)), b...))
	}
	f.sent[0]++
	if f.m.Retain && len(c.replays) > 0 {
		c.overtakenLocked(f.m)
	}
	c.flushLocked()
	return sendOK
}

// push sends the message with QoS 1 or 2 to a session without inbox, or queues
// it until the client's Receive Maximum has room.
func (c *Conn) push(f *fanout, qos byte, retain bool) {
	defer c.guard("fan-out")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return
	}
	if f.m.Retain && len(c.replays) > 0 {
		c.overtakenLocked(f.m)
	}
	if c.queue.empty() && c.out.bytes < c.srv.cfg.OutboxBytes && c.win.Free() > 0 {
		switch c.sendLocalLocked(f.packet(qos, retain)) {
		case sendOK:
			f.sent[qos]++
			c.flushLocked()
			return
		case sendTooLarge:
			return
		}
	}
	if f.shared == nil {
		f.shared = cloneMessage(f.m)
	}
	c.queue.add(queued{m: f.shared, qos: qos, retain: retain, ids: slices.Clone(f.ids), at: c.srv.now()})
	c.checkQueueLocked()
}
