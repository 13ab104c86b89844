package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// errSuperseded means that another attempt has begun, or this one was given up.
var errSuperseded = errors.New("the restore was superseded")

// fillShards brings the backup of this node's spool into the shards. It tries until it succeeds, is refused or
// superseded: an attempt that is begun again drops what it had brought.
func (n *Node) fillShards(r *command.Restoring) {
	defer func() {
		n.restore.mu.Lock()
		defer n.restore.mu.Unlock()
		if n.restore.running == r.ID && n.control.view().Restore == nil {
			n.restore.running = ""
		}
	}()
	lg := n.lg.With(zap.String("op", r.ID))
	lg.Info("restore begins", zap.String("event", "restore.begin"), zap.String("backup", r.Backup))
	b, err := n.openSpool(restoreFile)
	if err == nil && b.ID != r.Backup {
		err = refuse(GuardConflict, "the file here is another one")
	}
	for err == nil {
		err = n.tryFill(n.ctx, r, b)
		var g *GuardError
		switch {
		case err == nil:
			n.dropSpool()
			return
		case n.ctx.Err() != nil:
			return // the next start goes on
		case errors.Is(err, errSuperseded):
			lg.Info("restore was superseded", zap.String("event", "restore.end"))
			if have := n.control.view().Restore; have == nil || have.Node != n.id {
				n.dropSpool()
			}
			return
		case errors.As(err, &g):
			err = g // one reason is enough
		default:
			lg.Warn("restore is tried again", zap.String("event", "restore.retry"), zap.Error(err))
			if err = sleep(n.ctx, restoreRetry); err != nil {
				return
			}
		}
	}
	lg.Error("restore failed", zap.String("event", "restore.end"), zap.Error(err))
	req := restoreRequest{Do: restoreFail, ID: r.ID, Why: err.Error(), Clear: errors.Is(err, errNotEmpty)}
	for {
		if _, err := n.decideRestore(n.ctx, req); err == nil || sleep(n.ctx, restoreRetry) != nil {
			return
		}
	}
}

// errNotEmpty: nothing that matters was brought, so nobody needs to be kept out.
var errNotEmpty = &GuardError{Code: GuardConflict, Detail: "a shard is not empty: a client connected before the restore had begun. Disconnect the clients and repeat it"}

// current says whether an attempt is still the one.
func (n *Node) current(r *command.Restoring) error {
	if have := n.control.view().Restore; have == nil || have.ID != r.ID || have.Phase != command.RestoreStaging {
		return errSuperseded
	}
	return nil
}

