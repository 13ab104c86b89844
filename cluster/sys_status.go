package cluster

import "fmt"

// describe adds to a node's status what only the node itself knows.
func (n *Node) describe(s *localStatus) {
	began := n.sys.began.UTC()
	s.StartedAt = &began
	if free := n.limits.disk.level.Load(); free > 0 {
		s.DiskFreeBytes = &free
	}
	var lag, sessions int64
	if g := n.control.group.Load(); g != nil {
		lag += lagOf(g.Status().Commit, g.Status().Applied)
	}
	for _, r := range n.allReplicas() {
		st := r.group.Status()
		lag += lagOf(st.Commit, st.Applied)
	}
	for _, l := range n.ledShards() { // its leader's word counts, so that sums over nodes are right
		st := l.mach.Stats()
		sessions += int64(st.Durable)
	}
	s.LagEntries, s.Sessions = &lag, &sessions
	s.Alarms = n.limits.alarms()
	for _, a := range s.Alarms {
		s.Reasons = append(s.Reasons, fmt.Sprintf("node %s: alarm %s: %s", n.id, a.Name, a.Detail))
	}
}

func lagOf(commit, applied uint64) int64 { return int64(commit - min(applied, commit)) }
