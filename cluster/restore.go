package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// A restore goes like this. The node that gets the file keeps it in its data directory and reads it to its end: what is
// damaged, or does not fit this cluster, is refused before anything is changed. Then the control group notes that a
// restore is staging: from that entry on no node routes, lets clients in or acknowledges, and the node that has the file
// fills the shards through their logs, all at once. When every shard has made state of its part, the control group notes
// that it is opening; from there the control leader goes on alone, and clients are served when all shards are open.
//
// A node that has the file and is started again begins anew. If it is gone, the cluster goes on refusing clients
// until the restore is repeated from any node, or given up (the operation is cancelled), which empties the shards.

const (
	restoreDir  = "restore"
	restoreFile = "backup"
	// restoreChunk is how many bytes of records one command carries.
	restoreChunk = 256 << 10
	// restoreRetry is how long to wait before a step is tried again.
	restoreRetry = 500 * time.Millisecond
)

// GuardStorage refuses what this node's disk has no room for.
const GuardStorage = "storage-full"

// restorer is what a node does for a restore.
type restorer struct {
	uploading atomic.Bool
	mu        sync.Mutex
	running   string // the attempt whose file is being read here
	moved     atomic.Uint64
	finishing atomic.Bool
}

// restoreShard is what a shard's leader says of its shard.
type restoreShard struct {
	Blank    bool   `json:"blank"`
	Attempt  string `json:"attempt,omitempty"`
	Loaded   bool   `json:"loaded,omitempty"`
	Sessions int    `json:"sessions,omitempty"`
	Retained int    `json:"retained,omitempty"`
	Shares   int    `json:"shares,omitempty"`
	Pending  int    `json:"pending,omitempty"`
}

func (n *Node) answerRestoreShard(d *dec) ([]byte, error) {
	shard := uint32(d.uint())
	r := n.replica(shard)
	if d.err() != nil || r == nil || n.leading(shard) == nil {
		return nil, ErrNoLeader
	}
	st := r.mach.Stats()
	out := restoreShard{Blank: r.mach.Blank(), Sessions: st.Sessions, Retained: st.RetainedMessages, Shares: st.Shares, Pending: st.Originated}
	out.Attempt, _, out.Loaded, _ = r.mach.Restoring()
	return json.Marshal(out)
}

// Restore takes a backup in and begins to restore it. It returns when the file is here, whole, fits, and the operation has
// begun. size is the length of the upload, -1 if unknown. Errors: *GuardError, ErrNoLeader.
func (n *Node) Restore(ctx context.Context, upload io.Reader, size int64) (OperationStatus, error) {
	if !n.restore.uploading.CompareAndSwap(false, true) {
		return OperationStatus{}, refuse(GuardBusy, "another backup is being uploaded to this node: wait for it")
	}
	defer n.restore.uploading.Store(false)
	if err := n.mayRestore(ctx, nil); err != nil { // before the upload, not only after it
		return OperationStatus{}, err
	}
	tmp := "upload-" + randomHex(4)
	b, err := n.spool(tmp, upload, size)
	if err == nil {
		err = n.mayRestore(ctx, b)
	}
	if err == nil {
		err = n.keepSpool(tmp)
	}
	if err != nil {
		_ = n.spoolFS().Remove(n.spoolPath(tmp)) // the next upload does not need the room
		return OperationStatus{}, err
	}
	total := uint64(0)
	for i := range b.Sections {
		total += b.Sections[i].Records
	}
	req := restoreRequest{Do: restoreBegin, Backup: b.ID, Node: n.id, Total: uint32(min(total, 1<<31))}
	reply, err := n.decideRestore(ctx, req)
	if err != nil {
		return OperationStatus{}, err
	}
	n.followRestore()
	return *reply.Operation, nil
}

func (n *Node) spoolFS() vfs.FS {
	if n.cfg.FS != nil {
		return n.cfg.FS
	}
	return vfs.Default
}

