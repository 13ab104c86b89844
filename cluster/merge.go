package cluster

import (
	"context"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

const (
	// mergeInFlight is how many entries a leader has under way per shard. While
	// they are, batches gather and leave as one entry: two keep the disk busy
	// during the round trip to the followers, more only make entries smaller.
	mergeInFlight = 2
	// mergeMaxBytes bounds the batches that wait at a leader. Beyond it lanes
	// are refused and send again: their own bound has long stopped publishers.
	mergeMaxBytes = 64 << 20
)

// proposer is what a merger needs of a group.
type proposer interface {
	Propose(entry []byte, done func(results any, index uint64, err error))
	IsLeader() bool
}

// waitingBatch is one batch that arrived at the leader.
type waitingBatch struct {
	bytes []byte
	done  func(command.BatchResult, uint64, error)
}

// merger turns the batches that wait at a shard's leader into Raft entries.
// Batches stay in the order in which they came, so each lane's order is kept.
type merger struct {
	node     string
	group    proposer
	clock    func() int64 // unix ms, stamped into entries
	entryMax int
	wake     chan struct{} // capacity 1

	mu       sync.Mutex
	queue    []waitingBatch
	bytes    int
	inFlight int
	nextID   uint64
	closed   bool
}

func newMerger(node string, g proposer, clock func() int64, entryMax int) *merger {
	// Proposal ids must not repeat across restarts: an old entry must not answer
	// a new proposal.
	return &merger{node: node, group: g, clock: clock, entryMax: entryMax, nextID: uint64(clock()) << 20, wake: make(chan struct{}, 1)}
}

// submit queues one batch. done is called exactly once, also after a close.
// batch belongs to the merger from now on.
func (m *merger) submit(batch []byte, done func(command.BatchResult, uint64, error)) {
	if !m.group.IsLeader() {
		done(command.BatchResult{}, 0, raftfsm.ErrNotLeader)
		return
	}
	m.mu.Lock()
	if m.closed || m.bytes > mergeMaxBytes {
		m.mu.Unlock()
		done(command.BatchResult{}, 0, raftfsm.ErrBusy)
		return
	}
	m.queue = append(m.queue, waitingBatch{bytes: batch, done: done})
	m.bytes += len(batch)
	m.mu.Unlock()
	m.kick()
}

func (m *merger) kick() {
	select {
	case m.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// run proposes until ctx ends; then what waits is refused.
func (m *merger) run(ctx context.Context) {
	for {
		for m.proposeNext() {
		}
		select {
		case <-ctx.Done():
			m.close()
			return
		case <-m.wake:
		}
	}
}

func (m *merger) close() {
	m.mu.Lock()
	m.closed = true
	queue := m.queue
	m.queue, m.bytes = nil, 0
	m.mu.Unlock()
	for _, w := range queue {
		w.done(command.BatchResult{}, 0, raftfsm.ErrClosed)
	}
}

// proposeNext merges what waits into one entry and proposes it.
func (m *merger) proposeNext() bool {
	m.mu.Lock()
	if m.inFlight >= mergeInFlight || len(m.queue) == 0 {
		m.mu.Unlock()
		return false
	}
	n, size := 0, 0
	for n < len(m.queue) && (n == 0 || size+len(m.queue[n].bytes) <= m.entryMax) {
		size += len(m.queue[n].bytes)
		n++
	}
	taken := make([]waitingBatch, n)
	copy(taken, m.queue)
	m.queue = append(m.queue[:0:0], m.queue[n:]...)
	m.bytes -= size
	m.inFlight++
	m.nextID++
	id := m.nextID
	m.mu.Unlock()

	batches := make([][]byte, n)
	for i, w := range taken {
		batches[i] = w.bytes
	}
	h := command.Header{Time: m.clock(), Leader: m.node, Proposal: id}
	entry := command.BuildEntry(make([]byte, 0, command.EntrySize(&h, n, size)), &h, batches...)
	m.group.Propose(entry, func(results any, index uint64, err error) {
		m.mu.Lock()
		m.inFlight--
		m.mu.Unlock()
		m.kick()
		answer(taken, results, index, err)
	})
	return true
}

// answer gives each batch its result.
func answer(taken []waitingBatch, results any, index uint64, err error) {
	rs, _ := results.([]command.BatchResult)
	for i, w := range taken {
		switch {
		case err != nil:
			w.done(command.BatchResult{}, 0, err)
		case i >= len(rs):
			// A replay answers nothing: the entry was applied before.
			w.done(command.BatchResult{}, 0, raftfsm.ErrUnknownOutcome)
		default:
			w.done(rs[i], index, nil)
		}
	}
}
