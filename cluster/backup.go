package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// Queries of backups and restores. Numbers are on the wire.
const (
	queryBackupHold    byte = 56 // shard, token, ttl in ms: the term of the leader that holds
	queryBackupCapture byte = 57 // group: captureInfo as JSON
	queryBackupRelease byte = 58 // shard, token, term: whether the hold never lapsed
	queryBackupRead    byte = 59 // capture, bytes wanted: more, bytes
	queryBackupClose   byte = 60 // capture
	queryRestoreQuiet  byte = 61 // control index: answers when no client is left
	queryRestoreShard  byte = 62 // shard: restoreShard as JSON
	queryRestoreDecide byte = 63 // restoreRequest, restoreReply as JSON
)

const (
	// slotHash names router.Slot in a backup.
	slotHash = "xxhash64(tenant 0 key) mod 4096"
	// holdTTL bounds how long pumps are held. Captures take as long as a write-back.
	holdTTL = 12 * time.Second
	// backupTries is how often a cut is tried; each failure is a change of leader in the middle of one.
	backupTries = 5
	// backupPage is how much of a capture one answer holds.
	backupPage = 512 << 10
	// captureIdle is how long nobody has to ask for a capture until it is given up.
	captureIdle = time.Minute
	// captureTouch is how often a backup says that it still wants its captures.
	captureTouch = 15 * time.Second
)

// BackupHeader says what a backup holds.
type BackupHeader = raftfsm.BackupHeader

// captureInfo is the answer to a capture.
type captureInfo struct {
	ID    string              `json:"id"`
	Node  string              `json:"node"`
	Group raftfsm.BackupGroup `json:"group"`
}

// heldCapture is a capture that this node's disk holds for a backup.
type heldCapture struct {
	mu   sync.Mutex
	c    *raftfsm.Capture
	used time.Time
}

// captureBook are the captures of this node.
type captureBook struct {
	mu   sync.Mutex
	list map[string]*heldCapture
}

func (n *Node) answerBackup(ctx context.Context, q byte, d *dec) ([]byte, error) {
	switch q {
	case queryBackupHold:
		shard, token, ttl := uint32(d.uint()), d.string(), time.Duration(d.uint())*time.Millisecond
		l := n.leading(shard)
		if d.err() != nil || l == nil {
			return nil, ErrNoLeader
		}
		err := l.origins.holdFor(ctx, token, min(ttl, holdTTL))
		return putUint(nil, l.term), err
	case queryBackupRelease:
		shard, token, term := uint32(d.uint()), d.string(), d.uint()
		if err := d.err(); err != nil {
			return nil, err
		}
		return putBool(nil, n.releaseHold(ctx, shard, token, term)), nil
	case queryBackupCapture:
		group := uint32(d.uint())
		if err := d.err(); err != nil {
			return nil, err
		}
		info, err := n.capture(ctx, group)
		if err != nil {
			return nil, err
		}
		return json.Marshal(info)
	case queryBackupRead:
		id, most := d.string(), int(d.uint())
		if err := d.err(); err != nil {
			return nil, err
		}
		return n.readCapture(id, min(most, backupPage))
	case queryBackupClose:
		n.dropCapture(d.string())
		return nil, d.err()
	case queryRestoreQuiet:
		index := d.uint()
		if err := d.err(); err != nil {
			return nil, err
		}
		return nil, n.quiet(ctx, index)
	case queryRestoreShard:
		return n.answerRestoreShard(d)
	default:
		return answerDecide(ctx, d.b, n.control.judgeRestore)
	}
}

// releaseHold ends the hold of a shard that this node leads. The read index proves that nobody else led meanwhile.
func (n *Node) releaseHold(ctx context.Context, shard uint32, token string, term uint64) bool {
	l := n.leading(shard)
	if l == nil {
		return false
	}
	_, err := n.localReadIndex(ctx, shard)
	return l.origins.letGo(token) && err == nil && l.term == term && n.leading(shard) == l
}

