package session

import (
	"sync"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// shareTries is how many members are offered a message before it is dropped.
const shareTries = 8

// shares are the shared subscriptions of connected sessions. They serve QoS 0
// alone: what has a higher QoS comes through the inbox of the member that the
// share's shard has chosen.
type shares struct {
	mu sync.RWMutex
	m  map[shareKey]*localShare // guarded by mu
}

type shareKey struct{ tenant, name, filter string }

// localShare are the members of one share on this node.
type localShare struct {
	members []shareMember // guarded by shares.mu
	turn    atomic.Uint32
}

type shareMember struct {
	c   *Conn
	id  uint32
	rap bool
}

func newShares() *shares { return &shares{m: make(map[shareKey]*localShare)} }

// add adds c to a share, or replaces its options.
func (s *shares) add(k shareKey, m shareMember) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.m[k]
	if sh == nil {
		sh = &localShare{}
		s.m[k] = sh
	}
	for i := range sh.members {
		if sh.members[i].c == m.c {
			sh.members[i] = m
			return
		}
	}
	sh.members = append(sh.members, m)
}

// remove takes c out of a share.
func (s *shares) remove(k shareKey, c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.m[k]
	if sh == nil {
		return
	}
	for i := range sh.members {
		if sh.members[i].c != c {
			continue
		}
		n := len(sh.members) - 1
		sh.members[i] = sh.members[n]
		sh.members[n] = shareMember{}
		sh.members = sh.members[:n]
		break
	}
	if len(sh.members) == 0 {
		delete(s.m, k)
	}
}

// count returns the number of memberships of connected sessions.
func (s *shares) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for _, sh := range s.m {
		n += len(sh.members)
	}
	return n
}

// DeliverShare hands a message to one connected member of a share on this node,
// in turn, with QoS 0. filter is the plain inner filter. The slices of m are
// valid during the call only. It does not block. false means that there is no
// member here; the message is then lost unless the caller finds another node.
func (s *Server) DeliverShare(tenant, name, filter string, m *command.Message) bool {
	f := s.fanouts.Get().(*fanout)
	f.m = m
	found := s.deliverShare(f, shareKey{tenant, name, filter})
	s.countFanout(f)
	f.reset()
	s.fanouts.Put(f)
	return found
}

// deliverShare offers the message to the members, beginning with the one whose
// turn it is, until one takes it.
func (s *Server) deliverShare(f *fanout, k shareKey) bool {
	s.shares.mu.RLock()
	sh := s.shares.m[k]
	if sh == nil {
		s.shares.mu.RUnlock()
		return false
	}
	// Copied, since no lock is held while connections are used.
	n := len(sh.members)
	at := int(sh.turn.Add(1) % uint32(n))
	for i := range min(n, shareTries) {
		f.members = append(f.members, sh.members[(at+i)%n])
	}
	s.shares.mu.RUnlock()
	drop := dropQoS0Slow
	for i := range f.members {
		m := &f.members[i]
		if s.checkReceive && !s.cfg.Authorizer.MayReceive(&m.c.ident, f.m.Topic) {
			drop = dropDenied
			continue
		}
		f.ids = f.ids[:0]
		if m.id != 0 && m.c.version == mqtt.V5 {
			f.ids = append(f.ids, m.id)
		}
		switch m.c.push0(f, m.rap && f.m.Retain) {
		case sendOK:
			return true
		case sendTooLarge: // v5:MQTT-3.1.2-25 allows the next member
			drop = dropTooLarge
		}
	}
	s.m.dropped[drop].Inc()
	return true
}

// addShare makes c a member of a share on this node. It runs on the reader.
func (c *Conn) addShare(name, inner string, s *command.Subscription) {
	c.filter(s.Filter)
	c.srv.shares.add(shareKey{c.ident.Tenant, name, inner}, shareMember{c: c, id: s.ID, rap: s.RetainAsPublished})
}

// innerFilter is what a filter matches: that of a shared subscription without
// $share and the name.
func innerFilter(filter string) string {
	_, inner, _, _ := router.SplitShare(filter)
	return inner
}
