package raftfsm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// OpenBolt is the default of HostConfig.Stable.
var OpenBolt = openBolt

// NewGatedLayer adapts a Layer to raft.
func NewGatedLayer(l Layer, self string) raft.StreamLayer { return newGatedLayer(l, self, time.Second) }

// NewSerialTransport makes the transport that groups use.
func NewSerialTransport(l raft.StreamLayer) raft.Transport {
	return newSerialTransport(networkConfig(l, time.Second, newHCLogger(zap.NewNop())))
}

// NewCarryingTransport makes one whose heartbeats name an entry.
func NewCarryingTransport(l raft.StreamLayer, index, term uint64) raft.Transport {
	t := newSerialTransport(networkConfig(l, time.Second, newHCLogger(zap.NewNop())))
	t.carry = func(_ raft.ServerID, req *raft.AppendEntriesRequest) bool {
		req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex = index, term, index
		return true
	}
	return t
}

// Trunk is a node's trunk without a host.
type Trunk struct{ t *trunk }

// NewTrunk opens one.
func NewTrunk(l Layer, self string, lg *zap.Logger) Trunk {
	return Trunk{newTrunk(newGatedLayer(l, self, 0), lg)}
}

// Close closes the trunk; its transports are closed before.
func (t Trunk) Close() error { return t.t.close() }

// TrunkTransport is a group's transport on a trunk, with a short patience.
type TrunkTransport struct {
	*serialTransport
	Dead atomic.Bool
}

// TrunkPatience is how long a TrunkTransport waits for an answer.
const TrunkPatience = 300 * time.Millisecond

// Transport makes the transport of a group.
func (t Trunk) Transport(group uint32, l Layer) *TrunkTransport {
	s := newSerialTransport(networkConfig(newGatedLayer(l, t.t.layer.self.String(), time.Second), time.Second, newHCLogger(zap.NewNop())))
	s.openInbox()
	tt := &TrunkTransport{serialTransport: s}
	s.trunk = t.t.join(&trunkEnd{group: group, inbox: s.inbox, dead: tt.Dead.Load, patience: TrunkPatience, dial: TrunkPatience})
	go s.forward(s.trunk.closed)
	return tt
}

// Roundtrip encodes a request or an answer as a frame and decodes it again; into is for an answer.
func Roundtrip(kind byte, group uint32, body, into any) (any, error) {
	f, err := readFrame(bufio.NewReader(bytes.NewReader(appendFrame(nil, frame{kind: frameKind(kind), group: group, number: 7, body: body}))))
	if err != nil {
		return nil, err
	}
	if f.group != group || f.number != 7 {
		return nil, fmt.Errorf("group %d, number %d", f.group, f.number)
	}
	if into != nil {
		return into, f.answer(into)
	}
	return f.request()
}

// Kinds of frames.
const (
	FrameAppend     = byte(frameAppend)
	FrameVote       = byte(frameVote)
	FramePreVote    = byte(framePreVote)
	FrameTimeoutNow = byte(frameTimeoutNow)
	FrameAnswer     = byte(frameAnswer)
	FrameRefusal    = byte(frameRefusal)
)

// ErrNoAnswer and ErrFrame are what a trunk's calls and frames fail with.
var (
	ErrNoAnswer = errNoAnswer
	ErrFrame    = errFrame
)

