package sessiontest

import (
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// shareRoom is how many messages a member may have that it has not acknowledged.
const shareRoom = 16

type shareKey struct{ tenant, filter string }

// share is one shared subscription. All is guarded by Cluster.mu.
type share struct {
	name, inner string
	queue       []command.Message
	members     []*state
	turn        int
}

// join makes a session a member.
func (cl *Cluster) join(s *state, filter string) {
	name, inner, ok, _ := router.SplitShare(filter)
	if !ok {
		return
	}
	k := shareKey{s.key.Tenant, filter}
	sh := cl.shares[k]
	if sh == nil {
		sh = &share{name: name, inner: inner}
		cl.shares[k] = sh
	}
	if !slices.Contains(sh.members, s) {
		sh.members = append(sh.members, s)
	}
}

// leave ends a membership: what the session has got and surely not seen goes to
// the others.
func (cl *Cluster) leave(s *state, filter string) {
	k := shareKey{s.key.Tenant, filter}
	sh := cl.shares[k]
	if sh == nil {
		return
	}
	sh.members = slices.DeleteFunc(sh.members, func(m *state) bool { return m == s })
	cl.giveBack(s, filter, func(e *entry) bool { return !e.received })
	if len(sh.members) == 0 {
		delete(cl.shares, k)
	}
}

// giveBack returns entries of a share to the front of its queue.
func (cl *Cluster) giveBack(s *state, filter string, fits func(*entry) bool) {
	sh := cl.shares[shareKey{s.key.Tenant, filter}]
	var back []command.Message
	s.inbox = slices.DeleteFunc(s.inbox, func(e entry) bool {
		if e.share != filter || !fits(&e) {
			return false
		}
		back = append(back, e.msg)
		return true
	})
	if sh != nil {
		sh.queue = append(back, sh.queue...)
	}
}

// end takes a session out of every share.
func (cl *Cluster) end(s *state) {
	for f := range s.subs {
		cl.leave(s, f)
	}
}

// wake names a connection that has something to fetch.
type wake struct {
	n     *Node
	key   command.SessionKey
	epoch uint64
}

func (cl *Cluster) wakeAll(ws []wake) {
	for _, w := range ws {
		w.n.Server.Wake(w.key, w.epoch)
	}
}

// assign hands the queues out to connected members with room.
func (cl *Cluster) assign() (ws []wake) {
	for k, sh := range cl.shares {
		for len(sh.queue) > 0 {
			s := sh.next(k.filter)
			if s == nil {
				break
			}
			m := sh.queue[0]
			sh.queue = sh.queue[1:]
			sub := s.subs[k.filter]
			e := entry{seq: s.next, msg: m, qos: min(sub.QoS, m.QoS), retain: sub.RetainAsPublished && m.Retain, share: k.filter}
			if sub.ID != 0 {
				e.ids = []uint32{sub.ID}
			}
			s.next++
			s.inbox = append(s.inbox, e)
			ws = append(ws, wake{s.owner, s.key, s.epoch})
		}
	}
	return ws
}

func (sh *share) next(filter string) *state {
	for range sh.members {
		sh.turn++
		s := sh.members[sh.turn%len(sh.members)]
		n := 0
		for i := range s.inbox {
			if s.inbox[i].share == filter {
				n++
			}
		}
		if s.owner != nil && n < shareRoom {
			return s
		}
	}
	return nil
}

// routeShares queues a message for every share that it matches, or hands it to
// a node with a member if it has QoS 0.
func (cl *Cluster) routeShares(tenant string, m *command.Message) (direct []func(), matched bool) {
	for k, sh := range cl.shares {
		if k.tenant != tenant || !router.Matches(sh.inner, m.Topic) {
			continue
		}
		matched = true
		if m.QoS > 0 {
			sh.queue = append(sh.queue, clone(m))
			continue
		}
		for range sh.members {
			sh.turn++
			if n := sh.members[sh.turn%len(sh.members)].owner; n != nil {
				direct = append(direct, func() { n.Server.DeliverShare(tenant, sh.name, sh.inner, m) })
				break
			}
		}
	}
	return direct, matched
}
