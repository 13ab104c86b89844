package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
)

// Questions that one node asks another with JSON on both sides, and decisions that any node takes and the control
// leader makes.

// askNode puts a question to another node and decodes its answer. class is the error that a node which does not answer
// stands for.
func askNode[A any](ctx context.Context, n *Node, node string, q byte, question any, class error) (*A, error) {
	raw, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	resp, err := n.query(ctx, node, q, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: ask %s: %w", class, node, err)
	}
	return decodeAnswer[A](resp)
}

// askLeaderOf puts a question about a group to its leader, here or elsewhere, and decodes its answer.
func askLeaderOf[A any](ctx context.Context, n *Node, group uint32, q byte) (*A, error) {
	resp, err := n.askLeader(ctx, group, q, putUint(nil, uint64(group)))
	if err != nil {
		return nil, err
	}
	return decodeAnswer[A](resp)
}

// askLeader puts a question to the leader of a group, here or elsewhere. A node without a replica may not know who that
// is, or only who it was: who does not lead says so, and the next replica is asked. Who answers is asked first the next
// time.
func (n *Node) askLeader(ctx context.Context, group uint32, q byte, body []byte) ([]byte, error) {
	leader := n.leaderOf(group)
	nodes := []string{leader}
	if v := n.control.view(); group > 0 && n.replica(group) == nil {
		for _, id := range v.Placement[group] {
			if id != leader && up(v, id) {
				nodes = append(nodes, id)
			}
		}
	}
	err := fmt.Errorf("%w of group %d", ErrNoLeader, group)
	for _, id := range nodes {
		if id == "" {
			continue
		}
		var resp []byte
		if resp, err = n.ask(ctx, id, q, body); err == nil {
			n.hint(group, id)
			return resp, nil
		}
	}
	n.hint(group, "")
	return nil, err
}

// ask puts a question to a node, which may be this one.
func (n *Node) ask(ctx context.Context, node string, q byte, body []byte) ([]byte, error) {
	if node == n.id {
		return n.answer(ctx, q, &dec{b: body})
	}
	return n.query(ctx, node, q, body)
}

func decodeAnswer[A any](raw []byte) (*A, error) {
	a := new(A)
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, errFrame
	}
	return a, nil
}

// ruling is part of what the control leader answers: a refusal travels with its code, which an error would lose.
type ruling struct {
	Guard *GuardError `json:"guard,omitempty"`
}

func (r *ruling) refusal() **GuardError { return &r.Guard }

// decided is an answer with a ruling.
type decided[A any] interface {
	*A
	refusal() **GuardError
}

// decideWait is how long a decision waits for a control leader: an election, or a hand-over by a node that stops, is
// over well before.
const decideWait = 3 * time.Second

// decide has the control leader decide, here or elsewhere. It waits a moment for one, as long as nobody can have decided
// yet. Errors: *GuardError, ErrNoLeader: then it may be decided, or not, and whoever leads now has to be asked again.
func decide[Q, A any, P decided[A]](ctx context.Context, n *Node, q byte, req Q, judge func(context.Context, Q) (A, error)) (A, error) {
	for end := time.Now().Add(decideWait); ; {
		a, err := decideOnce[Q, A, P](ctx, n, q, req, judge)
		if !nobodyDecided(err) || time.Now().After(end) || sleep(ctx, laneRetry) != nil {
			return a, err
		}
	}
}

// nobodyDecided says whether an error of decideOnce means that the question reached no leader.
func nobodyDecided(err error) bool {
	var remote *peer.RemoteError
	return errors.Is(err, errNotControlLeader) || errors.As(err, &remote) && strings.HasSuffix(remote.Message, errNotControlLeader.Error())
}

func decideOnce[Q, A any, P decided[A]](ctx context.Context, n *Node, q byte, req Q, judge func(context.Context, Q) (A, error)) (A, error) {
	var none A
	leader := n.leaderOf(0)
	switch leader {
	case "":
		return none, fmt.Errorf("%w: %w", ErrNoLeader, errNotControlLeader)
	case n.id:
		return judge(ctx, req)
	}
	a, err := askNode[A](ctx, n, leader, q, req, ErrNoLeader)
	if err != nil {
		return none, err
	}
	if g := *P(a).refusal(); g != nil {
		return none, g
	}
	return *a, nil
}

// answerDecide is the control leader's side of decide.
func answerDecide[Q, A any, P decided[A]](ctx context.Context, raw []byte, judge func(context.Context, Q) (A, error)) ([]byte, error) {
	var req Q
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, errFrame
	}
	a, err := judge(ctx, req)
	if err != nil && !errors.As(err, P(&a).refusal()) {
		return nil, err
	}
	return json.Marshal(a)
}

// judging is what every decision begins with: this node leads, and has applied all that was decided before.
func (c *control) judging(ctx context.Context) (*controlLead, error) {
	l := c.lead.Load()
	if l == nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, errNotControlLeader)
	}
	return l, c.barrier(ctx)
}
