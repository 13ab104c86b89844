package raftfsm

import (
	"time"

	"github.com/hashicorp/raft"
)

// holdStep is how long a held message waits before it is tried again.
const holdStep = 100 * time.Millisecond

// hold repeats entries for a follower that cannot be reached, instead of reporting each failure to
// raft. raft doubles its wait with each failure in a row, up to 10 s, and nothing but a success ends
// it: a node that was down for five seconds was left without entries for five more after its
// return, while heartbeats, which have a wait of their own, called it healthy; and what its clients
// were to be sent from its replica waited as long. A message is held only while this replica leads
// in its term and the follower is a member, so replication ends as raft wants it to. Sending the
// same entries again is what AppendEntries is made for.
func (g *Group) hold(id raft.ServerID, term uint64, send func() error) error {
	for {
		err := send()
		if err == nil || !g.replicatesTo(id, term) {
			return err
		}
		t := time.NewTimer(holdStep)
		select {
		case <-t.C:
		case <-g.ending:
			t.Stop()
			return err
		}
	}
}

// isHeartbeat says whether req is one of raft's heartbeats, which come with nothing but the term. Their
// failures must be seen: the lease of the leader is made of them.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.LeaderCommitIndex == 0
}

// replicatesTo says whether this replica leads in term and has id to bring up to date.
func (g *Group) replicatesTo(id raft.ServerID, term uint64) bool {
	r := g.raft()
	if r == nil || g.isDead() || g.isClosed() || r.State() != raft.Leader || r.CurrentTerm() != term {
		return false
	}
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.ID == id {
			return true
		}
	}
	return false
}
