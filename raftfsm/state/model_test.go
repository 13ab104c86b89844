package state_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// model is the reference: the same rules as the machine on plain maps and
// slices, without stores, indexes, tries or cleverness.
type model struct {
	clock    int64
	epoch    uint64
	origin   uint64
	sess     map[command.SessionKey]*mSession
	retained map[mTopic]*mMessage
	origins  []mOrigin
	sources  map[uint32]*mSource
	authors  map[command.SessionKey]mAuthor
	set      command.ShardSettings
	dropped  state.Dropped
	lost     map[string]uint64
	limit    int // of a tick

	sessionsExpired uint64

	// Effects of the entry.
	wakes map[command.SessionKey]bool
	kicks []state.Kick
	ended []command.SessionKey
}

// mAuthor is who wrote retained messages: the epoch, and when that was noted.
type mAuthor struct {
	epoch uint64
	seen  int64
}

type mTopic struct{ tenant, topic string }

type mMessage struct {
	command.Message
	encoded   []byte
	expiresAt int64
	storedAt  int64
}

type mEntry struct {
	seq      uint64
	m        *mMessage
	qos      byte
	retain   bool
	ids      []uint32
	received bool
	seen     bool // expired, and a tick has looked at it
}

type mInbound struct {
	pid uint16
	m   *mMessage
}

type mSession struct {
	key       command.SessionKey
	born      uint64 // the epoch that it began with
	epoch     uint64
	owner     *command.Owner
	expiryS   uint32
	expiresAt int64
	rm        uint16
	username  string
	will      *mMessage
	delay     uint32
	willDue   int64
	subs      map[string]command.Subscription
	inbox     []*mEntry
	next      uint64
	sentTo    uint64
	dupTo     uint64
	inbound   []mInbound
	full      bool
}

type mOrigin struct {
	seq  uint64
	key  command.SessionKey
	m    *mMessage
	will bool
}

type mSource struct {
	low  uint64
	seen map[uint64]bool
}

func newModel(set command.ShardSettings) *model {
	return &model{
		sess: map[command.SessionKey]*mSession{}, retained: map[mTopic]*mMessage{},
		sources: map[uint32]*mSource{}, authors: map[command.SessionKey]mAuthor{}, lost: map[string]uint64{}, set: set,
	}
}

func (m *model) begin(now int64) {
	m.clock = max(m.clock, now)
	m.wakes, m.kicks, m.ended = map[command.SessionKey]bool{}, nil, nil
}

func (m *model) message(b []byte) *mMessage {
	d, err := command.DecodeMessage(b)
	if err != nil {
		panic(err)
	}
	mm := &mMessage{Message: d, encoded: b}
	if d.HasExpiry {
		mm.expiresAt = m.clock + max(1, int64(d.Expiry)*1000)
	}
	return mm
}

func (s *mSession) durable() bool { return s.expiryS > 0 }

func (s *mSession) bytes() (n uint64) {
	for _, e := range s.inbox {
		if !e.received {
			n += uint64(len(e.m.encoded))
		}
	}
	return n
}

func (s *mSession) perhapsSent() uint64 {
	if s.owner == nil {
		return s.sentTo
	}
	return min(s.next-1, s.sentTo+max(1, uint64(s.rm)))
}

func (m *model) get(ref command.SessionRef) (*mSession, command.ResultCode) {
	s := m.sess[ref.SessionKey]
	switch {
	case s == nil:
		return nil, command.UnknownSession
	case s.epoch != ref.Epoch:
		return nil, command.StaleEpoch
	}
	return s, command.OK
}

func (m *model) capExpiry(e uint32) uint32 {
	if m.set.MaxSessionExpiryS != 0 {
		return min(e, m.set.MaxSessionExpiryS)
	}
	return e
}

