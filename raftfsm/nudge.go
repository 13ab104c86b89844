package raftfsm

import (
	"time"

	"github.com/hashicorp/raft"
)

// beatsPerTimeout is how many heartbeats fit into a heartbeat timeout. raft would send five to ten, each group for itself.
const beatsPerTimeout = 4

// awaitBeat waits for the next of the moments at which all groups of a node send their heartbeats: they share the system calls
// of their trunk, and wake a follower once.
func (g *Group) awaitBeat() {
	every := g.cfg.Heartbeat / beatsPerTimeout
	t := time.NewTimer(every - time.Since(g.h.born)%every)
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.ending:
	}
}

// announce tells followers a commit index that nothing else will carry soon. raft sends the commit
// index with the next entries, or after up to twice its CommitTimeout when there are none; a gateway
// that delivers from a follower's state would wait that long for the last message of a burst. So a
// leader whose last entry is committed sends each follower that has it one AppendEntries without
// entries: {Term T, PrevLogEntry N, PrevLogTerm, LeaderCommitIndex N}. Under load there is always a
// newer entry, and no nudge is sent.
//
// A nudge is sent once. Heartbeats say the same again (carry), for whoever missed it or has started
// anew: a replica does not know after a restart what of its log is committed.
func (p *peers) announce() {
	g := p.g
	if g.leadTerm.Load() == 0 {
		return
	}
	r := g.raft()
	commit, last := r.CommitIndex(), r.LastIndex()
	if commit == 0 || commit != last || g.noNudge.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.known {
		if q.match >= commit && q.told < commit {
			p.kickLocked(q)
		}
	}
}

// carry puts the commit index into a heartbeat to a follower that is known to have all entries.
func (p *peers) carry(id raft.ServerID, req *raft.AppendEntriesRequest) bool {
	g := p.g
	if g.leadTerm.Load() != req.Term || g.noNudge.Load() {
		return false
	}
	r := g.raft()
	commit := r.CommitIndex()
	if commit == 0 || commit != r.LastIndex() {
		return false
	}
	p.mu.Lock()
	q := p.known[id]
	has, tail := p.term == req.Term && q != nil && q.match >= commit, p.tail
	p.mu.Unlock()
	if !has {
		return false
	}
	if tail.index != commit {
		var ok bool
		if tail.term, ok = g.termAt(commit); !ok {
			return false
		}
		tail.index = commit
		p.mu.Lock()
		p.tail = tail
		p.mu.Unlock()
	}
	req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex = tail.index, tail.term, tail.index
	return true
}
