package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// Lists walk over this node's replicas, shard by shard. Their position is
// "shard/key", so a page costs what it returns.

func splitPosition(after string) (shard uint32, key string) {
	num, key, _ := strings.Cut(after, "/")
	id, err := strconv.ParseUint(num, 10, 32)
	if err != nil {
		return 0, ""
	}
	return uint32(id), key
}

func joinPosition(shard uint32, key string) string {
	return strconv.FormatUint(uint64(shard), 10) + "/" + key
}

// Sessions lists sessions in the order of shard, then client id. next is the
// position to go on from, "" at the end.
func (n *Node) Sessions(_ context.Context, after string, limit int) (items []SessionStatus, next string, err error) {
	from, key := splitPosition(after)
	for _, r := range n.allReplicas() {
		if r.id < from {
			continue
		}
		if r.id != from {
			key = ""
		}
		page, _ := r.mach.Sessions(sessionKey("", key), limit-len(items)+1)
		for i := range page {
			if len(items) == limit {
				return items, next, nil
			}
			items = append(items, sessionStatus(r.id, &page[i]))
			next = joinPosition(r.id, page[i].Key.ClientID)
		}
	}
	return items, "", nil
}

// Session describes one session.
func (n *Node) Session(_ context.Context, clientID string) (SessionStatus, bool, error) {
	if len(n.allLanes()) == 0 {
		return SessionStatus{}, false, ErrNoLeader
	}
	key := sessionKey("", clientID)
	shard := n.sessionShard(key)
	r := n.replica(shard)
	if r == nil {
		return SessionStatus{}, false, fmt.Errorf("%w: shard %d has no replica on this node; ask one of %s", ErrNoLeader, shard, strings.Join(n.control.view().Placement[shard], ", "))
	}
	info, ok := r.mach.Session(key)
	if !ok {
		return SessionStatus{}, false, nil
	}
	return sessionStatus(shard, &info), true, nil
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

func timeOf(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

// Subscriptions lists subscriptions of one client, or of all ("").
func (n *Node) Subscriptions(ctx context.Context, clientID, after string, limit int) (items []SubscriptionStatus, next string, err error) {
	if clientID != "" {
		if len(n.allLanes()) == 0 {
			return nil, "", ErrNoLeader
		}
		if r := n.replica(n.sessionShard(sessionKey("", clientID))); r != nil {
			items = appendSubscriptions(nil, r, clientID)
		}
		return items, "", nil
	}
	sessions, next, err := n.Sessions(ctx, after, limit)
	for _, s := range sessions {
		if r := n.replica(s.Shard); r != nil {
			items = appendSubscriptions(items, r, s.ClientID)
		}
	}
	return items, next, err
}

func appendSubscriptions(items []SubscriptionStatus, r *shardReplica, clientID string) []SubscriptionStatus {
	subs, _ := r.mach.Subscriptions(sessionKey("", clientID))
	for _, s := range subs {
		items = append(items, SubscriptionStatus{ClientID: clientID, Filter: s.Filter, QoS: s.QoS, Options: subscriptionOptions(s)})
	}
	return items
}

func subscriptionOptions(s command.Subscription) string {
	var out []string
	if s.NoLocal {
		out = append(out, "nl")
	}
	if s.RetainAsPublished {
		out = append(out, "rap")
	}
	if s.RetainHandling != 0 {
		out = append(out, "rh="+strconv.Itoa(int(s.RetainHandling)))
	}
	if s.ID != 0 {
		out = append(out, "id="+strconv.FormatUint(uint64(s.ID), 10))
	}
	return strings.Join(out, ",")
}

// Retained lists retained messages whose topic matches filter ("" = all).
func (n *Node) RetainedList(ctx context.Context, filter, after string, limit int) ([]RetainedStatus, string, error) {
	if filter == "" {
		filter = "#"
	}
	infos, next, err := n.retained(ctx, "", filter, after, limit)
	if err != nil {
		return nil, "", err
	}
	out := make([]RetainedStatus, 0, len(infos))
	for i := range infos {
		m := &infos[i].Msg
		out = append(out, RetainedStatus{Topic: string(m.Topic), QoS: m.QoS, PayloadBytes: len(m.Payload), StoredAt: timeOf(infos[i].StoredAt), ExpiresAt: timeOf(infos[i].ExpiresAt)})
	}
	return out, next, nil
}

// PublishMessage publishes like a client would, and returns when the message is
// committed as for a PUBACK. props are MQTT 5 properties as wire bytes.
func (n *Node) PublishMessage(ctx context.Context, topic string, payload []byte, qos byte, retain bool, props []byte) (reasonCode byte, err error) {
	m := command.Message{Topic: []byte(topic), Payload: payload, Props: props, QoS: qos, Retain: retain, PublishedAt: n.now()}
	ch := make(chan session.Outcome, 1)
	if len(n.allLanes()) == 0 {
		return 0, ErrNoLeader
	}
	n.Publish(ctx, "", &m, func(o session.Outcome) { ch <- o })
	select {
	case o := <-ch:
		return byte(o.Code), o.Err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
