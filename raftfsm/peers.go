package raftfsm

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// peers is what a leader knows of its followers. It carries the messages of our own that go beside
// raft's: the commit nudge (nudge.go) and the confirmation of leadership (readindex.go). Both are
// AppendEntries without entries, legal in Raft, and cost no fsync.
type peers struct {
	g *Group

	mu      sync.Mutex
	closed  bool
	term    uint64 // of the knowledge below
	known   map[raft.ServerID]*peer
	tail    struct{ index, term uint64 } // a committed entry, which heartbeats name
	round   uint64                       // of confirmations asked for
	readers []*reader
	wg      sync.WaitGroup // couriers
}

// peer is one follower in one term.
type peer struct {
	id        raft.ServerID
	match     uint64 // highest entry known to be on its disk
	told      uint64 // highest commit index that was sent to it, behind entries that it has
	contact   time.Time
	confirmed uint64 // the newest round that it has confirmed
	sending   bool   // a courier is under way
	again     bool   // and has to go once more
	ahead     *ahead // the last entries that were sent ahead of raft (ahead.go)
}

func newPeers(g *Group) *peers { return &peers{g: g, known: map[raft.ServerID]*peer{}} }

// begin forgets what was known in earlier terms.
func (p *peers) begin(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beginLocked(term)
}

func (p *peers) beginLocked(term uint64) {
	if term > p.term {
		p.term = term
		clear(p.known)
	}
}

func (p *peers) peerLocked(id raft.ServerID) *peer {
	q := p.known[id]
	if q == nil {
		q = &peer{id: id}
		p.known[id] = q
	}
	return q
}

// replied takes note of an answer to AppendEntries.
func (p *peers) replied(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	p.mu.Lock()
	p.beginLocked(req.Term)
	ok := req.Term == p.term && resp.Term == req.Term
	behind := false
	if ok {
		q := p.peerLocked(id)
		q.contact = time.Now()
		if resp.Success {
			reached := req.PrevLogEntry
			if n := len(req.Entries); n > 0 {
				reached = req.Entries[n-1].Index
			}
			q.match = max(q.match, reached)
			q.told = max(q.told, min(req.LeaderCommitIndex, reached))
			behind = q.match > q.told
		} else { // it lacks what was named: a replica that was made anew, perhaps
			q.match, q.told, q.ahead = 0, 0, nil
		}
	}
	p.mu.Unlock()
	if behind {
		p.announce()
	}
}

// status lists the followers among members.
func (p *peers) status(members []raft.Server, self raft.ServerID, last uint64) []PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []PeerStatus
	for _, s := range members {
		if s.ID == self {
			continue
		}
		st := PeerStatus{ID: string(s.ID), LagEntries: last}
		if q := p.known[s.ID]; q != nil {
			st.Match, st.LastContact = q.match, q.contact
			st.LagEntries = last - min(q.match, last)
		}
		out = append(out, st)
	}
	return out
}

// matchOf returns the highest entry known to be on id's disk.
func (p *peers) matchOf(id raft.ServerID) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.known[id]; q != nil {
		return q.match
	}
	return 0
}

// mostAdvanced picks the voter to hand leadership to.
func (p *peers) mostAdvanced(members []raft.Server, self raft.ServerID) (raft.ServerID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best []*peer
	for _, s := range members {
		if q := p.known[s.ID]; q != nil && s.ID != self && s.Suffrage == raft.Voter {
			best = append(best, q)
		}
	}
	if len(best) == 0 {
		return "", false
	}
	q := slices.MaxFunc(best, func(a, b *peer) int {
		return cmp.Or(cmp.Compare(a.match, b.match), a.contact.Compare(b.contact))
	})
	return q.id, true
}

// kickLocked sends a courier to a follower, or sends the one under way once more.
func (p *peers) kickLocked(q *peer) {
	if q.sending {
		q.again = true
		return
	}
	if p.closed {
		return
	}
	q.sending = true
	p.wg.Add(1)
	go p.courier(q)
}

// courier carries messages to one follower until there is nothing to say.
func (p *peers) courier(q *peer) {
	defer p.wg.Done()
	failures := 0
	for {
		req, round := p.message(q)
		if req == nil {
			return
		}
		var resp raft.AppendEntriesResponse
		err := p.g.trans.entries(q.id, req, &resp)
		if err == nil && resp.Term == req.Term {
			failures = 0
			p.replied(q.id, req, &resp)
			p.confirm(q, round)
			continue
		}
		// A newer term is for raft to find: it asks the same follower.
		if failures++; !p.retry(q, failures) {
			return
		}
	}
}

// message builds what q has to be told, or ends its courier.
func (p *peers) message(q *peer) (req *raft.AppendEntriesRequest, round uint64) {
	g := p.g
	commit, last := g.raft().CommitIndex(), g.raft().LastIndex()
	p.mu.Lock()
	defer p.mu.Unlock()
	term := g.leadTerm.Load()
	wanted := q.confirmed < p.round && len(p.readers) > 0
	nudge := !g.noNudge.Load() && commit == last && q.match >= commit && q.told < commit
	if p.closed || term == 0 || term != p.term || p.known[q.id] != q || !wanted && !nudge {
		q.sending, q.again = false, false
		return nil, 0
	}
	q.again = false
	self := []byte(g.h.cfg.NodeID)
	req = &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: self, Addr: self},
		Term:      term,
	}
	if nudge {
		q.told = commit // it is not said twice, whatever the answer
		if at, ok := g.termAt(commit); ok {
			req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex = commit, at, commit
		}
	}
	return req, p.round
}

// retry waits before a courier goes again after an error. Only readers are worth that: a follower
// that missed a nudge learns the commit index from raft.
func (p *peers) retry(q *peer, failures int) bool {
	p.mu.Lock()
	again := len(p.readers) > 0 && !p.closed
	if !again {
		q.sending, q.again = false, false
	}
	p.mu.Unlock()
	if !again {
		return false
	}
	wait := min(time.Duration(failures)*p.g.cfg.Heartbeat/50, p.g.cfg.Heartbeat/5)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.g.stop:
	}
	return true
}

// close stops the couriers; their connections are closed by now.
func (p *peers) close() {
	p.mu.Lock()
	p.closed = true
	readers := p.readers
	p.readers = nil
	p.mu.Unlock()
	for _, r := range readers {
		r.finish(ErrClosed)
	}
	p.wg.Wait()
}
