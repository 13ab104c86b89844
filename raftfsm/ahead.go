package raftfsm

import (
	"time"

	"github.com/hashicorp/raft"
)

// A leader may hand entries to its followers while it writes them itself (Ongaro, "Consensus: Bridging
// Theory and Practice", section 10.2.1): they count once they are on its own disk. raft writes first and
// replicates then, so an entry takes two fsyncs after each other. Our log, which raft asks to store what
// a leader appends, sends the entries ahead to each follower that has all before them; when raft, later,
// sends them itself, the transport gives it the answer that is there or on its way.
//
// What raft is told in this way is what the follower has answered, in the same term, to a message with
// the very entries: nothing is concluded from what was known of it before. A refusal forgets the answer.

// ahead is one message of entries that was sent ahead to one follower.
type ahead struct {
	from, to uint64
	done     chan struct{} // closed with the answer, or without one
	// resp is the answer, at when it came; ok says that it has the entries. Guarded by peers.mu, set before done is closed.
	resp raft.AppendEntriesResponse
	at   time.Time
	ok   bool
}

// sendAhead sends what the leader is about to write to the followers that wait for it. One message is
// under way to each at most: under load the next one is what raft sends, with all that gathered.
func (p *peers) sendAhead(logs []*raft.Log) {
	g := p.g
	r, term, first := g.raft(), logs[0].Term, logs[0].Index
	if r == nil || r.State() != raft.Leader || r.CurrentTerm() != term || g.trans.trunk == nil || len(logs) > maxAppendEntries {
		return
	}
	before, ok := g.termAt(first - 1)
	if !ok {
		return
	}
	self := []byte(g.h.cfg.NodeID)
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: self, Addr: self},
		Term:      term, PrevLogEntry: first - 1, PrevLogTerm: before, Entries: logs, LeaderCommitIndex: r.CommitIndex(),
	}
	if !fitsTrunk(req) {
		return
	}
	members := g.configuration()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.term != term {
		return
	}
	for _, s := range members.Servers {
		q := p.known[s.ID]
		if q == nil || s.Suffrage != raft.Voter || q.match != first-1 || q.ahead != nil && !q.ahead.answered() {
			continue
		}
		a := &ahead{from: first, to: logs[len(logs)-1].Index, done: make(chan struct{})}
		q.ahead = a
		p.wg.Add(1)
		go p.carryAhead(q, a, req)
	}
}

func (a *ahead) answered() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// carryAhead waits for the answer to a message that goes ahead.
func (p *peers) carryAhead(q *peer, a *ahead, req *raft.AppendEntriesRequest) {
	defer p.wg.Done()
	var resp raft.AppendEntriesResponse
	err := p.g.trans.trunk.call(q.id, frameAppend, req, &resp)
	if err == nil {
		p.replied(q.id, req, &resp)
	}
	p.mu.Lock()
	a.resp, a.at, a.ok = resp, time.Now(), err == nil && resp.Success && resp.Term == req.Term
	p.mu.Unlock()
	close(a.done)
}

// answerAhead answers a message of raft's whose entries were sent ahead, if the follower has taken them. An answer that came
// so long ago that raft would think the follower in touch because of it is none.
func (p *peers) answerAhead(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) bool {
	if len(req.Entries) == 0 {
		return false
	}
	a := p.aheadOf(id, req)
	if a == nil {
		return false
	}
	if planted("ahead-unanswered") {
		*resp = raft.AppendEntriesResponse{RPCHeader: req.RPCHeader, Term: req.Term, LastLog: a.to, Success: true}
		return true
	}
	select {
	case <-a.done:
	case <-p.g.ending:
		return false
	}
	// A refusal may have come meanwhile, and a new replica with it.
	if p.aheadOf(id, req) != a {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.ok || time.Since(a.at) > p.g.cfg.Heartbeat/2 {
		return false
	}
	*resp = a.resp
	return true
}

// aheadOf returns the message ahead that has all entries of req.
func (p *peers) aheadOf(id raft.ServerID, req *raft.AppendEntriesRequest) *ahead {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.known[id]
	if q == nil || q.ahead == nil || p.term != req.Term {
		return nil
	}
	if req.Entries[0].Index < q.ahead.from || req.Entries[len(req.Entries)-1].Index > q.ahead.to {
		return nil
	}
	return q.ahead
}
