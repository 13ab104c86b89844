package state

import (
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Recovery after the loss of a majority (flotilla cluster recover) takes what one replica has for the whole truth. Each shard, and
// the control group, may so fall back by another amount, or begin empty. What they know of each other is then partly of a future
// that never was: a member of a share whose subscription is gone, a message that a share gave away and does not know of, an
// originated message whose number another shard has seen already. The commands of this file end all of that, at the same place in
// every replica's log.

// applyRecover makes the shard fit for a past that others may have seen more of. Connections are not touched: whoever had one is
// found to be down by the shard's leader, with the clock of that time.
func (s *Shard) applyRecover(c *command.Recover) command.ResultCode {
	s.lastEpoch, s.lastSID, s.lastOrigin = max(s.lastEpoch, c.Epoch), max(s.lastSID, c.SID), max(s.lastOrigin, c.Origin)
	for i := range c.Gone {
		s.dropGone(&c.Gone[i])
	}
	s.dropAuthors()
	// The members that are left tell their state anew; until then nobody is given anything.
	for _, chunk := range s.shares.chunks {
		for _, ss := range chunk {
			for _, m := range ss.share.members {
				s.setOffline(ss, m)
			}
			s.markDirty(ss)
		}
	}
	for _, ss := range s.bySID() {
		if ss.share != nil {
			continue
		}
		s.lastEpoch++
		ss.epoch = s.lastEpoch
		s.markDirty(ss)
		s.settleForRecovery(ss)
		for _, u := range ss.subs {
			if u.route == nil {
				s.tellRecovered(u)
			}
		}
		if s.fatal != nil {
			return command.Invalid // the caller ends with the cause
		}
	}
	return command.OK
}

// settleForRecovery ends what an inbox holds for shares: the numbers may mean other messages by now. What was perhaps sent is the
// session's own from here on, and done for the share; the rest goes back.
func (s *Shard) settleForRecovery(ss *session) {
	b := ss.box
	if b == nil || len(b.holds) == 0 {
		return
	}
	sent := b.perhapsSent(ss)
	s.giveBack(ss, func(h *hold, it held) bool {
		_, subscribed := ss.findSub(h.filter)
		return subscribed && it.seq > sent
	})
	for i := range b.holds {
		h := &b.holds[i]
		for _, it := range h.items {
			s.settle(ss.key, h, it.num)
		}
	}
	b.holds = nil
	s.originateSettles()
}

// tellRecovered lets a share know its member again, whatever it knew before: without a connection, and with nothing in hand.
func (s *Shard) tellRecovered(u *sub) {
	ss := u.sess
	c := command.ShareMember{
		Filter: u.filter, Member: ss.key, Event: command.ShareJoin, Epoch: ss.epoch, Room: min(max(ss.receiveMax, 1), maxShareRoom), Sub: u.command(),
	}
	c.Sub.Filter = ""
	s.originateCommand(ss.key.Tenant, u.filter, command.AppendShareMember(nil, &c), nil)
	s.sum.sub(u.hash())
	u.fence = s.lastOrigin
	s.sum.add(u.hash())
	u.dirty, ss.subsNew = true, true
}

// dropGone takes a member out of a share whose session is lost or knows nothing of it. What its session still has, it settles.
func (s *Shard) dropGone(g *command.GoneMember) {
	ss := s.findShare(g.Member.Tenant, g.Filter)
	if ss == nil {
		return
	}
	sh := ss.share
	at, ok := sh.find(g.Member.ClientID)
	if !ok {
		return
	}
	m := sh.members[at]
	s.takeBack(ss, m, &command.ShareMember{Share: g.Share, Held: g.Held})
	s.setOffline(ss, m)
	if !m.left {
		m.left = true
		sh.present--
	}
	s.dropMember(ss, m)
	s.markDirty(ss)
	if sh.present == 0 {
		s.endShare(ss)
	}
}

// ShareSubscription names a session's subscription to a share.
type ShareSubscription struct {
	Tenant, Client, Filter string
}

// SharePart is what one side of a share knows of the other: a session what it holds, a share which members it has.
type SharePart struct {
	ShareSubscription
	Share uint64
	Held  []command.Range
}

// Facts are what a recovery has to know of a shard: everything that says how far others have seen it, or it has seen others.
type Facts struct {
	LastEpoch, LastSID, LastOrigin uint64
	// Sources is the highest number that was applied here of what each shard originated.
	Sources map[uint32]uint64
	// Incarnations is the highest one of each node that anything here names.
	Incarnations map[string]uint64
	// Subscribed are the subscriptions to shares, Holds what sessions have of shares, Members the members of shares.
	Subscribed []ShareSubscription
	Holds      []SharePart
	Members    []SharePart
}

// Facts reads them all at once; for a machine that nobody changes.
func (s *Shard) Facts() Facts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f := Facts{
		LastEpoch: s.lastEpoch, LastSID: s.lastSID, LastOrigin: s.lastOrigin,
		Sources: map[uint32]uint64{}, Incarnations: map[string]uint64{},
	}
	for id, src := range s.sources {
		top := src.low
		if n := len(src.applied); n > 0 {
			top = max(top, src.applied[n-1].To)
		}
		f.Sources[id] = top
	}
	saw := func(node string, incarnation uint64) {
		if node != "" {
			f.Incarnations[node] = max(f.Incarnations[node], incarnation)
		}
	}
	for name, l := range s.lanes {
		saw(name, max(l.incarnation, l.lost))
	}
	for key := range s.owners {
		saw(key.node, key.incarnation)
	}
	for _, ss := range s.bySID() {
		if ss.share != nil {
			f.readShare(ss, saw)
			continue
		}
		name := ShareSubscription{Tenant: ss.key.Tenant, Client: ss.key.ClientID}
		for _, u := range ss.subs {
			if u.route == nil {
				name.Filter = u.filter
				f.Subscribed = append(f.Subscribed, name)
			}
		}
		if ss.box == nil {
			continue
		}
		for i := range ss.box.holds {
			h := &ss.box.holds[i]
			var nums rangeSet
			for _, it := range h.items {
				nums.add(it.num)
			}
			name.Filter = h.filter
			f.Holds = append(f.Holds, SharePart{ShareSubscription: name, Share: h.share, Held: nums})
		}
	}
	return f
}

