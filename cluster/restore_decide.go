package cluster

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// What a restore asks of the control leader.
const (
	restoreBegin    = "begin"
	restoreProgress = "progress"
	restoreSet      = "set"
	restoreOpen     = "open"
	restoreFail     = "fail"
	restoreEnd      = "end"
)

// restoreRequest is a decision that the control leader takes.
type restoreRequest struct {
	Do     string `json:"do"`
	ID     string `json:"id,omitempty"`
	Backup string `json:"backup,omitempty"`
	Node   string `json:"node,omitempty"`
	Done   uint32 `json:"done,omitempty"`
	Total  uint32 `json:"total,omitempty"`
	Why    string `json:"why,omitempty"`
	// Clear: of a failure before anything was brought.
	Clear    bool     `json:"clear,omitempty"`
	Commands [][]byte `json:"commands,omitempty"`
}

// decideRestore puts a decision to the control leader, here or elsewhere.
func (n *Node) decideRestore(ctx context.Context, req restoreRequest) (memberReply, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return decide(ctx, n, queryRestoreDecide, req, n.control.judgeRestore)
}

// judgeRestore decides on the control leader.
func (c *control) judgeRestore(ctx context.Context, req restoreRequest) (memberReply, error) {
	l, err := c.judging(ctx)
	if err != nil {
		return memberReply{}, err
	}
	if req.Do == restoreBegin {
		return c.beginRestore(ctx, l, req)
	}
	v := c.view()
	if v.Restore == nil || v.Restore.ID != req.ID {
		if req.Do == restoreEnd || req.Do == restoreFail {
			return memberReply{}, nil // it has ended
		}
		return memberReply{}, refuse(GuardConflict, "the restore %s is over", req.ID)
	}
	op, known := v.Operation(req.ID)
	if !known {
		op = c.newOperation("restore", v.Restore.Node, "", 0)
		op.ID = req.ID
	}
	var cmd []byte
	switch req.Do {
	case restoreProgress:
		op.Progress, op.Done, op.UpdatedAt = "shards are being filled: no node serves clients", min(req.Done, op.Total), c.n.now()
		cmd = command.AppendPutOperation(nil, &command.PutOperation{Operation: op})
	case restoreSet:
		return memberReply{}, c.setRestored(ctx, l, req.Commands)
	case restoreOpen:
		op.Progress, op.Done, op.UpdatedAt = "every shard is whole and is opened", op.Total, c.n.now()
		cmd = command.AppendRestoring(nil, &command.Restoring{ID: req.ID, Phase: command.RestoreOpening})
		cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: op})
	case restoreFail:
		op = c.ended(op, command.OperationFailed, "the cluster serves no clients until the restore is repeated or cancelled: ")
		op.Error = req.Why
		if req.Clear {
			op.Progress = "the shards are emptied: "
			cmd = command.AppendRestoring(nil, &command.Restoring{ID: req.ID, Phase: command.RestoreClearing})
		}
		cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: op})
	case restoreEnd:
		cmd = command.AppendRestoring(nil, &command.Restoring{ID: req.ID, Phase: command.RestoreEnded})
		if op.State == command.OperationRunning {
			op = c.ended(op, command.OperationDone, "everything is back: clients are served")
		}
		cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: op})
	default:
		return memberReply{}, fmt.Errorf("%w: restore request %q", errFrame, req.Do)
	}
	code, err := l.commit(ctx, cmd)
	if err == nil && code != command.OK && code != command.Duplicate {
		err = refuse(GuardConflict, "the restore %s is %s by now", req.ID, v.Restore.Phase)
	}
	return memberReply{}, err
}

