package raftfsm

import (
	"testing"
	"time"
)

// TestFailureTolerance: the leader counts the voters that answer and have caught up, a follower all of them.
func TestFailureTolerance(t *testing.T) {
	now := time.Now()
	five := []Member{{"a", true}, {"b", true}, {"c", true}, {"d", true}, {"e", true}}
	heard := func(ids ...string) (list []PeerStatus) {
		for _, id := range []string{"b", "c", "d", "e"} {
			p := PeerStatus{ID: id}
			for _, other := range ids {
				if other == id {
					p.LastContact = now
				}
			}
			list = append(list, p)
		}
		return list
	}
	behind := heard("b", "c")
	behind[0].LagEntries = staleEntries
	for _, c := range []struct {
		name    string
		members []Member
		peers   []PeerStatus
		leads   bool
		want    int
	}{
		{"alone", five[:1], nil, true, 0},
		{"two, both well", five[:2], heard("b"), true, 0},
		{"three, all well", five[:3], heard("b", "c"), true, 1},
		{"three, one silent", five[:3], heard("b"), true, 0},
		{"three, one far behind", five[:3], behind, true, 0},
		{"three, nobody answers", five[:3], heard(), true, 0},
		{"three, as a follower sees it", five[:3], nil, false, 1},
		{"five, two silent", five, heard("b", "c"), true, 0},
		{"five, one silent", five, heard("b", "c", "d"), true, 1},
		{"a replica without a vote counts for nothing", append(five[:3:3], Member{"d", false}), heard("b", "d"), true, 0},
	} {
		if got := tolerance(&Status{Members: c.members, Peers: c.peers}, c.leads, 2*time.Second); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
