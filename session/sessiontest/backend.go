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

var (
	_ session.Sessions  = (*Node)(nil)
	_ session.Publisher = (*Node)(nil)
	_ session.Inbox     = (*Node)(nil)
	_ session.Retained  = (*Node)(nil)
)

// ready waits or fails as the faults say.
func (n *Node) ready(ctx context.Context) error {
	n.cl.mu.Lock()
	f := n.cl.faults
	n.cl.mu.Unlock()
	if f.Hang {
		<-ctx.Done()
		return session.ErrUnavailable
	}
	if f.Unavailable {
		return session.ErrUnavailable
	}
	return ctx.Err()
}

// Connect implements session.Sessions.
func (n *Node) Connect(ctx context.Context, req session.ConnectRequest) (session.Attached, error) {
	if err := n.ready(ctx); err != nil {
		return session.Attached{}, err
	}
	cl := n.cl
	cl.mu.Lock()
	s := cl.sessions[req.Key]
	if s != nil && req.SameUser && s.user != req.Username {
		cl.mu.Unlock()
		return session.Attached{}, session.ErrRefused(mqtt.ClientIdentifierNotValid, "client id belongs to another user")
	}
	var wills []*command.Will
	var prev *Node
	prevEpoch := uint64(0)
	if s != nil {
		prev, prevEpoch = s.owner, s.epoch
		s.stopTimers()
		ends := req.CleanStart || s.expiryS == 0
		// The will of the old connection fires at once without a delay, and
		// at the end of its session in any case.
		if s.will != nil && (ends || s.will.DelayS == 0) {
			wills = append(wills, s.will)
		}
		s.will = nil
		if ends {
			cl.end(s)
			delete(cl.sessions, req.Key)
			s = nil
		}
	}
	at := session.Attached{Present: s != nil, ExpiryS: req.ExpiryS}
	if s == nil {
		s = newState(req.Key)
		cl.sessions[req.Key] = s
	}
	cl.epoch++
	s.user = req.Username
	s.epoch, s.owner, s.expiryS, s.will = cl.epoch, n, req.ExpiryS, req.Will
	if prev != nil {
		s.sentTo = min(s.next-1, s.sendLimit()) // what the old owner may have sent since it last said so
	}
	s.dupTo, s.receiveMax = s.sentTo, req.ReceiveMax
	at.Ref = command.SessionRef{SessionKey: req.Key, Epoch: s.epoch}
	for _, f := range slices.Sorted(maps.Keys(s.subs)) {
		at.Subs = append(at.Subs, s.subs[f])
	}
	at.AwaitingRelease = slices.Sorted(maps.Keys(s.inbound))
	wakes := cl.assign()
	at.Replays = s.pendingReplays()
	cl.mu.Unlock()
	if prev != nil && prev != n {
		prev.Server.Kick(req.Key, prevEpoch, mqtt.SessionTakenOver)
	}
	cl.tell(req.Key.Tenant, wakes, wills)
	if fn := n.BeforeConnectReturns; fn != nil {
		fn(at.Ref)
	}
	return at, nil
}

// sendLimit is how far the owner may send before it has said how far it is.
func (s *state) sendLimit() uint64 { return s.sentTo + uint64(max(s.receiveMax, 1)) }

func newState(key command.SessionKey) *state {
	return &state{key: key, subs: make(map[string]command.Subscription), inbound: make(map[uint16]command.Message),
		replays: make(map[string]string), next: 1}
}

func (s *state) pendingReplays() (out []session.Replay) {
	for _, f := range slices.Sorted(maps.Keys(s.replays)) {
		out = append(out, session.Replay{Sub: s.subs[f], After: s.replays[f]})
	}
	return out
}

// tell wakes connections and publishes wills.
func (cl *Cluster) tell(tenant string, wakes []wake, wills []*command.Will) {
	cl.wakeAll(wakes)
	for _, w := range wills {
		cl.fire(tenant, w)
	}
}

// fire publishes a will.
func (cl *Cluster) fire(tenant string, w *command.Will) {
	m, err := command.DecodeMessage(w.Message)
	check(err == nil, "will: %v", err)
	m.PublishedAt = time.Now().UnixMilli()
	cl.route(tenant, &m)
}

// Disconnect implements session.Sessions.
func (n *Node) Disconnect(ref command.SessionRef, info session.DisconnectInfo) {
	cl := n.cl
	cl.mu.Lock()
	s := cl.sessions[ref.SessionKey]
	if s == nil || s.epoch != ref.Epoch || s.owner == nil {
		cl.mu.Unlock()
		return
	}
	check(s.owner == n, "a session is disconnected by a node that does not own it")
	s.owner = nil
	s.sentTo = max(s.sentTo, info.SentTo)
	if info.HasExpiry {
		s.expiryS = info.ExpiryS
	}
	w := s.will
	if info.Reason == command.DisconnectNormal {
		w = nil
	}
	s.will = w
	var now *command.Will
	for f := range s.subs {
		cl.giveBack(s, f, func(e *entry) bool { return e.seq > s.sentTo })
	}
	switch {
	case s.expiryS == 0:
		cl.end(s)
		delete(cl.sessions, ref.SessionKey)
		now = w
	case w != nil && w.DelayS == 0:
		now, s.will = w, nil
	case w != nil:
		s.willTimer = time.AfterFunc(time.Duration(w.DelayS)*time.Second, func() { cl.later(s, false) })
	}
	if s.expiryS != 0 && s.expiryS != command.NeverExpires && !cl.closed {
		s.endTimer = time.AfterFunc(time.Duration(s.expiryS)*time.Second, func() { cl.later(s, true) })
	}
	wakes := cl.assign()
	cl.mu.Unlock()
	cl.wakeAll(wakes)
	if now != nil {
		cl.fire(ref.Tenant, now)
	}
}

