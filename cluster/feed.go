package cluster

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/router"
)

// routeSender carries route frames to a gateway, in order. done is called once:
// nil when the gateway has applied the frame.
type routeSender interface {
	sendRoutes(node string, f routeFrame, done func(error))
}

// routeFrame is one piece of a shard's routes: a full dump in parts (Reset on
// the first, Last on the final one), or the changes of one log index.
type routeFrame struct {
	Shard       uint32
	Term        uint64 // leader's term: an older leader's frames are refused
	Incarnation uint64 // of the gateway that the frame is meant for
	Index       uint64
	Reset, Last bool
	Changes     []router.RouteChange
}

// feed is the leader's side of route distribution for one shard: it brings
// every gateway to the leader's view and knows how far each one is. SUBACK
// waits here (INVARIANTS I5, section 3).
type feed struct {
	shard  uint32
	term   uint64
	sender routeSender
	dump   func() (uint64, []router.RouteChange)
	lg     *zap.Logger

	mu      sync.Mutex
	subs    map[string]*feedSub // gateways that are up, by node id
	last    uint64              // index of the last change
	waiters []feedWaiter
	primed  bool // the set of gateways was read linearizably after the election
	closed  bool
}

// feedSub is one gateway as the leader knows it.
type feedSub struct {
	inc    uint64
	gen    uint64 // counts dumps: what belongs to an older one is ignored
	acked  uint64 // every change up to here is applied there
	synced bool   // a dump is under way or applied; changes may follow
	// queue holds changes in order while another goroutine sends to this
	// gateway. Only that one sends, so a change never overtakes a dump.
	queue   []routeFrame
	sending bool
}

type feedWaiter struct {
	index uint64
	done  func(error)
}

// dumpPartSize is how many records travel in one frame of a dump.
const dumpPartSize = 2000

// newFeed makes the feed of a new leader. applied is what the leader had
// applied when it was elected: a SUBACK waits until every gateway has that much,
// because the leader before may have died with its changes under way.
func newFeed(shard uint32, term, applied uint64, s routeSender, dump func() (uint64, []router.RouteChange), lg *zap.Logger) *feed {
	return &feed{shard: shard, term: term, last: applied, sender: s, dump: dump, lg: lg, subs: map[string]*feedSub{}}
}

// setGateways tells the feed which gateways are up. New ones get a dump, those
// that are gone are not waited for any more. primed says that the set is at
// least as new as this leader's election.
func (f *feed) setGateways(up map[string]uint64, primed bool) {
	f.mu.Lock()
	var fresh []string
	for id, s := range f.subs {
		if inc, ok := up[id]; !ok || inc != s.inc {
			delete(f.subs, id)
		}
	}
	for id, inc := range up {
		if f.subs[id] == nil {
			f.subs[id] = &feedSub{inc: inc}
			fresh = append(fresh, id)
		}
	}
	f.primed = f.primed || primed
	ready := f.readyLocked()
	f.mu.Unlock()
	finish(ready, nil)
	for _, id := range fresh {
		f.sync(id)
	}
}

// sync sends a full dump to one gateway, and then what was applied meanwhile.
func (f *feed) sync(node string) {
	f.mu.Lock()
	s := f.subs[node]
	if s == nil || f.closed || s.sending {
		f.mu.Unlock()
		return // a sender that is at work meets the broken state itself
	}
	s.gen++
	s.synced, s.sending, s.queue = true, true, nil
	gen, inc := s.gen, s.inc
	f.mu.Unlock()

	index, all := f.dump()
	frame := routeFrame{Shard: f.shard, Term: f.term, Incarnation: inc, Index: index, Reset: true}
	for first := true; first || len(all) > 0; first = false {
		n := min(len(all), dumpPartSize)
		frame.Changes, all = all[:n], all[n:]
		frame.Reset, frame.Last = first, len(all) == 0
		f.send(node, s, gen, frame)
	}
	f.drain(node, s)
}

