package transport

import (
	"math"
	"sync"
	"time"
)

// AdmissionConfig configures an [Admission]. The zero value has the defaults.
type AdmissionConfig struct {
	// MaxConnections bounds the connections, in their handshake or after it.
	// More are closed at once. 0: no limit.
	MaxConnections int
	// PendingMax bounds the connections in their handshake. Default 1000.
	PendingMax int
	// ConnectRate is how many connections are accepted per second; more wait in
	// the accept queue of the kernel. 0: no limit.
	ConnectRate float64
	// ConnectBurst is how many may come at once after a pause. Default: those
	// of one second.
	ConnectBurst int
}

// How long a client may have kept the node waiting before its place in the
// handshake may go to another one, when all places are taken. What a client
// sends first comes right behind its last packet of the TCP handshake; what
// follows takes a round trip or two, and the patience of small devices.
const (
	evictSilent = 100 * time.Millisecond // has sent nothing
	evictPlain  = 250 * time.Millisecond // has sent something of a CONNECT, which comes in one piece
	evictSlow   = time.Second            // has sent something that takes round trips: PROXY header, TLS, upgrade
)

// Admission decides how many clients are let in, and how fast. The client
// ports of a node share one.
//
// While all pending places are taken, the client that has kept the node waiting
// longest gives its place to the next one: connections that say nothing cannot
// keep others out.
type Admission struct {
	cfg      AdmissionConfig
	interval time.Duration // between two accepts; 0: no limit
	burst    time.Duration
	start    time.Time

	mu      sync.Mutex
	total   int
	pending []*tracked    // tracked.slot is the index plus one
	next    time.Time     // when the next accept is due, without the burst
	freed   chan struct{} // closed when a place is given back; nil while nobody waits
}

// NewAdmission returns an admission without connections.
func NewAdmission(cfg AdmissionConfig) *Admission {
	cfg.PendingMax = orDefault(cfg.PendingMax, 1000)
	a := &Admission{cfg: cfg, start: time.Now()}
	if cfg.ConnectRate > 0 {
		a.interval = max(1, time.Duration(float64(time.Second)/cfg.ConnectRate))
		cfg.ConnectBurst = orDefault(cfg.ConnectBurst, max(1, int(math.Ceil(cfg.ConnectRate))))
		a.burst = a.interval * time.Duration(cfg.ConnectBurst-1)
	}
	return a
}

// clock is the time as tracked connections note it: monotonic, never 0.
func (a *Admission) clock() int64 { return int64(time.Since(a.start)) + 1 }

// pace reserves the next accept and returns how long to wait for it.
func (a *Admission) pace() time.Duration {
	if a.interval == 0 {
		return 0
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if earliest := now.Add(-a.burst); a.next.Before(earliest) {
		a.next = earliest
	}
	wait := a.next.Sub(now)
	a.next = a.next.Add(a.interval)
	return wait
}

// enter counts a connection. At the limit it makes room by closing a client
// that keeps the node waiting, and is false if there is none.
func (a *Admission) enter() bool {
	for {
		a.mu.Lock()
		if a.cfg.MaxConnections <= 0 || a.total < a.cfg.MaxConnections {
			a.total++
			a.mu.Unlock()
			return true
		}
		v, _ := a.victimLocked()
		a.mu.Unlock()
		if v == nil {
			return false
		}
		v.evict()
	}
}

// exit undoes enter.
func (a *Admission) exit() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
}

// acquire waits for a pending place. It is false when done is closed first.
func (a *Admission) acquire(t *tracked, done <-chan struct{}) bool {
	for {
		a.mu.Lock()
		if len(a.pending) < a.cfg.PendingMax {
			a.pending = append(a.pending, t)
			t.slot = len(a.pending)
			a.mu.Unlock()
			return true
		}
		v, again := a.victimLocked()
		if a.freed == nil {
			a.freed = make(chan struct{})
		}
		freed := a.freed
		a.mu.Unlock()
		if v != nil {
			v.evict() // gives its place back
			continue
		}
		timer := time.NewTimer(again)
		select {
		case <-freed:
		case <-timer.C:
		case <-done:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// leave gives the pending place back. False means that t held none.
func (a *Admission) leave(t *tracked) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.slot == 0 {
		return false
	}
	last := len(a.pending) - 1
	moved := a.pending[last]
	a.pending[t.slot-1], moved.slot = moved, t.slot
	a.pending[last] = nil
	a.pending = a.pending[:last]
	t.slot = 0
	if a.freed != nil {
		close(a.freed)
		a.freed = nil
	}
	return true
}

// victimLocked returns the client that has kept the node waiting longest beyond
// what it may, or nil and when to look again.
func (a *Admission) victimLocked() (victim *tracked, again time.Duration) {
	now := a.clock()
	worst := time.Duration(-1)
	again = evictSilent
	for _, t := range a.pending {
		waited, waiting := t.keptWaiting(now)
		if !waiting {
			continue // it is our turn, not the client's
		}
		grace := evictSilent
		if t.received.Load() > 0 {
			grace = time.Duration(t.patience.Load())
		}
		if over := waited - grace; over < 0 {
			again = min(again, -over)
		} else if over > worst {
			worst, victim = over, t
		}
	}
	return victim, again
}

// pendingLen returns how many places are taken.
func (a *Admission) pendingLen() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.pending)
}
