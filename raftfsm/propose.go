package raftfsm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// proposals is a group's own table of what it has proposed. raft's futures are not used: those that
// wait in its channels at a shutdown are never answered. An entry is answered when it is applied here
// (its key travels in the entry), and all are answered when leadership or the group ends.
//
// A proposal is queued, then handed to raft by the feeder, then appended (seen by the log store),
// then applied. While this replica leads, raft drops an entry that it was handed only during a
// leadership transfer, and then nothing is admitted.
type proposals struct {
	nonce    uint64
	maxBytes int
	maxEntry int
	observe  func(time.Duration)
	// led is told, under mu, of the begin (term) and the end (0) of a ready leadership.
	led func(term uint64)

	mu       sync.Mutex
	closed   bool
	leading  bool   // proposals are admitted unless held
	held     bool   // a transfer is under way
	term     uint64 // of the leadership, once leading
	barrier  uint64 // the first of the barriers that this leadership waits for; 0 = none
	next     uint64
	pending  map[uint64]*proposal
	bytes    int
	unstored int // proposals not yet appended
	queue    []*proposal
	wake     chan struct{}
	changed  chan struct{} // closed and replaced when what drained waits for may have come
}

// proposal is one entry on its way.
type proposal struct {
	seq    uint64
	entry  []byte
	done   func(results any, index uint64, err error)
	at     time.Time
	stored bool
}

func newProposals(nonce uint64, maxBytes, maxEntry int, observe func(time.Duration), led func(uint64)) *proposals {
	return &proposals{
		nonce: nonce, maxBytes: maxBytes, maxEntry: maxEntry, observe: observe, led: led,
		pending: map[uint64]*proposal{}, wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// add admits an entry or says why not.
func (p *proposals) add(entry []byte, done func(any, uint64, error)) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case len(entry) == 0:
		return ErrEmpty
	case len(entry) > p.maxEntry:
		return fmt.Errorf("%w: %d of %d bytes", ErrTooLarge, len(entry), p.maxEntry)
	case !p.leading || p.held:
		return ErrNotLeader
	case len(p.pending) > 0 && p.bytes+len(entry) > p.maxBytes:
		return ErrBusy
	}
	p.enqueueLocked(entry, done, now)
	return nil
}

func (p *proposals) enqueueLocked(entry []byte, done func(any, uint64, error), now time.Time) *proposal {
	p.next++
	pr := &proposal{seq: p.next, entry: entry, done: done, at: now}
	p.pending[pr.seq] = pr
	p.bytes += len(entry)
	p.unstored++
	p.queue = append(p.queue, pr)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return pr
}

// addBarrier queues an empty entry; done is told its number.
func (p *proposals) addBarrier(done func(seq uint64, err error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	seq := p.next + 1
	p.enqueueLocked(nil, func(_ any, _ uint64, err error) { done(seq, err) }, time.Now())
}

// gain begins a leadership: it is ready when its barrier is applied.
func (p *proposals) gain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.barrier = p.enqueueLocked(nil, func(any, uint64, error) {}, time.Now()).seq
	}
}

// regain proposes the barrier of a leadership again if raft has not taken it.
func (p *proposals) regain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.barrier == 0 {
		return
	}
	for seq := p.barrier; seq <= p.next; seq++ { // nothing but barriers is admitted meanwhile
		if pr := p.pending[seq]; pr != nil && pr.stored {
			return
		}
	}
	p.enqueueLocked(nil, func(any, uint64, error) {}, time.Now())
}

// lose ends a leadership: what is pending may or may not commit.
func (p *proposals) lose() {
	p.mu.Lock()
	all := p.endLocked()
	p.mu.Unlock()
	answer(all, ErrUnknownOutcome)
}

// close ends the table.
func (p *proposals) close() {
	p.mu.Lock()
	p.closed = true
	all := p.endLocked()
	p.mu.Unlock()
	answer(all, fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrClosed))
}

func (p *proposals) endLocked() []*proposal {
	if p.leading {
		p.led(0)
	}
	p.leading, p.held, p.barrier, p.term = false, false, 0, 0
	return p.takeAllLocked()
}

func (p *proposals) takeAllLocked() []*proposal {
	all := make([]*proposal, 0, len(p.pending))
	for _, pr := range p.pending {
		all = append(all, pr)
	}
	slices.SortFunc(all, func(a, b *proposal) int { return cmp.Compare(a.seq, b.seq) })
	clear(p.pending)
	p.queue, p.bytes, p.unstored = nil, 0, 0
	p.changedLocked()
	return all
}

