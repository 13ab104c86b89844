package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport"
)

// Loggers are the levels of what a process logs. The program has them, since it makes the
// logger.
type Loggers interface {
	// Levels are the levels by name of logger; "" is that of all others.
	Levels() map[string]string
	// SetLevel changes one until the process ends; an empty level takes it back. An error
	// says what is wrong with the name or the level.
	SetLevel(name, level string) error
}

// LoggerStatus is the level of a logger of a node.
type LoggerStatus struct {
	Node  string `json:"node"`
	Name  string `json:"name"`
	Level string `json:"level"`
}

// ListenerStatus is a client port of a node.
type ListenerStatus struct {
	Node        string `json:"node"`
	Name        string `json:"name"`
	Addr        string `json:"addr"`
	TLS         bool   `json:"tls"`
	WebSocket   string `json:"websocket"`
	Proxy       string `json:"proxy_protocol"`
	Accepting   bool   `json:"accepting"`
	Paused      bool   `json:"paused"`
	Connections int    `json:"connections"`
}

// nodeInfoQuery asks a node for what only it knows.
type nodeInfoQuery struct {
	Loggers    bool `json:"loggers,omitempty"`
	Listeners  bool `json:"listeners,omitempty"`
	Operations bool `json:"operations,omitempty"`
	// Set changes a logger, Cancel ends an operation of this node.
	Set    *LoggerStatus `json:"set,omitempty"`
	Cancel string        `json:"cancel,omitempty"`
}

type nodeInfo struct {
	Loggers    []LoggerStatus    `json:"loggers,omitempty"`
	Listeners  []ListenerStatus  `json:"listeners,omitempty"`
	Operations []OperationStatus `json:"operations,omitempty"`
	Guard      *GuardError       `json:"guard,omitempty"`
}

func (n *Node) answerNodeInfo(body []byte) ([]byte, error) {
	var q nodeInfoQuery
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, errFrame
	}
	return json.Marshal(n.localInfo(&q))
}

func (n *Node) localInfo(q *nodeInfoQuery) *nodeInfo {
	out := new(nodeInfo)
	if q.Set != nil {
		if err := n.setLogger(q.Set); err != nil {
			errors.As(err, &out.Guard)
			return out
		}
	}
	if q.Loggers && n.cfg.Loggers != nil {
		levels := n.cfg.Loggers.Levels()
		for _, name := range sortedKeys(levels) {
			out.Loggers = append(out.Loggers, LoggerStatus{Node: n.id, Name: name, Level: levels[name]})
		}
	}
	if q.Listeners {
		out.Listeners = n.listeners()
	}
	if q.Cancel != "" {
		n.kicks.cancel(q.Cancel)
	}
	if q.Operations {
		out.Operations = n.kicks.list()
	}
	return out
}

func (n *Node) setLogger(s *LoggerStatus) error {
	if n.cfg.Loggers == nil {
		return refuse(GuardConflict, "the log levels of node %s cannot be changed", n.id)
	}
	if err := n.cfg.Loggers.SetLevel(s.Name, s.Level); err != nil {
		return refuse(GuardInvalid, "%v", err)
	}
	return nil
}

func (n *Node) listeners() []ListenerStatus {
	counts := n.server.ListenerConnections()
	var out []ListenerStatus
	for i, p := range n.clients {
		if p == nil {
			continue
		}
		st := ListenerStatus{Node: n.id, Addr: p.Addr().String(), WebSocket: n.cfg.WebSocketPath, Proxy: transport.ProxyOff.String()}
		switch i {
		case 0:
			st.Name = "mqtt"
		case 1:
			st.Name, st.TLS = "mqtts", true
		default:
			l := &n.cfg.Listeners[i-2]
			st.Name, st.TLS, st.WebSocket, st.Proxy = l.Name, l.TLS != nil || l.TLSFiles != nil, l.WebSocketPath, l.Proxy.String()
		}
		st.Paused, st.Connections = n.doorways[i].paused.Load(), counts[st.Name]
		st.Accepting = n.serving.Load() && !n.drained.Load() && !st.Paused
		out = append(out, st)
	}
	return out
}

// infoOf asks a node.
func (n *Node) infoOf(ctx context.Context, node string, q *nodeInfoQuery) (*nodeInfo, error) {
	var info *nodeInfo
	var err error
	if node == n.id {
		info = n.localInfo(q)
	} else if info, err = askNode[nodeInfo](ctx, n, node, queryNodeInfo, q, ErrUnreachable); err != nil {
		return nil, err
	}
	if info.Guard != nil {
		return nil, info.Guard
	}
	return info, nil
}

// eachNodeUp calls fn for every node that is up, at the same time; what it returns runs one
// after the other.
func (n *Node) eachNodeUp(fn func(node string) func()) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range n.gateways() {
		wg.Go(func() {
			then := fn(id)
			mu.Lock()
			defer mu.Unlock()
			then()
		})
	}
	wg.Wait()
}

// nodesUp is one node, or all that are up.
func (n *Node) nodesUp(node string) ([]string, error) {
	all := n.gateways()
	if node == "" {
		return all, nil
	}
	if !slices.Contains(all, node) {
		return nil, refuse(GuardNotFound, "there is no node %s that is up", node)
	}
	return []string{node}, nil
}

// infoTimeout bounds a question that goes to every node.
const infoTimeout = 2 * time.Second

// gatherInfo asks one node, or all that are up. One that does not answer is left out,
// unless it was named.
func (n *Node) gatherInfo(ctx context.Context, node string, q *nodeInfoQuery) ([]*nodeInfo, error) {
	ids, err := n.nodesUp(node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	answers := make([]*nodeInfo, len(ids))
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { answers[i], errs[i] = n.infoOf(ctx, id, q) })
	}
	wg.Wait()
	var guard *GuardError
	for _, err := range errs {
		if err != nil && (node != "" || errors.As(err, &guard)) {
			return nil, err
		}
	}
	return slices.DeleteFunc(answers, func(a *nodeInfo) bool { return a == nil }), nil
}

// LoggerList are the levels of one node's loggers, or of all nodes that answer ("").
func (n *Node) LoggerList(ctx context.Context, node string) (out []LoggerStatus, err error) {
	answers, err := n.gatherInfo(ctx, node, &nodeInfoQuery{Loggers: true})
	for _, a := range answers {
		out = append(out, a.Loggers...)
	}
	return out, err
}

// SetLogger changes the level of a logger on one node or on all that are up ("").
func (n *Node) SetLogger(ctx context.Context, node, name, level string) (out []LoggerStatus, err error) {
	answers, err := n.gatherInfo(ctx, node, &nodeInfoQuery{Loggers: true, Set: &LoggerStatus{Name: name, Level: level}})
	for _, a := range answers {
		for _, l := range a.Loggers {
			if l.Name == name {
				out = append(out, l)
			}
		}
	}
	return out, err
}

// ListenerList are the client ports of all nodes that answer.
func (n *Node) ListenerList(ctx context.Context) (out []ListenerStatus, err error) {
	answers, err := n.gatherInfo(ctx, "", &nodeInfoQuery{Listeners: true})
	for _, a := range answers {
		out = append(out, a.Listeners...)
	}
	return out, err
}
