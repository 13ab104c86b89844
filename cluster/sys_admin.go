package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// ClientStatus is a connected client, with the node that it is connected to.
type ClientStatus struct {
	Node string `json:"node"`
	session.ClientInfo
}

// clientQuery asks a node for its clients: a page, or one.
type clientQuery struct {
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"`
	ID    string `json:"id,omitempty"`
	// Kick closes the connection of ID with this reason code.
	Kick byte `json:"kick,omitempty"`
	// Epoch: only the connection that has it, or an older one. 0: any.
	Epoch uint64 `json:"epoch,omitempty"`
}

// clientPage is the answer.
type clientPage struct {
	Items  []session.ClientInfo `json:"items,omitempty"`
	Kicked bool                 `json:"kicked,omitempty"`
}

func (n *Node) answerClients(body []byte) ([]byte, error) {
	var q clientQuery
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, errFrame
	}
	return json.Marshal(n.localClients(&q))
}

func (n *Node) localClients(q *clientQuery) *clientPage {
	key := sessionKey("", q.ID)
	switch {
	case q.Kick != 0:
		epoch := q.Epoch
		if epoch == 0 {
			epoch = math.MaxUint64
		}
		return &clientPage{Kicked: n.server.Kick(key, epoch, mqtt.ReasonCode(q.Kick))}
	case q.ID != "":
		if info, ok := n.server.Client(key); ok {
			return &clientPage{Items: []session.ClientInfo{info}}
		}
		return &clientPage{}
	default:
		return &clientPage{Items: n.server.Clients("", q.After, min(q.Limit, sessionPageMax))}
	}
}

func (n *Node) clientsOf(ctx context.Context, node string, q clientQuery) (*clientPage, error) {
	if node == n.id {
		return n.localClients(&q), nil
	}
	return askNode[clientPage](ctx, n, node, queryClients, q, ErrUnreachable)
}

// gateways are the nodes that may have clients, in order.
func (n *Node) gateways() []string {
	ids := append(otherNodesUp(n.control.view(), n.id), n.id)
	slices.Sort(ids)
	return ids
}

// ClientList lists the connected clients of all nodes that are up, in the order
// of node, then client id. A node that does not answer is an error unless stale
// is asked for, which leaves it out.
func (n *Node) ClientList(ctx context.Context, o ListOptions) (items []ClientStatus, next string, err error) {
	from, after, _ := strings.Cut(o.After, "/")
	for _, id := range n.gateways() {
		if id < from {
			continue
		}
		if id != from {
			after = ""
		}
		for {
			p, err := n.clientsOf(ctx, id, clientQuery{After: after, Limit: min(o.Limit-len(items)+1, sessionPageMax)})
			if err != nil {
				if o.Stale {
					break
				}
				return nil, "", err
			}
			for i := range p.Items {
				if len(items) == o.Limit {
					last := &items[len(items)-1]
					return items, last.Node + "/" + last.ClientID, nil
				}
				items = append(items, ClientStatus{id, p.Items[i]})
				after = p.Items[i].ClientID
			}
			if len(p.Items) == 0 || len(items) < o.Limit {
				break
			}
		}
	}
	return items, "", nil
}

// ClientOf finds a connected client wherever it is. An error means that it was
// not found, and that not every node could be asked.
func (n *Node) ClientOf(ctx context.Context, clientID string) (ClientStatus, bool, error) {
	var out []ClientStatus
	err := n.askClients(ctx, clientQuery{ID: clientID}, func(node string, p *clientPage) {
		for _, c := range p.Items {
			out = append(out, ClientStatus{node, c})
		}
	})
	if len(out) == 0 {
		return ClientStatus{}, false, err
	}
	// During a takeover two nodes have one: the newer epoch is the client.
	slices.SortFunc(out, func(a, b ClientStatus) int { return cmp.Compare(b.Epoch, a.Epoch) })
	return out[0], true, nil
}

// KickClient closes the connection of a client wherever it is, with a reason
// code of DISCONNECT.
func (n *Node) KickClient(ctx context.Context, clientID string, reason byte) (node string, ok bool, err error) {
	err = n.askClients(ctx, clientQuery{ID: clientID, Kick: reason}, func(at string, p *clientPage) {
		if p.Kicked {
			node = at
		}
	})
	if node != "" {
		return node, true, nil
	}
	return "", false, err
}

// askClients asks every node at the same time. fn is not called concurrently.
func (n *Node) askClients(ctx context.Context, q clientQuery, fn func(node string, p *clientPage)) error {
	var failed error
	n.eachNodeUp(func(id string) func() {
		p, err := n.clientsOf(ctx, id, q)
		return func() {
			if err != nil {
				failed = err
				return
			}
			fn(id, p)
		}
	})
	return failed
}

// EndSession ends a session and disconnects its client. It returns when that is
// committed. false: there is no such session.
func (n *Node) EndSession(ctx context.Context, clientID string) (bool, error) {
	if len(n.allLanes()) == 0 {
		return false, ErrNoLeader
	}
	cmd := command.EndSession{Key: sessionKey("", clientID)}
	res, _, err := n.propose(ctx, n.sessionShard(cmd.Key), func(dst []byte) []byte { return command.AppendEndSession(dst, &cmd) }, nil)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	return res.Code == command.OK, nil
}

// RetainedGet reads one retained message with its payload.
func (n *Node) RetainedGet(ctx context.Context, topic string) (command.Message, RetainedStatus, bool, error) {
	infos, _, _, err := n.retained(ctx, &session.RetainedQuery{Filter: topic, Limit: 1})
	if err != nil || len(infos) == 0 {
		return command.Message{}, RetainedStatus{}, false, err
	}
	m := infos[0].Msg
	return m, RetainedStatus{
		Topic: string(m.Topic), QoS: m.QoS, PayloadBytes: len(m.Payload), StoredAt: timeOf(infos[0].StoredAt), ExpiresAt: timeOf(infos[0].ExpiresAt),
	}, true, nil
}

// Alarms are those of this node.
func (n *Node) Alarms() []Alarm { return n.limits.alarms() }