// capture captures a group that this node leads.
func (n *Node) capture(ctx context.Context, group uint32) (*captureInfo, error) {
	g := n.groupOf(group)
	if g == nil {
		return nil, ErrNoLeader
	}
	info := &captureInfo{ID: randomHex(8), Node: n.id, Group: raftfsm.BackupGroup{Group: group, Kind: "control"}}
	describe := func() {
		_, d := n.control.mach.Digest()
		info.Group.Digest = hex.EncodeToString(d[:])
	}
	if group > 0 {
		r := n.replica(group)
		describe = func() { describeShard(&info.Group, r.mach) }
	}
	c, err := g.Capture(ctx, describe)
	if err != nil {
		return nil, fmt.Errorf("%w: capture group %d: %w", ErrNoLeader, group, err)
	}
	info.Group.Index, info.Group.Term = c.Index, c.Term
	n.captures.mu.Lock()
	if n.captures.list == nil {
		n.captures.list = map[string]*heldCapture{}
	}
	h := &heldCapture{c: c, used: time.Now()}
	n.captures.list[info.ID] = h
	n.captures.mu.Unlock()
	n.spawn(func() { n.watchCapture(info.ID, h) })
	return info, nil
}

// describeShard runs on the apply goroutine, at the index of the capture.
func describeShard(g *raftfsm.BackupGroup, mach *state.Shard) {
	_, d := mach.Digest()
	content, st := mach.ContentDigest(), mach.Stats()
	g.Kind, g.Digest, g.Content, g.ClockMS = "shard", hex.EncodeToString(d[:]), hex.EncodeToString(content[:]), mach.Clock()
	g.Sessions, g.Subscriptions, g.Shares, g.Messages = st.Sessions, st.Subscriptions, st.Shares, st.InboxMessages
	g.Retained, g.Originated, g.Inbound = st.RetainedMessages, st.Originated, st.Inbound
}

// watchCapture gives a capture up that nobody asks for any more.
func (n *Node) watchCapture(id string, h *heldCapture) {
	tick := time.NewTicker(captureIdle / 4)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			n.dropCapture(id)
			return
		case <-tick.C:
		}
		h.mu.Lock()
		open, idle := h.c != nil, time.Since(h.used)
		h.mu.Unlock()
		if !open {
			return
		}
		if idle > captureIdle {
			n.lg.Warn("a backup was given up: nobody asked for more", zap.String("event", "backup.abandoned"))
			n.dropCapture(id)
			return
		}
	}
}

func (n *Node) dropCapture(id string) {
	n.captures.mu.Lock()
	h := n.captures.list[id]
	delete(n.captures.list, id)
	n.captures.mu.Unlock()
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.c != nil {
		_ = h.c.Close() // what was read is whole; a failure of the disk ends the node anyway
		h.c = nil
	}
}

// readCapture reads on in a capture: whether there is more, and the bytes. Nothing wanted only says that it is wanted.
func (n *Node) readCapture(id string, most int) ([]byte, error) {
	n.captures.mu.Lock()
	h := n.captures.list[id]
	n.captures.mu.Unlock()
	if h == nil {
		return nil, errors.New("the capture is gone")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.c == nil {
		return nil, errors.New("the capture is gone")
	}
	h.used = time.Now()
	out := putBool(make([]byte, 0, most+1), true)
	at := len(out)
	got, err := io.ReadFull(h.c, out[at:at+most])
	out = out[:at+got]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		out[0], err = 0, nil
	}
	return out, err
}