func (c *control) beginRestore(ctx context.Context, l *controlLead, req restoreRequest) (memberReply, error) {
	v := c.view()
	var cmd []byte
	if r := v.Restore; r != nil {
		if err := c.n.mayRepeat(v, r); err != nil {
			return memberReply{}, err
		}
		if old, ok := v.Operation(r.ID); ok && old.State == command.OperationRunning {
			old = c.ended(old, command.OperationFailed, "another attempt took its place")
			cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: old})
		}
	} else if run, ok := v.Running(); ok {
		return memberReply{}, refuse(GuardBusy, "operation %s (%s of %s) is running: wait for it, or cancel it", run.ID, run.Kind, run.Node)
	}
	op := c.newOperation("restore", req.Node, "", req.Total)
	cmd = command.AppendPutOperation(cmd, &command.PutOperation{Operation: op})
	cmd = command.AppendRestoring(cmd, &command.Restoring{ID: op.ID, Phase: command.RestoreStaging, Backup: req.Backup, Node: req.Node})
	code, err := l.commit(ctx, cmd)
	switch {
	case err != nil:
		return memberReply{}, err
	case code != command.OK:
		return memberReply{}, refuse(GuardBusy, "another operation has just begun")
	}
	c.n.lg.Info("operation begins", zap.String("event", "restore.begin"), zap.String("op", op.ID), zap.String("kind", op.Kind), zap.String("peer", op.Node))
	st := operationStatus(&op)
	return memberReply{Operation: &st}, nil
}

// restoredAtOnce is how many commands of a restore are committed together: what is refused is told of once for all of them.
const restoredAtOnce = 4

// setRestored commits settings and keys that came back. One that is refused (a key of the same name is here) stays as it is.
func (c *control) setRestored(ctx context.Context, l *controlLead, cmds [][]byte) error {
	cmds = settingsHere(c.view(), cmds)
	for len(cmds) > 0 {
		var body []byte
		n := min(len(cmds), restoredAtOnce)
		for _, cmd := range cmds[:n] {
			body = append(body, cmd...)
		}
		if code, err := l.commit(ctx, body); err != nil {
			return err
		} else if code != command.OK {
			c.n.lg.Warn("something of the control group was not restored", zap.String("event", "restore.skipped"), zap.Stringer("why", code))
		}
		cmds = cmds[n:]
	}
	return nil
}

// settingsHere are the restored commands as this cluster may take them. What was decided when it was formed stays: the
// length of a lease, which every node counts by, and what the machines of the shards began with. A replica that is made
// later replays the log from there; if it began with the values of the backup, it would become another machine (I20).
func settingsHere(v *state.ControlView, cmds [][]byte) [][]byte {
	out := make([][]byte, 0, len(cmds))
	for _, cmd := range cmds {
		set, ok := asSetting(cmd)
		if !ok {
			out = append(out, cmd)
			continue
		}
		d := settingOf(set.Key)
		if strings.HasPrefix(set.Key, formedPrefix) || d.changes == ChangesNever || v.Settings[set.Key] == set.Value {
			continue
		}
		if before := d.keepFormed(nil, v); len(before) > 0 {
			out = append(out, before)
		}
		out = append(out, cmd)
	}
	return out
}

// asSetting reads a command that sets one.
func asSetting(cmd []byte) (command.Setting, bool) {
	b, err := command.DecodeBatch(command.AppendBatch(nil, &command.BatchHeader{}, cmd))
	if err != nil {
		return command.Setting{}, false
	}
	var c command.Command
	var set command.Set
	it := b.Commands()
	if ok, err := it.Next(&c); err != nil || !ok || c.Kind != command.KindSet || set.Decode(c.Payload) != nil {
		return command.Setting{}, false
	}
	return set.Setting, true
}

// cancelRestore gives a restore up: the shards are emptied, then clients are served.
func (c *control) cancelRestore(ctx context.Context, l *controlLead, r *command.Restoring) (memberReply, error) {
	if r.Phase != command.RestoreStaging {
		return memberReply{}, refuse(GuardConflict, "the restore %s is %s and cannot be stopped any more", r.ID, r.Phase)
	}
	op, ok := c.view().Operation(r.ID)
	if !ok {
		op = c.newOperation("restore", r.Node, "", 0)
		op.ID = r.ID
	}
	op = c.ended(op, command.OperationCancelled, "cancelled by an operator: the shards are emptied")
	cmd := command.AppendRestoring(nil, &command.Restoring{ID: r.ID, Phase: command.RestoreClearing})
	code, err := l.commit(ctx, command.AppendPutOperation(cmd, &command.PutOperation{Operation: op}))
	if err != nil {
		return memberReply{}, err
	}
	if code != command.OK && code != command.Duplicate {
		return memberReply{}, refuse(GuardConflict, "the restore %s cannot be stopped any more", r.ID)
	}
	st := operationStatus(&op)
	return memberReply{Operation: &st}, nil
}