func (n *Node) spoolPath(name string) string {
	fs := n.spoolFS()
	return fs.PathJoin(fs.PathJoin(n.cfg.DataDir, restoreDir), name)
}

// spool writes an upload to the disk and reads it back.
func (n *Node) spool(name string, upload io.Reader, size int64) (*raftfsm.Backup, error) {
	fs := n.spoolFS()
	if free, err := n.limits.diskFree(); err == nil && size > 0 && free-n.cfg.Limits.DiskFreeMin < size {
		return nil, refuse(GuardStorage, "the backup has %d bytes, and this node's disk has room for %d: send it to another node", size, max(0, free-n.cfg.Limits.DiskFreeMin))
	}
	if err := fs.MkdirAll(fs.PathJoin(n.cfg.DataDir, restoreDir), 0o700); err != nil {
		return nil, fmt.Errorf("keep the backup: %w", err)
	}
	f, err := fs.Create(n.spoolPath(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("keep the backup: %w", err)
	}
	_, err = io.Copy(struct{ io.Writer }{f}, upload)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, refuse(GuardInvalid, "the upload did not arrive whole: %v", err)
	}
	return n.openSpool(name)
}

// openSpool verifies a file in the spool.
func (n *Node) openSpool(name string) (*raftfsm.Backup, error) {
	f, err := n.spoolFS().Open(n.spoolPath(name))
	if err != nil {
		return nil, err
	}
	b, err := raftfsm.CheckBackup(f, nil)
	err = errors.Join(err, f.Close())
	if errors.Is(err, raftfsm.ErrCorrupt) || errors.Is(err, raftfsm.ErrIdentity) {
		return nil, refuse(GuardInvalid, "nothing was changed: %v", err)
	}
	return b, err
}

