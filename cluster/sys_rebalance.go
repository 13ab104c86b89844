package cluster

import (
	"context"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Replicas are spread evenly by themselves, as nodes come and go. An operator can watch that
// as an operation, and cancel it: then replicas stay where they are, but for those that are
// missing or on nodes that leave, until somebody asks for a rebalance again.

// opRebalance is the kind of that operation.
const opRebalance = "rebalance"

// balancePaused says that the last rebalance was cancelled. It is a function of the
// committed state, so every leader comes to the same.
func balancePaused(v *state.ControlView) bool {
	for i := len(v.Operations) - 1; i >= 0; i-- {
		if o := &v.Operations[i]; o.Kind == opRebalance {
			return o.State == command.OperationCancelled
		}
	}
	return false
}

// rebalance begins one, or shows the steps that it would take.
func (c *control) rebalance(ctx context.Context, l *controlLead, v *state.ControlView, dryRun bool) (memberReply, error) {
	reply := c.planBalance(v)
	plan := reply.Operation
	if dryRun || plan.Total == 0 && !balancePaused(v) {
		return reply, nil
	}
	if run, ok := v.Running(); ok {
		if run.Kind == opRebalance {
			st := operationStatus(&run)
			return memberReply{Operation: &st}, nil
		}
		return memberReply{}, refuse(GuardBusy, "operation %s (%s of %s) is running: wait for it (flotilla operation show %s), or cancel it", run.ID, run.Kind, run.Node, run.ID)
	}
	op := c.newOperation(opRebalance, "", "", plan.Total)
	op.Progress = plan.Progress
	code, err := l.commit(ctx, command.AppendPutOperation(nil, &command.PutOperation{Operation: op}))
	switch {
	case err != nil:
		return memberReply{}, err
	case code == command.Full:
		return memberReply{}, refuse(GuardBusy, "another operation has just begun")
	}
	st := operationStatus(&op)
	st.Warnings = plan.Warnings
	return memberReply{Operation: &st}, nil
}

// rebalancing tells how far a rebalance is, and ends it.
func (r *reconciler) rebalancing(ctx context.Context, v *state.ControlView, p *placer, moving bool) {
	run, ok := v.Running()
	if !ok || run.Kind != opRebalance {
		return
	}
	if !moving {
		for shard := range v.Placement {
			if !r.settled(ctx, v, shard) {
				return // the last step is still carried out
			}
		}
		end := r.c.ended(run, command.OperationDone, "replicas are where they should be")
		_, err := r.l.commit(ctx, command.AppendPutOperation(nil, &command.PutOperation{Operation: end}))
		r.step("end the rebalance", run.ID, err)
		return
	}
	left := uint32(len(p.plan()))
	if how := fmt.Sprintf("%d steps to go, one at a time", left); run.Progress != how {
		run.Progress, run.Done, run.UpdatedAt = how, run.Total-min(run.Total, left), r.c.n.now()
		_, _ = r.l.commit(ctx, command.AppendPutOperation(nil, &command.PutOperation{Operation: run}))
	}
}