// ReadFrames decodes what a stream carries, as requests and as answers, until it ends. changed is a request
// that is another one when it is encoded and decoded again.
func ReadFrames(b []byte) (frames int, changed error) {
	r := bufio.NewReader(bytes.NewReader(b))
	for {
		f, err := readFrame(r)
		if err != nil {
			return frames, nil
		}
		frames++
		m, err := f.request()
		if err == nil {
			again, err := Roundtrip(byte(f.kind), f.group, m, nil)
			if err != nil || !reflect.DeepEqual(m, again) {
				return frames, fmt.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
		for _, into := range []any{
			&raft.AppendEntriesResponse{}, &raft.RequestVoteResponse{}, &raft.RequestPreVoteResponse{}, &raft.TimeoutNowResponse{},
		} {
			_ = f.answer(into) // it may not panic
		}
	}
}

// Writer returns the send function of a frameWriter on c.
func Writer(c net.Conn) func(number uint64) error {
	w := &frameWriter{conn: c, patience: time.Minute}
	return func(number uint64) error { return w.send(frame{kind: frameRefusal, number: number, body: ""}) }
}

// FrameSize is the size of the frames that Writer sends.
const FrameSize = frameHead

// LooksBeforeHang is how often a watchdog looks at a call before it says that it hangs, if each look comes after
// a long time.
func LooksBeforeHang(factor int) int {
	w := &watchdog{limit: time.Second, calls: map[*storeCall]struct{}{}}
	now := w.begin("write", 1, factor).since
	for looks := 1; ; looks++ {
		now = now.Add(time.Hour)
		if _, hangs := w.look(now); hangs {
			return looks
		}
	}
}

// Configs returns the configurations of a group's transport and raft.
func Configs(heartbeat time.Duration) (*raft.NetworkTransportConfig, *raft.Config) {
	lg := newHCLogger(zap.NewNop())
	return networkConfig(nil, rpcTimeout(heartbeat), lg), raftConfig("n1", GroupConfig{Heartbeat: heartbeat}, make(chan bool), lg)
}

// RaiseMark writes a durable mark of a group.
func RaiseMark(g *Group, index uint64) error { return g.stable.setMark(index) }

// TestLog is a group's log on a backend, without a group.
type TestLog struct {
	*groupLog
	Fence fenceMarks
}

// TestHost holds what a log or a state database needs of a host.
type TestHost struct {
	fst    *failStop
	wd     *watchdog
	LogDB  *pebble.DB
	state  *stateDB
	Failed func() error
}

// OpenTestHost opens both databases on fs. Failures are kept, not fatal.
func OpenTestHost(fs vfs.FS) (*TestHost, error) {
	h := &TestHost{}
	h.fst = newFailStop(zap.NewNop(), func(error) {})
	h.Failed = h.fst.err
	h.wd = newWatchdog(time.Minute, h.fst)
	var err error
	if h.LogDB, err = openLogDB(fs, "log", 0, h.fst, zap.NewNop()); err != nil {
		h.wd.close()
		return nil, err
	}
	db, err := openStateDB(fs, "state", h.fst, zap.NewNop())
	if err != nil {
		h.wd.close()
		return nil, errors.Join(err, h.LogDB.Close())
	}
	h.state = newStateDB(db, h.fst, h.wd)
	return h, nil
}

// Close closes the databases.
func (h *TestHost) Close() error {
	h.wd.close()
	h.state.shut()
	return errors.Join(catchPanic(h.state.db.Close), catchPanic(h.LogDB.Close))
}

// SharedLog returns the log of a group in the shared database, loaded.
func (h *TestHost) SharedLog(group uint32, cacheBytes int) (*TestLog, error) {
	return h.load(newGroupLog(group, &sharedLog{db: h.LogDB, group: group}, cacheBytes, h.fst, h.wd))
}

// StableBackedLog returns the log of a control group, loaded.
func (h *TestHost) StableBackedLog(group uint32, cacheBytes int, s StableLog) (*TestLog, error) {
	return h.load(newGroupLog(group, &stableBackend{group: group, store: s}, cacheBytes, h.fst, h.wd))
}

func (h *TestHost) load(l *groupLog) (*TestLog, error) {
	t := &TestLog{groupLog: l}
	l.fence = func() fenceMarks { return t.Fence }
	return t, l.load()
}

// Bounds returns first and last index and the size.
func (t *TestLog) Bounds() (first, last uint64, bytes int64) { return t.bounds() }

// State returns a store of one generation, and Flush makes it durable.
func (h *TestHost) State(group, generation uint32) Store { return h.state.store(group, generation) }

// Flush makes the state durable.
func (h *TestHost) Flush() error { return h.state.flush() }

// SetFence sets the marks that deletions are held against.
func (t *TestLog) SetFence(applied, snapshot uint64) {
	t.Fence = fenceMarks{applied: applied, snapshot: snapshot}
}

// StreamState streams a generation and returns its bytes and its announced size.
func (h *TestHost) StreamState(group, generation uint32, index uint64) ([]byte, int64, error) {
	r, size, err := h.state.newStreamReader(streamHead{group: group, index: index}, generation)
	if err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(r)
	return b, size, errors.Join(err, r.Close())
}

// ReadStream verifies a stream and collects its pairs.
func ReadStream(b []byte) (map[string]string, error) {
	pairs := map[string]string{}
	_, err := readStream(bytes.NewReader(b), func(k, v []byte) error {
		pairs[string(k)] = string(v)
		return nil
	})
	return pairs, err
}

// SetNudge switches a group's commit nudge.
func SetNudge(g *Group, on bool) { g.noNudge.Store(!on) }

// VerifyLeader is raft's own confirmation of leadership, which this package does not use.
func VerifyLeader(g *Group) error { return g.raft().VerifyLeader().Error() }

// TestVotes are the votes of a group on a StableLog.
type TestVotes struct{ *guardedStable }

// Votes returns the votes of a group, loaded.
func (h *TestHost) Votes(group uint32, s StableLog, owner string) (*TestVotes, error) {
	g := &guardedStable{
		group: group, inner: s, fst: h.fst, wd: h.wd, dead: h.fst.isDead,
		mayVote: func() bool { return true }, marks: func() uint64 { return 0 }, observe: func(time.Duration) {},
	}
	_, err := g.load(owner)
	return &TestVotes{g}, err
}

// CheckTail holds the votes, and a log that ends at last, against what was written last.
func (v *TestVotes) CheckTail(last, written, term uint64, cand []byte) error {
	f, err := v.load("n1")
	if err != nil {
		return err
	}
	t := tail{now: tailRecord{last: written, term: term, voteTerm: term, voteSum: voteSum(cand)}}
	return t.check(last, f)
}

// AttachTail gives a log its tail file in dir.
func (h *TestHost) AttachTail(fs vfs.FS, dir string, l *TestLog) (err error) {
	l.tail, err = openTail(fs, dir, l.group, h.fst, h.fst.isDead)
	return err
}

// TailOf reads the bound on a log from its tail file.
func TailOf(fs vfs.FS, dir string, group uint32) (uint64, error) {
	t, err := openTail(fs, dir, group, nil, func() bool { return false })
	if err != nil {
		return 0, err
	}
	return t.now.last, t.close(false)
}

// NewHCLogger adapts a zap logger for raft.
func NewHCLogger(lg *zap.Logger) hclog.Logger { return newHCLogger(lg) }

// TakeOlderSnapshot ends a snapshot that was begun at index, as raft's snapshot goroutine would.
func TakeOlderSnapshot(g *Group, index uint64) error {
	sink, err := g.snaps.Create(raft.SnapshotVersionMax, index, 1, g.configuration(), 1, nil)
	if err != nil {
		return err
	}
	sink.(*snapshotSink).local = true
	return sink.Close()
}

// SetTerm makes the replica one that has heard of a term.
func (r *Repair) SetTerm(term uint64) error { return r.g.stable.SetUint64([]byte(keyTerm), term) }
