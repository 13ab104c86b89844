package raftfsm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// failStop ends the node at the first fault of its storage (guards G3, G5). Once it is dead nothing
// that the stores say reaches a peer or a caller: layers are cut and proposals stay unanswered.
type failStop struct {
	lg      *zap.Logger
	onFatal func(error)

	dead   atomic.Bool
	failed atomic.Bool
	deadCh chan struct{}
	once   sync.Once

	mu    sync.Mutex
	cause error
	cuts  map[*gatedLayer]struct{}
}

func newFailStop(lg *zap.Logger, onFatal func(error)) *failStop {
	return &failStop{lg: lg, onFatal: onFatal, deadCh: make(chan struct{}), cuts: map[*gatedLayer]struct{}{}}
}

// fail cuts the node off and calls Fatal. Only the first cause counts. It returns only if Fatal does.
func (f *failStop) fail(cause error) {
	f.mu.Lock()
	first := f.cause == nil && !f.dead.Load()
	if first {
		f.cause = cause
	}
	f.mu.Unlock()
	if !first {
		return
	}
	f.failed.Store(true)
	f.cut()
	err := fmt.Errorf("%w: %w", ErrFailStop, cause)
	f.lg.Error("storage failed: this node must end", zap.String("event", "storage.failstop"), zap.Error(cause))
	if f.onFatal == nil {
		panic(err)
	}
	f.onFatal(err)
}

// cut makes the node dead: its layers stop carrying bytes before cut returns.
func (f *failStop) cut() {
	f.once.Do(func() {
		f.dead.Store(true)
		close(f.deadCh)
	})
	f.mu.Lock()
	layers := make([]*gatedLayer, 0, len(f.cuts))
	for l := range f.cuts {
		layers = append(layers, l)
	}
	f.mu.Unlock()
	for _, l := range layers {
		l.cut()
	}
}

func (f *failStop) isDead() bool { return f.dead.Load() }

// err is the cause of a failure, or nil.
func (f *failStop) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cause
}

func (f *failStop) register(l *gatedLayer) {
	f.mu.Lock()
	f.cuts[l] = struct{}{}
	f.mu.Unlock()
	if f.isDead() {
		l.cut()
	}
}

func (f *failStop) unregister(l *gatedLayer) {
	f.mu.Lock()
	delete(f.cuts, l)
	f.mu.Unlock()
}

// watchdog ends the process when a store call does not return (guard G3): a leader whose disk hangs
// would keep its followers quiet with heartbeats for ever. A write is never timed out instead,
// because it may still succeed later.
//
// Age is counted in looks of the watchdog, not only in time: a process that was stopped (SIGSTOP, a
// suspended or migrated machine) finds its calls old when it wakes, and none of them hangs.
type watchdog struct {
	limit time.Duration
	fs    *failStop

	mu    sync.Mutex
	calls map[*storeCall]struct{}
	free  []*storeCall

	stop chan struct{}
	done chan struct{}
}

// storeCall is one call that the watchdog looks at.
type storeCall struct {
	what  string
	group uint32
	since time.Time
	limit time.Duration
	looks int // how often it has yet to be seen before it may be called hanging
}

// watchdogLooks is how often a call is seen within its limit.
const watchdogLooks = 4

func newWatchdog(limit time.Duration, fs *failStop) *watchdog {
	w := &watchdog{
		limit: limit, fs: fs, calls: map[*storeCall]struct{}{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run()
	return w
}

// begin notes a call; end it with end. factor stretches the limit for calls that may rightly be slow.
func (w *watchdog) begin(what string, group uint32, factor int) *storeCall {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	var c *storeCall
	if n := len(w.free); n > 0 {
		c, w.free = w.free[n-1], w.free[:n-1]
	} else {
		c = &storeCall{}
	}
	*c = storeCall{what: what, group: group, since: now, limit: w.limit * time.Duration(factor), looks: watchdogLooks * factor}
	w.calls[c] = struct{}{}
	return c
}

// end forgets a call and returns how long it took.
func (w *watchdog) end(c *storeCall) time.Duration {
	d := time.Since(c.since)
	w.mu.Lock()
	delete(w.calls, c)
	w.free = append(w.free, c)
	w.mu.Unlock()
	return d
}

func (w *watchdog) run() {
	defer close(w.done)
	t := time.NewTicker(max(w.limit/watchdogLooks, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case now := <-t.C:
			if c, ok := w.look(now); ok {
				w.fs.fail(fmt.Errorf("%s of group %d hangs for %s", c.what, c.group, now.Sub(c.since)))
			}
		}
	}
}

// look returns a call that hangs.
func (w *watchdog) look(now time.Time) (storeCall, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var hangs *storeCall
	for c := range w.calls {
		if c.looks--; c.looks <= 0 && now.Sub(c.since) >= c.limit {
			hangs = c
		}
	}
	if hangs == nil {
		return storeCall{}, false
	}
	return *hangs, true
}

func (w *watchdog) close() {
	close(w.stop)
	<-w.done
}
