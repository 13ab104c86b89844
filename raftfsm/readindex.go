package raftfsm

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// reader is one ReadIndex that waits for a majority to confirm the leadership.
type reader struct {
	round uint64 // answers to messages of this round or a later one count
	term  uint64
	once  sync.Once
	done  chan struct{}
	err   error
}

func (r *reader) finish(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.done)
	})
}

// ReadIndex returns an index such that a replica which has applied it serves a linearizable read. It
// is the commit index at the call, valid because this replica has applied an entry of its own term
// and because a majority then confirms the leadership in answer to a message sent after the call.
// raft's VerifyLeader is not used: it also accepts answers to heartbeats sent before. Calls share
// messages. ErrNotLeader: ask the leader; another error: the context's, or ErrClosed.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) {
	term, changed := g.proposals.state()
	if term == 0 {
		if g.isClosed() {
			return 0, ErrClosed
		}
		return 0, ErrNotLeader
	}
	index := g.raft().CommitIndex()
	rd, err := g.peers.ask(term)
	if err != nil {
		return 0, err
	}
	defer g.peers.leave(rd)
	for {
		select {
		case <-rd.done:
			if rd.err == nil && !g.leadsIn(term) {
				return 0, ErrNotLeader
			}
			return index, rd.err
		case <-changed:
			var now uint64
			if now, changed = g.proposals.state(); now != term {
				return 0, ErrNotLeader
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-g.stop:
			return 0, ErrClosed
		}
	}
}

// leadsIn says whether raft still leads in term.
func (g *Group) leadsIn(term uint64) bool {
	return g.raft().State() == raft.Leader && g.raft().CurrentTerm() == term && g.leadTerm.Load() == term
}

// ask begins a confirmation.
func (p *peers) ask(term uint64) (*reader, error) {
	members := p.g.configuration()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	p.beginLocked(term)
	p.round++
	rd := &reader{round: p.round, term: term, done: make(chan struct{})}
	p.readers = append(p.readers, rd)
	for _, s := range members.Servers {
		if s.Suffrage == raft.Voter && s.ID != p.g.self() {
			p.kickLocked(p.peerLocked(s.ID))
		}
	}
	p.settleLocked(members)
	return rd, nil
}

// leave forgets a reader that waits no more.
func (p *peers) leave(rd *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range p.readers {
		if r == rd {
			p.readers = append(p.readers[:i], p.readers[i+1:]...)
			return
		}
	}
}

// confirm counts a follower's answer, in the leader's term, to a message of a round: it knew of no
// newer leader when it answered.
func (p *peers) confirm(q *peer, round uint64) {
	members := p.g.configuration()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[q.id] != q {
		return
	}
	q.confirmed = max(q.confirmed, round)
	p.settleLocked(members)
}

// settleLocked answers the readers whose round a majority of the voters has confirmed.
func (p *peers) settleLocked(members raft.Configuration) {
	waiting := p.readers[:0]
	for _, rd := range p.readers {
		voters, confirmed := 0, 0
		for _, s := range members.Servers {
			if s.Suffrage != raft.Voter {
				continue
			}
			voters++
			if q := p.known[s.ID]; s.ID == p.g.self() || q != nil && p.term == rd.term && q.confirmed >= rd.round {
				confirmed++
			}
		}
		if confirmed > voters/2 {
			rd.finish(nil)
			continue
		}
		waiting = append(waiting, rd)
	}
	clear(p.readers[len(waiting):])
	p.readers = waiting
}
