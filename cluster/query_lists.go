package cluster

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
)

// Lists walk over the shards. Their position is "shard/key", so a page costs
// what it returns.

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

func timeOf(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
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
	infos, next, _, err := n.retained(ctx, &session.RetainedQuery{Filter: filter, After: after, Limit: limit})
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

// NewMessage is a message that an operator publishes. Props are MQTT 5
// properties as wire bytes; ExpiryS is nil for a message that does not expire.
type NewMessage struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Props   []byte
	ExpiryS *uint32
}

// PublishMessage publishes like a client would, and returns when the message is
// committed as for a PUBACK.
func (n *Node) PublishMessage(ctx context.Context, nm NewMessage) (reasonCode byte, err error) {
	m := command.Message{Topic: []byte(nm.Topic), Payload: nm.Payload, Props: nm.Props, QoS: nm.QoS, Retain: nm.Retain, PublishedAt: n.now()}
	if nm.ExpiryS != nil {
		m.HasExpiry, m.Expiry = true, *nm.ExpiryS
	}
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
