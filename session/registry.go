package session

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const registryShards = 64

// registry maps a session to its live connection on this node. It decides
// takeovers within the node by the epoch, and remembers kicks that arrive while
// a CONNECT is still on its way back.
type registry struct {
	seed   maphash.Seed
	shards [registryShards]registryShard
}

type registryShard struct {
	mu sync.Mutex
	m  map[command.SessionKey]registryEntry // guarded by mu
}

// registryEntry exists while there is a live connection or a pending CONNECT.
type registryEntry struct {
	live    *Conn
	pending int
	// kicked is the highest superseded epoch that was told while a CONNECT
	// was pending, kickCode why.
	kicked   uint64
	kickCode mqtt.ReasonCode
}

func newRegistry() *registry {
	r := &registry{seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].m = make(map[command.SessionKey]registryEntry)
	}
	return r
}

func (r *registry) shard(key command.SessionKey) *registryShard {
	return &r.shards[maphash.Comparable(r.seed, key)%registryShards]
}

// begin notes a CONNECT that is asked of the backend; attach or abandon ends it.
func (r *registry) begin(key command.SessionKey) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[key]
	e.pending++
	s.m[key] = e
}

// abandon ends a CONNECT that got no session.
func (r *registry) abandon(key command.SessionKey) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[key]
	e.pending--
	s.put(key, e)
}

// attach makes c the live connection of its session and returns the one that it
// replaces. If c itself is superseded already, code says why.
func (r *registry) attach(key command.SessionKey, c *Conn) (old *Conn, code mqtt.ReasonCode) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[key]
	e.pending--
	switch {
	case c.ref.Epoch <= e.kicked:
		code = e.kickCode
	case e.live != nil && e.live.ref.Epoch > c.ref.Epoch:
		code = mqtt.SessionTakenOver
	default:
		old, e.live = e.live, c
	}
	s.put(key, e)
	return old, code
}

// detach removes c, unless another connection has its place.
func (r *registry) detach(key command.SessionKey, c *Conn) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.m[key]; e.live == c {
		e.live = nil
		s.put(key, e)
	}
}

// put stores e; the caller holds mu.
func (s *registryShard) put(key command.SessionKey, e registryEntry) {
	if e.live == nil && e.pending == 0 {
		delete(s.m, key)
		return
	}
	if e.pending == 0 {
		e.kicked, e.kickCode = 0, 0
	}
	s.m[key] = e
}

// find returns the live connection of a session, nil if there is none here.
func (r *registry) find(key command.SessionKey) *Conn {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[key].live
}

// superseded returns the connection to close because epochs up to epoch are
// over, and tells pending CONNECTs.
func (r *registry) superseded(key command.SessionKey, epoch uint64, code mqtt.ReasonCode) *Conn {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.m[key]
	if !ok {
		return nil
	}
	if e.pending > 0 && epoch >= e.kicked {
		e.kicked, e.kickCode = epoch, code
		s.m[key] = e
	}
	if e.live != nil && e.live.ref.Epoch <= epoch {
		return e.live
	}
	return nil
}

// all returns the live connections.
func (r *registry) all() []*Conn {
	var out []*Conn
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, e := range s.m {
			if e.live != nil {
				out = append(out, e.live)
			}
		}
		s.mu.Unlock()
	}
	return out
}

// page returns the limit lowest client ids of a tenant after the id after. It
// costs one pass over the connections and memory for twice the limit.
func (r *registry) page(tenant, after string, limit int) []*Conn {
	if limit <= 0 {
		return nil
	}
	byID := func(a, b *Conn) int { return strings.Compare(a.ref.ClientID, b.ref.ClientID) }
	var out []*Conn
	bound := "" // ids at or above it cannot be in the page any more
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for key, e := range s.m {
			if e.live == nil || key.Tenant != tenant || key.ClientID <= after || (bound != "" && key.ClientID >= bound) {
				continue
			}
			out = append(out, e.live)
			if len(out) >= 2*limit {
				slices.SortFunc(out, byID)
				clear(out[limit:])
				out = out[:limit]
				bound = out[limit-1].ref.ClientID
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(out, byID)
	return out[:min(limit, len(out))]
}
