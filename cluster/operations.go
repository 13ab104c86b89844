package cluster

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Operations: what takes long, kept in the control group, so that any later leader goes on with it and any node shows it.

// OperationStatus is an operation as operators see it. Its JSON is a contract.
type OperationStatus struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // remove, drain, replace, rebalance
	Node      string    `json:"node,omitempty"`
	With      string    `json:"with,omitempty"`
	State     string    `json:"state"` // running, done, failed, cancelled
	Progress  string    `json:"progress"`
	Done      uint32    `json:"done"`
	Total     uint32    `json:"total"`
	Error     string    `json:"error,omitempty"`
	StartedAt time.Time `json:"started_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Warnings  []string  `json:"warnings,omitempty"`
}

// CancelOperation stops an operation where that is still possible.
func (n *Node) CancelOperation(ctx context.Context, id string) (OperationStatus, error) {
	return n.operate(ctx, memberRequest{Do: memberCancel, ID: id})
}

// Operations are the operations that are known here, newest first.
func (n *Node) Operations() []OperationStatus {
	ops := n.control.view().Operations
	out := make([]OperationStatus, 0, len(ops))
	for i := len(ops) - 1; i >= 0; i-- {
		out = append(out, operationStatus(&ops[i]))
	}
	return out
}

func operationStatus(o *command.Operation) OperationStatus {
	return OperationStatus{
		ID: o.ID, Kind: o.Kind, Node: o.Node, With: o.Other, State: o.State.String(), Progress: o.Progress, Done: o.Done, Total: o.Total,
		Error: o.Error, StartedAt: time.UnixMilli(o.StartedAt).UTC(), UpdatedAt: time.UnixMilli(o.UpdatedAt).UTC(),
	}
}

// begin commits a decision and the operation that shows it.
func (c *control) begin(ctx context.Context, l *controlLead, op command.Operation, to command.NodeState, dryRun bool, warnings []string) (memberReply, error) {
	if run, ok := c.view().Running(); ok {
		return memberReply{}, refuse(GuardBusy, "operation %s (%s of %s) is running: wait for it (flotilla operation show %s), or cancel it", run.ID, run.Kind, run.Node, run.ID)
	}
	st := operationStatus(&op)
	st.Warnings = warnings
	if dryRun {
		st.ID, st.State, st.Progress = "", "", "nothing was changed"
		return memberReply{Operation: &st}, nil
	}
	cmd := command.AppendPutOperation(nil, &command.PutOperation{Operation: op})
	cmd = command.AppendSetNodeState(cmd, &command.SetNodeState{Node: op.Node, State: to})
	code, err := l.commit(ctx, cmd)
	switch {
	case err != nil:
		return memberReply{}, err
	case code == command.Full:
		return memberReply{}, refuse(GuardBusy, "another operation has just begun")
	}
	c.n.lg.Info("operation begins", zap.String("event", "node.draining"), zap.String("op", op.ID), zap.String("kind", op.Kind), zap.String("peer", op.Node))
	return memberReply{Operation: &st}, nil
}

func (c *control) cancelOperation(ctx context.Context, l *controlLead, v *state.ControlView, id string) (memberReply, error) {
	if v.Restore != nil && v.Restore.ID == id {
		return c.cancelRestore(ctx, l, v.Restore)
	}
	op, ok := v.Operation(id)
	if !ok {
		return memberReply{}, refuse(GuardNotFound, "there is no operation %s", id)
	}
	if op.State == command.OperationRunning {
		op = c.ended(op, command.OperationCancelled, "cancelled by an operator")
		cmd := command.AppendPutOperation(nil, &command.PutOperation{Operation: op})
		if rec := v.Nodes[op.Node]; rec != nil && (rec.State == command.NodeDraining || rec.State == command.NodeRemoving) {
			cmd = command.AppendSetNodeState(cmd, &command.SetNodeState{Node: op.Node, State: command.NodeReady})
		}
		if _, err := l.commit(ctx, cmd); err != nil {
			return memberReply{}, err
		}
	}
	st := operationStatus(&op)
	return memberReply{Operation: &st}, nil
}

func (c *control) newOperation(kind, node, other string, total uint32) command.Operation {
	now := c.n.now()
	return command.Operation{
		ID: fmt.Sprintf("op-%013d-%s", now, randomHex(2)), Kind: kind, Node: node, Other: other, State: command.OperationRunning,
		Progress: "begins", Total: total, StartedAt: now, UpdatedAt: now,
	}
}

func (c *control) ended(op command.Operation, st command.OperationState, why string) command.Operation {
	op.State, op.Progress, op.UpdatedAt = st, why, c.n.now()
	if st == command.OperationDone {
		op.Done = op.Total
	}
	return op
}

// runningFor is the operation that concerns a node, the newest one.
func runningFor(v *state.ControlView, kind, node string) memberReply {
	for i := len(v.Operations) - 1; i >= 0; i-- {
		if o := v.Operations[i]; o.Node == node && (kind == "" || o.Kind == kind) {
			st := operationStatus(&o)
			return memberReply{Operation: &st}
		}
	}
	return memberReply{}
}
