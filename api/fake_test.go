package api

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/flotilla-mqtt/flotilla/api/client"
)

// fakeNode is a cluster of paper.
type fakeNode struct {
	status   client.Status
	checks   map[Probe][]client.Check
	clients  []client.ClientInfo
	sessions []client.Session
	subs     []client.Subscription
	retained []client.Retained
	err      error
	fakeKeys
	fakeObserver

	asked     []Query
	published []client.Message
	kicked    []byte // reason codes
}

func (f *fakeNode) Status(context.Context) (client.Status, error) { return f.status, f.err }

func (f *fakeNode) Health(p Probe) []client.Check { return f.checks[p] }

func (f *fakeNode) Clients(_ context.Context, q Query) (Page[client.ClientInfo], error) {
	return fakePage(f, q, f.clients, func(c client.ClientInfo) string { return c.ClientID })
}

func (f *fakeNode) Sessions(_ context.Context, q Query) (Page[client.Session], error) {
	return fakePage(f, q, f.sessions, func(s client.Session) string { return s.ClientID })
}

func (f *fakeNode) Subscriptions(_ context.Context, q Query) (Page[client.Subscription], error) {
	return fakePage(f, q, f.subs, func(s client.Subscription) string { return s.ClientID + " " + s.Filter })
}

func (f *fakeNode) Retained(_ context.Context, q Query) (Page[client.Retained], error) {
	return fakePage(f, q, f.retained, func(r client.Retained) string { return r.Topic })
}

func (f *fakeNode) Publish(_ context.Context, m client.Message) (client.Published, error) {
	f.published = append(f.published, m)
	return client.Published{ReasonCode: 16, Reason: "no matching subscribers"}, f.err
}

func fakePage[T any](f *fakeNode, q Query, all []T, id func(T) string) (Page[T], error) {
	f.asked = append(f.asked, q)
	if f.err != nil {
		return Page[T]{}, f.err
	}
	page := Page[T]{Count: -1}
	for _, x := range all {
		if (q.ID != "" && id(x) != q.ID) || (q.After != "" && id(x) <= q.After) {
			continue
		}
		if len(page.Items) == q.Limit {
			page.Next = id(page.Items[q.Limit-1])
			break
		}
		page.Items = append(page.Items, x)
	}
	return page, nil
}

// newFake is a cluster of two nodes with something of everything.
func newFake() *fakeNode {
	n1, at := "n1", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	free := int64(7 << 30)
	f := &fakeNode{
		status: client.Status{
			ClusterID: "6f1e", Healthy: false, Reasons: []string{"node n2 is down"}, FeatureLevel: 1,
			Nodes: []client.Node{
				{
					ID: "n1", State: "ready", Roles: []string{"gateway", "store"}, Zone: "a", ClusterAddr: "127.0.0.1:7400",
					MQTTAddr: "127.0.0.1:1883", AdminAddr: "127.0.0.1:8080", Version: "0.1.0", Clients: 812, LastContactMS: 38,
					Incarnation: 12, DiskFreeBytes: &free, StartedAt: &at,
				},
				{ID: "n2", State: "down", Roles: []string{"store"}, LastContactMS: -1, Incarnation: 9},
			},
			Groups: []client.Group{
				{ID: 0, Kind: "control", Leader: &n1, Replicas: []string{"n1", "n2"}, Term: 3, AppliedIndex: 1204, CommitIndex: 1204, Local: true},
				{ID: 1, Kind: "shard", Replicas: []string{"n1", "n2"}},
			},
		},
		checks: map[Probe][]client.Check{
			ProbeLive:    {{Name: "store", OK: true, Detail: "last call 3ms ago"}},
			ProbeStarted: {{Name: "state", OK: true}},
			ProbeReady:   {{Name: "listeners", OK: true, Detail: "3 up"}, {Name: "lease", OK: false, Detail: "lost 2s ago"}},
		},
		clients: []client.ClientInfo{{
			ClientID: "dev/1", Node: "n1", Peer: "10.0.0.9:51324", Transport: "tcp", MQTTVersion: "5",
			CleanStart: true, KeepaliveS: 60, ConnectedAt: at,
		}},
		sessions: []client.Session{{
			ClientID: "dev/1", Durable: true, Connected: true, Owner: &n1, Epoch: 3, Shard: 2, ExpiryS: 3600,
			Subscriptions: 1, InboxDepth: 5, InboxBytes: 1280, Inflight: 2,
			Will: &client.Will{Topic: "lwt", QoS: 1, PayloadBytes: 3}, AwaitingPubrel: []uint16{7}, Dropped: map[string]uint64{"expired": 2},
		}},
		subs:     []client.Subscription{{ClientID: "dev/1", Filter: "a/#", QoS: 1, Options: "no_local,id=7"}},
		retained: []client.Retained{{Topic: "a/b", QoS: 1, PayloadBytes: 12, StoredAt: &at}},
	}
	return f
}

// many gives the fake n sessions in order.
func (f *fakeNode) many(n int) {
	f.sessions = nil
	for i := range n {
		f.sessions = append(f.sessions, client.Session{ClientID: "c" + strconv.Itoa(10000+i)})
	}
	slices.SortFunc(f.sessions, func(a, b client.Session) int {
		if a.ClientID < b.ClientID {
			return -1
		}
		return 1
	})
}