func (m *model) connect(c *command.Connect) command.Result {
	r := command.Result{Code: command.OK}
	s := m.sess[c.Key]
	if s != nil && c.SameUser && s.username != c.Username {
		return command.Result{Code: command.WrongUser}
	}
	if s != nil && s.owner != nil {
		r.Prev = *s.owner
		m.kicks = append(m.kicks, state.Kick{Key: s.key, Epoch: s.epoch, Node: s.owner.Node, Incarnation: s.owner.Incarnation, Reason: state.KickTakeover})
		switch {
		case c.CleanStart || !s.durable():
			m.end(s)
			s = nil
		default:
			if s.will != nil && s.delay == 0 {
				m.fire(s)
			}
			s.sentTo = s.perhapsSent()
		}
	} else if s != nil && (c.CleanStart || s.expiresAt != 0 && s.expiresAt <= m.clock) {
		m.end(s)
		s = nil
	}
	if s == nil {
		s = &mSession{key: c.Key, subs: map[string]command.Subscription{}, next: 1, born: m.epoch + 1}
		m.sess[c.Key] = s
	} else {
		r.Present = true
		for _, f := range slices.Sorted(maps.Keys(s.subs)) {
			r.Subs = append(r.Subs, s.subs[f])
		}
		for _, in := range s.inbound {
			r.AwaitingRelease = append(r.AwaitingRelease, in.pid)
		}
	}
	m.epoch++
	s.epoch = m.epoch
	s.owner = &command.Owner{Node: c.Node, Incarnation: c.Incarnation, Epoch: s.epoch}
	s.expiryS, s.expiresAt, s.rm, s.username = m.capExpiry(c.ExpiryS), 0, c.ReceiveMax, c.Username
	s.will, s.delay, s.willDue = nil, 0, 0
	if r.Present {
		m.wakes[s.key] = true // its replica may apply this after the answer
	}
	if c.HasWill {
		d, _ := command.DecodeMessage(c.Will.Message)
		s.will, s.delay = &mMessage{Message: d, encoded: c.Will.Message}, c.Will.DelayS
	}
	s.dupTo = s.sentTo
	r.Epoch, r.ExpiryS = s.epoch, s.expiryS
	for _, o := range m.origins {
		if o.will && o.key == s.key {
			r.Gate = o.seq
		}
	}
	return r
}

func (m *model) disconnectCmd(d *command.Disconnect) command.ResultCode {
	s, code := m.get(d.Ref)
	if code != command.OK {
		return code
	}
	if s.owner == nil {
		return command.OK
	}
	s.sentTo = max(s.sentTo, min(d.SentTo, s.next-1))
	if d.HasExpiry && (s.expiryS != 0 || d.ExpiryS == 0) {
		s.expiryS = m.capExpiry(d.ExpiryS)
	}
	if d.Reason == command.DisconnectNormal {
		s.will = nil
	}
	m.disconnect(s)
	return command.OK
}

func (m *model) disconnect(s *mSession) {
	s.owner = nil
	if s.expiryS == 0 {
		m.end(s)
		return
	}
	if s.expiryS != command.NeverExpires {
		s.expiresAt = m.clock + int64(s.expiryS)*1000
	}
	if s.will != nil {
		if s.delay == 0 {
			m.fire(s)
		} else {
			s.willDue = m.clock + int64(s.delay)*1000
		}
	}
}

func (m *model) fire(s *mSession) {
	w := m.message(s.will.encoded)
	s.will = nil
	m.originate(s.key, w, true)
}

func (m *model) originate(key command.SessionKey, mm *mMessage, will bool) {
	m.origin++
	m.origins = append(m.origins, mOrigin{seq: m.origin, key: key, m: mm, will: will})
}

func (m *model) end(s *mSession) {
	delete(m.wakes, s.key)
	for _, in := range s.inbound {
		m.originate(s.key, in.m, false)
	}
	if s.will != nil {
		m.fire(s)
	}
	for _, e := range s.inbox {
		if !e.received {
			m.dropped.SessionEnded++
		}
	}
	delete(m.sess, s.key)
	m.ended = append(m.ended, s.key)
}

func (m *model) nodeLost(n *command.NodeLost) {
	m.lost[n.Node] = max(m.lost[n.Node], n.Incarnation)
	for _, s := range m.byAge() {
		if s.owner != nil && s.owner.Node == n.Node && s.owner.Incarnation <= n.Incarnation {
			s.sentTo = s.perhapsSent()
			m.disconnect(s)
		}
	}
}

