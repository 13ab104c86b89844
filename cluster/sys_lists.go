package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// sessionQuery asks a shard for sessions: a page of them, or one.
type sessionQuery struct {
	Shard uint32 `json:"shard"`
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
	// Subs adds the subscriptions of each.
	Subs bool `json:"subs,omitempty"`
	// ID asks for one session with its details, and up to Inbox of its messages.
	ID    string `json:"id,omitempty"`
	Inbox int    `json:"inbox,omitempty"`
	// Stale reads what the replica has, without asking for a majority.
	Stale bool `json:"stale,omitempty"`
}

// sessionPage is the answer.
type sessionPage struct {
	Items []SessionStatus        `json:"items"`
	Subs  [][]SubscriptionStatus `json:"subs,omitempty"`
	Inbox []InboxStatus          `json:"inbox,omitempty"`
	More  bool                   `json:"more"`
}

// InboxStatus describes a message that waits for a session.
type InboxStatus struct {
	Seq         uint64     `json:"seq"`
	Topic       string     `json:"topic"`
	QoS         byte       `json:"qos"`
	Retain      bool       `json:"retain"`
	State       string     `json:"state"` // queued, sent, received
	Payload     []byte     `json:"payload"`
	PublishedAt *time.Time `json:"published_at"`
	ExpiresAt   *time.Time `json:"expires_at"`
}

// sessionPageMax bounds a page that another node answers.
const sessionPageMax = 1000

// sessionsOf asks a shard: the replica here, else one elsewhere.
func (n *Node) sessionsOf(ctx context.Context, q sessionQuery) (*sessionPage, error) {
	if r := n.replica(q.Shard); r != nil {
		return n.localSessions(ctx, r, &q)
	}
	node := n.leaderOf(q.Shard)
	if node == "" || node == n.id {
		return nil, fmt.Errorf("%w: shard %d", ErrNoLeader, q.Shard)
	}
	page, err := askNode[sessionPage](ctx, n, node, querySessions, q, ErrNoLeader)
	if err != nil {
		n.hint(q.Shard, "")
		return nil, fmt.Errorf("shard %d: %w", q.Shard, err)
	}
	return page, nil
}

func (n *Node) answerSessions(ctx context.Context, body []byte) ([]byte, error) {
	var q sessionQuery
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, errFrame
	}
	r := n.replica(q.Shard)
	if r == nil {
		return nil, ErrNoLeader
	}
	q.Limit, q.Inbox = min(q.Limit, sessionPageMax), min(q.Inbox, sessionPageMax)
	page, err := n.localSessions(ctx, r, &q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(page)
}

func (n *Node) localSessions(ctx context.Context, r *shardReplica, q *sessionQuery) (*sessionPage, error) {
	if !q.Stale {
		index, err := n.readIndex(ctx, r.id)
		if err == nil {
			err = r.group.WaitApplied(ctx, index)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: shard %d: %w", ErrNoLeader, r.id, err)
		}
	}
	page := new(sessionPage)
	if q.ID != "" {
		info, ok := r.mach.Session(sessionKey("", q.ID))
		if !ok {
			return page, nil
		}
		one := sessionStatus(r.id, &info)
		one.AwaitingPubrel, one.OldestMessageAt, one.Will = info.AwaitingRelease, timeOf(info.OldestAt), willStatus(info.Will)
		page.Items = []SessionStatus{one}
		if q.Inbox > 0 {
			inbox, err := peekInbox(r, &info, q.Inbox)
			if err != nil {
				return nil, err
			}
			page.Inbox = inbox
		}
	} else {
		infos, more := r.mach.Sessions(sessionKey("", q.After), q.Limit)
		page.More = more
		for i := range infos {
			page.Items = append(page.Items, sessionStatus(r.id, &infos[i]))
		}
	}
	for i := range page.Items {
		if q.Subs {
			page.Subs = append(page.Subs, subscriptionsOf(r, page.Items[i].ClientID))
		}
	}
	return page, nil
}

// peekInbox reads what waits for a session, and changes nothing.
func peekInbox(r *shardReplica, info *state.SessionInfo, most int) ([]InboxStatus, error) {
	if info.InboxMessages == 0 {
		return nil, nil
	}
	ref := command.SessionRef{SessionKey: info.Key, Epoch: info.Epoch}
	p, err := r.mach.Peek(ref, 0, most, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	out := make([]InboxStatus, 0, len(p.Deliveries))
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		st := InboxStatus{
			Seq: d.Seq, Topic: string(d.Msg.Topic), QoS: d.QoS, Retain: d.Retain, State: "queued", Payload: d.Msg.Payload,
			PublishedAt: timeOf(d.Msg.PublishedAt), ExpiresAt: timeOf(d.ExpiresAt),
		}
		switch {
		case d.State == state.Received:
			st.State = "received"
		case d.Seq <= info.SentTo:
			st.State = "sent"
		}
		out = append(out, st)
	}
	return out, nil
}

