package cluster

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/router"
)

var (
	errStaleRoutes = errors.New("route frame is of an older leader, or for another incarnation")
	errRouteGap    = errors.New("route change without the dump before it")
)

// routes is the gateway's side of route distribution: it keeps the table that
// publishes are matched against, and knows whether the view is whole.
type routes struct {
	table *router.Table

	// whole: every shard is synchronised under the current incarnation. Without
	// it a match may lack targets.
	whole atomic.Bool

	mu     sync.Mutex
	total  uint32 // shards 1..total exist, 0 = not known yet
	inc    uint64 // incarnation that frames must be meant for, 0 = none
	shards map[uint32]*shardRoutes
}

// shardRoutes is how far this gateway follows one shard.
type shardRoutes struct {
	term     uint64
	synced   bool
	building bool
	parts    []router.RouteChange // of a dump that is not complete
}

func newRoutes() *routes {
	return &routes{table: router.NewTable(), shards: map[uint32]*shardRoutes{}}
}

// begin starts a new incarnation: every shard must be synchronised again
// before clients are served.
func (r *routes) begin(incarnation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inc = incarnation
	r.whole.Store(false)
	for _, s := range r.shards {
		s.synced, s.building, s.parts = false, false, nil
	}
}

// expect says how many shards there are.
func (r *routes) expect(shards uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total = shards
	r.whole.Store(r.missingLocked() == 0)
}

// handle applies one frame. An error makes the leader send a new dump.
func (r *routes) handle(f *routeFrame) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[f.Shard]
	if s == nil {
		s = new(shardRoutes)
		r.shards[f.Shard] = s
	}
	if r.inc == 0 || f.Incarnation != r.inc || f.Term < s.term {
		return errStaleRoutes
	}
	switch {
	case f.Reset:
		s.term, s.building, s.parts = f.Term, true, f.Changes
	case s.building && f.Term == s.term:
		s.parts = append(s.parts, f.Changes...)
	case !s.synced || f.Term != s.term:
		return errRouteGap
	default:
		r.table.Apply(f.Shard, f.Index, f.Changes)
		return nil
	}
	if f.Last {
		r.table.Reset(f.Shard, f.Index, s.parts)
		s.building, s.parts, s.synced = false, nil, true
		r.whole.Store(r.missingLocked() == 0)
	}
	return nil
}

// missing returns how many shards are not synchronised.
func (r *routes) missing() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.missingLocked()
}

func (r *routes) missingLocked() int {
	if r.total == 0 || r.inc == 0 {
		return max(1, int(r.total))
	}
	missing := 0
	for id := uint32(1); id <= r.total; id++ {
		if s := r.shards[id]; s == nil || !s.synced {
			missing++
		}
	}
	return missing
}
