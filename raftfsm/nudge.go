package raftfsm

// announce tells followers a commit index that nothing else will carry soon. raft sends the commit
// index with the next entries, or after up to twice its CommitTimeout when there are none; a gateway
// that delivers from a follower's state would wait that long for the last message of a burst. So a
// leader whose last entry is committed sends each follower that has it one AppendEntries without
// entries: {Term T, PrevLogEntry N, PrevLogTerm, LeaderCommitIndex N}. Under load there is always a
// newer entry, and no nudge is sent.
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