func sessionStatus(shard uint32, in *state.SessionInfo) SessionStatus {
	out := SessionStatus{
		ClientID: in.Key.ClientID, Tenant: in.Key.Tenant, Durable: in.Durable, Connected: in.Connected, Epoch: in.Epoch, Shard: shard,
		ExpiryS: in.ExpiryS, ExpiresAt: timeOf(in.ExpiresAt), Subscriptions: in.Subscriptions,
		InboxDepth: in.InboxMessages, InboxBytes: int64(in.InboxBytes), Inflight: int(in.InboxReceived),
	}
	if in.Connected {
		out.Owner = &in.Owner.Node
	}
	return out
}

func willStatus(w *command.Will) *WillStatus {
	if w == nil {
		return nil
	}
	m, err := command.DecodeMessage(w.Message)
	if err != nil {
		return nil // bytes that cannot be decoded never become a message
	}
	return &WillStatus{Topic: string(m.Topic), QoS: m.QoS, Retain: m.Retain, PayloadBytes: len(m.Payload), DelayS: w.DelayS}
}

func subscriptionsOf(r *shardReplica, clientID string) []SubscriptionStatus {
	subs, _ := r.mach.Subscriptions(sessionKey("", clientID))
	out := make([]SubscriptionStatus, 0, len(subs))
	for _, s := range subs {
		st := SubscriptionStatus{ClientID: clientID, Filter: s.Filter, QoS: s.QoS, Options: subscriptionOptions(s)}
		if name, _, shared, err := router.SplitShare(s.Filter); err == nil && shared {
			st.Share = name
		}
		out = append(out, st)
	}
	return out
}

// ListOptions select a page of a list.
type ListOptions struct {
	After string
	Limit int
	// Stale reads replicas as they are, without asking for a majority.
	Stale bool
}

// walkSessions goes over the sessions of all shards until fn has had enough.
func (n *Node) walkSessions(ctx context.Context, o ListOptions, subs bool, fn func(p *sessionPage, i int, position string) bool) error {
	from, key := splitPosition(o.After)
	for _, l := range n.allLanes() {
		if l.shard < from {
			continue
		}
		if l.shard != from {
			key = ""
		}
		for more := true; more; {
			p, err := n.sessionsOf(ctx, sessionQuery{Shard: l.shard, After: key, Limit: min(o.Limit+1, sessionPageMax), Subs: subs, Stale: o.Stale})
			if err != nil {
				return err
			}
			for i := range p.Items {
				key = p.Items[i].ClientID
				if !fn(p, i, joinPosition(l.shard, key)) {
					return nil
				}
			}
			more = p.More && len(p.Items) > 0
		}
	}
	return nil
}

// Sessions lists sessions of all shards in the order of shard, then client id.
// next is the position to go on from, "" at the end.
func (n *Node) Sessions(ctx context.Context, o ListOptions) (items []SessionStatus, next string, err error) {
	full := false
	err = n.walkSessions(ctx, o, false, func(p *sessionPage, i int, position string) bool {
		if len(items) == o.Limit {
			full = true
			return false
		}
		items, next = append(items, p.Items[i]), position
		return true
	})
	if !full {
		next = ""
	}
	return items, next, err
}

// Session describes one session.
func (n *Node) Session(ctx context.Context, clientID string) (SessionStatus, bool, error) {
	p, err := n.oneSession(ctx, sessionQuery{ID: clientID})
	if err != nil || len(p.Items) == 0 {
		return SessionStatus{}, false, err
	}
	return p.Items[0], true, nil
}

// SessionInbox reads up to most messages that wait for a session, the oldest
// first. false: there is no such session.
func (n *Node) SessionInbox(ctx context.Context, clientID string, most int) ([]InboxStatus, bool, error) {
	p, err := n.oneSession(ctx, sessionQuery{ID: clientID, Inbox: most})
	if err != nil || len(p.Items) == 0 {
		return nil, false, err
	}
	return p.Inbox, true, nil
}

func (n *Node) oneSession(ctx context.Context, q sessionQuery) (*sessionPage, error) {
	if len(n.allLanes()) == 0 {
		return nil, ErrNoLeader
	}
	q.Shard = n.sessionShard(sessionKey("", q.ID))
	return n.sessionsOf(ctx, q)
}

// Subscriptions lists subscriptions of one client, or of all (""). A page of
// all is that of Limit sessions.
func (n *Node) Subscriptions(ctx context.Context, clientID string, o ListOptions) (items []SubscriptionStatus, next string, err error) {
	if clientID != "" {
		p, err := n.oneSession(ctx, sessionQuery{ID: clientID, Subs: true, Stale: o.Stale})
		if err != nil || len(p.Subs) == 0 {
			return nil, "", err
		}
		return p.Subs[0], "", nil
	}
	count, full := 0, false
	err = n.walkSessions(ctx, o, true, func(p *sessionPage, i int, position string) bool {
		if count == o.Limit {
			full = true
			return false
		}
		count++
		items, next = append(items, p.Subs[i]...), position
		return true
	})
	if !full {
		next = ""
	}
	return items, next, err
}
