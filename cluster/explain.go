package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// explainNamed is how many sessions an answer names.
const explainNamed = 10

// TopicExplanation says where a publish to a topic would go, as this node routes it.
type TopicExplanation struct {
	Topic string `json:"topic"`
	// Node is the one that answers; others route by the same table.
	Node    string             `json:"node"`
	Filters []ExplainedFilter  `json:"filters"`
	Shards  []ExplainedShard   `json:"shards"`
	Nodes   []string           `json:"nodes"` // with connected subscribers that have no inbox
	Shares  []ExplainedShare   `json:"shares"`
	Durable int                `json:"durable_sessions"`
	Keeps   *ExplainedRetained `json:"retained"`
	Limits  map[string]string  `json:"limits"`
	Refused []string           `json:"refused"`
}

// ExplainedFilter is a filter that matches.
type ExplainedFilter struct {
	Filter string   `json:"filter"`
	Shard  uint32   `json:"shard"`
	Stored bool     `json:"durable"` // a durable session has it
	Shares []string `json:"shares"`
	Nodes  []string `json:"nodes"`
}

// ExplainedShard is a shard that has a part in a publish.
type ExplainedShard struct {
	Shard    uint32   `json:"shard"`
	Leader   *string  `json:"leader"`
	Why      []string `json:"why"` // inboxes, share, retained
	Sessions int      `json:"sessions"`
	Online   int      `json:"connected"`
	Full     int      `json:"full"`
	First    []string `json:"first"`
}

// ExplainedShare is a share that gets a copy.
type ExplainedShare struct {
	Name    string   `json:"name"`
	Filter  string   `json:"filter"`
	Shard   uint32   `json:"shard"`
	Members int      `json:"connected_members"`
	Nodes   []string `json:"nodes"`
}

// ExplainedRetained is the retained message of the topic.
type ExplainedRetained struct {
	Shard uint32 `json:"shard"`
	RetainedStatus
}

// explainQuery asks a shard who matches a topic.
type explainQuery struct {
	Shard uint32 `json:"shard"`
	Topic string `json:"topic,omitempty"`
	// Client asks for what is known of a client: of its session in Shard, if there is a
	// replica, and of its last event on this node.
	Client string `json:"client,omitempty"`
}

type explainAnswer struct {
	Matching state.Matching `json:"matching"`
	Replays  []string       `json:"replays,omitempty"`
	Full     bool           `json:"full,omitempty"`
	Window   int            `json:"window,omitempty"`
	User     string         `json:"user,omitempty"`
	Version  byte           `json:"version,omitempty"`
	Last     *Event         `json:"last,omitempty"`
}