// byAge lists sessions in the order in which they were made.
func (m *model) byAge() []*mSession {
	return slices.SortedFunc(maps.Values(m.sess), func(a, b *mSession) int { return int(a.born) - int(b.born) })
}

func (m *model) endSession(e *command.EndSession) command.ResultCode {
	s := m.sess[e.Key]
	switch {
	case s == nil:
		return command.UnknownSession
	case e.Epoch != 0 && e.Epoch != s.epoch:
		return command.StaleEpoch
	}
	if s.owner != nil {
		m.kicks = append(m.kicks, state.Kick{Key: s.key, Epoch: s.epoch, Node: s.owner.Node, Incarnation: s.owner.Incarnation, Reason: state.KickEnded})
	}
	m.end(s)
	return command.OK
}

func (m *model) subscribe(c *command.Subscribe) command.Result {
	s, code := m.get(c.Ref)
	if code != command.OK {
		return command.Result{Code: code}
	}
	r := command.Result{Code: command.OK}
	for _, sub := range c.Subs {
		_, existed := s.subs[sub.Filter]
		if !existed && m.set.MaxSubscriptions != 0 && len(s.subs) >= int(m.set.MaxSubscriptions) {
			r.Codes, r.Existed = append(r.Codes, 0x97), append(r.Existed, false)
			continue
		}
		s.subs[sub.Filter] = sub
		r.Codes, r.Existed = append(r.Codes, sub.QoS), append(r.Existed, existed)
	}
	return r
}

func (m *model) unsubscribe(c *command.Unsubscribe) command.Result {
	s, code := m.get(c.Ref)
	if code != command.OK {
		return command.Result{Code: code}
	}
	r := command.Result{Code: command.OK}
	for _, f := range c.Filters {
		if _, ok := s.subs[f]; ok {
			r.Codes = append(r.Codes, 0)
		} else {
			r.Codes = append(r.Codes, 0x11)
		}
		delete(s.subs, f)
	}
	return r
}

func (m *model) publish(p *command.Publish) command.ResultCode {
	if o := p.Origin; o.Shard != 0 {
		src := m.sources[o.Shard]
		if src == nil {
			src = &mSource{seen: map[uint64]bool{}}
			m.sources[o.Shard] = src
		}
		src.low = max(src.low, o.Low)
		if o.Seq < src.low || src.seen[o.Seq] {
			return command.Duplicate
		}
		src.seen[o.Seq] = true
	}
	mm := m.message(p.Message)
	retain := p.Flags&command.ToRetained != 0 && mm.Retain
	if retain && p.Epoch != 0 && !m.author(command.SessionKey{Tenant: p.Tenant, ClientID: mm.Publisher}, p.Epoch) {
		return command.StaleEpoch
	}
	code := command.NoMatch
	if p.Flags&command.ToInboxes != 0 && mm.QoS > 0 {
		for _, s := range m.byAge() {
			if s.key.Tenant == p.Tenant && m.offer(s, mm) {
				code = command.OK
			}
		}
	}
	if retain {
		code = m.retain(p.Tenant, mm)
	}
	return code
}

// author notes who writes, and forgets up to two who wrote longest ago; false if that connection is no longer the last.
func (m *model) author(key command.SessionKey, epoch uint64) bool {
	a := m.authors[key]
	switch {
	case epoch < a.epoch:
		return false
	case epoch == a.epoch && m.clock-a.seen < modelAuthorsKept/6:
		return true
	}
	m.authors[key] = mAuthor{epoch, m.clock}
	for _, k := range m.authorsByAge()[:min(2, len(m.authors))] {
		if m.clock-m.authors[k].seen >= modelAuthorsKept || len(m.authors) > modelAuthors {
			delete(m.authors, k)
		}
	}
	return true
}

func (m *model) authorsByAge() []command.SessionKey {
	return slices.SortedFunc(maps.Keys(m.authors), func(a, b command.SessionKey) int {
		return cmp.Or(cmp.Compare(m.authors[a].seen, m.authors[b].seen), compareKeys(a, b))
	})
}