// later fires a delayed will or ends a session, if it is still disconnected.
func (cl *Cluster) later(s *state, end bool) {
	cl.mu.Lock()
	if cl.closed || s.owner != nil || cl.sessions[s.key] != s {
		cl.mu.Unlock()
		return
	}
	w := s.will
	s.will = nil
	if end {
		s.stopTimers()
		cl.end(s)
		delete(cl.sessions, s.key)
	}
	wakes := cl.assign()
	cl.mu.Unlock()
	cl.wakeAll(wakes)
	if w != nil {
		cl.fire(s.key.Tenant, w)
	}
}

// current returns the session of a ref, nil if the epoch is over.
func (cl *Cluster) current(ref command.SessionRef) *state {
	s := cl.sessions[ref.SessionKey]
	if s == nil || s.epoch != ref.Epoch {
		return nil
	}
	return s
}

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
			cl.retained[k] = stored
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

// gate waits while the lanes are full and tells how a publish ends without
// effect.
func (n *Node) gate(ctx context.Context, qos byte) (out session.Outcome, stop bool) {
	n.cl.mu.Lock()
	full, f := n.cl.full, n.cl.faults
	n.cl.mu.Unlock()
	if full != nil {
		select {
		case <-full:
		case <-ctx.Done():
			return session.Outcome{Err: ctx.Err()}, true
		}
	}
	switch {
	case f.Unavailable:
		return session.Outcome{Err: session.ErrUnavailable}, true
	case f.Refuse != 0 && qos > 0:
		return session.Outcome{Code: f.Refuse}, true
	}
	return session.Outcome{}, false
}

// answer finishes a publish. A failure is never held back: behind it others
// could take effect, which no lane allows.
func (cl *Cluster) answer(what string, pid uint16, out session.Outcome, done func(session.Outcome)) {
	if out.Err != nil {
		done(out)
		return
	}
	cl.finish(what, pid, func() { done(out) })
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

// failRead counts down Faults.FailFetches.
func (cl *Cluster) failRead() bool {
	cl.fetches++
	if cl.faults.FailFetches > 0 {
		cl.faults.FailFetches--
		return true
	}
	return false
}

// Fetch implements session.Inbox.
func (n *Node) Fetch(ctx context.Context, ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (session.Page, error) {
	check(maxMsgs > 0 && maxBytes > 0, "fetch of %d messages, %d bytes", maxMsgs, maxBytes)
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.failRead() {
		return session.Page{}, session.ErrUnavailable
	}
	s := n.cl.current(ref)
	if s == nil {
		return session.Page{}, session.ErrStale
	}
	p := session.Page{Floor: s.next, Next: max(cursor, 1), Now: time.Now().UnixMilli()}
	if len(s.inbox) > 0 {
		p.Floor = s.inbox[0].seq
	}
	for i := range s.inbox {
		e := &s.inbox[i]
		if e.seq < cursor {
			continue
		}
		if e.seq > s.sendLimit() { // as the machine does
			p.Clamped, p.Next = true, e.seq
			break
		}
		maxBytes -= len(e.msg.Topic) + len(e.msg.Payload)
		if len(p.Deliveries) == maxMsgs || maxBytes < 0 && len(p.Deliveries) > 0 {
			p.More = true
			break
		}
		d := session.Delivery{Seq: e.seq, Msg: e.msg, QoS: e.qos, Retain: e.retain, SubIDs: e.ids, State: session.Queued,
			Dup: e.seq <= s.dupTo, ExpiresAt: e.expiresAt}
		if e.received {
			d.State = session.Received
		}
		p.Deliveries = append(p.Deliveries, d)
		p.Next = e.seq + 1
	}
	return p, ctx.Err()
}

// Ack implements session.Inbox. While completions are held, its effect is, too:
// an acknowledgement takes a commit like everything else.
func (n *Node) Ack(ref command.SessionRef, a session.Ack, done func(error)) {
	a.Done, a.Received = slices.Clone(a.Done), slices.Clone(a.Received)
	n.cl.finish("ack", 0, func() {
		err := n.cl.acked(ref, a)
		if done != nil {
			done(err)
		}
	})
}

func (cl *Cluster) acked(ref command.SessionRef, a session.Ack) error {
	cl.mu.Lock()
	var wakes []wake
	defer func() { cl.mu.Unlock(); cl.wakeAll(wakes) }()
	s := cl.current(ref)
	if s == nil {
		return session.ErrStale
	}
	s.sentTo = max(s.sentTo, a.SentTo)
	s.inbox = slices.DeleteFunc(s.inbox, func(e entry) bool { return slices.Contains(a.Done, e.seq) })
	for i := range s.inbox {
		if slices.Contains(a.Received, s.inbox[i].seq) {
			s.inbox[i].received = true
		}
	}
	wakes = cl.assign()
	return nil
}

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
