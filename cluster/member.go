package cluster

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// What operators may ask of the membership. Any node takes the question; the control leader judges it, because guards
// must see the newest state, and commits the decision. What follows from it is the work of reconcile.go, and goes on
// after a change of leader.

// memberVerb says what a memberRequest wants.
type memberVerb string

const (
	memberAdmit     memberVerb = "admit"
	memberDrain     memberVerb = "drain"
	memberDrained   memberVerb = "drained" // the node itself says so
	memberUndrain   memberVerb = "undrain"
	memberRemove    memberVerb = "remove"
	memberRebalance memberVerb = "rebalance"
	memberCancel    memberVerb = "cancel"
	memberToken     memberVerb = "token"
	memberRevoke    memberVerb = "revoke"
)

// memberRequest is what one node asks the control leader.
type memberRequest struct {
	Do        memberVerb    `json:"do"`
	Node      string        `json:"node,omitempty"`
	With      string        `json:"with,omitempty"`
	DryRun    bool          `json:"dry_run,omitempty"`
	Admit     *command.Node `json:"admit,omitempty"`
	TokenHash []byte        `json:"token_hash,omitempty"`
	ID        string        `json:"id,omitempty"` // of a token or an operation
	Uses      uint32        `json:"uses,omitempty"`
	TTL       time.Duration `json:"ttl,omitempty"`
}

// memberReply is its answer.
type memberReply struct {
	Operation *OperationStatus `json:"operation,omitempty"`
	Token     *TokenStatus     `json:"token,omitempty"`
	ruling
}

// DrainNode sends a node's clients and leaderships away until UndrainNode. It stays a member and keeps its replicas.
// Draining what is drained is no error. Errors: *GuardError, ErrNoLeader.
func (n *Node) DrainNode(ctx context.Context, id string, dryRun bool) (OperationStatus, error) {
	return n.operate(ctx, memberRequest{Do: memberDrain, Node: id, DryRun: dryRun})
}

// UndrainNode lets a drained node serve again.
func (n *Node) UndrainNode(ctx context.Context, id string) error {
	_, err := n.askControl(ctx, memberRequest{Do: memberUndrain, Node: id})
	return err
}

// RemoveNode takes a node out for good, alive or dead: its replicas go elsewhere first. with names the node that
// should take them, "" for any. Asking again while it is under way returns the same operation.
func (n *Node) RemoveNode(ctx context.Context, id, with string, dryRun bool) (OperationStatus, error) {
	return n.operate(ctx, memberRequest{Do: memberRemove, Node: id, With: with, DryRun: dryRun})
}

// Rebalance plans to spread replicas evenly; without dryRun it happens by itself.
func (n *Node) Rebalance(ctx context.Context, dryRun bool) (OperationStatus, error) {
	return n.operate(ctx, memberRequest{Do: memberRebalance, DryRun: dryRun})
}

func (n *Node) operate(ctx context.Context, req memberRequest) (OperationStatus, error) {
	reply, err := n.askControl(ctx, req)
	if err != nil {
		return OperationStatus{}, err
	}
	if reply.Operation == nil {
		return OperationStatus{State: command.OperationDone.String()}, nil
	}
	return *reply.Operation, nil
}

// askControl puts a question to the control leader, here or elsewhere.
func (n *Node) askControl(ctx context.Context, req memberRequest) (memberReply, error) {
	return decide(ctx, n, queryMember, req, n.control.judge)
}

// judge decides on the control leader.
func (c *control) judge(ctx context.Context, req memberRequest) (memberReply, error) {
	l, err := c.judging(ctx)
	if err != nil {
		return memberReply{}, err
	}
	switch req.Do {
	case memberAdmit:
		return memberReply{}, c.admit(ctx, l, req)
	case memberToken:
		return c.makeToken(ctx, l, req)
	case memberRevoke:
		code, err := l.commit(ctx, command.AppendDropToken(nil, &command.DropToken{ID: req.ID}))
		if err == nil && code == command.NoMatch {
			err = refuse(GuardNotFound, "there is no join token %s", req.ID)
		}
		return memberReply{}, err
	case memberDrain, memberDrained, memberUndrain, memberRemove, memberRebalance, memberCancel:
		return c.changeMember(ctx, l, req)
	}
	return memberReply{}, fmt.Errorf("%w: member request %q", errFrame, req.Do)
}

// maxCommitted is how many commands one decision has at most: a change of every setting.
const maxCommitted = 256