func (n *Node) tryFill(ctx context.Context, r *command.Restoring, b *raftfsm.Backup) error {
	if err := n.current(r); err != nil {
		return err
	}
	v := n.control.view()
	if err := n.allQuiet(ctx, v); err != nil {
		return fmt.Errorf("wait until no node serves clients: %w", err)
	}
	n.restore.moved.Store(0)
	if err := eachShard(v, func(shard uint32) error {
		return n.restoreStep(ctx, shard, &command.Restore{Step: command.RestoreBegin, ID: r.ID})
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() { defer close(told); n.tellProgress(ctx, r) }()
	defer func() { cancel(); <-told }()
	if err := eachShard(v, func(shard uint32) error { return n.fillShard(ctx, r, b, shard) }); err != nil {
		return err
	}
	if err := n.current(r); err != nil {
		return err
	}
	if err := n.restoreSettings(ctx, r, b); err != nil {
		return err
	}
	_, err := n.decideRestore(ctx, restoreRequest{Do: restoreOpen, ID: r.ID})
	return err
}

// allQuiet returns when every node that is up knows of the restore and has no client. Who comes up later learns of it
// before it serves anybody.
func (n *Node) allQuiet(ctx context.Context, v *state.ControlView) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	for _, id := range sortedKeys(gatewaysUp(v)) {
		if _, err := n.ask(ctx, id, queryRestoreQuiet, putUint(nil, v.Index)); err != nil {
			return fmt.Errorf("node %s: %w", id, err)
		}
	}
	return nil
}

// fillShard brings the part of one shard.
func (n *Node) fillShard(ctx context.Context, r *command.Restoring, b *raftfsm.Backup, shard uint32) error {
	d := b.Section(shard)
	if d == nil {
		return refuse(GuardInvalid, "the backup has no shard %d", shard)
	}
	var group *raftfsm.BackupGroup
	for i := range b.Header.Groups {
		if b.Header.Groups[i].Group == shard {
			group = &b.Header.Groups[i]
		}
	}
	digest, err := decodeDigest(group.Content)
	if err != nil {
		return err
	}
	f, err := n.spoolFS().Open(n.spoolPath(restoreFile))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := command.RestoreChunk{ID: r.ID}
	records := uint64(0)
	send := func() error {
		if len(chunk.Pairs) == 0 {
			return nil
		}
		code, err := n.commitShard(ctx, shard, func(dst []byte) []byte { return command.AppendRestoreChunk(dst, &chunk) })
		if err == nil && code != command.OK && code != command.Duplicate {
			err = fmt.Errorf("chunk %d of shard %d: %s", chunk.Seq, shard, code)
		}
		n.restore.moved.Add(records)
		chunk.Seq, chunk.Pairs, records = chunk.Seq+1, chunk.Pairs[:0], 0
		return errors.Join(err, n.current(r))
	}
	err = b.Records(f, shard, func(k, v []byte) error {
		if !state.Restorable(k) {
			return nil
		}
		if len(chunk.Pairs)+len(k)+len(v) > restoreChunk {
			if err := send(); err != nil {
				return err
			}
		}
		chunk.Pairs = state.AppendPair(chunk.Pairs, k, v)
		records++
		return nil
	})
	if err == nil {
		err = send()
	}
	if err != nil {
		return err
	}
	return n.restoreStep(ctx, shard, &command.Restore{Step: command.RestoreLoad, ID: r.ID, Meta: d.Meta, Records: d.Records, Sum: d.Sum, Digest: digest})
}

// restoreStep commits a step of a shard.
func (n *Node) restoreStep(ctx context.Context, shard uint32, c *command.Restore) error {
	code, err := n.commitShard(ctx, shard, func(dst []byte) []byte { return command.AppendRestore(dst, c) })
	switch {
	case err != nil:
		return err
	case code == command.OK, code == command.Duplicate:
		return nil
	case code == command.NotEmpty:
		return errNotEmpty
	case c.Step == command.RestoreLoad:
		return refuse(GuardInvalid, "shard %d is not what the backup says: the cluster serves no clients until the restore is repeated or cancelled", shard)
	default:
		return fmt.Errorf("%s of shard %d: %s", c.Step, shard, code)
	}
}

// commitShard puts a command into a shard's lane, whether or not this node may serve clients.
func (n *Node) commitShard(ctx context.Context, shard uint32, encode func([]byte) []byte) (command.ResultCode, error) {
	type outcome struct {
		code command.ResultCode
		err  error
	}
	ch := make(chan outcome, 1)
	err := n.lane(shard).add(ctx, encode, func(res command.Result, _ uint64, err error) { ch <- outcome{res.Code, err} })
	if err != nil {
		return 0, err
	}
	select {
	case o := <-ch:
		return o.code, o.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// restoreSettings brings back what operators set: settings and API keys. Nodes, placement, operations and join tokens are
// those of this cluster.
func (n *Node) restoreSettings(ctx context.Context, r *command.Restoring, b *raftfsm.Backup) error {
	f, err := n.spoolFS().Open(n.spoolPath(restoreFile))
	if err != nil {
		return err
	}
	defer f.Close()
	var ranked [4][][]byte
	err = b.Records(f, 0, func(k, v []byte) error {
		if cmd, rank := state.ControlRestore(k, v); rank > 0 {
			ranked[rank] = append(ranked[rank], cmd)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = n.decideRestore(ctx, restoreRequest{Do: restoreSet, ID: r.ID, Commands: slices.Concat(ranked[:]...)})
	return err
}

// tellProgress writes the progress into the operation, once a second.
func (n *Node) tellProgress(ctx context.Context, r *command.Restoring) {
	last := uint64(0)
	for sleep(ctx, time.Second) == nil {
		if moved := n.restore.moved.Load(); moved != last {
			last = moved
			_, _ = n.decideRestore(ctx, restoreRequest{Do: restoreProgress, ID: r.ID, Done: uint32(min(moved, 1<<31))}) // the next one tells more
		}
	}
}

// finishRestore opens, or empties, the shards, and lets clients in again. The control leader does it.
func (n *Node) finishRestore(r *command.Restoring) {
	v := n.control.view()
	step := command.RestoreOpen
	if r.Phase == command.RestoreClearing {
		step = command.RestoreClear
	}
	err := eachShard(v, func(shard uint32) error { return n.restoreStep(n.ctx, shard, &command.Restore{Step: step, ID: r.ID}) })
	if err == nil {
		_, err = n.decideRestore(n.ctx, restoreRequest{Do: restoreEnd, ID: r.ID})
	}
	if err != nil {
		n.lg.Debug("the end of a restore is tried again", zap.Error(err))
		return
	}
	n.lg.Info("restore has ended: clients are served", zap.String("event", "restore.end"), zap.String("op", r.ID), zap.String("how", strings.ToLower(step.String())))
}