func answer(all []*proposal, err error) {
	for _, pr := range all {
		pr.done(nil, 0, err)
	}
}

// mine returns the number of a proposal of this run that an entry's extensions name.
func (p *proposals) mine(ext []byte) (seq uint64, ok bool) {
	if len(ext) != extensionLen || binary.BigEndian.Uint64(ext) != p.nonce {
		return 0, false
	}
	return binary.BigEndian.Uint64(ext[8:]), true
}

// stored notes entries that are in the log now.
func (p *proposals) stored(logs []*raft.Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range logs {
		seq, ok := p.mine(l.Extensions)
		if !ok {
			continue
		}
		if pr := p.pending[seq]; pr != nil && !pr.stored {
			pr.stored = true
			p.unstored--
		}
	}
	if p.held && p.unstored == 0 {
		p.changedLocked()
	}
}

// applied answers a proposal. The barrier of a leadership makes it ready.
func (p *proposals) applied(seq uint64, results any, index, term uint64) {
	p.mu.Lock()
	pr := p.pending[seq]
	if pr != nil {
		delete(p.pending, seq)
		p.bytes -= len(pr.entry)
		if !pr.stored {
			p.unstored--
		}
	}
	if p.barrier != 0 && seq >= p.barrier {
		p.dropLocked(p.barrier, seq)
		p.barrier, p.leading, p.term = 0, true, term
		p.led(term)
		p.changedLocked()
	}
	if p.held && len(p.pending) == 0 {
		p.changedLocked()
	}
	p.mu.Unlock()
	if pr != nil {
		p.observe(time.Since(pr.at))
		pr.done(results, index, nil)
	}
}

// dropLocked forgets the barriers that raft has not taken, below one that it has.
func (p *proposals) dropLocked(from, to uint64) {
	for seq := from; seq < to; seq++ {
		if pr := p.pending[seq]; pr != nil && !pr.stored {
			delete(p.pending, seq)
			p.unstored--
		}
	}
}

func (p *proposals) changedLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// state returns the term of a ready leadership (0 = none) and a channel that closes when that may
// have changed.
func (p *proposals) state() (term uint64, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leading {
		term = p.term
	}
	return term, p.changed
}

// leads says whether proposals are admitted.
func (p *proposals) leads() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leading && !p.held
}

// hold stops admission for a transfer. It fails if this replica does not lead or is held already.
func (p *proposals) hold() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leading || p.held {
		return false
	}
	p.held = true
	return true
}

// release admits proposals again.
func (p *proposals) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	p.changedLocked()
}

// rejected answers the proposals that raft has dropped: those not appended although seq, which was
// handed over after them, is.
func (p *proposals) rejected(seq uint64) {
	p.mu.Lock()
	var all []*proposal
	for _, pr := range p.pending {
		if pr.seq < seq && !pr.stored {
			all = append(all, pr)
			delete(p.pending, pr.seq)
			p.bytes -= len(pr.entry)
			p.unstored--
		}
	}
	p.mu.Unlock()
	answer(all, ErrNotLeader)
}

// inFlight returns how many proposals wait for an answer, and the channel that closes when that may
// have changed.
func (p *proposals) inFlight() (pending, unstored int, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending), p.unstored, p.changed
}

// take returns the proposals to hand to raft, in order.
func (p *proposals) take(buf []*proposal) []*proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	buf = append(buf[:0], p.queue...)
	clear(p.queue)
	p.queue = p.queue[:0]
	return buf
}

// alive says whether a proposal still waits: one that was answered is not handed to raft.
func (p *proposals) alive(pr *proposal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending[pr.seq] == pr
}

// feed is the goroutine that hands proposals to raft. ApplyLog blocks while raft's channel is full
// and returns at raft's shutdown.
func (p *proposals) feed(r *raft.Raft, stop <-chan struct{}) {
	var batch []*proposal
	for {
		select {
		case <-stop:
			return
		case <-p.wake:
		}
		batch = p.take(batch)
		for i, pr := range batch {
			if p.alive(pr) {
				r.ApplyLog(raft.Log{Data: pr.entry, Extensions: putExtension(p.nonce, pr.seq)}, 0)
			}
			batch[i] = nil
		}
	}
}