func (n *Node) answerExplain(_ context.Context, body []byte) ([]byte, error) {
	var q explainQuery
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, errFrame
	}
	a, err := n.localExplain(&q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (n *Node) localExplain(q *explainQuery) (*explainAnswer, error) {
	a := new(explainAnswer)
	if q.Client != "" {
		if e, ok := n.events.clients.latest(q.Client); ok {
			a.Last = &e
		}
	}
	if q.Shard == 0 {
		return a, nil
	}
	r := n.replica(q.Shard)
	if r == nil {
		return nil, ErrNoLeader
	}
	if q.Topic != "" {
		a.Matching = r.mach.Matching("", []byte(q.Topic), explainNamed)
	}
	if q.Client != "" {
		key := sessionKey("", q.Client)
		a.Replays = r.mach.Replays(key)
		if info, ok := r.mach.Session(key); ok {
			a.Full, a.Window, a.User, a.Version = info.Full, int(info.ReceiveMax), info.Username, info.Version
		}
	}
	return a, nil
}

// askExplain asks a shard: the replica here, else its leader.
func (n *Node) askExplain(ctx context.Context, q explainQuery) (*explainAnswer, error) {
	if n.replica(q.Shard) != nil {
		return n.localExplain(&q)
	}
	return n.askExplainOf(ctx, n.leaderOf(q.Shard), q)
}

func (n *Node) askExplainOf(ctx context.Context, node string, q explainQuery) (*explainAnswer, error) {
	switch node {
	case n.id:
		return n.localExplain(&q)
	case "":
		return nil, ErrNoLeader
	}
	return askNode[explainAnswer](ctx, n, node, queryExplain, q, ErrNoLeader)
}

// ExplainTopic says where a publish to a topic goes and why it would be refused now. It
// answers without a majority, too; what is missing then stands under Refused.
func (n *Node) ExplainTopic(ctx context.Context, topic string) (TopicExplanation, error) {
	out := TopicExplanation{
		Topic: topic, Node: n.id, Filters: []ExplainedFilter{}, Shards: []ExplainedShard{}, Nodes: []string{},
		Shares: []ExplainedShare{}, Refused: []string{}, Limits: n.topicLimits(),
	}
	if len(n.allLanes()) == 0 {
		return out, ErrNoLeader
	}
	why := map[uint32][]string{}
	because := func(shard uint32, reason string) {
		if !slices.Contains(why[shard], reason) {
			why[shard] = append(why[shard], reason)
		}
	}
	for _, e := range n.routes.table.Explain("", []byte(topic)) {
		f := ExplainedFilter{Filter: e.Change.Filter, Shard: e.Shard, Stored: e.Change.Durable, Shares: []string{}, Nodes: []string{}}
		for _, to := range e.Change.Nodes {
			if !slices.Contains(e.Hidden, to.Node) {
				f.Nodes = append(f.Nodes, to.Node)
			}
		}
		for _, g := range e.Change.Groups {
			f.Shares = append(f.Shares, g.Name)
			because(e.Shard, "share")
			out.Shares = append(out.Shares, explainedShare(e.Shard, e.Change.Filter, &g))
		}
		if f.Stored {
			because(e.Shard, "inboxes")
		}
		out.Filters = append(out.Filters, f)
	}
	for _, to := range n.routes.table.Match("", []byte(topic)).Nodes {
		out.Nodes = append(out.Nodes, to.Node)
	}
	keeps := n.topicShard("", []byte(topic))
	because(keeps, "retained")
	for _, shard := range slices.Sorted(mapsKeys(why)) {
		out.Shards = append(out.Shards, n.explainShard(ctx, shard, topic, why[shard]))
		out.Durable += out.Shards[len(out.Shards)-1].Sessions
	}
	if _, st, ok, err := n.RetainedGet(ctx, topic); ok && err == nil {
		out.Keeps = &ExplainedRetained{Shard: keeps, RetainedStatus: st}
	}
	out.Refused = append(out.Refused, n.refusals(ctx, topic, out.Shards)...)
	return out, nil
}

func mapsKeys(m map[uint32][]string) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func explainedShare(shard uint32, filter string, g *router.ShareGroup) ExplainedShare {
	out := ExplainedShare{Name: g.Name, Filter: filter, Shard: shard, Nodes: []string{}}
	for _, to := range g.Nodes {
		out.Members += int(to.Members)
		out.Nodes = append(out.Nodes, to.Node)
	}
	return out
}

func (n *Node) explainShard(ctx context.Context, shard uint32, topic string, why []string) ExplainedShard {
	out := ExplainedShard{Shard: shard, Why: why, First: []string{}, Leader: n.knownLeader(ctx, shard)}
	if !slices.Contains(why, "inboxes") {
		return out
	}
	a, err := n.askExplain(ctx, explainQuery{Shard: shard, Topic: topic})
	if err != nil {
		return out
	}
	out.Sessions, out.Online, out.Full = a.Matching.Sessions, a.Matching.Connected, a.Matching.Full
	for _, key := range a.Matching.First {
		out.First = append(out.First, key.ClientID)
	}
	return out
}

// knownLeader is the leader of a group, nil if there is none that answers.
func (n *Node) knownLeader(ctx context.Context, group uint32) *string {
	info, err := n.groupInfo(ctx, group)
	if err != nil || info.Leader == "" {
		return nil
	}
	return &info.Leader
}

// refusals are why this node would not acknowledge a publish now.
func (n *Node) refusals(ctx context.Context, topic string, shards []ExplainedShard) (out []string) {
	lim := n.server.Limits()
	if err := router.CheckTopic([]byte(topic), lim.MaxTopicBytes, lim.MaxTopicLevels); err != nil {
		out = append(out, "the topic is not valid: "+err.Error())
	}
	if topic == sysRoot || strings.HasPrefix(topic, sysRoot+"/") {
		out = append(out, "topics below $SYS belong to the broker")
	}
	switch {
	case !n.lease.held():
		out = append(out, "this node does not hold its lease: it reaches no majority of the control group")
	case !n.routes.whole.Load():
		out = append(out, "this node does not have the routes of all shards yet")
	}
	if n.limits.memory.active.Load() {
		out = append(out, "memory is short on this node: publishers wait")
	}
	if n.limits.diskLow.Load() {
		out = append(out, "a disk is full: QoS 1 and 2 publishes that would be stored are refused with 0x97")
	}
	for i := range shards {
		s := &shards[i]
		if s.Leader == nil && (len(s.Why) > 1 || s.Why[0] != "retained") {
			out = append(out, fmt.Sprintf("shard %d has no leader that answers: a QoS 1 or 2 publish would wait, and its connection close", s.Shard))
		}
		if r := n.replica(s.Shard); r != nil {
			if key, full := r.mach.Refuses("", []byte(topic), ""); full {
				out = append(out, fmt.Sprintf("the inbox of %q in shard %d is full: QoS 1 and 2 publishes are refused with 0x97", key.ClientID, s.Shard))
			}
		}
	}
	return out
}

// topicLimits are the settings that bound a publish.
func (n *Node) topicLimits() map[string]string {
	out := map[string]string{}
	v := n.control.view()
	for _, d := range settingDefs() {
		switch d.name {
		case "mqtt.max_packet_size", "mqtt.max_qos", "mqtt.retain_available", "mqtt.max_topic_bytes", "mqtt.max_topic_levels",
			"inbox.max_messages", "inbox.max_bytes", "inbox.overflow", "retained.max_payload", "retained.max_messages", "share.strategy":
			out[d.name] = d.format(n.storedSetting(v, &d))
		}
	}
	return out
}

// ClientExplanation says where a client id lives and how it is with it.
type ClientExplanation struct {
	ClientID string   `json:"client_id"`
	Shard    uint32   `json:"shard"`
	Leader   *string  `json:"leader"`
	Replicas []string `json:"replicas"`
	// Session is nil if there is none.
	Session *SessionStatus `json:"session"`
	// Client is its connection, nil if there is none.
	Client *ClientStatus `json:"client"`
	Full   bool          `json:"inbox_full"`
	// Room is how many more messages it may be sent now; negative if nobody knows.
	Room    int      `json:"room"`
	Replays []string `json:"pending_replays"`
	// Last is the newest event of the client that a node remembers.
	Last    *Event   `json:"last_event"`
	Reasons []string `json:"reasons"`
}

// ExplainClient says where a client id lives, and why it is connected or not.
func (n *Node) ExplainClient(ctx context.Context, id string) (ClientExplanation, error) {
	out := ClientExplanation{ClientID: id, Replays: []string{}, Reasons: []string{}, Room: -1}
	if len(n.allLanes()) == 0 {
		return out, ErrNoLeader
	}
	out.Shard = n.sessionShard(sessionKey("", id))
	out.Replicas = slices.Clone(n.control.view().Placement[out.Shard])
	out.Leader = n.knownLeader(ctx, out.Shard)
	out.Last = n.lastEvent(ctx, id)
	s, ok, err := n.Session(ctx, id)
	if err != nil {
		out.Reasons = append(out.Reasons, fmt.Sprintf("shard %d does not answer, so nobody can connect with this id now: %v", out.Shard, err))
		return out, nil
	}
	if ok {
		out.Session = &s
	}
	if c, ok, _ := n.ClientOf(ctx, id); ok {
		out.Client = &c
	}
	if a, err := n.askExplain(ctx, explainQuery{Shard: out.Shard, Client: id}); err == nil {
		out.Full = a.Full
		out.Replays = append(out.Replays, a.Replays...)
		if out.Client != nil {
			out.Room = max(a.Window-out.Client.Inflight, 0)
		}
	}
	out.Reasons = append(out.Reasons, n.clientReasons(&out)...)
	return out, nil
}

// clientReasons are sentences for people.
func (n *Node) clientReasons(e *ClientExplanation) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	last := ""
	if e.Last != nil {
		last = fmt.Sprintf(": %s on %s at %s", e.Last.Type, e.Last.Node, e.Last.At.UTC().Format(time.RFC3339))
		if e.Last.Reason != "" {
			last += " (" + e.Last.Reason + ")"
		}
	}
	switch s := e.Session; {
	case s == nil:
		say("there is no session with this id: it never connected, or its session has ended%s", last)
	case s.Connected && e.Client == nil && s.Owner != nil:
		say("the session counts as connected to %s, but no connection was found there: the node is down, or the client is just going", *s.Owner)
	case s.Connected:
		say("connected to %s since %s", e.Client.Node, e.Client.ConnectedAt.UTC().Format(time.RFC3339))
	default:
		say("not connected%s", last)
		if s.ExpiresAt != nil {
			say("its session ends at %s, unless it connects before", s.ExpiresAt.UTC().Format(time.RFC3339))
		}
	}
	if e.Full {
		say("its inbox is full: what the setting inbox.overflow says is done to new messages")
	}
	if e.Room == 0 {
		say("it has its Receive Maximum of messages unacknowledged: nothing more is sent until it acknowledges")
	}
	if len(e.Replays) > 0 {
		say("retained messages of %d filters are still to come", len(e.Replays))
	}
	if e.Leader == nil {
		say("shard %d has no leader that answers: nothing of the session can change now", e.Shard)
	}
	return out
}

// lastEvent is the newest event of a client that any node remembers.
func (n *Node) lastEvent(ctx context.Context, id string) (last *Event) {
	ctx, cancel := context.WithTimeout(ctx, sysTimeout)
	defer cancel()
	newest := time.UnixMilli(math.MinInt32)
	n.eachNodeUp(func(node string) func() {
		a, err := n.askExplainOf(ctx, node, explainQuery{Client: id})
		return func() {
			if err == nil && a.Last != nil && a.Last.At.After(newest) {
				newest, last = a.Last.At, a.Last
			}
		}
	})
	return last
}
