package raftfsm

import (
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

// TrunkGroup is the number that a trunk's layer has instead of a group's.
const TrunkGroup = math.MaxUint32

// A trunk carries the small messages of all groups between two nodes: entries, heartbeats, votes, and
// what goes beside them. raft's own transport has streams for each group, two or three to each
// follower, with a buffer of 256 KiB at either end, and a system call for each message and each answer: in every
// profile the largest cost that was not ours (docs/performance.md). On one stream, messages that
// meet share their system calls and wake-ups. Snapshots and large entries still go by the group's own
// stream, where they keep nobody waiting.
//
// A node dials each node that it has something to say to; answers come back on the same stream. What
// is not answered in time has failed, as in raft's transport; the stream is ended with it if it carried nothing
// meanwhile.
type trunk struct {
	layer *gatedLayer
	lg    *zap.Logger
	wg    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	links  map[string]*trunkLink
	ends   map[uint32]*trunkEnd
}

// trunkPatience is how long a write to a trunk may make no progress.
const trunkPatience = 5 * time.Second

var (
	// errNoTrunk says that the peer has none, or none yet: the group's own stream is the way.
	errNoTrunk = errors.New("the peer has no trunk")
	// errNoAnswer says that a request was not answered in time.
	errNoAnswer = errors.New("no answer in time")
)

// OpenTrunk makes the groups that are opened from now on share one stream to each other node. The host
// closes the layer. Without a trunk each group uses its own layer for everything.
func (h *Host) OpenTrunk(l Layer) {
	t := newTrunk(newGatedLayer(l, h.cfg.NodeID, 0), h.lg)
	h.fst.register(t.layer)
	h.trunk.Store(t)
}

func newTrunk(l *gatedLayer, lg *zap.Logger) *trunk {
	t := &trunk{layer: l, lg: lg, links: map[string]*trunkLink{}, ends: map[uint32]*trunkEnd{}}
	t.spawn(t.accept)
	return t
}

func (t *trunk) spawn(fn func()) {
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		fn()
	}()
}

// close ends all streams and waits for their goroutines. The groups are closed before.
func (t *trunk) close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	err := t.layer.Close()
	t.wg.Wait()
	return ignoreClosed(err)
}

// trunkEnd is one replica's end of the trunk: it sends for it, and its messages arrive there.
type trunkEnd struct {
	t     *trunk
	group uint32
	// inbox takes what other replicas ask.
	inbox chan<- raft.RPC
	// dead says that nothing which the stores say may leave any more.
	dead func() bool
	// patience is how long an answer may take, dial how long a dial.
	patience, dial time.Duration

	closed chan struct{}
	once   sync.Once
}

// join lets messages for a replica in. It replaces one of the group that was closed.
func (t *trunk) join(e *trunkEnd) *trunkEnd {
	e.t, e.closed = t, make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends[e.group] = e
	return e
}

// leave ends every call of the replica, and lets nothing more in.
func (e *trunkEnd) leave() {
	e.once.Do(func() { close(e.closed) })
	e.t.mu.Lock()
	defer e.t.mu.Unlock()
	if e.t.ends[e.group] == e {
		delete(e.t.ends, e.group)
	}
}

// call sends a request to the replica on node and decodes the answer into resp. errNoTrunk: nothing was sent.
func (e *trunkEnd) call(node raft.ServerID, kind frameKind, req, resp any) error {
	s, err := e.t.link(string(node)).stream(e)
	if err != nil {
		return err
	}
	return s.call(frame{kind: kind, group: e.group, body: req}, resp, e)
}

func (t *trunk) end(group uint32) *trunkEnd {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ends[group]
}

func (t *trunk) link(node string) *trunkLink {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.links[node]
	if l == nil {
		l = &trunkLink{t: t, node: node}
		t.links[node] = l
	}
	return l
}

// accept serves the streams that other nodes dial.
func (t *trunk) accept() {
	for {
		c, err := t.layer.Accept()
		if err != nil { // a layer's Accept fails only when it is closed
			return
		}
		t.spawn(func() { t.serve(c) })
	}
}

// serve answers the requests that come on one stream.
func (t *trunk) serve(c net.Conn) {
	s := &trunkServer{t: t, out: &frameWriter{conn: c, patience: trunkPatience}, queues: map[uint32]chan trunkRequest{}}
	err := s.read(c)
	_ = c.Close()
	for _, q := range s.queues {
		close(q)
	}
	switch {
	case errors.Is(err, errFrame): // another program, or a defect of one side: the node that sent it dials anew
		t.lg.Warn("a stream of another node carries no raft messages and is closed", zap.Stringer("peer", c.RemoteAddr()), zap.Error(err))
	case !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		t.lg.Debug("a stream of another node has ended", zap.Stringer("peer", c.RemoteAddr()), zap.Error(err))
	}
}
