package cluster

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// sharers are the connections of this node whose session is, or was, in a share:
// their acknowledgements travel sooner.
type sharers struct {
	count atomic.Int32 // most nodes have none: then nothing is locked

	mu     sync.RWMutex
	epochs map[command.SessionKey]uint64 // guarded by mu
}

func newSharers() *sharers { return &sharers{epochs: map[command.SessionKey]uint64{}} }

// note takes a connection in if one of the subscriptions is shared.
func (s *sharers) note(ref command.SessionRef, subs []command.Subscription) {
	for i := range subs {
		if !strings.HasPrefix(subs[i].Filter, "$share/") {
			continue
		}
		s.mu.Lock()
		s.epochs[ref.SessionKey] = max(ref.Epoch, s.epochs[ref.SessionKey])
		s.count.Store(int32(len(s.epochs)))
		s.mu.Unlock()
		return
	}
}

func (s *sharers) drop(ref command.SessionRef) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epochs[ref.SessionKey] == ref.Epoch {
		delete(s.epochs, ref.SessionKey)
		s.count.Store(int32(len(s.epochs)))
	}
}

func (s *sharers) has(ref command.SessionRef) bool {
	if s.count.Load() == 0 {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.epochs[ref.SessionKey]
	return ok
}
