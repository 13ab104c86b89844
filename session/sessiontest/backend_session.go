package sessiontest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

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
