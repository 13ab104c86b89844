package cluster

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// sysList gathers values.
type sysList struct {
	messages []command.Message
	now      int64
}

func (l *sysList) text(topic, value string) {
	l.messages = append(l.messages, command.Message{
		Topic: []byte(sysRoot + "/" + topic), Payload: []byte(value), Retain: true, PublishedAt: l.now,
	})
}

func sysNumber[T int | int64 | uint64](l *sysList, topic string, v T) {
	l.text(topic, strconv.FormatInt(int64(v), 10))
}

func (l *sysList) json(topic string, v any) {
	b, err := json.Marshal(v)
	if err == nil { // values of this file can all be encoded
		l.text(topic, string(b))
	}
}

// values are all topics with their values, in the order of topics.
func (s *sysTopics) values(v *state.ControlView, st *Status) []command.Message {
	l := &sysList{now: s.n.now()}
	t := s.book.totals()
	l.text("broker/version", "flotilla version "+s.n.cfg.Version)
	l.text("broker/uptime", strconv.FormatInt(int64(time.Since(s.began)/time.Second), 10)+" seconds")
	s.counts(l, &t)
	s.loads(l)
	s.members(l, v, st)
	slices.SortFunc(l.messages, func(a, b command.Message) int { return strings.Compare(string(a.Topic), string(b.Topic)) })
	return l.messages
}

// counts are sums over the cluster under the names that Mosquitto gave them.
func (s *sysTopics) counts(l *sysList, t *sysTotals) {
	sysNumber(l, "broker/clients/connected", t.Connected)
	sysNumber(l, "broker/clients/active", t.Connected)
	sysNumber(l, "broker/clients/disconnected", t.Disconnected)
	sysNumber(l, "broker/clients/inactive", t.Disconnected)
	sysNumber(l, "broker/clients/total", t.Connected+t.Disconnected)
	sysNumber(l, "broker/clients/maximum", t.Maximum)
	sysNumber(l, "broker/clients/expired", t.Expired)
	sysNumber(l, "broker/messages/received", t.Counters.PacketsIn)
	sysNumber(l, "broker/messages/sent", t.Counters.PacketsOut)
	sysNumber(l, "broker/messages/inflight", t.Inflight)
	sysNumber(l, "broker/messages/stored", t.StoredMessages)
	sysNumber(l, "broker/publish/messages/received", t.Counters.PublishIn)
	sysNumber(l, "broker/publish/messages/sent", t.Counters.PublishOut)
	sysNumber(l, "broker/publish/messages/dropped", t.Counters.Dropped)
	sysNumber(l, "broker/bytes/received", t.Counters.BytesIn)
	sysNumber(l, "broker/bytes/sent", t.Counters.BytesOut)
	sysNumber(l, "broker/subscriptions/count", t.Subscriptions)
	sysNumber(l, "broker/shared_subscriptions/count", t.Shares)
	sysNumber(l, "broker/retained messages/count", t.Retained)
	sysNumber(l, "broker/store/messages/count", t.StoredMessages)
	sysNumber(l, "broker/store/messages/bytes", t.StoredBytes)
	if own := s.book.nodes[s.n.id]; own != nil {
		sysNumber(l, "broker/heap/current", own.last.HeapBytes)
	}
}

func (s *sysTopics) loads(l *sysList) {
	for i, span := range sysLoadSpans() {
		a := &s.book.loads[i]
		for _, x := range []struct {
			name string
			v    float64
		}{
			{"connections", a.Connections}, {"sockets", a.Sockets},
			{"messages/received", a.PacketsIn}, {"messages/sent", a.PacketsOut},
			{"publish/received", a.PublishIn}, {"publish/sent", a.PublishOut}, {"publish/dropped", a.Dropped},
			{"bytes/received", a.BytesIn}, {"bytes/sent", a.BytesOut},
		} {
			l.text("broker/load/"+x.name+"/"+span.name, strconv.FormatFloat(x.v, 'f', 2, 64))
		}
	}
}

// sysHealth is the value of $SYS/cluster/health.
type sysHealth struct {
	Healthy bool     `json:"healthy"`
	Reasons []string `json:"reasons"`
}

// members are the JSON topics of nodes and cluster.
func (s *sysTopics) members(l *sysList, v *state.ControlView, st *Status) {
	ids := sortedKeys(v.Nodes)
	l.json("brokers", ids)
	for _, id := range ids {
		if strings.ContainsAny(id, "+#/") {
			continue // not a topic level
		}
		rec := v.Nodes[id]
		l.json("brokers/"+id+"/version", rec.Version)
		l.json("brokers/"+id+"/state", rec.Status())
		if n := s.book.nodes[id]; n != nil && n.up {
			l.json("brokers/"+id+"/uptime", n.last.UptimeS)
		}
	}
	l.json("cluster/members", ids)
	var leader *string
	if id := s.n.leaderOf(0); id != "" {
		leader = &id
	}
	l.json("cluster/leader", leader)
	if g := s.n.control.group.Load(); g != nil {
		l.json("cluster/term", g.Status().Term)
	}
	if st.Reasons != nil {
		l.json("cluster/health", sysHealth{st.Healthy, st.Reasons})
	}
}
