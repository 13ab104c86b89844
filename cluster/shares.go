package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// ShareStatus describes a shared subscription for operators.
type ShareStatus struct {
	Name    string `json:"name"`
	Filter  string `json:"filter"` // the one that is matched
	Tenant  string `json:"tenant,omitempty"`
	Shard   uint32 `json:"shard"`
	Queue   uint64 `json:"queue"` // messages that wait or are with members
	Bytes   uint64 `json:"queue_bytes"`
	Pending uint64 `json:"assigned"` // of them, those with members
	// Members are sorted by client id.
	Members []ShareMemberStatus `json:"members"`
}

// ShareMemberStatus describes a member of a share.
type ShareMemberStatus struct {
	ClientID string  `json:"client_id"`
	Online   bool    `json:"online"`
	Node     *string `json:"node"`
	Room     int     `json:"room"`
	Assigned int     `json:"assigned"`
	QoS      byte    `json:"qos"`
}

// shareStatusPage is a page of the shares of one shard, with the position behind each.
type shareStatusPage struct {
	Items   []ShareStatus `json:"items"`
	Cursors []string      `json:"cursors"`
	More    bool          `json:"more"`
}

// shareStatusMax bounds a page that another node answers.
const shareStatusMax = 1000

// Shares lists shared subscriptions in the order of shard, then tenant and filter.
// Shards without a replica here are asked of their leaders. next is the position
// to go on from, "" at the end.
func (n *Node) Shares(ctx context.Context, after string, limit int) (items []ShareStatus, next string, err error) {
	from, cursor := splitPosition(after)
	for _, l := range n.allLanes() {
		if l.shard < from {
			continue
		}
		if l.shard != from {
			cursor = ""
		}
		for more := true; more; {
			page, err := n.sharesOf(ctx, l.shard, cursor, min(limit-len(items)+1, shareStatusMax))
			if err != nil {
				return nil, "", fmt.Errorf("list the shares of shard %d: %w", l.shard, err)
			}
			for i := range page.Items {
				if len(items) == limit {
					return items, next, nil
				}
				items = append(items, page.Items[i])
				cursor = page.Cursors[i]
				next = joinPosition(l.shard, cursor)
			}
			more = page.More && len(page.Items) > 0
		}
	}
	return items, "", nil
}

func (n *Node) sharesOf(ctx context.Context, shard uint32, after string, limit int) (*shareStatusPage, error) {
	if r := n.replica(shard); r != nil {
		return localShares(r, after, limit), nil
	}
	leader := n.leaderOf(shard)
	if leader == "" || leader == n.id {
		return nil, ErrNoLeader
	}
	resp, err := n.query(ctx, leader, queryShares, putUint(putBytes(putUint(nil, uint64(shard)), after), uint64(limit)))
	if err != nil {
		n.hint(shard, "")
		return nil, err
	}
	page := new(shareStatusPage)
	if err := json.Unmarshal(resp, page); err != nil || len(page.Cursors) != len(page.Items) {
		return nil, errFrame
	}
	return page, nil
}

func (n *Node) answerShares(d *dec) ([]byte, error) {
	shard, after, limit := uint32(d.uint()), d.string(), int(d.uint())
	if err := d.err(); err != nil {
		return nil, err
	}
	r := n.replica(shard)
	if r == nil {
		return nil, ErrNoLeader
	}
	return json.Marshal(localShares(r, after, min(limit, shareStatusMax)))
}

func localShares(r *shardReplica, after string, limit int) *shareStatusPage {
	views := r.mach.Shares(after, limit)
	page := &shareStatusPage{More: len(views) == limit}
	for i := range views {
		page.Items = append(page.Items, shareStatus(r.id, &views[i]))
		page.Cursors = append(page.Cursors, views[i].Cursor())
	}
	return page
}

func shareStatus(shard uint32, v *state.ShareView) ShareStatus {
	out := ShareStatus{
		Tenant: v.Tenant, Filter: v.Filter, Shard: shard, Queue: v.Queue, Bytes: v.QueueBytes, Pending: v.Assigned,
		Members: []ShareMemberStatus{},
	}
	if name, inner, shared, err := router.SplitShare(v.Filter); err == nil && shared {
		out.Name, out.Filter = name, inner
	}
	for i := range v.Members {
		m := &v.Members[i]
		st := ShareMemberStatus{ClientID: m.Key.ClientID, Online: m.Online, Room: m.Room, Assigned: m.Assigned, QoS: m.QoS}
		if m.Node != "" {
			st.Node = &m.Node
		}
		out.Members = append(out.Members, st)
	}
	return out
}