// keepSpool makes an upload the file of the next attempt.
func (n *Node) keepSpool(name string) error {
	fs := n.spoolFS()
	if err := fs.Rename(n.spoolPath(name), n.spoolPath(restoreFile)); err != nil {
		return err
	}
	d, err := fs.OpenDir(fs.PathJoin(n.cfg.DataDir, restoreDir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dropSpool deletes a file that nobody needs any more.
func (n *Node) dropSpool() {
	if err := n.spoolFS().Remove(n.spoolPath(restoreFile)); err != nil && !oserror.IsNotExist(err) {
		n.lg.Debug("the spooled backup stays", zap.Error(err))
	}
}

// mayRestore says why this cluster cannot take a backup. b is nil before it is known.
func (n *Node) mayRestore(ctx context.Context, b *raftfsm.Backup) error {
	if err := n.control.barrier(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	v := n.control.view()
	if !v.Formed() {
		return fmt.Errorf("%w: the cluster is not formed yet", ErrNoLeader)
	}
	if b != nil {
		if err := fits(&b.Header, v); err != nil {
			return err
		}
	}
	if r := v.Restore; r != nil {
		return n.mayRepeat(v, r)
	}
	if run, ok := v.Running(); ok {
		return refuse(GuardBusy, "operation %s (%s of %s) is running: wait for it (flotilla operation show %s), or cancel it", run.ID, run.Kind, run.Node, run.ID)
	}
	for shard := uint32(1); shard <= v.Shards; shard++ {
		s, err := askLeaderOf[restoreShard](ctx, n, shard, queryRestoreShard)
		if err != nil {
			return fmt.Errorf("%w: shard %d: %w", ErrNoLeader, shard, err)
		}
		if !s.Blank && s.Attempt == "" {
			return refuse(GuardConflict, "the cluster is not empty: shard %d has %d sessions, %d retained messages, %d shares and %d messages on their way. "+
				"Restore into a new cluster, or disconnect the clients and delete sessions and retained messages first", shard, s.Sessions, s.Retained, s.Shares, s.Pending)
		}
	}
	return nil
}

// mayRepeat judges a restore while another attempt has not ended.
func (n *Node) mayRepeat(v *state.ControlView, r *command.Restoring) error {
	op, _ := v.Operation(r.ID)
	switch {
	case r.Phase != command.RestoreStaging:
		return refuse(GuardBusy, "the restore %s is %s and ends by itself: wait for it (flotilla operation show %s)", r.ID, r.Phase, r.ID)
	case op.State == command.OperationRunning && up(v, r.Node):
		return refuse(GuardBusy, "the restore %s is running on node %s: wait for it (flotilla operation show %s), or cancel it", r.ID, r.Node, r.ID)
	}
	return nil
}

// fits compares what must be equal.
func fits(h *BackupHeader, v *state.ControlView) error {
	switch {
	case h.Shards != v.Shards:
		return refuse(GuardConflict, "the backup is of a cluster with %d shards, this one has %d: form a cluster with settings.shards: %d and restore there", h.Shards, v.Shards, h.Shards)
	case h.Slots != router.Slots || h.SlotHash != slotHash || h.SlotMap != slotMapSum(v):
		return refuse(GuardConflict, "the backup places sessions by another slot map (%s) than this cluster (%s): restore it with the release that took it (%s)", h.SlotHash, slotHash, h.Version)
	case h.FeatureLevel > max(v.FeatureLevel, knownFeatureLevel):
		return refuse(GuardConflict, "the backup needs feature level %d, this cluster has %d: upgrade its nodes first", h.FeatureLevel, v.FeatureLevel)
	}
	return nil
}

// knownFeatureLevel is the highest feature level that this program supports.
const knownFeatureLevel = 2

const (
	// featureRetainedFence: publishes name the epoch of their publisher.
	featureRetainedFence = 1
	// featureRetainedNow: who asks another node for retained messages may ask for the group's time.
	featureRetainedNow = 2
)

// quiet returns when this node serves no client, because it knows what the control group held at index.
func (n *Node) quiet(ctx context.Context, index uint64) error {
	g := n.control.group.Load()
	if g == nil {
		return ErrNoLeader
	}
	if err := g.WaitApplied(ctx, index); err != nil {
		return err
	}
	if n.control.view().Restore == nil {
		return errors.New("no restore is under way")
	}
	for {
		n.server.CloseAll(mqttServerUnavailable)
		if n.server.Stats().Connections == 0 {
			return nil
		}
		if err := sleep(ctx, bootPoll); err != nil {
			return err
		}
	}
}

// followRestore does what the control group's view of a restore asks of this node.
func (n *Node) followRestore() {
	r := n.control.view().Restore
	if r == nil || n.ctx.Err() != nil {
		return
	}
	if n.server.Stats().Connections > 0 {
		n.server.CloseAll(mqttServerUnavailable)
	}
	if r.Phase == command.RestoreStaging && r.Node == n.id {
		n.restore.mu.Lock()
		begin := n.restore.running != r.ID
		n.restore.running = r.ID
		n.restore.mu.Unlock()
		if begin {
			n.spawn(func() { n.fillShards(r) })
		}
	}
	if r.Phase != command.RestoreStaging && n.control.lead.Load() != nil && n.restore.finishing.CompareAndSwap(false, true) {
		n.spawn(func() {
			defer n.restore.finishing.Store(false)
			n.finishRestore(r)
		})
	}
}

// decodeDigest reads a digest of a header.
func decodeDigest(s string) (d [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, refuse(GuardInvalid, "a digest in the backup is %q", s)
	}
	copy(d[:], b)
	return d, nil
}

// restoreReason says in status what a restore is waiting for.
func restoreReason(v *state.ControlView, r *command.Restoring) string {
	if op, ok := v.Operation(r.ID); r.Phase == command.RestoreStaging && (!ok || op.State != command.OperationRunning || !up(v, r.Node)) {
		return fmt.Sprintf("the restore %s has stopped: no client is served until it is repeated (flotilla cluster restore FILE) or given up (flotilla operation cancel %s)", r.ID, r.ID)
	}
	return fmt.Sprintf("a backup is being restored (%s): no client is served until it is done", r.ID)
}
