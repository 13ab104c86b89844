package state

import (
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// applyConnect makes a connection the owner of a session.
func (s *Shard) applyConnect(c *command.Connect) command.Result {
	t := s.makeTenant(c.Key.Tenant)
	if t == nil || c.Key.ClientID == "" || c.Node == "" || strings.IndexByte(c.Key.ClientID, 0) >= 0 {
		return command.Result{Code: command.Invalid}
	}
	expiry := c.ExpiryS
	if limit := s.settings.MaxSessionExpiryS; limit != 0 && expiry > limit {
		expiry = limit
	}
	ss := t.sessions[c.Key.ClientID]
	if c.SameUser && ss != nil && ss.username != c.Username {
		return command.Result{Code: command.WrongUser}
	}
	var prev command.Owner
	if ss != nil {
		prev = s.supersede(ss, c.CleanStart)
		if ss.ended {
			ss = nil
		}
	}
	present := ss != nil
	if present {
		s.countRoutes(ss, -1)
		s.setDurable(ss, expiry > 0)
	} else {
		ss = s.newSession(t, c.Key.ClientID, expiry > 0)
	}
	s.lastEpoch++
	ss.epoch = s.lastEpoch
	ss.token, ss.version, ss.receiveMax, ss.connectedAt = c.Token, c.Version, c.ReceiveMax, c.ConnectedAt
	ss.username = strings.Clone(c.Username)
	ss.expiryS, ss.expiresAt = expiry, 0
	ss.will = nil
	if c.HasWill {
		ss.will = &will{body: slices.Clone(c.Will.Message), delayS: c.Will.DelayS}
	}
	s.setOwner(ss, ownerKey{c.Node, c.Incarnation})
	if ss.box != nil {
		ss.box.dupTo = ss.box.sentTo
		ss.box.resetDrop()
		// The answer to Connect may reach the new owner before its own replica has
		// applied it: what it could not fetch then, it fetches now.
		if present {
			s.wake(ss)
		}
	}
	s.countRoutes(ss, 1)
	s.tellShares(ss, command.ShareOnline, c.ShareRoom)
	s.updateLife(ss)
	s.markDirty(ss)
	return s.attached(ss, present, prev)
}

// attached is the answer to a connect.
func (s *Shard) attached(ss *session, present bool, prev command.Owner) command.Result {
	r := command.Result{Code: command.OK, Epoch: ss.epoch, Present: present, ExpiryS: ss.expiryS, Prev: prev, Gate: s.origins.wills[ss.key].last}
	for _, u := range ss.subs {
		r.Subs = append(r.Subs, u.command())
	}
	for i := range ss.inbound {
		r.AwaitingRelease = append(r.AwaitingRelease, ss.inbound[i].pid)
	}
	for _, p := range ss.replays {
		r.Replays = append(r.Replays, command.PendingReplay{Filter: p.filter, After: p.after})
	}
	return r
}

// supersede ends what a new connection finds: the old connection, and the session
// itself if nothing of it may be kept.
func (s *Shard) supersede(ss *session, clean bool) (prev command.Owner) {
	if o := ss.owner; o != nil {
		prev = command.Owner{Node: o.key.node, Incarnation: o.key.incarnation, Epoch: ss.epoch}
		s.kick(ss, KickTakeover)
		if !clean && ss.durable {
			// v5:MQTT-3.1.4-3: the will goes out unless its delay lets the new
			// connection come first.
			if ss.will != nil && ss.will.delayS == 0 {
				s.fireWill(ss)
			}
			s.assumeSent(ss)
			return prev
		}
		// A clean start, or the connection that a transient session lived in.
		s.endSession(ss)
		return prev
	}
	if clean || ss.expiresAt != 0 && ss.expiresAt <= s.clock {
		s.endSession(ss)
		return prev
	}
	ss.will = nil // resumed in time (I15)
	return prev
}

// assumeSent marks as perhaps sent what a connection that ended without a word
// may have sent.
func (s *Shard) assumeSent(ss *session) {
	if b := ss.box; b != nil {
		b.sentTo = b.perhapsSent(ss)
	}
}

func (s *Shard) newSession(t *tenant, clientID string, durable bool) *session {
	s.lastSID++
	ss := &session{
		key: command.SessionKey{Tenant: t.name, ClientID: strings.Clone(clientID)},
		sid: s.lastSID, tenant: t, durable: durable,
	}
	if durable {
		ss.box = newInbox()
	}
	s.register(ss)
	return ss
}

// setDurable changes whether a session outlives its connection. A resumed session
// can only stop doing so: its inbox is still delivered, but what is published from
// now on reaches it through its connection. The caller counts the routes.
func (s *Shard) setDurable(ss *session, durable bool) {
	if ss.durable == durable {
		return
	}
	ss.durable = durable
	if durable {
		s.durables++
	} else {
		s.durables--
	}
	if ss.box == nil {
		ss.box = newInbox()
	}
	for _, u := range ss.subs {
		switch {
		case u.route == nil: // its share has it
		case durable:
			ss.tenant.trie.Set(u.filter, ss.sid, u)
		default:
			ss.tenant.trie.Delete(u.filter, ss.sid)
		}
	}
}

// applyDisconnect ends a connection.
func (s *Shard) applyDisconnect(d *command.Disconnect) command.ResultCode {
	ss, code := s.current(&d.Ref)
	if code != command.OK {
		return code
	}
	if ss.owner == nil {
		return command.OK // ended before, by the loss of its node
	}
	if b := ss.box; b != nil {
		b.sentTo = max(b.sentTo, min(d.SentTo, b.next-1))
	}
	if d.HasExpiry && (ss.expiryS != 0 || d.ExpiryS == 0) { // v5:MQTT-3.14.2-2
		ss.expiryS = d.ExpiryS
		if limit := s.settings.MaxSessionExpiryS; limit != 0 && ss.expiryS > limit {
			ss.expiryS = limit
		}
	}
	if d.Reason == command.DisconnectNormal { // v5:MQTT-3.14.4-3
		ss.will = nil
	}
	s.disconnect(ss)
	return command.OK
}

// disconnect takes the connection away from a session; what it sent is settled.
func (s *Shard) disconnect(ss *session) {
	s.countRoutes(ss, -1)
	s.setOwner(ss, ownerKey{})
	s.countRoutes(ss, 1)
	if ss.expiryS == 0 {
		s.endSession(ss)
		return
	}
	s.giveBackUnsent(ss)
	s.tellShares(ss, command.ShareOffline, 0)
	if ss.expiryS != command.NeverExpires {
		ss.expiresAt = s.clock + int64(ss.expiryS)*1000
	}
	if w := ss.will; w != nil {
		if w.delayS == 0 {
			s.fireWill(ss)
		} else {
			w.dueAt = s.clock + int64(w.delayS)*1000
		}
	}
	if ss.box != nil {
		ss.box.resetDrop()
	}
	s.updateLife(ss)
	s.markDirty(ss)
}

// applyNodeLost disconnects the sessions of a process that is gone.
func (s *Shard) applyNodeLost(n *command.NodeLost) command.ResultCode {
	s.loseLane(n.Node, n.Incarnation)
	var lost []*session
	for key, o := range s.owners {
		if key.node == n.Node && key.incarnation <= n.Incarnation {
			lost = append(lost, o.sessions...)
		}
	}
	slices.SortFunc(lost, compareSID)
	for _, ss := range lost {
		s.assumeSent(ss)
		s.disconnect(ss)
	}
	s.loseMembers(n.Node, n.Incarnation)
	return command.OK
}

// applyEndSession ends a session by an operator's will.
func (s *Shard) applyEndSession(e *command.EndSession) command.ResultCode {
	ss := s.find(e.Key)
	if ss == nil {
		return command.UnknownSession
	}
	if e.Epoch != 0 && e.Epoch != ss.epoch {
		return command.StaleEpoch
	}
	s.kick(ss, KickEnded)
	s.endSession(ss)
	return command.OK
}

// endSession removes a session and all that it owns. A will that is still there
// fires now; inbound QoS 2 messages, which were acknowledged with PUBREC, are
// released rather than lost (I1).
func (s *Shard) endSession(ss *session) {
	if ss.durable {
		s.fx.lapsed = append(s.fx.lapsed, Lapsed{Key: ss.key, Expired: ss.owner == nil && ss.expiresAt != 0 && ss.expiresAt <= s.clock})
	}
	s.releaseAll(ss)
	if ss.will != nil {
		s.fireWill(ss)
	}
	s.countRoutes(ss, -1)
	held := s.settleAll(ss) // looks at what the connection perhaps sent
	s.setOwner(ss, ownerKey{})
	for _, u := range ss.subs {
		s.dropSub(u)
	}
	ss.subs, ss.replays = nil, nil
	s.endInbox(ss, held)
	s.unregister(ss)
	if ss.inStore {
		s.ops.delete(keyPair(nil, keySession, ss.key.Tenant, ss.key.ClientID))
	}
	s.fx.ended = append(s.fx.ended, ss.key)
}

// endInbox drops the inbox of a session that ends. What is cold is not read: its
// counters and hashes are known in total, and write-backs sweep the records. kept is
// how many of its messages are not lost with it.
func (s *Shard) endInbox(ss *session, kept uint64) {
	b := ss.box
	if b == nil {
		return
	}
	s.dropped.SessionEnded += b.count - b.received - kept
	s.sum.subSum(b.sum)
	s.inboxMessages -= b.count
	s.inboxBytes -= b.bytes
	for seq := b.hot; seq < b.next; seq++ {
		e := b.at(seq)
		if e.bits&bitLive == 0 {
			continue
		}
		if seq >= b.stored {
			s.dirtyBytes -= entryCost
		}
		s.dropHot(ss, e)
	}
	if b.stored > 1 && ss.inStore {
		// What has given up its references must not do so again when it is swept.
		s.ops.deleteRanges(ss.sid, b.dead)
		s.ops.deleteRanges(ss.sid, b.recv)
		s.newSweeps = append(s.newSweeps, ss.sid)
		s.ops.add(storeOp{key: keyU64(nil, keySwept, ss.sid), value: []byte{}})
	}
	ss.box = nil
}

// resetDrop forgets what drop_oldest knew: it holds for one connection.
func (b *inbox) resetDrop() { b.dropFrom, b.peek, b.peekEnd = 0, nil, 0 }
