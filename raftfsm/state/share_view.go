package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// ShareView describes a share.
type ShareView struct {
	Tenant string
	// Filter is the whole filter, $share and name included.
	Filter string
	// Queue is how many messages it holds, Assigned how many of them are with members.
	Queue, QueueBytes, Assigned uint64
	// Members are sorted by client id.
	Members []ShareMemberView
}

// Cursor is what Shares goes on after.
func (v *ShareView) Cursor() string { return v.Tenant + "\x00" + v.Filter }

// ShareMemberView describes a member of a share.
type ShareMemberView struct {
	Key    command.SessionKey
	Online bool
	Node   string // of the connection
	// Room bounds Assigned, the messages that it has not settled.
	Room, Assigned int
	QoS            byte
	// Left: it unsubscribed or its session ended, and it finishes what it has.
	Left bool
}

// Shares lists the shares of the shard by tenant and filter, after a cursor ("":
// from the start).
func (s *Shard) Shares(after string, limit int) []ShareView {
	tenant, filter, _ := strings.Cut(after, "\x00")
	key := command.SessionKey{Tenant: tenant, ClientID: filter}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []ShareView
	at := func(ss *session) int {
		if compareKeys(ss.key, key) <= 0 {
			return -1
		}
		return 1
	}
	s.shares.ascend(at, func(ss *session) bool {
		if len(out) >= limit {
			return false
		}
		out = append(out, ss.shareView())
		return true
	})
	return out
}

func (ss *session) shareView() ShareView {
	sh := ss.share
	v := ShareView{Tenant: ss.key.Tenant, Filter: ss.key.ClientID, Queue: ss.box.count, QueueBytes: ss.box.bytes, Assigned: sh.assigned}
	for _, m := range sh.members {
		v.Members = append(v.Members, ShareMemberView{
			Key: command.SessionKey{Tenant: ss.key.Tenant, ClientID: m.client}, Online: m.node != "", Node: m.node,
			Room: int(m.room), Assigned: int(m.count), QoS: m.qos, Left: m.left,
		})
	}
	return v
}

// group is the share as routes show it.
func (sh *share) group() router.ShareGroup {
	g := router.ShareGroup{Name: sh.name}
	for _, m := range sh.online {
		at, ok := slices.BinarySearchFunc(g.Nodes, m, func(n router.ShareNode, m *member) int {
			return cmp.Or(strings.Compare(n.Node, m.node), cmp.Compare(n.Incarnation, m.incarnation))
		})
		if !ok {
			g.Nodes = slices.Insert(g.Nodes, at, router.ShareNode{Node: m.node, Incarnation: m.incarnation})
		}
		g.Nodes[at].Members++
	}
	return g
}