// commit proposes the commands of one decision, which take effect together, and returns the first result that is not OK.
func (l *controlLead) commit(ctx context.Context, cmd []byte) (command.ResultCode, error) {
	type answer struct {
		code command.ResultCode
		err  error
	}
	ch := make(chan answer, 1)
	l.merge.submit(command.AppendBatch(nil, &command.BatchHeader{}, cmd), func(res command.BatchResult, _ uint64, err error) {
		if err != nil {
			ch <- answer{err: err}
			return
		}
		rs, err := command.DecodeResults(res.Results, maxCommitted)
		if err != nil || len(rs) == 0 {
			ch <- answer{err: errFrame}
			return
		}
		// Of several commands the first refusal counts.
		code := rs[0].Code
		for _, r := range rs {
			if r.Code != command.OK {
				code = r.Code
				break
			}
		}
		ch <- answer{code: code}
	})
	select {
	case a := <-ch:
		if a.err != nil {
			return 0, fmt.Errorf("%w: it may be decided, or not: %w", ErrNoLeader, a.err)
		}
		return a.code, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (c *control) admit(ctx context.Context, l *controlLead, req memberRequest) error {
	if req.Admit == nil {
		return errFrame
	}
	code, err := l.commit(ctx, command.AppendAdmit(nil, &command.Admit{Node: *req.Admit, TokenHash: req.TokenHash}))
	if err != nil {
		return err
	}
	id := req.Admit.ID
	switch code {
	case command.OK, command.Duplicate:
		c.n.lg.Info("node is admitted", zap.String("event", "node.joining"), zap.String("peer", id), zap.String("addr", req.Admit.ClusterAddr))
		return nil
	case command.Denied:
		return refuse(GuardForbidden, "the join token is unknown, expired or used up: make a new one with flotilla cluster token create")
	default:
		if rec := c.view().Nodes[id]; rec != nil && rec.State == command.NodeRemoved {
			return refuse(GuardConflict, "node %s was removed from this cluster and its id is never used again: start with an empty directory under another --node-id", id)
		}
		return refuse(GuardConflict, "the id %s belongs to a member of this cluster: if its disk was lost, remove it (flotilla node remove %s) and start under another --node-id", id, id)
	}
}

// changeMember judges what concerns one node.
func (c *control) changeMember(ctx context.Context, l *controlLead, req memberRequest) (memberReply, error) {
	v := c.view()
	switch req.Do {
	case memberCancel:
		return c.cancelOperation(ctx, l, v, req.ID)
	case memberRebalance:
		return c.rebalance(ctx, l, v, req.DryRun)
	}
	rec := v.Nodes[req.Node]
	if rec == nil || rec.State == command.NodeRemoved && req.Do != memberRemove {
		return memberReply{}, refuse(GuardNotFound, "there is no node %s in this cluster", req.Node)
	}
	switch req.Do {
	case memberDrain:
		return c.drain(ctx, l, v, rec, req.DryRun)
	case memberDrained:
		return c.drained(ctx, l, v, rec)
	case memberUndrain:
		return c.undrain(ctx, l, v, rec)
	default:
		return c.remove(ctx, l, v, rec, req)
	}
}

func (c *control) drain(ctx context.Context, l *controlLead, v *state.ControlView, rec *state.NodeInfo, dryRun bool) (memberReply, error) {
	switch rec.State {
	case command.NodeDraining, command.NodeDrained:
		return runningFor(v, "drain", rec.ID), nil
	case command.NodeReady:
	default:
		return memberReply{}, refuse(GuardConflict, "node %s is %s: only a ready node can be drained", rec.ID, rec.Status())
	}
	if others := readyGateways(v, rec.ID); others == 0 {
		return memberReply{}, refuse(GuardQuorum, "node %s is the last one that accepts clients: add a node before you drain it", rec.ID)
	}
	if err := c.guardLeaders(v, rec.ID); err != nil {
		return memberReply{}, err
	}
	op := c.newOperation("drain", rec.ID, "", 1)
	return c.begin(ctx, l, op, command.NodeDraining, dryRun, nil)
}

// drained ends a drain: the node says that nothing is left on it.
func (c *control) drained(ctx context.Context, l *controlLead, v *state.ControlView, rec *state.NodeInfo) (memberReply, error) {
	if rec.State != command.NodeDraining {
		return memberReply{}, nil
	}
	cmd := command.AppendSetNodeState(nil, &command.SetNodeState{Node: rec.ID, State: command.NodeDrained})
	if run, ok := v.Running(); ok && run.Kind == "drain" && run.Node == rec.ID {
		cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: c.ended(run, command.OperationDone, "the node serves nobody and leads nothing")})
	}
	_, err := l.commit(ctx, cmd)
	return memberReply{}, err
}

func (c *control) undrain(ctx context.Context, l *controlLead, v *state.ControlView, rec *state.NodeInfo) (memberReply, error) {
	switch rec.State {
	case command.NodeReady:
		return memberReply{}, nil
	case command.NodeDraining, command.NodeDrained:
	default:
		return memberReply{}, refuse(GuardConflict, "node %s is %s, not drained", rec.ID, rec.Status())
	}
	cmd := command.AppendSetNodeState(nil, &command.SetNodeState{Node: rec.ID, State: command.NodeReady})
	if run, ok := v.Running(); ok && run.Kind == "drain" && run.Node == rec.ID {
		cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: c.ended(run, command.OperationCancelled, "the node was undrained")})
	}
	_, err := l.commit(ctx, cmd)
	return memberReply{}, err
}

func (c *control) remove(ctx context.Context, l *controlLead, v *state.ControlView, rec *state.NodeInfo, req memberRequest) (memberReply, error) {
	if rec.State == command.NodeRemoved || rec.State == command.NodeRemoving {
		return runningFor(v, "", rec.ID), nil
	}
	if with := req.With; with != "" {
		k := v.Nodes[with]
		if k == nil || k.State != command.NodeReady || !k.Up || !hasRole(k.Roles, RoleStore) || with == rec.ID {
			return memberReply{}, refuse(GuardInvalid, "node %s cannot take over: it must be another node that is ready and has the role store", with)
		}
	}
	warnings, err := c.guardRemoval(v, rec.ID)
	if err != nil {
		return memberReply{}, err
	}
	kind := "remove"
	if req.With != "" {
		kind = "replace"
	}
	replicas := 0
	for _, nodes := range v.Placement {
		if contains(nodes, rec.ID) {
			replicas++
		}
	}
	op := c.newOperation(kind, rec.ID, req.With, uint32(replicas)+2)
	return c.begin(ctx, l, op, command.NodeRemoving, req.DryRun, warnings)
}
