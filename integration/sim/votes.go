package sim

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

// votes sees every vote that a node has put on its disk. It holds the second rule of I21, no node votes for two candidates
// in one term, whatever happens to it; and it can crash a node in the moment after a vote, which random crashes never hit.
type votes struct {
	w *World

	mu    sync.Mutex
	given map[ballot]string // guarded by mu: the candidate
	crash int               // guarded by mu: of 100 votes, so many end in a crash
	rng   *rand.Rand        // guarded by mu
	count int               // guarded by mu: crashes
}

// ballot is where a node votes once. The term is as the node wrote it.
type ballot struct {
	node  string
	group uint32
	term  string
}

func newVotes(w *World) *votes {
	return &votes{w: w, given: map[ballot]string{}, rng: rand.New(rand.NewPCG(w.opt.Seed, 0x70)), crash: w.opt.CrashVoters}
}

// stable wraps the votes of one process.
func (v *votes) stable(inner raftfsm.StableLog, m *machine, group uint32) raftfsm.StableLog {
	return &watchedStable{StableLog: inner, v: v, m: m, at: ballot{node: m.id, group: group}}
}

// voted notes a vote that is on the disk now.
func (v *votes) voted(m *machine, at ballot, candidate string) {
	v.mu.Lock()
	first, again := v.given[at]
	if !again {
		v.given[at] = candidate
	}
	crash := v.rng.IntN(100) < v.crash
	after := time.Duration(v.rng.Int64N(int64(2 * linkDelay)))
	if crash {
		v.count++
	}
	v.mu.Unlock()
	if again && first != candidate {
		v.w.Failf("I21: %s voted in group %d term %x for %q and for %q", at.node, at.group, at.term, first, candidate)
	}
	if !crash {
		return
	}
	v.w.wg.Add(1)
	time.AfterFunc(after, func() {
		defer v.w.wg.Done()
		// A reset and not silence: the vote that is on its way arrives.
		v.w.Crash(false, 0, m)
		v.w.Start(m)
	})
}

// calm ends the crashes.
func (v *votes) calm() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.crash = 0
}

func (v *votes) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Sprintf("%d votes, %d ended in a crash", len(v.given), v.count)
}

// watchedStable tells votes what one group of one process wrote. One goroutine of raft writes votes.
type watchedStable struct {
	raftfsm.StableLog
	v  *votes
	m  *machine
	at ballot
}

// Set implements raft.StableStore.
func (s *watchedStable) Set(key, val []byte) error {
	if err := s.StableLog.Set(key, val); err != nil {
		return err
	}
	switch string(key) {
	case "LastVoteTerm":
		s.at.term = string(val)
	case "LastVoteCand":
		s.v.voted(s.m, s.at, string(val))
	}
	return nil
}