// How long (in ms) and how many authors the machines of the model test remember.
const (
	modelAuthorsKept = 60_000
	modelAuthors     = 4
)

// offer queues a message for a session that matches; false if it does not match.
func (m *model) offer(s *mSession, mm *mMessage) bool {
	var qos byte
	rap := false
	var ids []uint32
	for f, sub := range s.subs {
		if !router.Matches(f, mm.Topic) || sub.NoLocal && mm.Publisher == s.key.ClientID {
			continue
		}
		qos = max(qos, sub.QoS)
		rap = rap || sub.RetainAsPublished
		if sub.ID != 0 {
			ids = append(ids, sub.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	qos = min(qos, mm.QoS)
	if qos == 0 || !s.durable() {
		return false
	}
	for m.atLimit(s) && m.set.InboxOverflow == command.OverflowDropOldest {
		m.dropped.InboxFull++
		i := slices.IndexFunc(s.inbox, func(e *mEntry) bool { return e.seq > s.perhapsSent() && !e.received })
		if i < 0 {
			return true
		}
		s.inbox = slices.Delete(s.inbox, i, i+1)
	}
	if m.atLimit(s) && m.set.InboxOverflow == command.OverflowEndSession {
		m.dropped.SessionEnded++
		if s.owner != nil {
			m.kicks = append(m.kicks, state.Kick{Key: s.key, Epoch: s.epoch, Node: s.owner.Node, Incarnation: s.owner.Incarnation, Reason: state.KickOverflow})
		}
		m.end(s)
		return true
	}
	s.inbox = append(s.inbox, &mEntry{seq: s.next, m: mm, qos: qos, retain: rap && mm.Retain, ids: ids})
	s.next++
	if s.owner != nil {
		m.wakes[s.key] = true
	}
	m.checkFull(s)
	return true
}

func (m *model) atLimit(s *mSession) bool {
	return m.set.InboxMaxMessages != 0 && uint64(len(s.inbox)) >= m.set.InboxMaxMessages ||
		m.set.InboxMaxBytes != 0 && s.bytes() >= m.set.InboxMaxBytes
}

func (m *model) checkFull(s *mSession) {
	if m.atLimit(s) {
		s.full = true
	}
	n, b := m.set.InboxMaxMessages, m.set.InboxMaxBytes
	if (n == 0 || uint64(len(s.inbox)) < n-n/8) && (b == 0 || s.bytes() < b-b/8) {
		s.full = false
	}
}

func (m *model) retain(tenant string, mm *mMessage) command.ResultCode {
	k := mTopic{tenant, string(mm.Topic)}
	if len(mm.Payload) == 0 {
		delete(m.retained, k)
		return command.OK
	}
	count := uint64(0)
	for o := range m.retained {
		if o.tenant == tenant {
			count++
		}
	}
	if m.retained[k] == nil && m.set.RetainedMaxMessages != 0 && count >= m.set.RetainedMaxMessages {
		m.dropped.RetainedFull++
		return command.Full
	}
	c := *mm
	c.storedAt = m.clock
	m.retained[k] = &c
	return command.OK
}

func in(rs []command.Range, seq uint64) bool {
	return slices.ContainsFunc(rs, func(r command.Range) bool { return r.From <= seq && seq <= r.To })
}

func (m *model) ack(a *command.Ack) command.ResultCode {
	s, code := m.get(a.Ref)
	if code != command.OK {
		return code
	}
	if sent := min(a.SentTo, s.next-1); sent > s.sentTo {
		if s.owner != nil && s.next-1 > s.sentTo+max(1, uint64(s.rm)) {
			m.wakes[s.key] = true // what was beyond the limit may go now
		}
		s.sentTo = sent
	}
	s.inbox = slices.DeleteFunc(s.inbox, func(e *mEntry) bool { return in(a.Done, e.seq) })
	for _, e := range s.inbox {
		if in(a.Received, e.seq) && e.qos == 2 {
			e.received = true
		}
	}
	m.checkFull(s)
	return command.OK
}

func (m *model) receive(c *command.Receive) command.ResultCode {
	s, code := m.get(c.Ref)
	if code != command.OK {
		return code
	}
	if slices.ContainsFunc(s.inbound, func(in mInbound) bool { return in.pid == c.PacketID }) {
		return command.Duplicate
	}
	s.inbound = append(s.inbound, mInbound{c.PacketID, m.message(c.Message)})
	return command.OK
}

func (m *model) release(c *command.Release) command.ResultCode {
	s, code := m.get(c.Ref)
	if code != command.OK {
		return code
	}
	i := slices.IndexFunc(s.inbound, func(in mInbound) bool { return in.pid == c.PacketID })
	if i < 0 {
		return command.UnknownPacket
	}
	m.originate(s.key, s.inbound[i].m, false)
	s.inbound = slices.Delete(s.inbound, i, i+1)
	return command.OK
}

func (m *model) originDone(c *command.OriginDone) {
	m.origins = slices.DeleteFunc(m.origins, func(o mOrigin) bool { return in(c.Seqs, o.seq) })
}

// remaining is a message with what remains of its expiry interval.
func (m *model) remaining(mm *mMessage) []byte {
	c := mm.Message
	if c.HasExpiry {
		c.Expiry = min(c.Expiry, uint32(max(1, (mm.expiresAt-m.clock+999)/1000)))
	}
	return c.Append(nil)
}

func (m *model) expired(at int64) bool { return at != 0 && at <= m.clock }

// deliveries is what Fetch should give for a session.
func (m *model) deliveries(s *mSession) []state.Delivery {
	var out []state.Delivery
	for _, e := range s.inbox {
		d := state.Delivery{Seq: e.seq, QoS: e.qos, State: state.Queued, Dup: e.seq <= s.dupTo}
		if e.received {
			d.State = state.Received
		} else {
			d.Msg, d.Retain, d.SubIDs, d.ExpiresAt = e.m.Message, e.retain, e.ids, e.m.expiresAt
		}
		out = append(out, d)
	}
	return out
}

// routes is what the gateways should be told.
func (m *model) routes() []router.RouteChange {
	type rk struct{ tenant, filter string }
	recs := map[rk]*router.RouteChange{}
	for _, s := range m.sess {
		for f, sub := range s.subs {
			k := rk{s.key.Tenant, f}
			r := recs[k]
			if r == nil {
				r = &router.RouteChange{Tenant: k.tenant, Filter: f}
				recs[k] = r
			}
			r.Durable = r.Durable || s.durable() && sub.QoS > 0
			if s.owner == nil {
				continue
			}
			i := slices.IndexFunc(r.Nodes, func(n router.NodeRoute) bool {
				return n.Node == s.owner.Node && n.Incarnation == s.owner.Incarnation
			})
			if i < 0 {
				i = len(r.Nodes)
				r.Nodes = append(r.Nodes, router.NodeRoute{Node: s.owner.Node, Incarnation: s.owner.Incarnation, Any: true})
			}
			r.Nodes[i].Transient = r.Nodes[i].Transient || !s.durable() || sub.QoS == 0
		}
	}
	var out []router.RouteChange
	for _, r := range recs {
		if r.Durable || len(r.Nodes) > 0 {
			slices.SortFunc(r.Nodes, func(a, b router.NodeRoute) int {
				return strings.Compare(a.Node, b.Node)*2 + int(a.Incarnation) - int(b.Incarnation)
			})
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b router.RouteChange) int {
		return strings.Compare(a.Tenant+"\x00"+a.Filter, b.Tenant+"\x00"+b.Filter)
	})
	return out
}

// nextDue is the earliest time at which a tick does something, 0 for none.
func (m *model) nextDue() int64 {
	due := int64(0)
	add := func(t int64) {
		if t != 0 && (due == 0 || t < due) {
			due = t
		}
	}
	for _, s := range m.sess {
		add(s.expiresAt)
		if s.will != nil {
			add(s.willDue)
		}
		for _, e := range s.inbox {
			if !e.received && !e.seen {
				add(e.m.expiresAt)
			}
		}
	}
	for _, o := range m.origins {
		add(o.m.expiresAt)
	}
	for _, r := range m.retained {
		add(r.expiresAt)
	}
	return due
}