func (f *Facts) readShare(ss *session, saw func(string, uint64)) {
	for _, m := range ss.share.members {
		saw(m.node, m.incarnation)
		f.Members = append(f.Members, SharePart{
			ShareSubscription: ShareSubscription{Tenant: ss.key.Tenant, Client: m.client, Filter: ss.key.ClientID}, Share: ss.sid,
		})
	}
}

// applyRecoverControl makes the cluster the survivors'.
func (c *Control) applyRecoverControl(r *command.RecoverControl) command.ResultCode {
	v := c.current()
	if !v.Formed() || len(r.Survivors) == 0 {
		return command.Invalid
	}
	for _, id := range r.Survivors {
		if n := v.Nodes[id]; n == nil || n.State == command.NodeRemoved {
			return command.Invalid
		}
	}
	e := c.edit()
	for id, old := range e.Nodes {
		n := *old
		n.Up = false
		n.State = command.NodeRemoved
		if slices.Contains(r.Survivors, id) {
			n.State, n.Incarnation = command.NodeReady, max(n.Incarnation, r.Incarnation)
		}
		e.Nodes[id] = &n
	}
	for _, id := range r.Removed {
		if e.Nodes[id] == nil && id != "" {
			n := &NodeInfo{State: command.NodeRemoved}
			n.ID = strings.Clone(id)
			e.Nodes[n.ID] = n
		}
	}
	clear(e.Tokens)
	list := slices.Clone(e.Operations)
	for i := range list {
		if list[i].State == command.OperationRunning {
			list[i].State, list[i].Error, list[i].UpdatedAt = command.OperationFailed, strings.Clone(r.Reason), c.clock
		}
	}
	e.Operations = list
	return command.OK
}