// Backup writes everything that the cluster holds to w, each group as of one applied index. begun is called before the
// first byte. An error after that leaves w without a trailer: what was written is no backup.
func (n *Node) Backup(ctx context.Context, w io.Writer, begun func(*BackupHeader) error) error {
	if err := n.control.barrier(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	v := n.control.view()
	if !v.Formed() {
		return fmt.Errorf("%w: the cluster is not formed yet", ErrNoLeader)
	}
	if v.Restore != nil {
		return refuse(GuardBusy, "a restore is not finished: there is nothing whole to back up; wait for it (flotilla operation show %s)", v.Restore.ID)
	}
	began := time.Now()
	cut, err := n.cut(ctx, v)
	if err != nil {
		return err
	}
	defer n.closeCaptures(cut)
	h := &BackupHeader{
		ClusterID: v.ClusterID, CreatedAt: time.Now().UTC(), Version: n.cfg.Version, FeatureLevel: v.FeatureLevel,
		Shards: v.Shards, Slots: router.Slots, SlotHash: slotHash, SlotMap: slotMapSum(v),
	}
	for _, c := range cut {
		h.Groups = append(h.Groups, c.Group)
	}
	if err := begun(h); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	touched := make(chan struct{})
	go func() { defer close(touched); n.touchCaptures(ctx, cut) }()
	defer func() { cancel(); <-touched }()
	b, err := raftfsm.NewBackupWriter(w, h)
	for _, c := range cut {
		if err == nil {
			err = b.Section(c.Group.Group, c.Group.Index, &captureReader{n: n, ctx: ctx, c: c}, nil)
		}
	}
	if err == nil {
		err = b.Close()
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	n.lg.Info("backup is taken", zap.String("event", "backup.taken"), zap.Duration("took", time.Since(began)))
	return nil
}

// slotMapSum is the SHA-256 of the map from slots to shards, in hex.
func slotMapSum(v *state.ControlView) string {
	h := sha256.New()
	for _, shard := range v.Slots {
		h.Write([]byte{byte(shard >> 24), byte(shard >> 16), byte(shard >> 8), byte(shard)})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// cut captures all groups so that the captures fit together (see originHold).
func (n *Node) cut(ctx context.Context, v *state.ControlView) ([]*captureInfo, error) {
	var err error
	for try := range backupTries {
		if try > 0 {
			if err := sleep(ctx, n.cfg.Raft.Heartbeat); err != nil {
				return nil, err
			}
		}
		var cut []*captureInfo
		if cut, err = n.tryCut(ctx, v); err == nil {
			return cut, nil
		}
		n.closeCaptures(cut)
		n.lg.Debug("a cut for a backup failed", zap.Error(err))
	}
	return nil, fmt.Errorf("%w: %w", ErrBackupBusy, err)
}

func (n *Node) tryCut(ctx context.Context, v *state.ControlView) ([]*captureInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, holdTTL)
	defer cancel()
	token := randomHex(8)
	terms := make([]uint64, v.Shards+1)
	err := eachShard(v, func(shard uint32) error {
		resp, err := n.askLeader(ctx, shard, queryBackupHold, putUint(putBytes(putUint(nil, uint64(shard)), token), uint64(holdTTL.Milliseconds())))
		d := dec{b: resp}
		terms[shard] = d.uint()
		return errors.Join(err, d.err())
	})
	cut := make([]*captureInfo, v.Shards+1)
	if err == nil {
		err = eachShard(v, func(shard uint32) (err error) {
			cut[shard], err = askLeaderOf[captureInfo](ctx, n, shard, queryBackupCapture)
			return err
		})
	}
	// Every hold is ended, whatever happened; each must have stood until the last capture.
	held := eachShard(v, func(shard uint32) error {
		resp, err := n.askLeader(ctx, shard, queryBackupRelease, putUint(putBytes(putUint(nil, uint64(shard)), token), terms[shard]))
		if d := (dec{b: resp}); err == nil && !d.bool() {
			err = fmt.Errorf("shard %d changed its leader meanwhile", shard)
		}
		return err
	})
	if err = errors.Join(err, held); err == nil {
		cut[0], err = askLeaderOf[captureInfo](ctx, n, 0, queryBackupCapture)
	}
	return cut, err
}

// eachShard calls fn for all shards at once.
func eachShard(v *state.ControlView, fn func(shard uint32) error) error {
	errs := make([]error, v.Shards)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = fn(uint32(i) + 1)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (n *Node) closeCaptures(cut []*captureInfo) {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Raft.Heartbeat)
	defer cancel()
	for _, c := range cut {
		if c != nil {
			_, _ = n.ask(ctx, c.Node, queryBackupClose, putBytes(nil, c.ID)) // else it is given up when nobody asks for it
		}
	}
}

// touchCaptures keeps the captures that wait for their turn.
func (n *Node) touchCaptures(ctx context.Context, cut []*captureInfo) {
	for sleep(ctx, captureTouch) == nil {
		for _, c := range cut {
			_, _ = n.ask(ctx, c.Node, queryBackupRead, putUint(putBytes(nil, c.ID), 0)) // a capture that is gone shows when it is read
		}
	}
}

// captureReader reads a capture page by page.
type captureReader struct {
	n    *Node
	ctx  context.Context // of the backup that it is part of
	c    *captureInfo
	page []byte
	done bool
}

// Read implements io.Reader.
func (r *captureReader) Read(p []byte) (int, error) {
	for len(r.page) == 0 {
		if r.done {
			return 0, io.EOF
		}
		ctx, cancel := context.WithTimeout(r.ctx, queryTimeout)
		resp, err := r.n.ask(ctx, r.c.Node, queryBackupRead, putUint(putBytes(nil, r.c.ID), backupPage))
		cancel()
		if err != nil || len(resp) == 0 {
			return 0, fmt.Errorf("read group %d from %s: %w", r.c.Group.Group, r.c.Node, errors.Join(err, r.ctx.Err()))
		}
		r.page, r.done = resp[1:], resp[0] == 0
	}
	n := copy(p, r.page)
	r.page = r.page[n:]
	return n, nil
}