// publish sends the changes of one applied index to every gateway. Calls come
// in the order of the log.
func (f *feed) publish(index uint64, changes []router.RouteChange) {
	f.mu.Lock()
	f.last = max(f.last, index)
	type target struct {
		node string
		sub  *feedSub
	}
	var targets []target
	for id, s := range f.subs {
		if !s.synced {
			continue
		}
		s.queue = append(s.queue, routeFrame{Shard: f.shard, Term: f.term, Incarnation: s.inc, Index: index, Last: true, Changes: changes})
		if !s.sending {
			s.sending = true
			targets = append(targets, target{id, s})
		}
	}
	f.mu.Unlock()
	for _, t := range targets {
		f.drain(t.node, t.sub)
	}
}

// drain sends what is queued for a gateway. The caller has set s.sending.
func (f *feed) drain(node string, s *feedSub) {
	for {
		f.mu.Lock()
		if len(s.queue) == 0 || f.closed {
			s.sending, s.queue = false, nil
			f.mu.Unlock()
			return
		}
		queue, gen := s.queue, s.gen
		s.queue = nil
		f.mu.Unlock()
		for _, frame := range queue {
			f.send(node, s, gen, frame)
		}
	}
}

func (f *feed) send(node string, s *feedSub, gen uint64, frame routeFrame) {
	index, last := frame.Index, frame.Last
	f.sender.sendRoutes(node, frame, func(err error) { f.acked(node, s, gen, index, last, err) })
}

// acked notes how far a gateway is. After an error it is brought up anew; it
// stays in the set that SUBACK waits for until it is up to date or down.
func (f *feed) acked(node string, s *feedSub, gen, index uint64, last bool, err error) {
	f.mu.Lock()
	if f.subs[node] != s || s.gen != gen || f.closed {
		f.mu.Unlock()
		return
	}
	if err != nil {
		s.synced = false // retryUnsynced brings it up anew
		s.acked = 0
		f.mu.Unlock()
		f.lg.Debug("route feed broke", zap.String("peer", node), zap.Uint32("group", f.shard), zap.Error(err))
		return
	}
	if last && s.synced {
		s.acked = max(s.acked, index)
	}
	ready := f.readyLocked()
	f.mu.Unlock()
	finish(ready, nil)
}

// retryUnsynced sends a dump to every gateway whose feed broke. The leader
// calls it a few times a second.
func (f *feed) retryUnsynced() {
	f.mu.Lock()
	var again []string
	for id, s := range f.subs {
		if !s.synced {
			again = append(again, id)
		}
	}
	f.mu.Unlock()
	for _, id := range again {
		f.sync(id)
	}
}

// wait calls done(nil) when every gateway that is up has applied all route
// changes up to index, or is not up any more.
func (f *feed) wait(index uint64, done func(error)) {
	f.mu.Lock()
	switch {
	case f.closed:
		f.mu.Unlock()
		done(ErrNoLeader)
	case f.primed && f.appliedLocked() >= min(index, f.last):
		f.mu.Unlock()
		done(nil)
	default:
		f.waiters = append(f.waiters, feedWaiter{index: index, done: done})
		f.mu.Unlock()
	}
}

// appliedLocked is the index that every gateway has applied.
func (f *feed) appliedLocked() uint64 {
	low := f.last
	for _, s := range f.subs {
		if !s.synced {
			return 0
		}
		low = min(low, s.acked)
	}
	return low
}

func (f *feed) readyLocked() []func(error) {
	if !f.primed || len(f.waiters) == 0 {
		return nil
	}
	low := f.appliedLocked()
	var ready []func(error)
	rest := f.waiters[:0]
	for _, w := range f.waiters {
		if low >= min(w.index, f.last) {
			ready = append(ready, w.done)
		} else {
			rest = append(rest, w)
		}
	}
	f.waiters = rest
	return ready
}

// lag is how many gateways are behind.
func (f *feed) lag() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, s := range f.subs {
		if !s.synced || s.acked < f.last {
			n++
		}
	}
	return n
}

// close ends the feed when leadership is lost. Waiters ask the next leader.
func (f *feed) close() {
	f.mu.Lock()
	f.closed = true
	waiters := f.waiters
	f.waiters = nil
	f.mu.Unlock()
	for _, w := range waiters {
		w.done(ErrNoLeader)
	}
}

func finish(ready []func(error), err error) {
	for _, done := range ready {
		done(err)
	}
}

// waitCtx is wait for callers that block.
func (f *feed) waitCtx(ctx context.Context, index uint64) error {
	ch := make(chan error, 1)
	f.wait(index, func(err error) { ch <- err })
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
