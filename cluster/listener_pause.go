package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/transport"
)

// A client port can be paused: the port stays this node's, who comes is turned away at once, and who is connected
// stays. Turned away at once, and not left in the accept queue, because a client that hears nothing waits for its own
// timeout before it tries another node. It holds until it is resumed or the process ends: like a log level, it is what
// an operator does to a process, not what the cluster agrees on.

// doorway is the network of one client port. It turns connections away while the port is paused.
type doorway struct {
	transport.Network
	name   string
	paused atomic.Bool
	port   atomic.Pointer[transport.ClientPort] // that counts; nil before it is open
}

// Listen implements transport.Network.
func (d *doorway) Listen(addr string) (net.Listener, error) {
	l, err := d.Network.Listen(addr)
	if err != nil {
		return nil, err
	}
	return &door{l, d}, nil
}

// door is the listening socket of a doorway.
type door struct {
	net.Listener
	d *doorway
}

// Accept implements net.Listener. It turns away before TLS: a connection costs no more than its two packets.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil || !d.d.paused.Load() {
			return conn, err
		}
		_ = conn.Close()
		if p := d.d.port.Load(); p != nil {
			p.CountPaused()
		}
	}
}

// pauseRequest asks a node to pause one of its client ports, or to resume it.
type pauseRequest struct {
	Name  string `json:"name"`
	Pause bool   `json:"pause"`
}

// pauseReply is the answer.
type pauseReply struct {
	Listener ListenerStatus `json:"listener"`
	Guard    *GuardError    `json:"guard,omitempty"`
}

// PauseListener lets a client port of a node that is up accept nobody, until it is resumed or the node's process ends.
// Who is connected stays. What is already so is no error. Errors: *GuardError, ErrUnreachable.
func (n *Node) PauseListener(ctx context.Context, node, name string, pause bool) (ListenerStatus, error) {
	if !slices.Contains(n.gateways(), node) {
		return ListenerStatus{}, refuse(GuardNotFound, "there is no node %q that is up", node)
	}
	req := pauseRequest{Name: name, Pause: pause}
	var reply *pauseReply
	var err error
	if node == n.id {
		reply = n.pauseListener(&req)
	} else if reply, err = askNode[pauseReply](ctx, n, node, queryPause, req, ErrUnreachable); err != nil {
		return ListenerStatus{}, err
	}
	if reply.Guard != nil {
		return ListenerStatus{}, reply.Guard
	}
	return reply.Listener, nil
}

func (n *Node) answerPause(body []byte) ([]byte, error) {
	var req pauseRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, errFrame
	}
	return json.Marshal(n.pauseListener(&req))
}

// pauseListener is what the node of the port does.
func (n *Node) pauseListener(req *pauseRequest) *pauseReply {
	reply := new(pauseReply)
	var names []string
	for i, port := range n.clients {
		if port == nil {
			continue
		}
		d := n.doorways[i]
		names = append(names, d.name)
		if d.name != req.Name {
			continue
		}
		if d.paused.Swap(req.Pause) != req.Pause {
			msg, event := "listener accepts again", "listener.resumed"
			if req.Pause {
				msg, event = "listener accepts nobody: an operator has paused it", "listener.paused"
			}
			n.lg.Info(msg, zap.String("event", event), zap.String("listener", d.name), zap.Stringer("addr", port.Addr()))
		}
		for _, st := range n.listeners() {
			if st.Name == d.name {
				reply.Listener = st
			}
		}
		return reply
	}
	have := "it has none"
	if len(names) > 0 {
		have = "it has " + strings.Join(names, ", ")
	}
	reply.Guard = &GuardError{Code: GuardNotFound, Detail: fmt.Sprintf("there is no listener %q on node %s: %s", req.Name, n.id, have)}
	return reply
}

// listenersCheck is the check of /readyz. A node of which every port is paused is no place to send clients to; while
// some ports accept, it is, and which are paused is said beside.
func (n *Node) listenersCheck() Check {
	var paused []string
	open := 0
	for i, port := range n.clients {
		switch {
		case port == nil:
		case n.doorways[i].paused.Load():
			paused = append(paused, n.doorways[i].name)
		default:
			open++
		}
	}
	c := check("listeners", n.serving.Load(), "client listeners are not up")
	if c.OK && len(paused) > 0 {
		c.OK, c.Detail = open > 0, "paused by an operator (flotilla listener resume): "+strings.Join(paused, ", ")
	}
	return c
}
